import logging
import os
from contextlib import suppress

import datasets
import huggingface_hub.constants

from flowgmm_cli.data.sources.hub_tables import hub_access


def snapshot():
    return (
        {name: value for name, value in os.environ.items() if name.startswith(("HF_", "TRANSFORMERS_"))},
        huggingface_hub.constants.HF_HUB_OFFLINE,
        datasets.config.HF_HUB_OFFLINE,
        datasets.utils.logging.get_verbosity(),
        datasets.are_progress_bars_disabled(),
    )


def test_everything_is_put_back_even_after_an_error():
    before = snapshot()
    with suppress(KeyError), hub_access(offline=True):
        # offline reaches libraries that are loaded and those that are not
        assert huggingface_hub.constants.HF_HUB_OFFLINE
        assert datasets.config.HF_HUB_OFFLINE
        assert os.environ["HF_HUB_OFFLINE"] == "1"
        raise KeyError
    assert snapshot() == before


def test_no_bars_and_no_log():
    with hub_access(offline=False):
        assert datasets.are_progress_bars_disabled()
        assert datasets.utils.logging.get_verbosity() == logging.CRITICAL
