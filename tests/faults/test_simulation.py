"""Thousands of worlds in which everything happens at once: no request is lost, ends twice, or leaves anything behind.

A seed that fails is named; `python -m tests.faults.simulation SEED` plays it again.
"""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor

import pytest
from tqdm import tqdm

from tests.faults.simulation.mutants import MUTANTS, Mutant
from tests.faults.simulation.world import CALLS, WEATHERS, failures_of, simulate

SEEDS = 210  # in `make test`
MANY_SEEDS, PART = 10_000, 50  # in `make soak`, and how many a process takes at once
CATCHING_SEEDS = 140  # within so many each mutant is caught
FAULTABLE = 200  # events a seed, at least


def test_the_first_seeds() -> None:
    for seed in range(SEEDS):
        world = simulate(seed)
        assert sum(len(client.calls) for client in world.clients) >= CALLS - 1
        assert world.network.messages >= FAULTABLE


def test_a_seed_gives_the_same_world_each_time() -> None:
    seeds = range(len(WEATHERS))
    assert [simulate(seed).history for seed in seeds] == [simulate(seed).history for seed in seeds]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_wrong_done_to_the_dispatcher_is_noticed(mutant: Mutant) -> None:
    with mutant.alive():
        for seed in range(CATCHING_SEEDS):
            try:
                simulate(seed)
            except Exception:
                return
    pytest.fail(f"{mutant.name}: nobody has noticed in {CATCHING_SEEDS} seeds")


@pytest.mark.soak
def test_ten_thousand_seeds() -> None:
    with ProcessPoolExecutor(os.cpu_count()) as processes:
        parts = [range(first, first + PART) for first in range(0, MANY_SEEDS, PART)]
        results = tqdm(processes.map(failures_of, parts), "parts", len(parts), leave=False, disable=None)
        failures = [failure for result in results for failure in result]
    assert not failures, "\n".join(failures[:20])
