"""Silent and optionally offline access to Hugging Face libraries."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def hub_access(*, offline: bool) -> Iterator[None]:
    """Stop progress bars, logs and telemetry of Hugging Face libraries within this context.

    With `offline` they use only their caches, otherwise the user's environment (`HF_HUB_OFFLINE`) decides.
    """
    import datasets
    import datasets.config
    import huggingface_hub.constants
    import huggingface_hub.utils

    # Libraries read the environment on import. These two are imported already and need their constants set;
    # others (transformers) may be imported within this context.
    constants = [(huggingface_hub.constants, "HF_HUB_DISABLE_TELEMETRY", True)]
    constants.append((datasets.config, "HF_UPDATE_DOWNLOAD_COUNTS", False))
    environment = {"HF_HUB_DISABLE_TELEMETRY": "1"}
    if offline:
        constants += [
            (module, "HF_HUB_OFFLINE", True) for module in (datasets.config, huggingface_hub.constants)
        ]
        environment |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}

    constants_before = [(module, name, getattr(module, name)) for module, name, _ in constants]
    environment_before = {name: os.environ.get(name) for name in environment}
    loggers = [datasets.utils.logging, huggingface_hub.utils.logging]
    levels = [logger.get_verbosity() for logger in loggers]
    bars = not datasets.are_progress_bars_disabled()
    try:
        for module, name, value in constants:
            setattr(module, name, value)
        os.environ.update(environment)
        for logger in loggers:
            logger.set_verbosity(logger.CRITICAL)
        datasets.disable_progress_bars()
        yield
    finally:
        for module, name, value in constants_before:
            setattr(module, name, value)
        for name, old in environment_before.items():
            os.environ.pop(name, None) if old is None else os.environ.__setitem__(name, old)
        for logger, level in zip(loggers, levels, strict=True):
            logger.set_verbosity(level)
        if bars:
            datasets.enable_progress_bars()
