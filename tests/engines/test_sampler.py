"""Sampling as a whole: rules against those of transformers, their order, constraints, draws and random numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from transformers.generation import logits_process as theirs

from max_engines.random_stream import RandomStreams, child_seed, splitmix64
from max_engines.rules import SequenceError
from max_engines.sampler import Sampler
from tests.engines.sampling_tools import V, logits, probabilities, row, softmax
from tests.engines.tiny_models import Params

IDS = torch.LongTensor([[3, 3, 9, 20, 9, 9]])
AGAINST_TRANSFORMERS = {
    "temperature": (row(temperature=0.3), theirs.TemperatureLogitsWarper(0.3)),
    "top_k": (row(top_k=7), theirs.TopKLogitsWarper(7)),
    "top_k of everything": (row(top_k=1000), theirs.TopKLogitsWarper(1000)),
    "top_p": (row(top_p=0.6), theirs.TopPLogitsWarper(0.6)),
    "top_p of nearly all": (row(top_p=0.9999), theirs.TopPLogitsWarper(0.9999)),
    "top_p of next to nothing": (row(top_p=1e-6), theirs.TopPLogitsWarper(1e-6)),
    "min_p": (row(min_p=0.2), theirs.MinPLogitsWarper(0.2)),
    "typical_p": (row(typical_p=0.5), theirs.TypicalLogitsWarper(0.5)),
    "repetition_penalty": (
        row([9, 9], [3, 3, 9, 20], repetition_penalty=1.7),
        theirs.RepetitionPenaltyLogitsProcessor(1.7),
    ),
    "min_new_tokens": (
        row([4], eos=[5, 6], min_new_tokens=2),
        theirs.MinNewTokensLengthLogitsProcessor(5, 2, [5, 6]),
    ),
}


@pytest.mark.parametrize("name", AGAINST_TRANSFORMERS)
@pytest.mark.parametrize("scale", [0.01, 3.0])
def test_a_rule_is_that_of_transformers(name: str, scale: float) -> None:
    ours, processor = AGAINST_TRANSFORMERS[name]
    scores = logits(scale=scale, seed=len(name))
    torch.testing.assert_close(probabilities(scores, ours), softmax(processor(IDS, scores.clone())))


def test_rules_together_go_in_the_documented_order() -> None:
    ours = row([9, 9], [3, 3, 9, 20], repetition_penalty=1.3, temperature=0.7, top_k=40, top_p=0.8, min_p=0.02)
    scores = logits()
    expected = scores.clone()
    for processor in (
        theirs.RepetitionPenaltyLogitsProcessor(1.3),
        theirs.TemperatureLogitsWarper(0.7),
        theirs.TopKLogitsWarper(40),
        theirs.TopPLogitsWarper(0.8),
        theirs.MinPLogitsWarper(0.02),
    ):
        expected = processor(IDS, expected)
    torch.testing.assert_close(probabilities(scores, ours), softmax(expected))


class Only:
    """Allows a fixed set of ids, with one mask object or a new one for each call."""

    def __init__(self, *ids: int, fresh: bool = False) -> None:
        self.mask: NDArray[np.bool_] = np.isin(np.arange(V), ids)
        self.mask.flags.writeable = False
        self.fresh = fresh

    def allowed(self, tokens: Sequence[int]) -> NDArray[np.bool_] | None:
        if len(tokens) % 2:
            return None
        return self.mask.copy() if self.fresh else self.mask


@pytest.mark.parametrize("fresh", [False, True])
def test_a_constraint_is_honoured(fresh: bool) -> None:
    constraint = Only(4, 77, fresh=fresh)
    sampler = Sampler()
    for seed in range(300):  # more masks than the sampler keeps
        assert sampler.sample(logits(), [row(constraint=constraint, seed=seed)]).resolve()[0] in (4, 77)
    greedy = [row(constraint=constraint, temperature=0), row([4], constraint=constraint, temperature=0)]
    scores = logits(2)
    best = 4 if scores[0, 4] > scores[0, 77] else 77
    assert sampler.sample(scores.clone(), greedy).resolve() == [best, int(scores[1].argmax())]


def test_what_leaves_no_token_names_the_sequence() -> None:
    lost = row(constraint=Only(5), allowed_token_ids=(6,))
    with pytest.raises(SequenceError, match="no token can follow") as caught:
        Sampler().sample(logits(2), [row(), lost]).resolve()
    assert caught.value.name == lost.name
    for temperature in (0.0, 1.0):
        with pytest.raises(SequenceError, match="NaN"):
            Sampler().sample(torch.full((1, V), float("nan")), [row(temperature=temperature)]).resolve()
    wide = Only(5)
    wide.mask = np.ones(400, np.bool_)
    with pytest.raises(SequenceError, match=r"mask bool\[400\]"):
        Sampler().sample(logits(), [row(constraint=wide)])


MIXED: list[Params] = [
    {"temperature": 0.0},
    {},
    {"top_p": 0.5},
    {"top_k": 3, "temperature": 2.0},
    {"min_p": 0.3, "top_p": 0.95},
    {"typical_p": 0.4},
    {"repetition_penalty": 1.5, "presence_penalty": 1.0},
    {"logit_bias": {1: 9.0}},
    {"top_p": 0.999},
]


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    scores = logits(len(MIXED))
    rows = [row([3, 4], seed=index, **params) for index, params in enumerate(MIXED)]
    together = Sampler().sample(scores.clone(), rows).resolve()
    alone = [Sampler().sample(scores[i : i + 1].clone(), [rows[i]]).resolve()[0] for i in range(len(rows))]
    backwards = Sampler().sample(scores.flip(0), rows[::-1]).resolve()
    assert together == alone == backwards[::-1]
    drawn = rows[1:]
    each = torch.cat([probabilities(scores[i : i + 1], rows[i]) for i in range(1, len(rows))])
    assert torch.equal(probabilities(scores[1:], *drawn), each)


def test_another_batch_is_another_plan() -> None:
    sampler, scores = Sampler(), logits(3)
    batches = [[row(seed=i, **params) for i, params in enumerate(MIXED[first : first + 3])] for first in range(6)]
    for rows in [*batches, *reversed(batches)]:
        assert sampler.sample(scores.clone(), rows).resolve() == Sampler().sample(scores.clone(), rows).resolve()
    narrow = logits(3, vocab=64)
    assert sampler.sample(narrow.clone(), rows).resolve() == Sampler().sample(narrow.clone(), rows).resolve()


def test_a_step_can_be_launched_before_its_tokens_are_read() -> None:
    rows = [row(temperature=0.0), row(seed=1)]
    sampled = Sampler().sample(logits(2), rows)
    assert sampled.tokens.dtype == torch.int64
    assert sampled.tokens.tolist() == sampled.resolve()
    assert [each.output for each in rows] == [[], []]


@pytest.mark.parametrize("params", [{}, {"top_p": 0.8}, {"top_k": 5, "temperature": 0.5}, {"typical_p": 0.6}])
def test_draws_follow_the_filtered_distribution(params: Params) -> None:
    draws, batch = 6000, 500
    scores = logits(scale=2.0)
    expected = probabilities(scores, row(**params))[0].double().numpy()
    counts = np.zeros(V)
    for first in range(0, draws, batch):
        rows = [row(seed=seed, **params) for seed in range(first, first + batch)]
        counts += np.bincount(Sampler().sample(scores.expand(batch, V).clone(), rows).resolve(), minlength=V)
    assert counts[expected == 0].sum() == 0
    usual = expected * draws >= 5  # below that, the chi-square distribution is none
    statistic = (((counts - expected * draws) ** 2)[usual] / (expected * draws)[usual]).sum()
    freedom = usual.sum() - 1
    assert statistic < freedom + 4 * np.sqrt(2 * freedom)


def test_the_random_stream_is_splitmix64_of_seed_and_position() -> None:
    # The first outputs of splitmix64 seeded with 0: https://prng.di.unimi.it/splitmix64.c
    gamma = 0x9E3779B97F4A7C15
    states = np.array([(i * gamma) % 2**64 for i in range(3)], np.uint64)
    assert splitmix64(states).tolist() == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    streams = RandomStreams(range(100))
    numbers = np.array([streams.uniform([position] * 100) for position in range(100)])
    assert numbers.min() >= 0
    assert numbers.max() < 1
    assert abs(numbers.mean() - 0.5) < 0.01
    assert len(np.unique(numbers)) == 10_000
    assert RandomStreams([2**63 - 1]).uniform([2**20])[0] == RandomStreams([3, 2**63 - 1]).uniform([0, 2**20])[1]


@given(st.integers(0, 2**63 - 1), st.integers(0, 2**20))
def test_a_random_number_is_that_of_plain_integer_arithmetic(seed: int, position: int) -> None:
    def mix(value: int) -> int:
        value = (value + 0x9E3779B97F4A7C15) % 2**64
        value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        value = (value ^ value >> 27) * 0x94D049BB133111EB % 2**64
        return value ^ value >> 31

    expected = (mix((mix(seed) + position * 0x9E3779B97F4A7C15) % 2**64) >> 12) * 2.0**-52
    assert RandomStreams([seed, 1]).uniform([position, 0])[0] == expected


def test_children_have_streams_of_their_own() -> None:
    seeds = [child_seed(seed, index) for seed in range(50) for index in range(50)]
    assert len(set(seeds)) == 2500
    assert min(seeds) >= 0
    assert max(seeds) < 2**63
    assert child_seed(17, 0) == 17
    numbers = np.concatenate([RandomStreams(seeds).uniform([position] * 2500) for position in range(4)])
    assert len(np.unique(numbers)) == 10_000
    assert abs(numbers.mean() - 0.5) < 0.02
