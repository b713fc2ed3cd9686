"""Runs on the Hugging Face Hub: `hf://owner/name[@revision]`, and the files that are sent and accepted.

A repository may be a stranger's. Its listing is checked before anything is downloaded, `run.json` is read
before the weights, and nothing but the files of a run is accepted.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from flowgmm_cli.errors import FlowgmmError, RunError, UsageError
from flowgmm_cli.files import atomic_folder
from flowgmm_cli.formatting import format_size
from flowgmm_cli.messages import first_line, list_some

PREFIX = "hf://"
CARD = "README.md"
_MIB = 2**20
_SENT = {
    "run.json": 64 * _MIB,
    "recipe.yaml": 4 * _MIB,
    "resolved.yaml": 4 * _MIB,
    "model.json": 1024 * _MIB,
    "model.safetensors": 65_536 * _MIB,
    "metrics.jsonl": 256 * _MIB,
    "eval/test.json": 64 * _MIB,
    "eval/cross_fitted.json": 64 * _MIB,
}  # name -> largest size in bytes
_ACCEPTED = {**_SENT, CARD: 16 * _MIB, "LICENSE": _MIB, ".gitattributes": _MIB}
_REQUIRED = ("run.json", "resolved.yaml", "model.json", "model.safetensors")
_PRIVATE = ("argv", "card", "folder", "host", "pid", "pid_start", "recipe_path")  # keys of `run.json`
_NAME = r"[A-Za-z0-9][\w.-]*"
_ADDRESS = re.compile(rf"{PREFIX}({_NAME}/{_NAME})(?:@([\w./-]+))?")
_OFFLINE = "HF_HUB_OFFLINE"


def is_address(word: str) -> bool:
    """Return True for the address of a run on the hub."""
    return word.startswith(PREFIX)


def fetch_run(
    address: str, *, offline: bool = False, note: Callable[[str], None] = lambda text: None
) -> tuple[Path, str]:
    """Download a run of the hub, or take it from the cache; return its folder and its commit.

    The folder is a copy of what huggingface_hub caches, so that commands can write to it.

    Raises:
        PluginError: a package that the run needs is not installed; its weights were not downloaded.
        RunError: there is no such run, it cannot be reached, or it holds files that no run has.
    """
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise RunError(f"{address} is no address of the hub", hint="hf://owner/name or hf://owner/name@v1.0")
    repository, revision = match[1], match[2] or "main"
    from flowgmm_cli.data.cache import user_cache_dir
    from flowgmm_cli.plugins.provenance import require
    from flowgmm_cli.run_info import read_info

    with hub_errors(address):
        from huggingface_hub import HfApi, constants, hf_hub_download, try_to_load_from_cache

        offline = offline or constants.HF_HUB_OFFLINE or os.environ.get(_OFFLINE, "0") not in ("", "0")
        work: dict[str, Any] = {"revision": revision, "local_files_only": offline}
        sizes: dict[str, int] = {}
        if not offline:
            info = HfApi().model_info(repository, revision=revision, files_metadata=True)
            sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
            check_files(sizes, address)
        file = Path(hf_hub_download(repository, "run.json", **work))
        commit = file.parent.name
        if not offline and commit != info.sha:
            raise RunError(f"{address} has just changed", hint="run the command again")
        components = read_info(file).get("components") or ()
        require([item for item in components if item.get("kind") != "regulariser"], what=address)
        target = user_cache_dir() / "hub" / repository / commit
        if (target / "run.json").is_file():
            return target, commit
        if not offline:
            note(f"downloading {address}, {len(sizes)} files, {format_size(sum(sizes.values()))}")
        work["revision"] = commit
        names = sizes or [
            name
            for name in _ACCEPTED
            if name in _REQUIRED or isinstance(try_to_load_from_cache(repository, name, revision=commit), str)
        ]
        files = {name: Path(hf_hub_download(repository, name, **work)) for name in names}
    _copy(files, file.parents[2], target, address)
    return target, commit


def check_files(sizes: Mapping[str, int], address: str) -> None:
    """Raise `RunError` if files, by their sizes, are not those of a run."""
    problems = [f"{name}: no file of a run" for name in sizes if name not in _ACCEPTED]
    problems += [
        f"{name}: {format_size(size)}, and at most {format_size(_ACCEPTED[name])} are accepted"
        for name, size in sizes.items()
        if size > _ACCEPTED.get(name, size)
    ]
    problems += [f"{name}: missing" for name in _REQUIRED if name not in sizes]
    if problems:
        raise RunError(
            f"{address} is not a run as `flowgmm push` sends it, and nothing was downloaded",
            details=list_some(problems, len(problems), 8),
            hint="ask its owner to push the run again",
        )


def _copy(files: Mapping[str, Path], cache: Path, target: Path, address: str) -> None:
    """Copy the files to a folder that appears complete; each has to lie in the cache of its repository."""
    for name, file in files.items():
        real = file.resolve()
        if not real.is_file() or not real.is_relative_to(cache.resolve()):
            raise RunError(f"{address}: {name} is a link to another place", hint="remove it from the cache")
        if real.stat().st_size > _ACCEPTED[name]:
            raise RunError(f"{address}: {name} is larger than its listing", hint="remove it from the cache")
    with atomic_folder(target) as folder:
        for name, file in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, folder / name)
        shutil.rmtree(target, ignore_errors=True)  # it has no run.json


@dataclass(frozen=True)
class Upload:
    """Files to send to a repository.

    Attributes:
        repository: `owner/name`.
        files: contents, or the file that holds them, by name.
        private: visibility of a new repository, or that of the existing one.
        is_new: True if there is no such repository.
    """

    repository: str
    files: Mapping[str, bytes | Path]
    private: bool
    is_new: bool

    def sizes(self) -> dict[str, int]:
        """Return the size of each file in bytes."""
        return {
            name: len(data) if isinstance(data, bytes) else data.stat().st_size
            for name, data in self.files.items()
        }

    def send(self, message: str) -> tuple[str, str]:
        """Create the repository if it is new, and commit the files; return the commit and its address."""
        from huggingface_hub import CommitOperationAdd, HfApi

        with hub_errors(self.repository):
            api = HfApi()
            if self.is_new:
                api.create_repo(self.repository, private=self.private, repo_type="model")
            operations = [CommitOperationAdd(name, data) for name, data in self.files.items()]
            commit = api.create_commit(self.repository, operations, commit_message=message)
        return commit.oid, f"{api.endpoint}/{self.repository}"


def prepare_upload(
    folder: Path, repository: str, card: str, *, private: bool, offline: bool = False
) -> Upload:
    """Collect the files of a finished run, without what `run.json` says about this machine.

    Raises:
        RunError: the run has no model, or the hub cannot be reached.
        UsageError: the name is no name of a repository, there is no token, or the repository is public and
            `private` is asked for.
    """
    from flowgmm_cli.run_info import read_info

    if not re.fullmatch(f"{_NAME}/{_NAME}", repository):
        raise UsageError(f"{repository} is no name of a repository", hint="flowgmm push RUN owner/name")
    missing = [name for name in _REQUIRED if not (folder / name).is_file()]
    if missing:
        raise RunError(f"{folder} has no {missing[0]}", hint="push a finished run: flowgmm runs list")
    if offline:
        raise UsageError("push sends files, and --offline forbids it", hint="leave out --offline")
    info = {key: value for key, value in read_info(folder / "run.json").items() if key not in _PRIVATE}
    files: dict[str, bytes | Path] = {name: folder / name for name in _SENT if (folder / name).is_file()}
    files["run.json"] = (json.dumps(info, indent=2, ensure_ascii=False) + "\n").encode()
    files[CARD] = card.encode()
    with hub_errors(repository):
        from huggingface_hub import HfApi, get_token
        from huggingface_hub.errors import RepositoryNotFoundError

        if get_token() is None:
            raise UsageError("there is no token of the hub on this machine", hint="hf auth login")
        try:
            is_private = bool(HfApi().model_info(repository).private)
        except RepositoryNotFoundError:
            return Upload(repository, files, private, is_new=True)
    if private and not is_private:
        raise UsageError(
            f"{repository} exists and is public",
            hint="choose another name, or make it private on its page on the hub",
        )
    return Upload(repository, files, is_private, is_new=False)


@contextmanager
def hub_errors(what: str) -> Iterator[None]:
    """Turn errors of huggingface_hub in the block into `RunError`; it shows no progress and no telemetry."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    utils: Any = import_module("huggingface_hub.utils")
    had_bars, verbosity = not utils.are_progress_bars_disabled(), utils.logging.get_verbosity()
    utils.disable_progress_bars()
    utils.logging.set_verbosity_error()  # it warns of each try
    try:
        yield
    except FlowgmmError:
        raise
    except Exception as error:  # types of the HTTP library, which differ between versions
        raise _explain(error, what) from error
    finally:
        utils.logging.set_verbosity(verbosity)
        if had_bars:
            utils.enable_progress_bars()


def _explain(error: Exception, what: str) -> RunError:
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        hint = "accept them on the hub, then `hf auth login`"
        return RunError(f"{what} requires accepting its terms", hint=hint)
    if isinstance(error, errors.RepositoryNotFoundError | errors.RevisionNotFoundError):
        hint = "check name and revision; a private repository needs `hf auth login`"
        return RunError(f"{what} is not on the hub", hint=hint)
    if isinstance(error, errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled):
        hint = "run the command once with a network and without --offline"
        return RunError(f"{what} is not in the cache, and the hub cannot be reached", hint=hint)
    if isinstance(error, errors.HfHubHTTPError):
        return RunError(f"{what}: the hub refused ({first_line(error)})", hint="hf auth whoami")
    return RunError(f"{what}: the hub cannot be reached ({first_line(error)})", hint="try again later")
