"""The arguments of a loader."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

from flowgmm_cli.api import RecipeError

RESERVED = {
    "as_frame": "the source takes arrays",
    "return_X_y": "the source takes names, too",
    "return_distributions": "the source takes rows and classes",
    "data_home": "set data.data_home",
    "download_if_missing": "the source downloads unless it is offline (FLOWGMM_OFFLINE=1)",
    "random_state": "set data.seed",
}
"""Arguments that the source sets itself -> advice."""


def find_loader(name: str) -> Callable[..., Any]:
    """Return a function of `sklearn.datasets`.

    Raises:
        RecipeError: there is no such function.
    """
    from sklearn import datasets

    known = sorted(set(datasets.__all__) - {"fetch_file", "load_sample_image", "load_sample_images"})
    known = [name for name in known if name.startswith(("load_", "fetch_", "make_"))]
    if name == "fetch_openml":
        raise RecipeError(
            "data.loader  fetch_openml has a source of its own", hint="write {use: openml, id: NUMBER}"
        )
    if name not in known:
        raise RecipeError(
            f"data.loader  scikit-learn has no loader `{name}`{suggest(name, known)}",
            details=[f"loaders: {', '.join(known)}"],
        )
    function: Callable[..., Any] = getattr(datasets, name)
    return function


def check_arguments(loader: Callable[..., Any], given: Mapping[str, Any], key: str) -> None:
    """Check arguments against the loader's signature.

    Args:
        loader: the function.
        given: arguments by name.
        key: the recipe key they come from.

    Raises:
        RecipeError: arguments are unknown, reserved or missing; all are named.
    """
    signature = inspect.signature(loader).parameters
    allowed = [name for name in signature if name not in RESERVED]
    problems = []
    for name in given:
        if name in signature and name in RESERVED:
            problems.append(f"{key}.{name}  is given by the source: {RESERVED[name]}")
        elif name not in signature:
            problems.append(f"{key}.{name}  {loader.__name__} has no such argument{suggest(name, allowed)}")
    problems += [
        f"{key}.{name}  is missing"
        for name, parameter in signature.items()
        if parameter.default is inspect.Parameter.empty and name not in given
    ]
    if problems:
        raise RecipeError(
            f"{loader.__name__} cannot be called with these arguments",
            details=problems,
            hint=f"it takes {', '.join(allowed)}",
        )


def accepts(loader: Callable[..., Any], name: str) -> bool:
    """Return whether a function has an argument of this name."""
    return name in inspect.signature(loader).parameters


def suggest(given: str, allowed: list[str]) -> str:
    """Return `; did you mean `x`?` for the nearest allowed name, or an empty string."""
    function = get_close_matches(given, allowed, n=1, cutoff=0.6)
    return f"; did you mean `{function[0]}`?" if function else ""
