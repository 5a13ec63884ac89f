"""Penalties: counts that are kept up step by step are those of a fresh count."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.generation import logits_process as theirs

from max_engines.sampler import Sampler
from max_engines.token_counts import TokenCounts
from tests.engines.sampling_tools import V, logits, probabilities, row, scores_after, softmax
from tests.engines.tiny_models import Params

Tokens = st.lists(st.integers(0, 200), max_size=300)


@given(Tokens, Tokens, st.data())
def test_counts_are_those_of_a_counter(added: list[int], more: list[int], data: st.DataObject) -> None:
    counts = TokenCounts()
    counts.add(added)
    removed = data.draw(st.lists(st.sampled_from(added), max_size=len(added))) if added else []
    removed = list((Counter(removed) & Counter(added)).elements())
    counts.remove(removed)
    counts.add(more)
    expected = Counter(added) - Counter(removed) + Counter(more)
    found = dict(zip(counts.ids.tolist(), counts.times.tolist(), strict=True))
    assert {token: times for token, times in found.items() if times} == expected


def test_counts_have_room_for_any_number_of_ids() -> None:
    counts = TokenCounts()
    for _ in range(2):
        counts.add(range(300))
    assert counts.ids.tolist() == list(range(300))
    assert set(counts.times.tolist()) == {2.0}


@pytest.mark.parametrize(("size", "seen"), [(None, {3, 20, 9, 7}), (3, {20, 9, 7}), (2, {9, 7}), (1, {7}), (0, set())])
def test_repetition_context_size(size: int | None, seen: set[int]) -> None:
    scores = logits()
    penalised = row([9, 7], [3, 20], repetition_penalty=2.0, repetition_context_size=size)
    expected = scores.clone()
    for token in seen:
        expected[0, token] = scores[0, token] * 2 if scores[0, token] < 0 else scores[0, token] / 2
    torch.testing.assert_close(probabilities(scores, penalised), softmax(expected))


def test_frequency_and_presence_penalty_count_the_output_alone() -> None:
    scores = logits()
    expected = scores.clone()
    expected[0, 9] -= 2 * 0.5 + 0.25
    expected[0, 7] -= 0.5 + 0.25
    ours = row([9, 7, 9], [3, 9, 9], frequency_penalty=0.5, presence_penalty=0.25)
    torch.testing.assert_close(probabilities(scores, ours), softmax(expected))


@given(
    st.lists(st.integers(0, 8), min_size=1, max_size=12),
    st.lists(st.integers(0, 8), max_size=30),
    st.one_of(st.none(), st.integers(0, 12)),
    st.integers(1, 4),
)
def test_a_row_that_grows_is_penalised_as_one_that_was_rebuilt(
    prompt: list[int], output: list[int], size: int | None, stride: int
) -> None:
    scores = logits()
    params: Params = {
        "repetition_penalty": 1.5,
        "repetition_context_size": size,
        "frequency_penalty": 0.3,
        "presence_penalty": -0.2,
    }
    growing = row((), prompt, **params)
    for length in range(0, len(output) + 1, stride):  # sometimes more than one token a step
        growing.output[:] = output[:length]
        found = scores_after(scores, growing)
        assert torch.equal(found, scores_after(scores, row(output[:length], prompt, **params)))
        window = [*prompt, *output[:length]]
        window = window if size is None else window[len(window) - min(size, len(window)) :]
        expected = scores.clone()
        if window:
            expected = theirs.RepetitionPenaltyLogitsProcessor(1.5)(torch.LongTensor([window]), expected)
        for token, times in Counter(output[:length]).items():
            expected[0, token] -= 0.3 * times - 0.2
        torch.testing.assert_close(found[:, :V], expected)


def test_rows_are_penalised_each_by_its_own_text() -> None:
    rows = [
        row([1, 2], frequency_penalty=2.0, temperature=0.0),
        row(temperature=0.0),
        row([3] * 40, frequency_penalty=0.5, repetition_penalty=3.0, temperature=0.0),
        row([1], [5, 6], repetition_penalty=0.5, temperature=0.0),
    ]
    scores = logits(4)
    alone = torch.cat([scores_after(scores[i : i + 1], each) for i, each in enumerate(rows)])
    assert torch.equal(scores_after(scores, *rows), alone)
    together = Sampler().sample(scores.clone(), rows).resolve()
    assert together == alone.argmax(1).tolist()
