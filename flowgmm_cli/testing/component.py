"""What holds for every component, whatever its kind: a light, complete and documented spec."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, cast
from unittest import SkipTest

from flowgmm_cli.api import Component, Config, Kind, Spec
from flowgmm_cli.errors import FlowgmmError
from flowgmm_cli.plugins.entry import SUPPORTED_API, Entry, load_target
from flowgmm_cli.plugins.registry import Registry, registry
from flowgmm_cli.recipe.json_schema import recipe_schema
from flowgmm_cli.recipe.parameters import parameters
from flowgmm_cli.recipe.parse import parse_component
from flowgmm_cli.recipe.yaml import write_yaml
from flowgmm_cli.testing.check import Finding, check, expect

HEAVY = (
    "accelerate",
    "datasets",
    "jax",
    "matplotlib",
    "numpy",
    "pandas",
    "polars",
    "pyarrow",
    "scipy",
    "sklearn",
    "tensorflow",
    "torch",
    "torchvision",
    "transformers",
    "wordllama",
)
"""Libraries that no spec module may import."""

_PROBE = """
import json, sys
words = json.loads(sys.argv[1])
sys.path[:] = words["path"]
import importlib
importlib.import_module(words["module"])
sys.stderr.write("\\n" + json.dumps([name for name in words["heavy"] if name in sys.modules]))
"""


class Conformance:
    """Base of the suites; subclass that of your kind.

        from flowgmm_cli.testing import FlowConformance

        class TestMyFlow(FlowConformance):
            name = "my_flow"
            config = {"layers": 2}

    Attributes:
        kind: the kind of component; the suites of the kinds set it.
        name: the name by which it is installed, bare or `package/name`.
        spec: the spec itself; enough where there is no name.
        config: parameters to check it with, as in a recipe; the rest have their defaults.
        skip: check -> why it does not apply to this component.
        published: whether an installed entry point must name the spec.
    """

    kind: ClassVar[Kind]
    name: ClassVar[str] = ""
    spec: ClassVar[Spec | None] = None
    config: ClassVar[Mapping[str, Any]] = {}
    skip: ClassVar[Mapping[str, str]] = {}
    published: ClassVar[bool] = True

    # --- what checks are written with -----------------------------------------------------------------------

    @property
    def subject(self) -> str:
        """What is being checked, for people."""
        name = self.name or type(self).__name__
        return f"{self.kind} `{name}`"

    @cached_property
    def entry(self) -> Entry | None:
        """The installed component; None where only a spec was given that no entry point names."""
        if self.name:
            return registry().find(self.kind, self.name)
        expect(self.spec is not None, "the suite has neither a `name` nor a `spec`")
        for entry in registry().entries(self.kind):
            module = sys.modules.get(entry.target.partition(":")[0])
            if entry.state != "disabled" and (entry.loaded or module) and _names(entry, self.spec):
                return registry().find(self.kind, entry.qualified)
        return None

    @property
    def checked(self) -> Spec:
        """The spec."""
        if self.spec is not None:
            return self.spec
        found = self.entry
        expect(found is not None, "there is no such component")
        return cast(Entry, found).spec()

    def component(self, **values: Any) -> Component:
        """The component as a recipe would choose it, with `config` and these parameters."""
        given = {"use": self._bare, **self.config, **values}
        return parse_component(
            write_yaml(_plain(given)), self.kind, source=f"`config` of {type(self).__name__}",
            registry=self._registry,
        )  # fmt: skip

    def build(self, *args: Any, **kwargs: Any) -> Any:
        """Build the component with `config`; arguments are those of `build` after the config."""
        return self.build_with({}, *args, **kwargs)

    def build_with(self, values: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """The same with further parameters."""
        return self._load_build()(self.component(**values).config, *args, **kwargs)

    @cached_property
    def _registry(self) -> Registry:
        return registry().with_spec(self.kind, self._bare, self.checked)

    @property
    def _bare(self) -> str:
        if self.entry is not None:
            return self.entry.name
        return re.sub(r"\W", "_", type(self).__name__).lower()

    def _load_build(self) -> Any:
        if self.entry is not None:
            return self.entry.load_build()
        return load_target(self.checked.build, self.subject)

    # --- checks ---------------------------------------------------------------------------------------------

    @check("name the spec in pyproject.toml under the group of its kind, then `pip install -e .`")
    def test_entry_point_resolves(self) -> None:
        """An installed entry point names the spec, and no other package offers the name."""
        if not self.published:
            raise SkipTest("the suite says that it is not published")
        expect(self.entry is not None, "no installed entry point names this spec")
        entry = cast(Entry, self.entry)
        expect(re.fullmatch(r"[a-z][a-z0-9_.]*", entry.name), f"`{entry.name}` is no name for recipes")
        state = next(one for one in registry().entries(self.kind) if one.qualified == entry.qualified)
        expect(state.state == "ok" or "/" in self.name, f"its name is in {state.state}: {state.problem}")

    @check("give the spec a summary of one line, and every parameter a `description`")
    def test_spec_is_complete(self) -> None:
        """The spec has a one-line summary, a supported API version and documented parameters."""
        spec = self.checked
        expect(spec.summary.strip(), "`summary` is empty")
        expect("\n" not in spec.summary, "`summary` has more than one line")
        expect(len(spec.summary) <= 120, f"`summary` has {len(spec.summary)} characters; 120 fit in a list")
        expect(spec.api in SUPPORTED_API, f"`api` is {spec.api}, which this flowgmm does not speak")
        expect(
            re.fullmatch(r"[\w.]+:[\w.]+", spec.build), f"`build` is {spec.build!r}, not `module:callable`"
        )
        undocumented = [row.name for row in parameters(spec.config) if not row.description]
        expect(not undocumented, f"no `description` for {', '.join(undocumented)}")

    @check(
        "move what is heavy into the module that `build` names; a spec module imports flowgmm_cli.api only"
    )
    def test_import_is_light(self) -> None:
        """Importing the spec's module imports no heavy library, in a fresh interpreter."""
        if self.entry is not None and self.entry.path:
            raise SkipTest("a file of one's own may hold both halves; a package keeps them apart")
        words = {"module": self._module(), "heavy": HEAVY, "path": sys.path}
        done = subprocess.run(
            [sys.executable, "-c", _PROBE, json.dumps(words)],
            capture_output=True,
            text=True,
            check=False,
            env={
                **os.environ,
                "PYDANTIC_DISABLE_PLUGINS": "__all__",
            },  # it would look at everything installed
        )
        lines = done.stderr.strip().splitlines() or [""]
        expect(done.returncode == 0, f"importing {words['module']} fails: {lines[-1]}")
        heavy = json.loads(lines[-1])
        expect(not heavy, f"importing {words['module']} imports {', '.join(heavy)}")

    @check("give every parameter a default that its own limits allow, or none at all")
    def test_defaults_are_valid(self) -> None:
        """The defaults are valid, together with the suite's `config`."""
        config = self.component().config
        expect(
            isinstance(config, self.checked.config), "the parameters do not validate to the spec's `config`"
        )
        given = {name: getattr(config, name) for name in type(config).model_fields}
        type(config).model_validate(given)

    @check("use plain types: numbers, strings, lists, mappings, Literal, and models that extend Config")
    def test_config_survives_yaml(self) -> None:
        """The parameters written to YAML and JSON and read again are the same."""
        first = self.component()
        plain = first.to_dict()
        json.loads(json.dumps(plain, allow_nan=False))
        again = parse_component(
            write_yaml(_plain(plain)), self.kind, source="its own YAML", registry=self._registry
        )
        expect(again == first, f"{plain} comes back as {again.to_dict()}")

    @check("use types for parameters that pydantic has a JSON Schema for")
    def test_config_has_a_json_schema(self) -> None:
        """The recipes' JSON Schema has the component, with every parameter."""
        alone = registry().with_spec(self.kind, self._bare, self.checked, plugins=False)
        schema = recipe_schema(alone)
        json.dumps(schema, allow_nan=False)
        options = schema["$defs"].get(self.kind, {}).get("oneOf", [])
        own = [one for one in options if one["title"] == self._bare]
        if not options:
            raise SkipTest(f"no recipe section of this version holds a {self.kind}")
        expect(own, f"it is not among the {len(options)} options of {self.kind}")
        missing = set(self.checked.config.model_fields) - set(own[0]["properties"])
        expect(not missing, f"no schema for {', '.join(sorted(missing))}")

    @check("let `build` name a callable in a module that can be imported: `package.module:callable`")
    def test_build_can_be_imported(self) -> None:
        """What `build` names can be imported and called."""
        try:
            target = self._load_build()
        except FlowgmmError as error:
            raise Finding("; ".join([error.message, *error.details])) from error
        expect(
            callable(target), f"{self.checked.build} is a `{type(target).__name__}`, which cannot be called"
        )

    @check("the names of `skip` are names of checks")
    def test_what_is_skipped_exists(self) -> None:
        """Every name in `skip` is the name of a check, with a reason."""
        unknown = [name for name in self.skip if not hasattr(self, name)]
        expect(not unknown, f"`skip` names {', '.join(unknown)}, which this suite does not have")
        expect(all(self.skip.values()), "`skip` gives no reason")

    def _module(self) -> str:
        if self.entry is not None and not self.entry.builtin:
            return self.entry.target.partition(":")[0]
        return self.checked.config.__module__


def scratch(folder: str) -> Path:
    """A fresh folder below one that will be removed."""
    path = Path(folder, "cache")
    path.mkdir()
    return path


def _names(entry: Entry, spec: Spec | None) -> bool:
    if entry.loaded is not None:
        return entry.loaded is spec
    module, _, attribute = entry.target.partition(":")
    found: Any = import_module(module)
    for part in attribute.split("."):
        found = getattr(found, part, None)
    return found is spec


def _plain(value: Any) -> Any:
    """Values of a `config` as YAML knows them."""
    if isinstance(value, Component):
        return value.to_dict()
    if isinstance(value, Config):
        return _plain(value.model_dump())
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
