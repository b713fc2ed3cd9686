"""Starter recipes are valid for any names and contents of a table, and can be trained."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from flowgmm_cli.data.column_analysis import ColumnProfile
from flowgmm_cli.data.readers.table import Table
from flowgmm_cli.data.specs import CsvConfig
from flowgmm_cli.data.starter_recipe import profile_warnings, quote_yaml, render_recipe
from flowgmm_cli.data.table_profile import Profile, class_counts, profile_table
from flowgmm_cli.recipe.load import load_recipe
from flowgmm_cli.recipe.yaml import read_yaml

SPECIAL = ["null", "yes", "no", "on", "~", "true", "2020", "1e5", "0x1F", "a: b", "# no", "- x", "{a}", "[b]"]
SPECIAL += ["&c", "*d", "!e", "|", ">", "%f", "@g", "`h`", '"i"', "'j'", "k\\l", "m\nn", "o\tp", " q ", ""]
SPECIAL += ["${env:HOME}", "$${r}", "$", "=s", "<<", "t,u", "漢字", "🙂", "\u2028", "\x85", "\x7f", "\ufeff"]
SPECIAL += ["v\x00w", "12:30:45", "y", "${", "a${b{"]
NAMES = st.sampled_from(SPECIAL) | st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


def column(name: str, role: str, **more: Any) -> ColumnProfile:
    kind = {"text": "text", "label": "categories"}.get(role, "numbers")
    return ColumnProfile(**{"name": name, "kind": kind, "role": role, **more})


@given(NAMES)
def test_a_quoted_scalar_is_read_back_as_it_was(text: str) -> None:
    value = read_yaml(f"key: {quote_yaml(text)}  # a comment\n", "x").plain()["key"]
    assert isinstance(value, str)
    assert value.replace("$${", "${") == text
    listed = read_yaml(f"key: [{quote_yaml(text)}, {quote_yaml(text)}]\n", "x").plain()["key"]
    assert listed == [value, value]


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    max_examples=50,
)
@given(
    names=st.lists(NAMES, min_size=5, max_size=9, unique=True),
    roles=st.lists(st.sampled_from(["input", "dropped", "id", "text", "dates"]), min_size=8, max_size=8),
    classes=st.dictionaries(NAMES, st.integers(1, 500), min_size=2, max_size=40),
    path=NAMES.filter(lambda text: text.strip(". /") != ""),
    english=st.booleans(),
)
def test_the_recipe_of_any_table_is_valid(
    names: list[str], roles: list[str], classes: dict[str, int], path: str, english: bool
) -> None:
    label, *others = names
    columns = [column(label, "label")]
    for name, role in zip(others, roles, strict=False):
        if role == "dates":
            columns.append(ColumnProfile(name, "dates", "input", reason="many: # values", distinct=70))
        elif role == "id" and any(item.role == "id" for item in columns):
            columns.append(column(name, "dropped", reason=name))
        else:
            columns.append(column(name, role, reason=f"because of {name}", missing=3, distinct=5))
    texts = [item.name for item in columns if item.role == "text"]
    profile = Profile(1000, label, classes, tuple(columns), english if texts else None)
    text = render_recipe(profile, path=path, command=f"flowgmm init {path}")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "my.yaml"
        file.write_text(text, encoding="utf-8")
        config = cast(CsvConfig, load_recipe(str(file), ["search=null"], environ={}).data.config)
    assert config.path == path
    assert config.label == label
    if texts:
        assert config.text == (texts if len(texts) > 1 else texts[0])
    else:
        assert config.text is None
        assert config.drop == [item.name for item in columns if item.role == "dropped"]
    assert config.id == next((item.name for item in columns if item.role == "id"), None)


def test_reasons_and_classes_stand_in_comments() -> None:
    columns = (
        column("y", "label"),
        column("x", "input", missing=50, distinct=900),
        column("num", "dropped", reason="it counts the rows"),
    )
    profile = Profile(1000, "y", {"a": 120, "b": 3}, columns)
    text = render_recipe(profile, path="my.csv", command="flowgmm init my.csv --label y")
    for part in (
        "# my.csv: 1,000 rows, class in the column y.",
        "Labels: 123 rows are labelled, 877 are not. Classes: a (120), b (3).",
        "classes with fewer than 5 labels",
        "    - num  # it counts the rows",
        "x 5 %",
        "flowgmm init my.csv --label y",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (
            {"a": 13, "b": 17},
            "30 labels are few: 6 of them are kept for the test, which tells the accuracy "
            "to about 27 points either way; data.split.test=0 trains on all",
        ),
        (
            {"a": 10, "b": 30},
            "labels are unequal (a 25%, b 75%); if the labelled rows were drawn at random, "
            "prior.class_prior=labelled",
        ),
        ({"a": 500, "b": 500}, "every row has a label"),
    ],
)
def test_the_owner_is_warned(classes: dict[str, int], message: str) -> None:
    profile = Profile(1000, "y", classes, (column("y", "label"), column("x", "input")))
    assert any(message in line for line in profile_warnings(profile))


def test_rows_without_a_text_are_counted() -> None:
    texts = ["my card was stolen", "", None, "where is my card", " "]
    data = pa.table({"title": ["", "", "a new card", None, " "], "body": texts, "y": list("aabbb")})
    classes = {"a": 2, "b": 3}
    found = profile_table(Table(data, {}, "t.csv"), label="y", classes=classes, text=["title", "body"])
    assert "2 of 5 rows have no text; training leaves them out" in profile_warnings(found)


def test_texts_that_are_not_english_get_an_encoder_that_learns_words() -> None:
    profile = Profile(100, "y", {"a": 50, "b": 40}, (column("y", "label"), column("t", "text")), False)
    assert "wordllama" not in render_recipe(profile, path="t.csv", command="")


def table(seed: int) -> str:
    """A csv with awkward names, separators, classes and cells."""
    draw = random.Random(seed)
    labels = draw.choice([["no", "yes"], ["0", "1", "2"], ["null", "true", "a;b"], ["ü", "漢", "#c"]])
    head = ['"null"', '"a: b"', '"${HOME}"', '"2020"', '"y # es"', '"day"']
    lines = [",".join(head)]
    for row in range(80):
        place = row % len(labels)
        cells = [f"{draw.gauss(2 * place, 1):.3f}", draw.choice(["1.5", "", f"{draw.gauss(0, 1):.2f}"])]
        cells += [draw.choice(["red", "blue"]), str(row), f'"{labels[place] if row < 50 else ""}"']
        lines.append(",".join([*cells, f"2024-05-{1 + row % 28:02d}"]))
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("seed", range(3))
def test_the_recipe_of_a_real_table_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    from flowgmm_cli.data.sources.tables import read_table
    from flowgmm_cli.runs import create_run
    from flowgmm_cli.training.pipeline import train

    monkeypatch.chdir(tmp_path)
    Path("my table.csv").write_text(table(seed), encoding="utf-8")
    read = read_table("my table.csv", note=lambda line: None)
    profile = profile_table(read, label="y # es", classes=class_counts(read, "y # es"))
    assert {item.name: (item.kind, item.role) for item in profile.columns}["day"] == ("dates", "input")
    Path("my.yaml").write_text(render_recipe(profile, path="my table.csv", command="x"), encoding="utf-8")
    words = ["train.epochs=1", "flow.hidden=8", "calibration.folds=2", "search=null", "run.dir=runs"]
    recipe = load_recipe("my.yaml", words)
    result = train(recipe, create_run(recipe, argv=["train"]))
    assert result.trained.class_names == tuple(profile.classes)
