import pytest

from flowgmm_cli.errors import PluginError, RecipeError
from flowgmm_cli.recipe.load import parse_component


def test_a_component_by_itself_is_read_as_in_a_recipe():
    actual = parse_component("{use: csv, path: a.csv, label: y, id: 'n'}", "data", source="spec")
    assert (actual.kind, actual.use, actual.config.path, actual.config.id) == ("data", "csv", "a.csv", "n")
    assert actual.config.encoder.use == "wordllama"


def test_defaults_apply_to_required_parameters_only():
    defaults = {"label": "kind", "delimiter": ";", "unknown": 1}
    actual = parse_component("{use: csv, path: a.csv}", "data", source="spec", defaults=defaults)
    assert (actual.config.label, actual.config.delimiter) == ("kind", None)
    given = parse_component("{use: csv, path: a.csv, label: y}", "data", source="spec", defaults=defaults)
    assert given.config.label == "y"
    assert (
        parse_component("{use: sklearn, name: digits}", "data", source="s", defaults=defaults).use
        == "sklearn"
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{use: csv}", "path"),
        ("{use: csv, path: 1, lable: y}", "did you mean `label`"),
        ("csv", "expected a mapping such as `{use: csv}`"),
        ("{}", "`use` is missing"),
        ("{use: csv, path", "spec:1"),
    ],
)
def test_problems_have_their_place(text, words):
    with pytest.raises(RecipeError) as caught:
        parse_component(text, "data", source="spec", defaults={"label": "y"})
    message = "\n".join([caught.value.message, *caught.value.details])
    assert words in message
    assert "spec" in message


def test_an_unknown_component_is_a_matter_of_plugins():
    with pytest.raises(PluginError, match="did you mean `csv`"):
        parse_component("{use: csf, path: a.csv}", "data", source="spec")
