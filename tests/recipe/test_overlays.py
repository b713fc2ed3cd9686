"""Overlays: how their entries are applied, the recorded result, and the errors of malformed entries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowgmm_cli.plugins.registry import Registry
from flowgmm_cli.recipe.load import load_resolved, parse_resolved
from flowgmm_cli.recipe.variants import vary

BASE = """\
version: 1
data: {use: table, path: a.csv, encoder: {use: small, dim: 8}, labels: {count: 5}}
flow: {use: realnvp, layers: 3, hidden: 16}
regularisers:
  - {use: penalty, weight: 0.5, power: 3}
  - {use: consistency, weight: 0.25}
train: {lr: 3e-4, epochs: 40}
"""
TWO = (
    BASE
    + """\
overlays:
  cpu:
    flow.hidden: 8
    train: {epochs: 3, batch_size: 64}
  short:
    train.epochs: 2
"""
)


def overlay(*lines: str) -> str:
    """The recipe with an overlay `x`; its first entry is at line 10."""
    body = "".join(f"    {line}\n" for line in lines) or "    {}\n"
    return f"{BASE}overlays:\n  x:\n{body}"


def test_the_resolved_recipe_has_no_overlays(load: Any, registry: Registry, tmp_path: Path) -> None:
    recipe = load(TWO, "train.lr=1", overlays=["short", "cpu"])
    assert (recipe.origin.overlays, recipe.origin.overrides) == (("short", "cpu"), ("train.lr=1",))
    assert recipe.origin.text == TWO
    assert "overlays" not in recipe.to_dict()
    resolved = tmp_path / "resolved.yaml"
    resolved.write_text(recipe.to_yaml(), encoding="utf-8")
    again = load_resolved(resolved, registry=registry)
    assert (again.to_dict(), again.overlays) == ({**recipe.to_dict(), "name": "my"}, {})
    assert vary(recipe, {"train.epochs": 9}, registry=registry).origin.overlays == ("short", "cpu")


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        # the order of the entries does not matter
        (["flow.layers: 9", "flow.use: chain"], {"flow": {"use": "chain", "layers": 9, "bins": [8]}}),
        # a mapping with `use` is a whole component
        (["flow: {use: realnvp, layers: 9}"], {"flow.layers": 9, "flow.hidden": 512}),
        (["flow: {use: chain, layers: 9}", "flow.bins: [1, 2]"], {"flow.layers": 9, "flow.bins": [1, 2]}),
        # a mapping without `use` leaves the other keys
        (["flow: {layers: 9}"], {"flow.layers": 9, "flow.hidden": 16}),
        (["data: {labels: {per_class: 2, count: null}, encoder: {dim: 3}}"], {
            "data.path": "a.csv", "data.labels.per_class": 2, "data.labels.count": None,
            "data.encoder": {"use": "small", "dim": 3},
        }),
        (["regularisers.1: {weight: 4}"], {"regularisers.0.weight": 0.5, "regularisers.1.weight": 4}),
        (["train: {early_stopping: {patience: 2}}"], {"train.early_stopping.patience": 2, "train.lr": 3e-4}),
        (["train: {}"], {"train.lr": 3e-4, "train.epochs": 40, "search": None}),
        # a list and a free mapping replace the value before
        (["regularisers: [{use: consistency}]"], {"regularisers": [{"use": "consistency", "weight": 1}]}),
        (["search: {candidates: {deep: {flow.layers: 9}}}"], {
            "search.candidates": {"deep": {"flow.layers": 9}}, "search.keep": 3,
        }),
        # removals
        (["flow.layers!:", "data: {labels!: }"], {"flow.layers": 6, "data.labels.count": None}),
        (["regularisers.0!:", "regularisers.1.weight: 9"], {"regularisers.0.weight": 9}),
    ],
)  # fmt: skip
def test_an_entry_changes_its_keys(expect: Any, lines: list[str], expected: dict[str, Any]) -> None:
    expect(expected, overlay(*lines), overlays=["x"])


def test_an_empty_mapping_makes_a_section_that_was_left_out() -> None:
    data = {"use": "sklearn", "name": "digits"}
    values = {"version": 1, "data": data, "overlays": {"searched": {"search": {}}}}
    assert parse_resolved(values, "here").search is None
    assert parse_resolved(values, "here", overlays=["searched"]).search is not None


def test_values_are_interpolated_where_the_overlay_is_chosen(load: Any, problems: Any) -> None:
    text = overlay("data.path: ${env:DATA}", "flow.hidden: ${train.epochs}")
    recipe = load(text, overlays=["x"], environ={"DATA": "b.csv"})
    assert (recipe.data.to_dict()["path"], recipe.flow.to_dict()["hidden"]) == ("b.csv", 40)
    assert recipe.origin.env == ("DATA",)
    ((line, key, message),) = problems(text, overlays=["x"])
    assert (line, key) == ("10", "data.path")
    assert message.endswith("DATA is not set (from the overlay `x`; the file says `a.csv` at line 2)")
    assert load(text).data.to_dict()["path"] == "a.csv"


def test_mistakes_are_named_all_at_once_with_their_lines(problems: Any) -> None:
    text = overlay(
        "flow.layer: 9", "trian: {lr: 1}", "train: {lr: fast, epochs.x: 3}", "a..b: 3", "overlays.y: 1",
        "run.seed!: 3", "prior.x!:",
    )  # fmt: skip
    rows = problems(text, "train.batch_size=none", overlays=["x"])
    actual = {(line, key): message for line, key, message in rows}
    for line, key, part in [
        ("10", "flow.layer", "unknown key for realnvp; did you mean `layers`? (from the overlay `x`)"),
        ("11", "trian", "did you mean `train`? (from the overlay `x`)"),
        ("12", "train.lr", 'got the string "fast" (from the overlay `x`; the file says 0.0003 at line 7)'),
        ("12", "train.epochs.x", "`train.epochs` holds a single value"),
        ("13", "a..b", "cannot read the key"),
        ("14", "overlays.y", "an overlay cannot change the overlays"),
        ("15", "run.seed!", "removes a key, so it takes no value"),
        ("16", "prior.x", "`prior.x!` removes a key that the recipe does not have"),
        ("", "train.batch_size", "(from the command line)"),
    ]:
        assert part in actual.pop((line, key))
    assert not actual
    assert rows[-1][1] == "train.batch_size"


@pytest.mark.parametrize("lines", [["train.lr: 1", "train: {lr: 2}"], ["flow: {layers: 2}", "flow.layers!:"]])
def test_a_key_that_is_given_twice_is_refused(problems: Any, lines: list[str]) -> None:
    ((line, _, message),) = problems(overlay(*lines), overlays=["x"])
    assert line == "11"
    assert "is given twice; the first is at line 10" in message


@pytest.mark.parametrize(
    ("section", "line", "key", "part"),
    [
        ("overlays: [cpu]", "8", "overlays", "expected a mapping of names to changes, got a list"),
        ("overlays: ${data.path}", "8", "overlays", "expected a mapping of names to changes"),
        ("overlays:\n  cpu: 3", "9", "overlays.cpu", "expected a mapping such as `{train.epochs: 5}`"),
        ("overlays:\n  cpu:\n  b: {}", "9", "overlays.cpu", "got nothing"),
        ("overlays:\n  a/b: {}", "9", "overlays.a/b", "the name of an overlay has letters"),
    ],
)
@pytest.mark.parametrize("chosen", [(), ("cpu",)])
def test_a_section_of_another_form_is_refused_in_any_case(
    problems: Any, section: str, line: str, key: str, part: str, chosen: tuple[str, ...]
) -> None:
    ((actual_line, actual_key, message),) = problems(f"{BASE}{section}\n", overlays=chosen)
    assert (actual_line, actual_key) == (line, key)
    assert part in message


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
    copy: dict[str, Any] = json.loads(json.dumps(values))
    for key, value in changes.items():
        *parents, last = key.split(".")
        place: Any = copy
        for part in parents:
            place = place[int(part)] if isinstance(place, list) else place.setdefault(part, {})
        place[last] = value
    return copy


def nest(changes: dict[str, Any]) -> dict[str, Any]:
    """Changes as nested mappings; entries of lists keep their paths."""
    paths = {key: value for key, value in changes.items() if key.startswith("regularisers")}
    others = {key: value for key, value in changes.items() if key not in paths and key != "flow.use"}
    return write_into(paths, others)


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
    overlays = {"first": nest(first) if deep else first, "second": second}
    given_words = [f"{key}={json.dumps(item, ensure_ascii=False)}" for key, item in words.items()]
    actual = parse_resolved(
        {**values, "overlays": overlays}, "r", given_words, overlays=["first", "second"], registry=registry
    )
    expected = write_into(write_into(write_into(values, first), second), words)
    assert actual.to_dict() == parse_resolved(expected, "r", registry=registry).to_dict()
