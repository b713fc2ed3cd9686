import logging
import os

import datasets
import huggingface_hub.constants

from flowgmm_cli.data.hub import hub_access


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
    try:
        with hub_access(offline=True):
            raise KeyError
    except KeyError:
        pass
    assert snapshot() == before


def test_offline_reaches_libraries_that_are_loaded_and_those_that_are_not():
    with hub_access(offline=True):
        assert huggingface_hub.constants.HF_HUB_OFFLINE
        assert datasets.config.HF_HUB_OFFLINE
        assert os.environ["HF_HUB_OFFLINE"] == "1"


def test_no_bars_and_no_log():
    with hub_access(offline=False):
        assert datasets.are_progress_bars_disabled()
        assert datasets.utils.logging.get_verbosity() == logging.CRITICAL
