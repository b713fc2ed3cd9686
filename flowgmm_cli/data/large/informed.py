"""Blocks of features that were fitted to some rows, corrected by what is known of all of them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from flowgmm_cli.api import Column
from flowgmm_cli.data.blocks import MISSING_CATEGORY, Block, Categories, Numbers
from flowgmm_cli.data.large.facts import Facts

if TYPE_CHECKING:
    from flowgmm_cli.data.specs import MissingPolicy


def informed(block: Block, facts: Facts) -> Block:
    """The block with what only all rows show: their categories, range, whole numbers and missing cells."""
    if isinstance(block, Categories):
        present = {MISSING_CATEGORY if cell is None else cell for cell in facts.categories}
        return dataclasses.replace(block, categories=tuple(sorted(present)))
    if not isinstance(block, Numbers):
        return block
    filled = not facts.complete and block.fill is not None
    return dataclasses.replace(
        block,
        inexact=f"missing cells of `{block.column.name}` are filled in" if filled else "",
        whole=facts.known > 0 and facts.whole,
        range=(facts.low, facts.high) if facts.known else None,
    )


def useless(column: Column, facts: Facts, missing: MissingPolicy) -> str:
    """Why a column carries nothing; an empty text if it does."""
    if column.kind == "numeric":
        if not facts.known:
            return "all its cells are missing"
        if (facts.complete or missing != "error") and facts.constant:
            return "all its cells are equal"
    if column.kind == "category":
        if facts.categories <= {None}:
            return "all its cells are missing"
        if len(facts.categories) == 1:
            return "all its cells are equal"
    return ""
