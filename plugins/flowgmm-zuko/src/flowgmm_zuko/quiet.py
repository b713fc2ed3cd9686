"""zuko without its side effects on torch.

Importing zuko 1.6 switches off argument checks of every `torch.distributions.Distribution` in the process,
empties `Distribution.arg_constraints`, renames torch's `_InverseTransform` and hangs a method on torch's
`Transform`. Here all of it is undone; the method moves to zuko's own transforms, which call it.

If zuko was imported before, the process is left as it is.
"""

from __future__ import annotations

import sys
from typing import Any

from torch.distributions import Distribution, Transform, transforms

_METHOD = "call_and_ladj"


def _import_zuko() -> Any:
    if "zuko" in sys.modules:
        return sys.modules["zuko"]
    inverse = transforms._InverseTransform
    originals = {
        (owner, name): vars(owner).get(name)
        for owner, name in ((Distribution, "_validate_args"), (Distribution, "arg_constraints"))
    }
    inverse_name = inverse.__name__
    try:
        import zuko
    finally:
        for (owner, name), value in originals.items():
            setattr(owner, name, value)
        inverse.__name__ = inverse_name
        method = vars(Transform).get(_METHOD)
        if method is not None:
            _move(method)
    return zuko


def _move(method: Any) -> None:
    own = sys.modules.get("zuko.transforms")
    for value in list(vars(own).values()) if own else []:
        if (
            isinstance(value, type)
            and issubclass(value, Transform)
            and value.__module__.startswith("zuko.")
            and getattr(value, _METHOD) is method
        ):
            setattr(value, _METHOD, method)
    delattr(Transform, _METHOD)


zuko: Any = _import_zuko()
