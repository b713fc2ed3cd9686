"""Checks of packages that bring recipes."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

from flowgmm_cli.plugins.registry import registry
from flowgmm_cli.recipe.catalogue import BundledRecipe, available_recipes
from flowgmm_cli.recipe.load import check_recipe
from flowgmm_cli.testing.checks import Suite, check, expect

RUN_COMMANDS = """
import json, sys
from flowgmm_cli.__main__ import main
for words in json.loads(sys.argv[1]):
    sys.argv = ["flowgmm", *words]
    try:
        main()
    except SystemExit as stop:
        if stop.code:
            raise
    print(end="\\f", flush=True)
"""
"""Program that runs commands, JSON lists of words, in one process; a form feed follows the output of each."""


class RecipesConformance(Suite):
    """Checks of the recipes of a package.

        class TestRecipes(RecipesConformance):
            package = "flowgmm-nsf"
            trainings = {"flowgmm-nsf/two_circles_nsf": []}

    Attributes:
        package: the distribution.
        overrides: recipe -> words `key=value` for values that the user must give, such as a path.
        trainings: recipe to train for two epochs -> words `key=value` that make it small and quick.
    """

    package: ClassVar[str] = ""
    overrides: ClassVar[Mapping[str, Sequence[str]]] = {}
    trainings: ClassVar[Mapping[str, Sequence[str]]] = {}

    @property
    def subject(self) -> str:
        """The component, for people."""
        return f"recipes of {self.package}"

    def recipes(self) -> list[BundledRecipe]:
        """List the package's recipes; a check with a `recipe` runs for each."""
        return [recipe for recipe in available_recipes(registry()).values() if recipe.package == self.package]

    def write_data(self, folder: Path) -> None:
        """Write the files that the recipes of `trainings` read, relative to `folder`."""

    def case_name(self, case: BundledRecipe | str) -> str:
        """Name a recipe."""
        return case if isinstance(case, str) else case.name

    @check("name the folder in the group `flowgmm.recipes`, and ship its *.yaml files in the wheel")
    def test_recipes_are_found(self) -> None:
        """The package brings at least one recipe."""
        expect(self.recipes(), f"no recipe comes from {self.package}")

    @check("begin each recipe with a comment line that summarises it")
    def test_recipes_are_summarised(self, recipe: BundledRecipe) -> None:
        """Every recipe begins with a comment that summarises it."""
        expect(recipe.summary, "it has no summary")

    @check("`flowgmm recipes check NAME` shows the problem with its line")
    def test_recipes_are_valid(self, recipe: BundledRecipe) -> None:
        """Every recipe is valid, with each of its overlays too."""
        check_recipe(recipe.name, self.overrides.get(recipe.name, ()), environ={})

    @check("`flowgmm train NAME train.epochs=2` shows the error")
    def test_recipes_train(self, training: str) -> None:
        """Every recipe in `trainings` trains, and its saved model is evaluated."""
        with TemporaryDirectory(prefix="flowgmm-") as folder:
            self.write_data(Path(folder))
            short = [*self.trainings[training], "train.epochs=2", "calibration.method=none"]
            train = ["train", training, *short, "--run-dir", "run"]
            _, result = run_commands(train, ["eval", "run"], folder=folder)
            info = Path(folder, "run", "run.json").read_text(encoding="utf-8")
        expect(result["n"] > 0, "no test rows")
        expect(math.isfinite(result["metrics"]["density_nll"]), "the test NLL is not finite")
        expect(self.package in info, "run.json does not name the package")


def run_commands(*commands: Sequence[str], folder: str | Path) -> list[Any]:
    """Run `flowgmm WORDS --json` offline for the words of each command, all in one process of their own.

    Args:
        commands: commands with their arguments.
        folder: the working directory, which also gets the cache.

    Returns:
        The output of each.

    Raises:
        RuntimeError: a command failed; the message is its stderr.
    """
    words = [[*command, "--json", "--quiet"] for command in commands]
    script = [sys.executable, "-c", RUN_COMMANDS, json.dumps(words)]
    env = {**os.environ, "FLOWGMM_CACHE_DIR": str(Path(folder, "cache")), "FLOWGMM_OFFLINE": "1"}
    done = subprocess.run(script, cwd=folder, env=env, capture_output=True, text=True, check=False)
    outputs = done.stdout.split("\f")
    if done.returncode:
        raise RuntimeError(f"flowgmm {' '.join(commands[len(outputs) - 1])}: {done.stderr.strip()}")
    return [json.loads(output) for output in outputs[:-1]]
