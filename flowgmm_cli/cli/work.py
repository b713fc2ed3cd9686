"""What commands that work on data share: the surroundings they give to sources and encoders."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flowgmm_cli.api import DataContext
    from flowgmm_cli.cli.console import Report


def data_context(progress: Report, *, offline: bool) -> DataContext:
    """Surroundings of sources and encoders: caches, the network, and what they may say."""
    from flowgmm_cli.api import DataContext
    from flowgmm_cli.cli import console
    from flowgmm_cli.data.cache import user_cache_dir

    return DataContext(
        offline=offline, cache_dir=str(user_cache_dir()), progress=progress, note=console.note
    )
