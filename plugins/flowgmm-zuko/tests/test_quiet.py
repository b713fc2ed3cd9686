"""Importing zuko leaves torch as it was; each case in a fresh interpreter."""

from __future__ import annotations

import subprocess
import sys

STATE = """
from torch.distributions import Distribution, Transform, transforms
def state():
    return (
        Distribution._validate_args,
        vars(Distribution)["arg_constraints"],
        transforms._InverseTransform.__name__,
        hasattr(Transform, "call_and_ladj"),
    )
before = state()
"""


def run(code: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", STATE + code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_import_of_zuko_alone_changes_torch() -> None:
    run("import zuko; assert all(a != b for a, b in zip(before, state())), state()")


def test_our_import_leaves_torch_unchanged() -> None:
    run("import flowgmm_zuko.model; assert before == state(), state()")


def test_arguments_of_distributions_are_checked_still() -> None:
    run(
        """
import flowgmm_zuko.model
try:
    Distribution.__subclasses__
    __import__("torch").distributions.Normal(0.0, -1.0)
except ValueError:
    pass
else:
    raise SystemExit("a negative deviation went through")
"""
    )


def test_a_zuko_that_was_there_before_is_left_alone() -> None:
    run("import zuko; with_zuko = state(); import flowgmm_zuko.model; assert with_zuko == state()")


def test_the_specs_import_neither_torch_nor_zuko() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import flowgmm_zuko.plugin, sys; assert not {'torch', 'zuko'} & set(sys.modules)",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
