"""Thousands of worlds in which everything happens at once: no request is lost, ends twice, or leaves anything behind.

A seed that fails is named; `python -m tests.faults.simulation SEED` plays it again.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor

import pytest
from tqdm import tqdm

from tests.faults.simulation.mutants import CONTROLS, MUTANTS, Mutant
from tests.faults.simulation.weather import TIGHT, WEATHERS, Weather
from tests.faults.simulation.world import CALLS, World, failures_of, simulate

SEEDS = 117  # in `make test`
MANY_SEEDS, PART = 10_000, 50  # in `make soak`, and how many a process takes at once
CATCHING_SEEDS = 78  # within so many each mutant is caught


def test_the_first_seeds() -> None:
    worlds: dict[Weather, list[World]] = defaultdict(list)
    for seed in range(SEEDS):
        world = simulate(seed)
        worlds[world.weather].append(world)
    for weather, those in worlds.items():
        assert sum(world.answered for world in those) >= len(those) * CALLS / 3
        refused = sum(world.refused for world in those)
        assert refused >= len(those) if weather.limits is TIGHT else refused == 0


def test_a_seed_gives_the_same_world_each_time() -> None:
    seeds = range(len(WEATHERS))
    assert [simulate(seed).history for seed in seeds] == [simulate(seed).history for seed in seeds]


def test_what_is_as_it_was_is_not_noticed() -> None:
    with contextlib.ExitStack() as changes:
        for control in CONTROLS:
            changes.enter_context(control.alive())
        assert not failures_of(range(CATCHING_SEEDS))


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
def test_ten_thousand_seeds(capsys: pytest.CaptureFixture[str]) -> None:
    begin = time.perf_counter()
    with ProcessPoolExecutor(os.cpu_count()) as processes:
        parts = [range(first, first + PART) for first in range(0, MANY_SEEDS, PART)]
        results = tqdm(processes.map(failures_of, parts), "parts", len(parts), leave=False, disable=None)
        failures = [failure for result in results for failure in result]
    with capsys.disabled():
        print(f"\n{MANY_SEEDS} seeds in {time.perf_counter() - begin:.0f} s")
    assert not failures, "\n".join(failures[:20])
