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
