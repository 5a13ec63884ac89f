"""How long a step may take is said beforehand: a worker that is silent for longer is taken for hung."""

from __future__ import annotations

from dataclasses import replace

import pytest

from max_engines import engine as engines
from max_engines.config import EngineConfig
from max_engines.engine import Engine
from max_engines.loading import LoadedModel
from max_engines.pace import LARGEST_BUDGET, Pace
from tests.engines.tiny_models import start

A_SECOND_A_TOKEN = Pace(1.0, 64)


def test_long_texts_take_longer_by_the_token() -> None:
    assert Pace(0.001, 64).seconds(100, 0) == pytest.approx(0.1)
    assert Pace(0.001, 64).seconds(100, 128) == pytest.approx(0.3)


@pytest.mark.parametrize(("token_s", "budget"), [(1e-9, LARGEST_BUDGET), (0.0011, 128), (0.2, 1), (60.0, 1)])
def test_a_step_has_as_many_tokens_as_it_has_time_for(token_s: float, budget: int) -> None:
    assert Pace(token_s, 64).budget == budget


@pytest.fixture
def paced(llama: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """An engine that holds itself for slow: 16 tokens a step, a second each."""
    monkeypatch.setattr(engines, "measured", lambda run, tokens, width: replace(A_SECOND_A_TOKEN, width=10**9))
    return Engine(llama, EngineConfig(max_batch=4, token_budget=16, block_size=4, num_blocks=40))


def test_prompts_are_announced_as_far_as_the_next_step_has_them(paced: Engine) -> None:
    assert paced.step_s() == 0.0
    long, short = start(range(5, 45), max_new_tokens=8), start((5, 6, 7), max_new_tokens=8)
    paced.add(long)
    assert paced.step_s() == pytest.approx(16.0)  # no more than a step has
    for _ in range(3):
        paced.step([long.request_id])
    assert paced.step_s() == 0.0
    paced.add(short)
    assert paced.step_s() == pytest.approx(3.0)
    paced.step([long.request_id, short.request_id])
    assert paced.step_s() == 0.0
    for sequence in (long, short):
        paced.release(sequence.request_id)
    assert paced.step_s() == 0.0


def test_who_has_lost_its_memory_is_announced_with_all_that_it_has_said(paced: Engine) -> None:
    old, young = (start(range(first, first + 40), max_new_tokens=90) for first in (5, 6))
    for sequence in (old, young):
        paced.add(sequence)
    while paced.step_s():
        paced.step([old.request_id, young.request_id])
    while not paced.step_s():  # until the younger one has had to give way
        paced.step([old.request_id, young.request_id])
    assert paced.step_s() == pytest.approx(16.0)


def test_the_pace_is_measured_on_real_steps(llama: LoadedModel) -> None:
    engine = Engine(llama)
    engine.add(start(range(5, 45), max_new_tokens=8))
    assert 0.0 < engine.step_s() < 60.0
