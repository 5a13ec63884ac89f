"""Which tokens may come at all: bad words, minimum length, and what is added to scores, against transformers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaConfig, WatermarkDetector, WatermarkingConfig
from transformers.generation import logits_process as theirs

from max_engines.rules import Watermark
from max_engines.sampler import Sampler
from tests.engines.sampling_tools import V, logits, probabilities, row, scores_after, softmax
from tests.engines.tiny_models import Params

Ids = st.integers(0, 3)  # few, so that runs are often completed


@given(
    st.lists(st.lists(Ids, min_size=1, max_size=4), min_size=1, max_size=5, unique_by=tuple),
    st.lists(Ids, min_size=1, max_size=5),
    st.lists(Ids, max_size=5),
)
def test_bad_words_are_those_of_transformers(bad_words: list[list[int]], prompt: list[int], output: list[int]) -> None:
    scores = logits()
    processor = theirs.NoBadWordsLogitsProcessor(bad_words, eos_token_id=torch.tensor([V - 1]))
    expected = processor(torch.LongTensor([[*prompt, *output]]), scores.clone())
    found = scores_after(scores, row(output, prompt, bad_words=bad_words))
    assert torch.equal(found[:, :V], expected)
    assert bool((found[:, V:] == -torch.inf).all())


def test_a_bad_word_is_never_completed() -> None:
    sampler, banned = Sampler(), ((5,), (6, 7), (7, 7, 6))
    mine = row(bad_words=banned, allowed_token_ids=(5, 6, 7), seed=3)
    other = row(allowed_token_ids=(5, 6, 7), seed=3)
    for _ in range(200):
        for each, token in zip((mine, other), sampler.sample(torch.zeros(2, V), [mine, other]).resolve(), strict=True):
            each.output.append(token)
    text = [1, *mine.output]
    for run in banned:
        assert all(tuple(text[i : i + len(run)]) != run for i in range(len(text)))
    assert 5 in other.output


def test_min_new_tokens_ends_when_it_is_reached() -> None:
    sampler = Sampler()
    scores = torch.zeros(2, V)
    scores[:, 7] = 50.0
    scores[:, 8] = 40.0
    rows = [row(temperature=0.0, min_new_tokens=count, stop_token_ids=(7,)) for count in (1, 3)]
    for _ in range(4):
        for each, token in zip(rows, sampler.sample(scores.clone(), rows).resolve(), strict=True):
            each.output.append(token)
    assert [each.output for each in rows] == [[8, 7, 7, 7], [8, 8, 8, 7]]


def test_min_new_tokens_counts_tokens_that_nobody_has_read_and_takes_them_back() -> None:
    sampler, mine = Sampler(), row(temperature=0.0, min_new_tokens=2, stop_token_ids=(7,))
    scores = torch.zeros(1, V)
    scores[0, 7] = 50.0
    ended = []
    for unread in (1, 2, 1, 0, 3):
        mine.unread = unread
        ended.append(sampler.sample(scores.clone(), [mine]).resolve() == [7])
    assert ended == [False, True, False, False, True]


def test_allowed_ids_and_bias() -> None:
    scores = logits()
    found = probabilities(scores, row(allowed_token_ids=(3, 8, 140), logit_bias={8: 5.0, 100: 100.0}))
    expected = torch.full_like(scores, -torch.inf)
    expected[0, [3, 8, 140]] = scores[0, [3, 8, 140]]
    expected[0, 8] += 5
    torch.testing.assert_close(found, softmax(expected))


@pytest.mark.parametrize(("gamma", "delta", "key"), [(0.25, 2.0, 15485863), (0.5, 1.5, 7), (0.9, 10.0, 2**62)])
def test_the_watermark_is_that_of_transformers(gamma: float, delta: float, key: int) -> None:
    reference = theirs.WatermarkLogitsProcessor(V, "cpu", greenlist_ratio=gamma, bias=delta, hashing_key=key)
    ours = Watermark(gamma, delta, key)
    for token in range(80):  # more lists than are kept
        scores = logits(seed=token)
        expected = reference(torch.LongTensor([[token]]), scores.clone())
        found = scores_after(scores, row([token], watermark=True), watermark=ours)[:, :V]
        torch.testing.assert_close(found, expected)
        assert torch.equal(scores_after(scores, row((), [token], watermark=True), watermark=ours)[:, :V], found)
        assert torch.equal(scores_after(scores, row([token]), watermark=ours)[:, :V], scores)


def test_the_watermark_is_detected_by_transformers() -> None:
    watermark = Watermark(gamma=0.25, delta=3.0, key=99)
    sampler = Sampler(watermark)
    rows = [row(prompt=[index + 3], watermark=index < 2, seed=index) for index in range(4)]
    for step in range(100):
        tokens = sampler.sample(logits(4, seed=step, scale=1.0), rows).resolve()
        for each, token in zip(rows, tokens, strict=True):
            each.output.append(token)
    config = WatermarkingConfig(greenlist_ratio=0.25, bias=3.0, hashing_key=99)
    detector = WatermarkDetector(LlamaConfig(vocab_size=V, bos_token_id=V - 1), "cpu", config)
    said = torch.LongTensor([[*each.prompt, *each.output] for each in rows])
    assert np.asarray(detector(said, z_threshold=4.0)).tolist() == [True, True, False, False]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ((0.0, 1.0, 1), "gamma = 0"),
        ((0.5, 0.0, 1), "delta = 0"),
        ((0.5, 101.0, 1), "delta"),
        ((0.5, 2.0, 0), "key = 0"),
    ],
)
def test_a_watermark_out_of_bounds_is_refused(values: tuple[float, float, int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Watermark(*values)


STEPS: dict[str, tuple[Params, Sequence[Sequence[int]]]] = {
    "bias does not bring back what is not allowed": ({"allowed_token_ids": (3,), "logit_bias": {4: 100.0}}, ()),
    "nor what is a bad word": ({"logit_bias": {4: 100.0}}, ((4,),)),
    "nor what would end too early": ({"logit_bias": {4: 100.0}, "min_new_tokens": 9, "stop_token_ids": (4,)}, ()),
}


@pytest.mark.parametrize("name", STEPS)
def test_what_is_forbidden_stays_forbidden(name: str) -> None:
    params, bad_words = STEPS[name]
    assert scores_after(logits(), row(bad_words=bad_words, **params))[0, 4] == -torch.inf


def test_bias_comes_before_the_watermark_and_that_before_the_penalties() -> None:
    ours = row(
        [9, 9], [3], logit_bias={9: 2.0, 3: -40.0}, watermark=True, repetition_penalty=2.0, frequency_penalty=0.5,
        presence_penalty=0.25,
    )  # fmt: skip
    scores = logits()
    expected = scores.clone()
    expected[0, 9] += 2.0
    expected[0, 3] -= 40.0
    ids = torch.LongTensor([[3, 9, 9]])
    expected = theirs.WatermarkLogitsProcessor(V, "cpu", greenlist_ratio=0.5, bias=2.0)(ids, expected)
    expected = theirs.RepetitionPenaltyLogitsProcessor(2.0)(ids, expected)
    expected[0, 9] -= 2 * 0.5 + 0.25
    torch.testing.assert_close(scores_after(scores, ours)[:, :V], expected)
