"""Overlays: how their entries are applied, the recorded result, and the errors of malformed entries."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowgmm_cli.errors import PluginError, RecipeError
from flowgmm_cli.plugins.registry import Registry
from flowgmm_cli.recipe.load import load_recipe, load_resolved, parse_resolved, vary
from flowgmm_cli.recipe.schema import Recipe

BASE = """\
version: 1
data: {use: table, path: a.csv, encoder: {use: small, dim: 8}, labels: {count: 5}}
flow: {use: realnvp, layers: 3, hidden: 16}
regularisers:
  - {use: penalty, weight: 0.5, power: 3}
  - {use: consistency, weight: 0.25}
train: {lr: 3e-4, epochs: 40}
"""
CPU = """\
overlays:
  cpu:
    flow.hidden: 8
    train: {epochs: 3, batch_size: 64}
  short:
    train.epochs: 2
"""

Over = Callable[..., Recipe]


@pytest.fixture
def over(tmp_path: Path, registry: Registry) -> Over:
    """Load `BASE` with one overlay `x`, applied: `over("train.epochs: 3", "lines", words=[...])`."""

    def run(*lines: str, words: tuple[str, ...] = (), environ: dict[str, str] | None = None) -> Recipe:
        file = tmp_path / "my.yaml"
        body = "".join(f"    {line}\n" for line in lines) or "    {}\n"
        file.write_text(f"{BASE}overlays:\n  x:\n{body}", encoding="utf-8")
        return load_recipe(str(file), words, overlays=["x"], registry=registry, environ=environ or {})

    return run


def details(caught: pytest.ExceptionInfo[RecipeError]) -> list[str]:
    return [line.partition("my.yaml:")[2] for line in caught.value.details]


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "my.yaml"
    path.write_text(BASE + CPU, encoding="utf-8")
    return str(path)


def test_an_overlay_changes_the_recipe_only_if_it_is_chosen(file: str, registry: Registry) -> None:
    plain = load_recipe(file, registry=registry)
    assert plain.flow.to_dict()["hidden"] == 16
    assert (plain.origin.overlays, list(plain.overlays)) == ((), ["cpu", "short"])
    varied = load_recipe(file, overlays=["cpu"], registry=registry)
    assert varied.flow.to_dict() == {**plain.flow.to_dict(), "hidden": 8}
    assert varied.train == plain.train.model_copy(update={"epochs": 3, "batch_size": 64})
    assert (varied.origin.overlays, varied.origin.overrides) == (("cpu",), ())
    assert varied.data == plain.data


def test_overlays_are_applied_in_their_order_and_before_the_words(file: str, registry: Registry) -> None:
    def epochs(*names: str, words: tuple[str, ...] = ()) -> int:
        return load_recipe(file, words, overlays=names, registry=registry).train.epochs

    assert (epochs("cpu", "short"), epochs("short", "cpu")) == (2, 3)
    assert epochs("cpu", "short", words=("train.epochs=7",)) == 7


def test_what_is_recorded_holds_the_result_without_the_overlays(
    file: str, registry: Registry, tmp_path: Path
) -> None:
    recipe = load_recipe(file, ["train.lr=1"], overlays=["short", "cpu"], registry=registry)
    assert (recipe.origin.overlays, recipe.origin.overrides, recipe.origin.text) == (
        ("short", "cpu"), ("train.lr=1",), BASE + CPU,
    )  # fmt: skip
    assert "overlays" not in recipe.to_dict()
    resolved = tmp_path / "resolved.yaml"
    resolved.write_text(recipe.to_yaml(), encoding="utf-8")
    again = load_resolved(resolved, registry=registry)
    assert again.to_dict() == {**recipe.to_dict(), "name": "my"}
    assert again.overlays == {}
    assert vary(recipe, {"train.epochs": 9}, registry=registry).origin.overlays == ("short", "cpu")


def test_plain_values_can_have_overlays_too(registry: Registry) -> None:
    values = {
        "version": 1,
        "data": {"use": "empty"},
        "overlays": {"cpu": {"train.epochs": 3, "train": {"lr": 0.5}}},
    }
    actual = parse_resolved(values, "here", ["train.lr=0.25"], overlays=["cpu"], registry=registry)
    assert (actual.train.epochs, actual.train.lr) == (3, 0.25)


def test_another_component_drops_the_old_parameters_with_a_note(over: Over) -> None:
    for lines in (["flow.use: chain", "flow.layers: 9"], ["flow.layers: 9", "flow.use: chain"]):
        recipe = over(*lines)
        assert recipe.flow.to_dict() == {"use": "chain", "layers": 9, "bins": [8]}
        assert recipe.origin.notes == (
            "flow is now chain: dropped layers, hidden, set in the recipe for realnvp",
        )


def test_a_mapping_with_use_is_a_whole_component(over: Over) -> None:
    assert over("flow: {use: realnvp, layers: 9}").flow.to_dict()["hidden"] == 512
    recipe = over("flow: {use: chain, layers: 9}", "flow.bins: [1, 2]")
    assert recipe.flow.to_dict() == {"use": "chain", "layers": 9, "bins": [1, 2]}


def test_a_mapping_without_use_leaves_the_other_keys(over: Over) -> None:
    recipe = over(
        "flow: {layers: 9}", "data: {labels: {per_class: 2, count: null}, encoder: {dim: 3}}",
        "regularisers.1: {weight: 4}", "train: {early_stopping: {patience: 2}}",
    )  # fmt: skip
    assert (recipe.flow.to_dict()["layers"], recipe.flow.to_dict()["hidden"]) == (9, 16)
    data = recipe.data.to_dict()
    assert (data["path"], data["labels"]["per_class"], data["labels"]["count"]) == ("a.csv", 2, None)
    assert data["encoder"] == {"use": "small", "dim": 3}
    assert [item.to_dict()["weight"] for item in recipe.regularisers] == [0.5, 4]
    assert recipe.train.early_stopping is not None
    assert (recipe.train.early_stopping.patience, recipe.train.lr) == (2, 3e-4)


def test_a_list_and_a_free_mapping_replace_what_is_there(over: Over) -> None:
    recipe = over("regularisers: [{use: consistency}]", "search: {candidates: {deep: {flow.layers: 9}}}")
    assert [item.use for item in recipe.regularisers] == ["consistency"]
    assert recipe.search is not None
    assert recipe.search.candidates == {"deep": {"flow.layers": 9}}


def test_an_empty_mapping_makes_a_section_that_was_left_out_and_changes_no_other(over: Over) -> None:
    assert over("train: {}").train.lr == 3e-4
    values = {
        "version": 1,
        "data": {"use": "sklearn", "name": "digits"},
        "overlays": {"race": {"search": {}}},
    }
    assert parse_resolved(values, "here").search is None
    assert parse_resolved(values, "here", overlays=["race"]).search is not None
    assert over().to_dict() == over("train: {}").to_dict()


def test_a_key_is_removed(over: Over) -> None:
    recipe = over("flow.layers!:", "data: {labels!: }", "regularisers.0!:", "regularisers.1.weight: 9")
    assert recipe.flow.to_dict()["layers"] == 6
    assert recipe.data.to_dict()["labels"]["count"] is None
    assert [(item.use, item.to_dict()["weight"]) for item in recipe.regularisers] == [("consistency", 9)]


def test_values_are_interpolated_where_the_overlay_is_chosen(
    over: Over, file: str, registry: Registry
) -> None:
    recipe = over("data.path: ${env:DATA}", "flow.hidden: ${train.epochs}", environ={"DATA": "b.csv"})
    assert (recipe.data.to_dict()["path"], recipe.flow.to_dict()["hidden"]) == ("b.csv", 40)
    assert recipe.origin.env == ("DATA",)
    with pytest.raises(RecipeError) as caught:
        over("data.path: ${env:DATA}")
    (line,) = details(caught)
    assert line == (
        "10  data.path  the environment variable DATA is not set (from the overlay `x`; the file says "
        "`a.csv` at line 2)"
    )
    Path(file).write_text(f"{BASE}overlays: {{x: {{data.path: '${{env:DATA}}'}}}}\n", encoding="utf-8")
    assert load_recipe(file, registry=registry, environ={}).data.to_dict()["path"] == "a.csv"


def test_mistakes_are_named_all_at_once_with_their_lines(over: Over) -> None:
    with pytest.raises(RecipeError) as caught:
        over(
            "flow.layer: 9", "trian: {lr: 1}", "train: {lr: fast, epochs.x: 3}", "a..b: 3", "overlays.y: 1",
            "run.seed!: 3", "prior.x!:", words=("train.batch_size=none",),
        )  # fmt: skip
    assert caught.value.exit_code == 3
    assert "my.yaml --overlay x has 9 problems" in caught.value.message
    actual = {tuple(line.split(maxsplit=2)[:2]): line for line in details(caught)}
    for line, key, part in [
        ("10", "flow.layer", "unknown key for realnvp; did you mean `layers`? (from the overlay `x`)"),
        ("11", "trian", "did you mean `train`? (from the overlay `x`)"),
        ("12", "train.lr", 'got the string "fast" (from the overlay `x`; the file says 0.0003 at line 7)'),
        ("12", "train.epochs.x", "`train.epochs` holds a single value"),
        ("13", "a..b", "cannot read the key"),
        ("14", "overlays.y", "an overlay cannot change the overlays"),
        ("15", "run.seed!", "removes a key, so it takes no value"),
        ("16", "prior.x", "`prior.x!` removes a key that the recipe does not have"),
    ]:
        assert part in actual[line, key]
    assert "train.batch_size" in caught.value.details[-1]
    assert "(from the command line)" in caught.value.details[-1]


def test_a_word_can_mend_an_overlay(over: Over) -> None:
    assert over("train.epochs: many", words=("train.epochs=3",)).train.epochs == 3


def test_a_key_that_is_given_twice_is_refused(over: Over) -> None:
    for lines in (["train.lr: 1", "train: {lr: 2}"], ["flow: {layers: 2}", "flow.layers!:"]):
        with pytest.raises(RecipeError) as caught:
            over(*lines)
        (line,) = details(caught)
        assert line.startswith("11  ")
        assert "is given twice; the first is at line 10" in line


def test_a_component_that_is_not_there_is_a_matter_of_plugins(over: Over) -> None:
    with pytest.raises(PluginError, match=r"my.yaml:10  flow.use .*did you mean `realnvp`"):
        over("flow.use: realnpv")


@pytest.mark.parametrize(
    ("section", "line", "part"),
    [
        ("overlays: [cpu]", "8  overlays", "expected a mapping of names to changes, got a list"),
        ("overlays: ${data.path}", "8  overlays", "expected a mapping of names to changes"),
        ("overlays:\n  cpu: 3", "9  overlays.cpu", "expected a mapping such as `{train.epochs: 5}`"),
        ("overlays:\n  cpu:\n  b: {}", "9  overlays.cpu", "got nothing"),
        ("overlays:\n  a b: {}", "9  overlays.a b", "the name of an overlay has letters"),
    ],
)
@pytest.mark.parametrize("chosen", [(), ("cpu",)])
def test_a_section_of_another_form_is_refused_in_any_case(
    tmp_path: Path, registry: Registry, section: str, line: str, part: str, chosen: tuple[str, ...]
) -> None:
    file = tmp_path / "my.yaml"
    file.write_text(f"{BASE}{section}\n", encoding="utf-8")
    with pytest.raises(RecipeError) as caught:
        load_recipe(str(file), overlays=chosen, registry=registry)
    (actual,) = details(caught)
    assert actual.startswith(line)
    assert part in actual


def test_another_word_for_the_section_is_refused_with_a_guess(load: Any) -> None:
    with pytest.raises(RecipeError) as caught:
        load(f"{BASE}overlay: {{cpu: {{}}}}\n")
    (line,) = details(caught)
    assert line.startswith("8  overlay  unknown key for a recipe; did you mean `overlays`?")


def test_an_unknown_overlay_is_an_error_that_lists_the_overlays(
    file: str, registry: Registry, load: Any
) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(file, overlays=["cpu", "shrot"], registry=registry)
    assert "my.yaml has no overlay `shrot`; did you mean `short`?; known: cpu, short" in caught.value.message
    load(BASE)
    with pytest.raises(RecipeError, match=r"there is no overlay `cpu`: \S+my.yaml has no overlays"):
        load_recipe(file, overlays=["cpu"], registry=registry)


def test_overlays_cannot_be_changed_by_words(file: str, registry: Registry) -> None:
    for word in ("overlays.cpu.train.lr=1", "overlays={cpu: {}}"):
        with pytest.raises(RecipeError, match="`overlays` cannot be changed on the command line"):
            load_recipe(file, [word], registry=registry)


_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "flow.layers": st.integers(1, 64),
    "flow.mixing": st.sampled_from(["none", "permutation"]),
    "flow.use": st.sampled_from(["realnvp"]),
    "data.path": st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), min_size=1),
    "data.label": st.one_of(st.none(), st.sampled_from(["y", "3e-4", "true", "no"])),
    "data.labels.count": st.integers(1, 9),
    "data.encoder.dim": st.integers(1, 9),
    "regularisers.1.weight": st.floats(0.0, 9.0, width=16),
    "train.lr": st.floats(1e-3, 1.0),
    "train.epochs": st.integers(1, 9),
    "run.deterministic": st.booleans(),
    "train.early_stopping.patience": st.integers(1, 9),
}
_CHANGES = st.fixed_dictionaries({}, optional=_VALUES)


def write_into(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """The recipe with the values written where they belong, by hand."""
    package: Any = json.loads(json.dumps(values))
    for key, value in changes.items():
        *parents, last = key.split(".")
        place: Any = package
        for item in parents:
            place = place[int(item)] if isinstance(place, list) else place.setdefault(item, {})
        place[last] = value
    return dict(package)


def deep_plugin(changes: dict[str, Any]) -> dict[str, Any]:
    """Changes as nested mappings; entries of lists keep their paths."""
    package: dict[str, Any] = {}
    for key, value in changes.items():
        if key.startswith("regularisers"):
            package[key] = value
        elif not key.endswith(".use"):
            package = write_into(package, {key: value})
    return package


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=_CHANGES, second=_CHANGES, words=_CHANGES, deep=st.booleans())
def test_overlays_then_words_are_what_the_values_in_the_file_would_be(
    registry: Registry, first: dict[str, Any], second: dict[str, Any], words: dict[str, Any], deep: bool
) -> None:
    values = {
        "version": 1,
        "data": {"use": "table", "path": "a.csv", "encoder": {"use": "small", "dim": 8}},
        "flow": {"use": "realnvp", "hidden": 16},
        "regularisers": [{"use": "penalty", "power": 3}, {"use": "consistency", "weight": 0.25}],
        "train": {"lr": 0.5},
    }
    overlays = {"first": deep_plugin(first) if deep else first, "second": second}
    given_words = [f"{key}={json.dumps(item, ensure_ascii=False)}" for key, item in words.items()]
    given_values = {**values, "overlays": overlays}
    actual = parse_resolved(
        given_values, "here", given_words, overlays=["first", "second"], registry=registry
    )
    expected = write_into(write_into(write_into(values, first), second), words)
    assert actual.to_dict() == parse_resolved(expected, "here", registry=registry).to_dict()
