"""Access to Hugging Face libraries: silent, and offline where that is asked for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def hub_access(*, offline: bool) -> Iterator[None]:
    """Within this context Hugging Face libraries draw no bars, log nothing and send no statistics.

    With `offline` they use their caches alone, and without it they are as free as the user's environment
    (`HF_HUB_OFFLINE`) leaves them. Everything is put back at the end.
    """
    import datasets
    import datasets.config
    import huggingface_hub.constants
    import huggingface_hub.utils

    # Libraries read the environment on import: those two are loaded by now and have to be told directly,
    # while others (transformers) may be imported within this context.
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
