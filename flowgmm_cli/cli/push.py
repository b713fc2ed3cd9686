"""`flowgmm push`: send a run to the Hugging Face Hub."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from flowgmm_cli.cli import options, output
from flowgmm_cli.cli.session import data_context, select_run, write_model_card
from flowgmm_cli.errors import InterruptedRunError, RunError, UsageError
from flowgmm_cli.formatting import format_size
from flowgmm_cli.messages import quote

if TYPE_CHECKING:
    from flowgmm_cli.runs import Run

SCHEMA = "flowgmm/push/1"
_LICENCE = re.compile(r"^- Licence: .*$", re.M)


def push(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="The run, as in other commands; may be left out.")
    ],
    repository: Annotated[
        str | None, typer.Argument(metavar="OWNER/NAME", help="The repository; it need not exist.")
    ] = None,
    run_flag: options.RunFlag = None,
    private: Annotated[
        bool, options.option("--private", "Let only its owner read a new repository.")
    ] = False,
    licence: Annotated[
        str | None, options.option("--license ID", "Licence of the model, such as apache-2.0, for its card.")
    ] = None,
    yes: Annotated[bool, options.option("--yes -y", "Send without a question.")] = False,
    as_json: options.Json = False,
) -> None:
    """Send a run to the Hugging Face Hub, from where `hf://owner/name` reads it.

    The command shows files, sizes and visibility, and asks. It sends what inference and reports need, with
    the model card as README.md, but no predictions of single rows and nothing about this machine.

    Examples: flowgmm push you/digits --private · flowgmm push runs/digits/latest you/digits --yes ·
    flowgmm predict hf://you/digits --data new.csv
    """
    words = (run, repository) if repository else (None, run)
    selected = select_run(words[0], run_flag)
    target = str(words[1])
    if not (yes or sys.stdin.isatty()):
        raise UsageError("push asks before it sends, and there is no terminal", hint="add --yes")

    from flowgmm_cli.hub import prepare_upload

    card = _read_card(selected, target, licence)
    upload = prepare_upload(selected.path, target, card, private=private, offline=output.settings.offline)
    sizes = upload.sizes()
    for name, size in sizes.items():
        output.note(f"  {name:<20} {format_size(size):>10}")
    visibility = "private" if upload.private else "public, everybody can read it"
    state = "a new repository" if upload.is_new else "exists already"
    output.note(f"{target}: {state}, {visibility}; {len(sizes)} files, {format_size(sum(sizes.values()))}")
    output.note("they name the path of the data, its columns and classes, and hold vectors of training rows")
    if not yes and not typer.confirm("send them?", err=True):
        raise InterruptedRunError("nothing was sent")
    commit, url = upload.send(f"Run {selected.name}")
    if as_json:
        output.print_json(
            {
                "schema": SCHEMA,
                "run": str(selected.path),
                "repository": target,
                "url": url,
                "commit": commit,
                "private": upload.private,
                "files": [{"name": name, "bytes": size} for name, size in sizes.items()],
            }
        )
        return
    output.print_exact(url)
    output.note(f"next: flowgmm predict hf://{target} --data {quote('new.csv')}")


def _read_card(run: Run, repository: str, licence: str | None) -> str:
    """Return the model card for a repository, with its licence and with commands that name it."""
    from huggingface_hub import ModelCard

    from flowgmm_cli.report.card import FILE

    file = run.path / FILE
    if not file.is_file():
        output.note("loading torch…")
        with output.progress() as progress:
            write_model_card(run, data_context(progress))
    if not file.is_file():
        raise RunError(f"{run.path} has no model card", hint=f"flowgmm runs show {quote(run.path)}")
    text = file.read_text(encoding="utf-8")
    text = re.sub(r"^(flowgmm (?:predict|ood|report)) RUN", rf"\1 hf://{repository}", text, flags=re.M)
    text = re.sub(r'load\(".*"\)  # or its path', f'load("hf://{repository}")', text)
    text = text.replace("With this folder (a run directory) at hand, in place of RUN:", "With flowgmm-cli:")
    if licence is not None:
        card = ModelCard(_LICENCE.sub(f"- Licence: {licence}", text), ignore_metadata_errors=True)
        setattr(card.data, "license", licence)  # noqa: B010 - not every card has it
        text = str(card)
    return text
