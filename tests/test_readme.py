"""README, CONTRIBUTING and docs are true: commands parse, recipes are valid, tables are complete."""

from __future__ import annotations

import re
import runpy
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer

from flowgmm_cli import errors
from flowgmm_cli.cli import output
from flowgmm_cli.cli.app import app
from flowgmm_cli.recipe.catalogue import available_recipes
from flowgmm_cli.recipe.load import load_recipe
from flowgmm_cli.runs import create_run
from flowgmm_cli.training.pipeline import train

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md"))}
MAX_LINES = 130  # of the README


def code_blocks(text: str, language: str) -> list[str]:
    matches = re.finditer(rf"^( *)```{language}\n(.*?)\n\1```$", text, re.M | re.S)
    return [re.sub(rf"^{match[1]}", "", match[2], flags=re.M) for match in matches]


def flowgmm_commands(text: str) -> list[str]:
    """The words after `flowgmm` of each command in the shell blocks, comments left out."""
    commands = []
    for line in "\n".join(code_blocks(text, "sh")).splitlines():
        for command in re.split(r"&&|\||;", line):
            words = shlex.split(command, comments=True)
            if words and Path(words[0]).name == "flowgmm":
                commands.append(shlex.join(words[1:]))
    return commands


# planewise is the flow that the walkthrough of CONTRIBUTING adds
COMMANDS = sorted({
    command
    for text in (README, CONTRIBUTING, *PAGES.values())
    for command in flowgmm_commands(text)
    if "planewise" not in command
})  # fmt: skip


@pytest.fixture
def _restore_settings(monkeypatch: pytest.MonkeyPatch) -> Any:
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.setenv(name, "0")  # `--offline` sets them while it is parsed
    yield
    output.settings.quiet = output.settings.verbose = False


@pytest.mark.usefixtures("_restore_settings")
@pytest.mark.parametrize("text", COMMANDS)
def test_commands_and_their_flags_exist(text: str) -> None:
    command: Any = typer.main.get_command(app)
    words = shlex.split(text)
    command = command.commands[words.pop(0)].load()
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    command.make_context(command.name, words)  # a usage error, if it does not parse


@pytest.mark.parametrize("text", COMMANDS)
def test_recipes_and_overrides_are_valid(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [word for word in shlex.split(text) if not word.startswith("-")]
    if words == ["check"]:
        return  # of a run
    if words[0] == "recipes":
        words.pop(0)
    if words[0] not in ("train", "show", "check", "copy") or words[1:2] in (["mine.yaml"], ["trees.yaml"]):
        return  # names no recipe, or one that the reader copied
    monkeypatch.chdir(ROOT)
    recipe, overrides = words[1], [word for word in words[2:] if "=" in word]
    assert recipe in available_recipes() or Path(recipe).is_file()
    if words[0] != "copy":
        load_recipe(recipe, overrides)


@pytest.mark.parametrize("text", code_blocks(PAGES["recipes"], "yaml"))
def test_yaml_is_a_valid_recipe(text: str, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(text, encoding="utf-8")
    load_recipe(str(tmp_path / "recipe.yaml"))


@pytest.mark.parametrize("text", code_blocks(README, "python") + code_blocks(PAGES["python"], "python"))
def test_python_runs(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    check = "\nassert model.score(X, classes) > 0.9\n"
    if "runs/latest" in text:
        check = "\nassert len(answers) == len(latents) == 60 and len(new['class']) == 16\n"
        rows = [f"{i % 7},{i % 11 - i % 3},{'ab'[i % 3 == 0]}" for i in range(60)]
        Path("new.csv").write_text("\n".join(["u,v,kind", *rows]) + "\n", encoding="utf-8")
        short = ["search=null", "train.max_steps=5", "calibration.method=none"]
        recipe = load_recipe("csv", ["data.path=new.csv", "data.label=kind", *short])
        train(recipe, create_run(recipe, argv=[]))
    exec(compile(text + check, "README.md", "exec"), {"__name__": "__main__"})


def test_the_first_two_commands_are_those_that_ci_carries_out() -> None:
    command = runpy.run_path(str(ROOT / ".ci" / "readme_commands.py"))["command"]
    assert [command("train"), command("test")] == code_blocks(README, "sh")[:2]
    assert command("train").endswith("flowgmm train recipes/digits.yaml")
    assert command("test").endswith("-m pytest")
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert re.findall(r"^ *step .* readme (\w+)$", script, re.M) == ["train", "test"]


def first_cells(page: str, column: str) -> list[str]:
    """The first cells of the table of a page whose first column has this name."""
    rows = page[page.index(f"| {column} |") :].split("\n\n")[0].splitlines()[2:]
    return [row.split("|")[1].strip() for row in rows]


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= MAX_LINES


def test_the_table_of_commands_is_complete() -> None:
    command: Any = typer.main.get_command(app)
    assert set(first_cells(PAGES["commands"], "command")) == {f"`{name}`" for name in command.commands}


def test_the_table_of_exit_codes_is_complete() -> None:
    classes = [value for value in vars(errors).values() if isinstance(value, type)]
    codes = {error.exit_code for error in classes if issubclass(error, errors.FlowgmmError)}
    assert [int(cell) for cell in first_cells(PAGES["commands"], "code")] == sorted({0, *codes})


@pytest.mark.parametrize("text", [README, CONTRIBUTING], ids=["README", "CONTRIBUTING"])
def test_linked_files_exist(text: str) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
        assert (ROOT / target).exists(), target


def test_contributing_lists_the_layers_of_the_import_linter() -> None:
    cells = re.findall(
        r"^\| (`[^|]+) \|", CONTRIBUTING[CONTRIBUTING.index("| layer |") :].split("\n\n")[0], re.M
    )
    listed = [
        {name.removesuffix(".py").rstrip("/") for name in re.findall(r"`([^`]+)`", cell)} for cell in cells
    ]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = project["tool"]["importlinter"]["contracts"][0]["layers"]
    assert listed == [set(layer.split(" | ")) for layer in layers]
    for name in set().union(*listed):
        path = ROOT / "flowgmm_cli" / name
        assert path.is_dir() or path.with_suffix(".py").is_file()
