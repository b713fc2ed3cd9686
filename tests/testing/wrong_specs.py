"""Specs that are each wrong in one way."""

from __future__ import annotations

from flowgmm_cli.api import Config, Field, FlowSpec


class Good(Config):
    """Parameters that are as they should be."""

    layers: int = Field(2, ge=1, description="number of layers")


class Undocumented(Config):
    """A parameter without a description."""

    layers: int = 2


class BadDefault(Config):
    """A default beyond its own limit."""

    layers: int = Field(0, ge=1, description="number of layers")


class Odd:
    """No type that a recipe can hold."""


class NotYaml(Config):
    """A default that YAML has no word for."""

    kind: complex = Field(1j, description="a complex number")


class NoSchema(Config):
    """A type that pydantic has no JSON Schema for."""

    odd: Odd | None = Field(None, description="something")


BUILD = "wrong_flows:Right"
RIGHT = FlowSpec(config=Good, build=BUILD, summary="As it should be")
NO_SUMMARY = FlowSpec(config=Good, build=BUILD, summary="")
TWO_LINES = FlowSpec(config=Good, build=BUILD, summary="One\nTwo")
UNDOCUMENTED = FlowSpec(config=Undocumented, build=BUILD, summary="Undocumented")
NEWER = FlowSpec(config=Good, build=BUILD, summary="Newer", api=99)
NO_COLON = FlowSpec(config=Good, build="wrong_flows", summary="No callable")
BAD_DEFAULT = FlowSpec(config=BadDefault, build=BUILD, summary="A bad default")
NOT_YAML = FlowSpec(config=NotYaml, build=BUILD, summary="Not YAML")
NO_SCHEMA = FlowSpec(config=NoSchema, build=BUILD, summary="No schema")
NOWHERE = FlowSpec(config=Good, build="nowhere_at_all:build", summary="Nowhere")
NO_CALLABLE = FlowSpec(config=Good, build="wrong_specs:BUILD", summary="A string")
