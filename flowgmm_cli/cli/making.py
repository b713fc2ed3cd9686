"""What the words of `flowgmm sample` ask for, read and made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from flowgmm_cli.api import Rows
    from flowgmm_cli.data.readers.base import RowReader
    from flowgmm_cli.inference.interpolation import InterpolationPath
    from flowgmm_cli.inference.samples import GeneratedRows
    from flowgmm_cli.model import Model
    from flowgmm_cli.trained import TrainedModel

ALL = "all"
"""The word for every class after `--transfer`, unless a class is so called."""


def numbers(text: str, flag: str) -> list[float]:
    """Numbers of at least 0 with commas between them.

    Raises:
        UsageError: one of them is no such number.
    """
    from flowgmm_cli.errors import UsageError

    found = []
    for word in text.split(","):
        try:
            value = float(word)
        except ValueError:
            raise UsageError(
                f"{flag} {text}: `{word}` is not a number", hint=f"{flag} 0.7, or {flag} 0.3,0.7,1"
            ) from None
        if not 0 <= value < float("inf"):
            raise UsageError(f"{flag} is {word}, it must be at least 0", hint="flowgmm sample --help")
        if value not in found:
            found.append(value)
    return found


def pairs(ends: tuple[str, str]) -> list[tuple[str, str]]:
    """The two ends of each path.

    Raises:
        UsageError: there are not as many ends as beginnings.
    """
    from flowgmm_cli.errors import UsageError

    first, last = (end.split(",") for end in ends)
    if len(first) != len(last) or not all((*first, *last)):
        raise UsageError(
            f"--interpolate {' '.join(ends)}: {len(first)} rows to go from and {len(last)} to go to",
            hint="--interpolate 5,9 17,2 makes two paths, from 5 to 17 and from 9 to 2",
        )
    return list(zip(first, last, strict=True))


def drawn(
    trained: TrainedModel,
    n: int,
    temperatures: list[float],
    *,
    classes: list[str] | None,
    seed: int,
    source: Model | None,
) -> GeneratedRows:
    """Samples at each temperature; the same random numbers are used for all, so that nothing else differs."""
    import torch

    from flowgmm_cli.inference.samples import class_index, concatenate_generated
    from flowgmm_cli.inference.sampling import draw_samples

    wanted = [class_index(trained, name) for name in classes] if classes else None
    parts = [
        draw_samples(
            trained,
            n,
            classes=wanted,
            temperature=one,
            generator=torch.Generator().manual_seed(seed),
            source=source,
        )
        for one in temperatures
    ]
    return (
        parts[0]
        if len(parts) == 1
        else concatenate_generated(parts, extra_columns={"temperature": temperatures})
    )


def walked(
    trained: TrainedModel,
    x: torch.Tensor,
    ends: list[tuple[str, str]],
    *,
    steps: int,
    path: InterpolationPath,
) -> GeneratedRows:
    """Paths between each two of the rows `x`; of several, the column `path` says which."""
    from flowgmm_cli.inference.interpolation import interpolate
    from flowgmm_cli.inference.samples import concatenate_generated

    parts = [
        interpolate(trained, x[2 * place : 2 * place + 2], steps=steps, path=path)
        for place in range(len(ends))
    ]
    names = [f"{first} to {last}" for first, last in ends]
    return parts[0] if len(parts) == 1 else concatenate_generated(parts, extra_columns={"path": names})


def carried(
    trained: TrainedModel, reader: RowReader, target: str, most: int | None, seen: Any
) -> tuple[Rows, GeneratedRows]:
    """Rows of an input, and what they are in a class, or in each of them.

    Args:
        trained: the model.
        reader: the input.
        target: name of the class, or `ALL`.
        most: how many rows; None for all.
        seen: turns rows into the flow's inputs.
    """
    from flowgmm_cli.inference.inputs import read_first_rows
    from flowgmm_cli.inference.interpolation import transfer, transfer_all
    from flowgmm_cli.inference.samples import class_index

    everywhere = target == ALL and ALL not in trained.class_names
    place = None if everywhere else class_index(trained, target)
    given = read_first_rows(reader, most)
    x = seen(given)
    if place is None:
        return given, transfer_all(trained, x, ids=given.ids)
    return given, transfer(trained, x, place, ids=given.ids)
