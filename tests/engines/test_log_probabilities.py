"""Log probabilities: the model's own, whatever the sampling parameters are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from max_engines.log_probabilities import (
    LEAST,
    MOST_LIKELIEST,
    TIES,
    PendingLogProbabilities,
    Wanted,
    join,
    prompt_log_probabilities,
)
from max_engines.sampler import Sampler
from max_engines.sampling_row import check_start
from max_interfaces.sampling import SamplingParams
from max_interfaces.text import LogProbabilities
from tests.engines.sampling_tools import V, logits, row
from tests.engines.tiny_models import Params, start

RULES: Params = {"temperature": 0.5, "top_k": 3, "repetition_penalty": 2.0, "logit_bias": {7: 5.0}}


def only(found: LogProbabilities | None) -> LogProbabilities:
    assert found is not None
    return found


def test_they_are_those_of_the_raw_logits_for_rows_that_asked() -> None:
    scores = logits(5)
    rows = [
        row(logprobs=0, **RULES),
        row(**RULES),
        row(logprobs=4, **RULES),
        row(top_n_tokens=2, temperature=0.0),
        row(logprobs=-1, **RULES),
    ]
    sampled = Sampler().sample(scores.clone(), rows)
    tokens = sampled.resolve()
    expected = torch.log_softmax(scores.double(), 1).numpy()
    assert sampled.log_probabilities[1] is None
    for index in (0, 2, 3, 4):
        found = only(sampled.log_probabilities[index])
        np.testing.assert_allclose(found.token_log_probabilities, [expected[index, tokens[index]]], rtol=1e-5)
    for index, count in ((2, 4), (3, 2)):
        (likeliest,) = only(sampled.log_probabilities[index]).top_log_probabilities
        ids = np.argsort(-expected[index])[:count]
        assert list(likeliest) == ids.tolist()
        np.testing.assert_allclose(list(likeliest.values()), expected[index, ids], rtol=1e-5)
    assert only(sampled.log_probabilities[0]).top_log_probabilities == ()
    whole = only(sampled.log_probabilities[4]).all_log_probabilities
    assert whole is not None
    assert whole.dtype == np.float32
    np.testing.assert_allclose(whole, expected[4:5], rtol=1e-5)


def test_asking_changes_no_token_and_the_batch_no_value() -> None:
    scores = logits(3)
    asked: list[Params] = [{"logprobs": 5}, {"top_n_tokens": 3}, {"logprobs": 5, "top_n_tokens": 2}]
    silent = Sampler().sample(scores.clone(), [row(seed=i) for i in range(3)]).resolve()
    rows = [row(seed=i, **params) for i, params in enumerate(asked)]
    together = Sampler().sample(scores.clone(), rows)
    assert together.resolve() == silent
    for index, each in enumerate(rows):
        alone = Sampler().sample(scores[index : index + 1].clone(), [each])
        assert alone.log_probabilities == together.log_probabilities[index : index + 1]


@given(st.lists(st.integers(0, 5), min_size=12, max_size=12), st.integers(0, 12), st.integers(0, 12))
def test_the_likeliest_and_what_ties_with_the_last_of_top_n(values: list[int], count: int, top_n: int) -> None:
    scores = torch.tensor([values], dtype=torch.float32)
    sampled = Sampler().sample(scores.clone(), [row(logprobs=count, top_n_tokens=top_n, temperature=0.0)])
    found = only(sampled.log_probabilities[0]).top_log_probabilities
    order = sorted(range(12), key=lambda token: (-values[token], token))
    tied = [token for token in order if top_n and values[token] >= values[order[top_n - 1]]]
    expected = order[: max(count, len(tied))]
    assert len(found) == (1 if count or top_n else 0)
    for entry in found:
        # Which of those that tie come in by `logprobs` alone is open; all of them do by `top_n_tokens`.
        assert [values[token] for token in entry] == [values[token] for token in expected]
        assert set(tied) <= set(entry)
        assert list(entry) == sorted(entry, key=lambda token: (-values[token], token))


def test_ties_have_a_limit() -> None:
    sampled = Sampler().sample(torch.zeros(1, 4096), [row(top_n_tokens=5)])
    (likeliest,) = only(sampled.log_probabilities[0]).top_log_probabilities
    assert len(likeliest) == 5 + TIES


def test_a_probability_of_nothing_is_finite() -> None:
    scores = torch.full((1, V), -torch.inf)
    scores[0, 3] = 0.0
    sampled = Sampler().sample(scores.clone(), [row(logprobs=2)])
    assert sampled.resolve() == [3]
    assert list(only(sampled.log_probabilities[0]).top_log_probabilities[0].values()) == [0.0, LEAST]


@pytest.mark.parametrize("count", [0, 3, -1])
def test_a_prompt_in_parts_is_the_prompt(count: int) -> None:
    scores = logits(9).bfloat16()
    followers = [5, 5, 7, 140, 0, 1, 2, 3, 149]
    params = SamplingParams(prompt_logprobs=count, **RULES)
    whole = prompt_log_probabilities(scores, followers, params)
    parts = [prompt_log_probabilities(scores[a:b], followers[a:b], params) for a, b in ((0, 4), (4, 4), (4, 5), (5, 9))]
    assert join(parts) == whole
    expected = torch.log_softmax(scores.double(), 1).numpy()
    np.testing.assert_allclose(whole.token_log_probabilities, expected[range(9), followers], rtol=1e-4)
    assert [len(entry) for entry in whole.top_log_probabilities] == ([count] * 9 if count > 0 else [])
    assert (whole.all_log_probabilities is not None) == (count == -1)


def test_a_prompt_that_did_not_ask_has_none() -> None:
    with pytest.raises(ValueError, match="prompt_logprobs = None"):
        prompt_log_probabilities(logits(), [3], SamplingParams())


@pytest.mark.parametrize("field", ["logprobs", "prompt_logprobs"])
def test_too_many_are_refused_by_name(field: str) -> None:
    params: Params = {field: MOST_LIKELIEST + 1}
    with pytest.raises(ValueError, match=rf"SamplingParams\.{field} = {MOST_LIKELIEST + 1}: must be at most"):
        check_start(start([1], **params), 32_000)
    check_start(start([1], **params), 1000)  # the whole of a small vocabulary
    params = {field: MOST_LIKELIEST}
    check_start(start([1], **params), 32_000)


def test_the_whole_vocabulary_of_a_long_prompt_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"SamplingParams\.prompt_logprobs = -1: 2100 tokens times"):
        check_start(start([1] * 2100, prompt_logprobs=-1), 32_000)
    check_start(start([1] * 2000, prompt_logprobs=-1), 32_000)


@pytest.mark.parametrize("vocab_size", [150, 1024])
def test_of_several_tokens_of_a_row_each_has_its_own(vocab_size: int) -> None:
    torch.manual_seed(0)
    logits, tokens = torch.randn(3, vocab_size), torch.randint(0, vocab_size, (3, 4))
    pending = PendingLogProbabilities(logits, tokens, Wanted(2, whole=True))
    expected = logits.log_softmax(1)
    for index, drafts in enumerate(pending.drafts()):
        for token, draft in zip(tokens[index].tolist(), drafts, strict=True):
            one = LogProbabilities.joined([draft])
            assert one is not None
            assert one.token_log_probabilities == pytest.approx([float(expected[index, token])])
            assert set(one.top_log_probabilities[0]) == set(expected[index].topk(2).indices.tolist())
            assert one.all_log_probabilities is not None
            assert one.all_log_probabilities == pytest.approx(expected[index : index + 1].numpy(), abs=1e-5)
