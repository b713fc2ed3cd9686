"""Checks of every component: a light, complete and documented spec. The choice of a component's suite."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import cached_property
from importlib import import_module
from typing import Any, ClassVar
from unittest import SkipTest

from flowgmm_cli.api import Component, FlowSpec, Kind, Spec, plain_value
from flowgmm_cli.errors import PluginError
from flowgmm_cli.plugins.entry import SUPPORTED_API, Entry, load_target
from flowgmm_cli.plugins.registry import registry
from flowgmm_cli.recipe.fields import parameters
from flowgmm_cli.recipe.json_schema import recipe_schema
from flowgmm_cli.recipe.load import parse_component
from flowgmm_cli.recipe.yaml import write_yaml
from flowgmm_cli.testing.checks import Suite, check, expect
from flowgmm_cli.testing.isolation import forbid_global_random_numbers, global_seed

HEAVY = frozenset({
    "accelerate", "datasets", "jax", "matplotlib", "numpy", "pandas", "polars", "pyarrow", "scipy", "sklearn",
    "tensorflow", "torch", "torchvision", "transformers", "wordllama",
})  # fmt: skip
"""Libraries that no spec module may import."""

_PROBE = """
import sys
sys.path[:] = {path!r}
import {module}
sys.stderr.write("\\n" + " ".join(sys.modules))
"""
_UNPUBLISHED = "no package"


class Conformance(Suite):
    """Base of the suites; subclass that of your kind.

        from flowgmm_cli.testing import FlowConformance

        class TestMyFlow(FlowConformance):
            name = "my_flow"
            config = {"layers": 2}

    Attributes:
        kind: the kind of component; the suites of the kinds set it.
        name: the name by which it is installed, bare or `package/name`.
        spec: the spec itself; enough where there is no name.
        config: parameters to check it with, as in a recipe; the others have their defaults.
        skip: check -> reason why it does not apply to this component.
        published: True if an installed entry point must name the spec.
    """

    kind: ClassVar[Kind]
    name: ClassVar[str] = ""
    spec: ClassVar[Spec | None] = None
    config: ClassVar[Mapping[str, Any]] = {}
    published: ClassVar[bool] = True

    # --- helpers of the checks ------------------------------------------------------------------------------

    @property
    def subject(self) -> str:
        """The component, for people."""
        return f"{self.kind} `{self.name or type(self).__name__}`"

    @cached_property
    def entry(self) -> Entry:
        """The component; of an installed package if an entry point names the spec."""
        if self.name:
            return registry().find(self.kind, self.name)
        if self.spec is None:
            raise AssertionError("the suite has neither a `name` nor a `spec`")
        for entry in registry().entries(self.kind):
            module, _, attribute = entry.target.partition(":")
            target = entry.loaded or getattr(sys.modules.get(module), attribute, None)
            if target is self.spec and entry.state != "disabled":
                return registry().find(self.kind, entry.qualified)
        name = re.sub(r"\W", "_", type(self).__name__).lower()
        return Entry(self.kind, name, _UNPUBLISHED, None, self.spec.build, loaded=self.spec)

    def component(self, **values: Any) -> Component:
        """Return the component as in a recipe, with `config` and these parameters."""
        keys = plain_value({"use": self.entry.name, **self.config, **values})
        return self._parse(keys, f"`config` of {type(self).__name__}")

    def _parse(self, keys: Mapping[str, Any], source: str) -> Component:
        known = registry().with_spec(self.kind, self.entry.name, self.entry.spec())
        return parse_component(write_yaml(keys), self.kind, source=source, registry=known)

    def build(self, *args: Any, **kwargs: Any) -> Any:
        """Build the component with `config`; the arguments are those of `build` after the config."""
        return self.build_with({}, *args, **kwargs)

    def build_with(self, values: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Build the component with `config` and further parameters."""
        return self.entry.load_build()(self.component(**values).config, *args, **kwargs)

    def actions(self) -> Mapping[str, Callable[[], Any]]:
        """Return the component's uses that draw no global random numbers, by name for people."""
        return {"`build`": self.build}

    # --- checks ---------------------------------------------------------------------------------------------

    @check("name the spec in pyproject.toml under the group of its kind, then `pip install -e .`")
    def test_entry_point_resolves(self) -> None:
        """An installed entry point names the spec, and no other package offers the name."""
        if not self.published:
            raise SkipTest("the suite declares it as not published")
        entry = self.entry
        expect(entry.package != _UNPUBLISHED, "no installed entry point names this spec")
        expect(re.fullmatch(r"[a-z][a-z0-9_.]*", entry.name), f"`{entry.name}` is not a name for recipes")
        listed = next(item for item in registry().entries(self.kind) if item.qualified == entry.qualified)
        expect(listed.state == "ok" or "/" in self.name, f"its name is in {listed.state}: {listed.problem}")

    @check("give the spec a summary of one line, and every parameter a `description`")
    def test_spec_is_complete(self) -> None:
        """The spec has a one-line summary, a supported API version and documented parameters."""
        spec = self.entry.spec()
        expect(spec.summary.strip(), "`summary` is empty")
        expect("\n" not in spec.summary, "`summary` has more than one line")
        expect(len(spec.summary) <= 120, f"`summary` has {len(spec.summary)} characters; 120 fit in a list")
        expect(spec.api in SUPPORTED_API, f"`api` is {spec.api}, which this flowgmm does not support")
        named = re.fullmatch(r"[\w.]+:[\w.]+", spec.build)
        expect(named, f"`build` is {spec.build!r}, not `module:callable`")
        undocumented = [row.name for row in parameters(spec.config) if not row.description]
        expect(not undocumented, f"no `description` for {', '.join(undocumented)}")

    @check("import heavy libraries in the module that `build` names; spec modules need flowgmm_cli.api only")
    def test_import_is_light(self) -> None:
        """Importing the spec's module imports no heavy library, in a fresh interpreter."""
        entry = self.entry
        if entry.path:
            raise SkipTest("a local module may hold spec and component; a package separates them")
        listed = not entry.builtin and entry.package != _UNPUBLISHED
        module = entry.target.partition(":")[0] if listed else entry.spec().config.__module__
        command = [sys.executable, "-c", _PROBE.format(path=sys.path, module=module)]
        environ = {**os.environ, "PYDANTIC_DISABLE_PLUGINS": "__all__"}  # they would be imported, too
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environ)
        last = done.stderr.strip().rpartition("\n")[2]
        expect(done.returncode == 0, f"importing {module} fails: {last}")
        heavy = sorted(HEAVY & set(last.split()))
        expect(not heavy, f"importing {module} imports {', '.join(heavy)}")

    @check("give every parameter a default that its own limits allow, or none at all")
    def test_defaults_are_valid(self) -> None:
        """The defaults are valid, together with the suite's `config`."""
        config = self.component().config
        valid = isinstance(config, self.entry.spec().config)
        expect(valid, "the parameters do not validate to the spec's `config`")
        type(config).model_validate(dict(config))

    @check("use plain types: numbers, strings, lists, mappings, Literal, and models that extend Config")
    def test_config_survives_yaml(self) -> None:
        """The parameters written to YAML and JSON and read again are the same."""
        first = self.component()
        plain = first.to_dict()
        json.loads(json.dumps(plain, allow_nan=False))
        again = self._parse(plain, "its own YAML")
        expect(again == first, f"{plain} comes back as {again.to_dict()}")

    @check("use types for parameters that pydantic has a JSON Schema for")
    def test_config_has_a_json_schema(self) -> None:
        """The recipes' JSON Schema has the component, with every parameter."""
        known = registry().with_spec(self.kind, self.entry.name, self.entry.spec(), plugins=False)
        schema = recipe_schema(known)
        json.dumps(schema, allow_nan=False)
        options = schema["$defs"].get(self.kind, {}).get("oneOf", [])
        own = [option for option in options if option["title"] == self.entry.name]
        if not options:
            raise SkipTest(f"no recipe section of this version holds a {self.kind}")
        expect(own, f"it is not among the {len(options)} options of {self.kind}")
        missing = set(self.entry.spec().config.model_fields) - set(own[0]["properties"])
        expect(not missing, f"no schema for {', '.join(sorted(missing))}")

    @check("let `build` name a callable in a module that can be imported: `package.module:callable`")
    def test_build_can_be_imported(self) -> None:
        """The target of `build` can be imported and called."""
        target, name = self.entry.load_build(), self.entry.spec().build
        expect(callable(target), f"{name} is a `{type(target).__name__}`, which cannot be called")

    @check("draw from the generator that is passed, else from one whose seed is a parameter")
    def test_global_random_numbers_are_left_alone(self) -> None:
        """Neither building nor using it draws from, or seeds, the process's random numbers."""
        for name, action in self.actions().items():
            with global_seed(3):  # imports may draw
                action()
            with forbid_global_random_numbers(name):
                action()

    @check("the names of `skip` are names of checks")
    def test_what_is_skipped_exists(self) -> None:
        """Every name in `skip` is the name of a check, with a reason."""
        unknown = [name for name in self.skip if not hasattr(self, name)]
        expect(not unknown, f"`skip` names {', '.join(unknown)}, which this suite does not have")
        expect(all(self.skip.values()), "`skip` gives no reason")


def copy_state(source: Any, target: Any) -> None:
    """Copy the state of a fitted encoder or score to another, through JSON and new arrays."""
    values, arrays = source.state()
    mappings = isinstance(values, Mapping) and isinstance(arrays, Mapping)
    expect(mappings, "`state` does not return two mappings")
    wrong = [name for name, array in arrays.items() if array.dtype.kind not in "fiub"]
    expect(not wrong, f"the array `{wrong[0] if wrong else ''}` is not numeric")
    plain = json.loads(json.dumps(dict(values), allow_nan=False))
    target.load_state(plain, {name: array.copy() for name, array in arrays.items()})


# --- the suite of a component -----------------------------------------------------------------------------

_SUITES = {
    "flow": "FlowConformance",
    "data": "DataConformance",
    "regulariser": "RegulariserConformance",
    "encoder": "EncoderConformance",
    "score": "ScoreConformance",
    "baseline": "BaselineConformance",
}


def suite_for(entry: Entry, config: Mapping[str, Any] | None = None) -> type[Conformance]:
    """Return the suite of a component: the one that its spec names, else that of its kind.

    Args:
        entry: the component.
        config: parameters to check it with, in addition to those of its suite.

    Raises:
        PluginError: its kind has no suite, or the spec's own cannot be loaded.
    """
    spec = entry.spec()
    label = f"the conformance suite of {entry.kind} `{entry.name}`"
    suite = _SUITES.get(entry.kind, "")
    if isinstance(spec, FlowSpec) and "vector" not in spec.accepts:
        suite = "ImageFlowConformance"
    if not (spec.conformance or suite):
        raise PluginError(
            f"there is no conformance suite for a component of the kind {entry.kind}",
            hint=f"the kit has suites for {', '.join(_SUITES)}, and for recipes",
        )
    base = load_target(spec.conformance or f"flowgmm_cli.testing:{suite}", label)
    if not (isinstance(base, type) and issubclass(base, Conformance)):
        raise PluginError(
            f"{spec.conformance}, {label}, is not a suite of flowgmm_cli.testing",
            hint="name a class that extends the suite of the kind, such as FlowConformance",
        )
    attributes: dict[str, Any] = {"name": entry.qualified, "spec": None, "__doc__": base.__doc__}
    if config:
        attributes["config"] = {**base.config, **config}
    return type(base.__name__, (base,), attributes)


# --- the public names ---------------------------------------------------------------------------------------

_MODULES = {
    "baselines": ("BaselineConformance",),
    "checks": ("CheckResult", "ConformanceError", "check", "run_checks"),
    "component": ("Conformance", "suite_for"),
    "data": ("DataConformance",),
    "encoders": ("EncoderConformance",),
    "flows": ("FlowConformance", "ImageFlowConformance"),
    "recipes": ("RecipesConformance",),
    "regularisers": ("RegulariserConformance",),
    "scores": ("ScoreConformance",),
}


def load_name(name: str) -> object:
    """Import a public name."""
    module = next(module for module, names in _MODULES.items() if name in names)
    return getattr(import_module(f"flowgmm_cli.testing.{module}"), name)
