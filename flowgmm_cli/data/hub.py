"""Silent and optionally offline access to Hugging Face libraries."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager


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
    variables = ["HF_HUB_DISABLE_TELEMETRY"]
    if offline:
        constants += [
            (module, "HF_HUB_OFFLINE", True) for module in (datasets.config, huggingface_hub.constants)
        ]
        variables += ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"]
    with ExitStack() as stack:
        for module, name, value in constants:
            stack.callback(setattr, module, name, getattr(module, name))
            setattr(module, name, value)
        for name in variables:
            if (before := os.environ.get(name)) is None:
                stack.callback(os.environ.pop, name)
            else:
                stack.callback(os.environ.update, {name: before})
            os.environ[name] = "1"
        for logger in (datasets.utils.logging, huggingface_hub.utils.logging):
            stack.callback(logger.set_verbosity, logger.get_verbosity())
            logger.set_verbosity(logger.CRITICAL)
        if not datasets.are_progress_bars_disabled():
            stack.callback(datasets.enable_progress_bars)
            datasets.disable_progress_bars()
        yield
