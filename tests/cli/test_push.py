"""`flowgmm push` and `hf://owner/name`, on a hub in this process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hub_server import Hub, serve_hub
from own_files import copy_table, numbers, save

from flowgmm_cli.files import read_json

NAME = "someone/table"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with serve_hub(tmp_path / "hf") as hub:
        yield hub


@pytest.fixture
def run(trained_table: Path, folder: Path) -> Path:
    """A trained run, in the current folder."""
    copy_table(trained_table, folder)
    return next(Path("runs").glob("*/first"))


def test_a_pushed_run_predicts_the_same_bits(flowgmm: Any, hub: Hub, run: Path) -> None:
    sent = flowgmm("push", str(run), NAME, "--private", "--yes", "--license", "mit", "--json")
    answer = json.loads(sent.out)
    assert answer["schema"] == "flowgmm/push/1"
    assert answer["commit"] == hub.commit(NAME)
    assert answer["private"] is hub.private[NAME] is True
    assert {item["name"] for item in answer["files"]} == set(hub.repositories[NAME])
    assert "model.safetensors" in sent.err
    files = hub.repositories[NAME]
    assert not any(name.endswith(".npz") for name in files)
    info = json.loads(files["run.json"])
    assert not {"host", "folder", "argv", "pid"} & set(info)
    card = files["README.md"].decode()
    assert "license: mit" in card
    assert "- Licence: mit" in card
    assert f"flowgmm predict hf://{NAME}" in card

    address = f"hf://{NAME}"
    flowgmm("predict", str(run), "--data", "t.csv", "--save", "near.csv")
    told = flowgmm("predict", address, "--data", "t.csv", "--save", "far.csv")
    assert f"({address}, commit {answer['commit'][:7]})" in told.err
    assert Path("near.csv").read_bytes() == Path("far.csv").read_bytes()
    flowgmm("runs", "show", f"{address}@{answer['commit']}")

    hub.requests.clear()
    flowgmm("predict", address, "--data", "t.csv", "--save", "again.csv", "--offline")
    assert hub.requests == []
    assert Path("again.csv").read_bytes() == Path("near.csv").read_bytes()
    assert "is not in the cache" in flowgmm("eval", "hf://someone/else", "--offline", code=6).err


def test_nothing_is_sent_without_an_answer(
    flowgmm: Any, hub: Hub, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = flowgmm("push", str(run), NAME, code=2).err
    assert "hint: add --yes" in told
    assert "no name of a repository" in flowgmm("push", str(run), "table", "--yes", code=2).err
    assert "--offline forbids it" in flowgmm("push", str(run), NAME, "--yes", "--offline", code=2).err
    hub.repositories["someone/open"] = {}
    told = flowgmm("push", str(run), "someone/open", "--yes", "--private", code=2).err
    assert "someone/open exists and is public" in told
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("typer.confirm", lambda text, err: False)
    told = flowgmm("push", str(run), NAME, code=130).err
    assert "public, everybody can read it" in told
    assert NAME not in hub.repositories
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    assert "hf auth login" in flowgmm("push", str(run), NAME, "--yes", code=2).err


HOSTILE = {
    "pickle.pkl": (b"cos\nsystem", "pickle.pkl: no file of a run"),
    "flowgmm_plugin.py": (b"import os", "flowgmm_plugin.py: no file of a run"),
    "../run.json": (b"{}", "../run.json: no file of a run"),
    "recipe.yaml": (b"x" * (4 * 2**20 + 1), "recipe.yaml: 4.2 MB, and at most 4.2 MB are accepted"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_other_files_are_refused_before_any_is_downloaded(flowgmm: Any, hub: Hub, name: str) -> None:
    files = dict.fromkeys(("run.json", "resolved.yaml", "model.json", "model.safetensors"), b"{}")
    data, message = HOSTILE[name]
    hub.repositories[NAME] = {**files, name: data}
    told = flowgmm("eval", f"hf://{NAME}", code=6).err
    assert message in told
    assert "nothing was downloaded" in told
    assert hub.downloads() == []


def test_a_missing_plugin_is_named_before_the_weights_are_downloaded(
    flowgmm: Any, hub: Hub, run: Path
) -> None:
    flowgmm("push", str(run), NAME, "--yes")
    info = read_json(run / "run.json", "run")
    info["components"].append({"kind": "flow", "name": "far", "package": "flowgmm-far", "version": "1.0"})
    hub.repositories[NAME]["run.json"] = json.dumps(info).encode()
    told = flowgmm("predict", f"hf://{NAME}", "--data", "t.csv", code=4).err
    assert "hint: pip install flowgmm-far==1.0" in told
    assert hub.downloads() == ["run.json"]


def test_links_in_the_cache_are_refused(flowgmm: Any, hub: Hub, run: Path, tmp_path: Path) -> None:
    flowgmm("push", str(run), NAME, "--yes")
    flowgmm("runs", "show", f"hf://{NAME}")
    (copy,) = (tmp_path / "hf" / "flowgmm" / "hub" / NAME).iterdir()
    assert not any(path.is_symlink() for path in copy.rglob("*"))
    (copy / "run.json").unlink()  # it is made again from the cache of huggingface_hub
    (cached,) = (tmp_path / "hf" / "hub").glob("*/snapshots/*/model.json")
    cached.unlink()
    cached.symlink_to("/etc/passwd")
    told = flowgmm("runs", "show", f"hf://{NAME}", code=6).err
    assert "model.json is a link to another place" in told


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("hf://table", "no address of the hub"),
        ("hf://a/b@c d", "no address of the hub"),
        ("hf://someone/none", "is not on the hub"),
    ],
)
def test_wrong_addresses(flowgmm: Any, hub: Hub, address: str, message: str) -> None:
    assert message in flowgmm("eval", address, code=6).err


def test_a_hub_that_does_not_answer(flowgmm: Any, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    save("t.csv", numbers(5))
    assert "the hub cannot be reached" in flowgmm("predict", f"hf://{NAME}", "--data", "t.csv", code=6).err
