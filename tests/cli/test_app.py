"""Subcommands are known by name and summary before they are imported."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from flowgmm_cli.cli.app import COMMANDS, app


@pytest.mark.parametrize("name", COMMANDS)
def test_the_summary_is_the_first_paragraph_of_the_command(name: str) -> None:
    group: Any = typer.main.get_command(app)
    lazy = group.commands[name]
    command = lazy.load()
    assert command.name == name
    first = inspect.cleandoc(command.help).split("\n\n")[0].replace("\n", " ")
    assert first == lazy.help == COMMANDS[name]


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["embed", "--help"], 0, "flowgmm embed [OPTIONS]"),
        (["embed", "--help"], 0, "--map"),
        (["runs", "lst"], 2, "Did you mean 'list'"),
        (["trian"], 2, "Did you mean 'train'"),
    ],
)
def test_a_command_is_parsed_and_a_misspelt_one_has_a_suggestion(
    words: list[str], code: int, text: str
) -> None:
    result = CliRunner().invoke(app, words, env={"COLUMNS": "200", "TERM": "dumb"})
    assert result.exit_code == code
    assert text in result.output


def test_the_shell_completes_flags_of_a_command() -> None:
    typed = {"_TYPER_COMPLETE_ARGS": "flowgmm train --res", "COMP_WORDS": "flowgmm train --res"}
    environment = {**os.environ, "_FLOWGMM_COMPLETE": "complete_zsh", **typed}
    code = "from flowgmm_cli.cli.app import app; app(prog_name='flowgmm')"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert "--resume" in done.stdout
