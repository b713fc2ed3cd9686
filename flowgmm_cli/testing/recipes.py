"""Checks of packages that bring recipes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from flowgmm_cli.plugins.registry import registry
from flowgmm_cli.recipe.bundled import BundledRecipe, bundled_recipes
from flowgmm_cli.recipe.check import check_recipe
from flowgmm_cli.recipe.load import find_source
from flowgmm_cli.testing.check import check, expect


class RecipesConformance:
    """What holds for the recipes of a package.

        class TestRecipes(RecipesConformance):
            package = "flowgmm-nsf"

    Attributes:
        package: the distribution.
        overrides: recipe -> words `key=value` for what it leaves to its user, such as a path.
        skip: check -> why it does not apply.
    """

    package: ClassVar[str] = ""
    overrides: ClassVar[Mapping[str, Sequence[str]]] = {}
    skip: ClassVar[Mapping[str, str]] = {}

    @property
    def subject(self) -> str:
        """What is being checked, for people."""
        return f"recipes of {self.package}"

    def recipes(self) -> list[BundledRecipe]:
        """The package's recipes."""
        return [one for one in bundled_recipes(registry()).values() if one.package == self.package]

    @check("name the folder in the group `flowgmm.recipes`, and ship its *.yaml files in the wheel")
    def test_recipes_are_found(self) -> None:
        """The package brings at least one recipe."""
        expect(self.recipes(), f"no recipe comes from {self.package}")

    @check("begin each recipe with a comment line that says what it does")
    def test_recipes_are_summarised(self) -> None:
        """Every recipe begins with a comment that says what it does."""
        silent = [one.name for one in self.recipes() if not one.summary]
        expect(not silent, f"no summary in {', '.join(silent)}")

    @check("`flowgmm recipes check NAME` shows the problem with its line")
    def test_recipes_are_valid(self) -> None:
        """Every recipe is valid, with each of its overlays too."""
        for one in self.recipes():
            check_recipe(find_source(one.name, self.overrides.get(one.name, ()), environ={}))
