from __future__ import annotations

from pathlib import Path

import pytest

from flowgmm_cli.plugins.entry import Entry
from flowgmm_cli.plugins.registry import Registry
from flowgmm_cli.recipe.catalogue import BundledRecipe, available_recipes, recipe_folder


def test_flowgmm_has_recipes_of_its_own() -> None:
    folder = recipe_folder()
    assert folder is not None
    assert "digits" in available_recipes()
    assert all(item.path.is_relative_to(folder) for item in available_recipes().values())


@pytest.mark.parametrize(
    ("text", "summary"),
    [
        ("# Digits from few labels.\n# More.\nversion: 1\n", "Digits from few labels."),
        (
            "# Digits, and a very long line is\n# continued. More.\n",
            "Digits, and a very long line is continued.",
        ),
        ("# Without a stop\n# more\n#\n# Later.\n", "Without a stop"),
        ("# recipes/x.yaml — Digits — again\n", "Digits — again"),
        ("# two words — kept\n", "two words — kept"),
        ("\nversion: 1\n# later\n", "later"),
        ("version: 1\n", ""),
    ],
)
def test_the_summary_is_the_first_comment(tmp_path: Path, text: str, summary: str) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(text, encoding="utf-8")
    assert BundledRecipe("x", file).summary == summary


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("version: 1\noverlays: {cpu: {}, b: {train.epochs: 1}}\n", ("cpu", "b")),
        ("version: 1\noverlays: {cpu: 3, b: {}}\n", ("b",)),
        ("# no overlays\nversion: 1\n", ()),
        ("overlays: {cpu: {}\n", ()),
        ("overlays\n", ()),
        ("", ()),
    ],
)
def test_overlays_are_named_as_far_as_files_can_be_read(tmp_path: Path, text: str, names: object) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(text, encoding="utf-8")
    assert BundledRecipe("x", file).overlays == names


@pytest.mark.parametrize(
    ("target", "names"),
    [
        ("fake_pack.recipes", ["fake-pack/a", "fake-pack/deep/b"]),
        ("fake_pack:recipes", ["fake-pack/a", "fake-pack/deep/b"]),
        ("fake_pack.recipes:deep", ["fake-pack/b"]),
        ("fake_pack:missing", []),
        ("nowhere_at_all.recipes", []),
    ],
)
def test_recipes_of_a_plugin_are_listed_without_importing_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, names: list[str]
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("a.yaml", "deep/b.yaml", "note.txt"):
        file = tmp_path / "fake_pack" / "recipes" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("version: 1\n", encoding="utf-8")
    (tmp_path / "fake_pack" / "__init__.py").write_text("raise RuntimeError", encoding="utf-8")
    entries = [Entry("recipe", "mine", "fake-pack", "1.0", target)]
    for disabled, expected in (("", names), ("all", [])):
        recipes = available_recipes(Registry({}, entries, disabled=disabled)).values()
        assert [item.name for item in recipes if item.package] == expected
