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
from flowgmm_cli.cli.lazy import LazyCommand, lazy_group


@pytest.mark.parametrize("name", COMMANDS)
def test_the_summary_is_what_the_command_says_of_itself(name: str) -> None:
    group: Any = typer.main.get_command(app)
    stand_in = group.commands[name]
    command = stand_in.load()
    assert command.name == name
    first = inspect.cleandoc(command.help).split("\n\n")[0].replace("\n", " ")
    assert first == stand_in.help == COMMANDS[name][0]


def test_help_imports_no_command() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from flowgmm_cli.cli.app import app\n"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0\n"
        "print(sorted(name for name in sys.modules if name.startswith('flowgmm_cli.cli.')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['flowgmm_cli.cli.app', 'flowgmm_cli.cli.lazy']"


def test_a_command_is_parsed_in_a_context_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    asked = CliRunner().invoke(app, ["embed", "--help"], env={"COLUMNS": "200", "TERM": "dumb"})
    assert asked.exit_code == 0
    assert "flowgmm embed [OPTIONS]" in asked.output
    assert "--map" in asked.output


def test_a_group_of_commands_is_one_word_of_the_outer_group() -> None:
    asked = CliRunner().invoke(app, ["runs", "lst"], env={"COLUMNS": "200", "TERM": "dumb"})
    assert asked.exit_code == 2
    assert "Did you mean 'list'" in asked.output


def test_a_misspelt_command_is_answered_without_importing_any() -> None:
    asked = CliRunner().invoke(app, ["trian"], env={"COLUMNS": "200", "TERM": "dumb"})
    assert asked.exit_code == 2
    assert "Did you mean 'train'" in asked.output


def test_a_command_that_is_not_there_fails_when_it_is_used_and_not_before() -> None:
    broken = typer.Typer(cls=lazy_group({"gone": ("Is gone.", "flowgmm_cli.no_such_module:gone")}))
    broken.callback()(lambda: None)
    assert CliRunner().invoke(broken, ["--help"]).exit_code == 0
    assert isinstance(CliRunner().invoke(broken, ["gone"]).exception, ModuleNotFoundError)


def test_the_shell_completes_flags_of_a_command() -> None:
    environment = {
        **os.environ,
        "_FLOWGMM_COMPLETE": "complete_zsh",
        "_TYPER_COMPLETE_ARGS": "flowgmm train --res",
        "COMP_WORDS": "flowgmm train --res",
    }
    code = "from flowgmm_cli.cli.app import app; app(prog_name='flowgmm')"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert "--resume" in done.stdout


def test_a_stand_in_has_the_name_and_the_summary() -> None:
    command = LazyCommand("train", "Train.", "flowgmm_cli.cli.train:train")
    assert (command.name, command.help) == ("train", "Train.")
