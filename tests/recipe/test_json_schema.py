from __future__ import annotations

import json
import re
from operator import ge, gt, le, lt
from typing import Any

import pytest

from flowgmm_cli.plugins.registry import Registry
from flowgmm_cli.recipe.json_schema import recipe_schema

LIMITS = {"minimum": ge, "exclusiveMinimum": gt, "maximum": le, "exclusiveMaximum": lt}
HEAD: dict[str, Any] = {"version": 1, "data": {"use": "table", "path": "a"}}


def matches(schema: dict[str, Any], value: Any, root: dict[str, Any]) -> bool:
    """Return whether a value satisfies a schema; unsupported keywords raise."""
    types = {
        "object": dict, "array": list, "string": str, "boolean": bool, "null": type(None), "integer": int,
        "number": (int, float),
    }  # fmt: skip
    for key, rule in schema.items():
        if key == "$ref":
            name = rule.removeprefix("#/$defs/")
            good = matches(root["$defs"][name], value, root)
        elif key in ("anyOf", "oneOf"):
            fitting = sum(matches(option, value, root) for option in rule)
            good = fitting == 1 if key == "oneOf" else fitting > 0
        elif key == "type":
            good = isinstance(value, types[rule]) and not (rule in ("integer", "number") and value is True)
        elif key == "properties":
            good = all(matches(part, value[name], root) for name, part in rule.items() if name in value)
        elif key == "required":
            good = set(rule) <= set(value)
        elif key == "additionalProperties":
            # of values that are no mapping, "type" says so
            others = set(value) - set(schema.get("properties", ())) if isinstance(value, dict) else set()
            if isinstance(rule, dict):
                good = all(matches(rule, value[name], root) for name in others)
            else:
                good = rule or not others
        elif key == "items":
            good = not isinstance(value, list) or all(matches(rule, item, root) for item in value)
        elif key in ("enum", "const"):
            good = value in (rule if key == "enum" else [rule])
        elif key in LIMITS:
            good = isinstance(value, int | float) and LIMITS[key](value, rule)
        elif key == "pattern":
            good = bool(re.search(rule, value))
        elif key == "minLength":
            good = len(value) >= rule
        else:
            assert key in ("$schema", "$defs", "title", "description", "default", "format"), key
            good = True
        if not good:
            return False
    return True


@pytest.fixture
def schema(registry: Registry) -> dict[str, Any]:
    return recipe_schema(registry)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"flow": {"use": "chain", "bins": [1, 2]}},
        {"flow": {"use": "flowgmm-cli/chain"}},
        {"train": {"lr": 0.5, "clip_norm": None, "early_stopping": {"patience": 3}}},
        {"train": {"epochs": "${env:EPOCHS:-3}"}},
        {
            "data": {
                "use": "table",
                "path": "${env:X}",
                "encoder": None,
                "label": ["a"],
                "labels": {"count": 3},
            }
        },
        {"data": {"use": "empty", "transforms": [{"use": "scale", "by": 2}], "views": {"strong": []}}},
        {"regularisers": []},
        {"regularisers": [{"use": "penalty", "power": 3}, {"use": "consistency"}]},
        {"overlays": {}},
        {"overlays": {"cpu": {"flow.hidden": 8, "train": {"epochs": 3}}, "none": {}}},
    ],
)
def test_valid_recipes_match(schema: dict[str, Any], more: dict[str, Any], load: Any) -> None:
    value = {**HEAD, **more}
    assert matches(schema, value, schema)
    load(json.dumps(value), environ={"X": "a"})  # JSON is YAML


@pytest.mark.parametrize(
    "more",
    [
        {"zz": 1},
        {"version": 2},
        {"data": {"use": "table"}},
        {"data": {"use": "nothing"}},
        {"data": {"use": "empty", "labels": {"cuont": 3}}},
        {"data": {"use": "empty", "labels": {"count": 0}}},
        {"data": {"use": "empty", "views": {"strong": [{"use": "noise", "rate": 1}]}}},
        {"flow": {"layers": 3}},
        {"flow": {"use": "chain", "hidden": 3}},
        {"flow": {"use": "realnvp", "layers": 65}},
        {"train": {"lr": 0}},
        {"train": {"lr": "fast"}},
        {"train": {"schedule": "x"}},
        {"regularisers": {"use": "penalty"}},
        {"overlays": ["cpu"]},
        {"overlays": {"cpu": 3}},
        {"overlays": "${env:X}"},
    ],
)
def test_invalid_recipes_do_not(schema: dict[str, Any], more: dict[str, Any], load: Any) -> None:
    from flowgmm_cli.errors import FlowgmmError

    value = {**HEAD, **more}
    assert not matches(schema, value, schema)
    with pytest.raises(FlowgmmError):
        load(json.dumps(value))


def test_every_reference_has_a_definition(schema: dict[str, Any]) -> None:
    references = re.findall(r'"\$ref": "#/\$defs/([^"]+)"', json.dumps(schema))
    assert references
    assert set(references) <= set(schema["$defs"])


def test_every_object_is_closed_and_described(schema: dict[str, Any]) -> None:
    def objects(part: Any) -> Any:
        if isinstance(part, dict):
            if part.get("type") == "object":
                yield part
            for inner in part.values():
                yield from objects(inner)
        elif isinstance(part, list):
            for inner in part:
                yield from objects(inner)

    actual = list(objects(schema))
    assert len(actual) > 15
    free = [item for item in actual if item["additionalProperties"] is not False]
    search = schema["$defs"]["recipe.SearchConfig"]["properties"]
    candidates, challengers = (search[key]["anyOf"][0] for key in ("candidates", "challengers"))
    overlays = schema["properties"]["overlays"]
    # a candidate and an overlay name keys of the recipe
    assert free == [
        overlays, overlays["additionalProperties"], candidates, candidates["additionalProperties"],
        challengers, challengers["additionalProperties"],
    ]  # fmt: skip
    assert schema["properties"]["train"]["description"] == "training of the model"
