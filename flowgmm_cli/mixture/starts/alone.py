"""Scikit-learn on one thread and without its warnings."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_LOCK = threading.Lock()  # what is put back afterwards belongs to the whole process


@contextmanager
def one_thread_no_warnings() -> Iterator[None]:
    """Small products are slower by far in several threads, and a start need not converge."""
    from threadpoolctl import threadpool_limits

    with _LOCK, warnings.catch_warnings(), threadpool_limits(limits=1):
        warnings.simplefilter("ignore")
        yield
