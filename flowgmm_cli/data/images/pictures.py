"""Images that are not decoded yet."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from flowgmm_cli.data.images.decode import Content


@dataclass(frozen=True)
class Pictures:
    """Encoded images.

    Attributes:
        where: what they are of, a path as a rule.
        names: what each is called in messages.
        content: bytes of each, or the file that holds them; called from several threads, and raises
            `OSError` or `UnreadableError` where there are none.
        signature: digest of what decides their pixels, found out when it is called.
    """

    where: str
    names: Sequence[str]
    content: Callable[[int], Content]
    signature: Callable[[], str]

    def __len__(self) -> int:
        return len(self.names)


def joined(parts: Sequence[Pictures]) -> Pictures:
    """Several as one, in order."""
    if len(parts) == 1:
        return parts[0]
    ends = list(accumulate(len(part) for part in parts))

    def content(index: int) -> Content:
        part = bisect_right(ends, index)
        return parts[part].content(index - (ends[part - 1] if part else 0))

    return Pictures(
        where=parts[0].where,
        names=[name for part in parts for name in part.names],
        content=content,
        signature=lambda: "".join(part.signature() for part in parts),
    )
