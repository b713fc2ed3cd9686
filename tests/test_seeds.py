from __future__ import annotations

from typing import get_args

import pytest
import torch

from flowgmm_cli.seeds import Stream, derive_seed, generator


def test_seeds_differ_between_streams_and_indices_and_neighbouring_seeds() -> None:
    streams: tuple[Stream, ...] = get_args(Stream)
    seeds = [
        derive_seed(seed, stream, index) for seed in range(4) for stream in streams for index in range(25)
    ]
    assert len(set(seeds)) == 4 * len(streams) * 25
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_a_seed_depends_on_its_arguments_alone() -> None:
    # other values would change the results of every recipe and of every resumed run
    assert derive_seed(0, "init") == derive_seed(0, "init", 0)
    assert derive_seed(0, "step", 7) == 8_335_110_288_455_085_642
    assert derive_seed(2**62, "order") == 4_938_800_750_886_229_815


def test_generators_are_independent_and_leave_the_global_generator_alone() -> None:
    state = torch.get_rng_state()
    first = torch.rand(4, generator=generator(5, "order", 1))
    assert torch.equal(first, torch.rand(4, generator=generator(5, "order", 1)))
    assert not torch.equal(first, torch.rand(4, generator=generator(5, "order", 2)))
    assert torch.equal(torch.get_rng_state(), state)


def test_an_unknown_stream_is_refused() -> None:
    with pytest.raises(KeyError):
        derive_seed(0, "steps")  # type: ignore[arg-type]
