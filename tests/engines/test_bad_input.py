"""Bad requests end alone, with their reason; the others go on with the tokens they would have had anyway."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from max_engines.config import EngineConfig
from max_engines.engine import Engine
from max_engines.reference import ReferenceEngine
from max_engines.rules import SequenceError
from max_interfaces.identity import RequestID
from max_interfaces.protocols import SequenceStart, TokenGenerator
from max_interfaces.sampling import SamplingParams
from tests.engines.tiny_models import CONTEXT, VOCAB, again, generate, load, prompts, save_checkpoint, start

POISON = VOCAB - 1  # an id of which the model knows only NaN
BLOCK = 4


@pytest.fixture(params=["engine", "reference"], scope="module")
def generator(request: pytest.FixtureRequest, checkpoint: Callable[[str], Path]) -> TokenGenerator:
    """Both engines refuse alike."""
    model = load(checkpoint("llama"))
    if request.param == "reference":
        return ReferenceEngine(model)
    return Engine(model, EngineConfig(max_batch=4, token_budget=16, block_size=BLOCK, num_blocks=80))


@pytest.mark.parametrize(
    ("prompt", "says"),
    [
        ([], r"SequenceStart\.prompt = \(\): needs at least one token"),
        ([5] * CONTEXT, rf"SequenceStart\.prompt has {CONTEXT} tokens: at most {CONTEXT - 1} fit"),
        ([5] * 5000, rf"SequenceStart\.prompt has 5000 tokens: at most {CONTEXT - 1} fit"),
        ([5, -1, 6], rf"SequenceStart\.prompt: token -1 is not in the vocabulary of {VOCAB}"),
        ([5, VOCAB], rf"SequenceStart\.prompt: token {VOCAB} is not in the vocabulary of {VOCAB}"),
        ([2**40], rf"SequenceStart\.prompt: token {2**40} is not in the vocabulary"),
    ],
)
def test_a_bad_prompt_is_refused_and_the_others_go_on(generator: TokenGenerator, prompt: list[int], says: str) -> None:
    good = start([5, 6, 7], max_new_tokens=6)
    expected = generate(generator, [again(good)])[0]
    generator.add(good)
    said = generator.step([good.request_id])[good.request_id].tokens
    bad = start(prompt)
    with pytest.raises(ValueError, match=says):
        generator.add(bad)
    while len(said) < 6:
        said += generator.step([good.request_id])[good.request_id].tokens
    generator.release(good.request_id)
    generator.release(bad.request_id)  # as the worker does, whatever became of it
    assert said == expected


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    wrong=st.one_of(st.integers(VOCAB, 2**62), st.integers(-(2**62), -1)),
    where=st.integers(0, 4),
    field=st.sampled_from(["prompt", "accepted", "eos"]),
)
def test_ids_outside_the_vocabulary_are_always_refused(
    generator: TokenGenerator, wrong: int, where: int, field: str
) -> None:
    ids = [5, 6, 7, 8]
    ids.insert(where, wrong)
    given_ids = {"prompt": [5], "accepted": [], "eos": [], field: ids}
    sequence = SequenceStart(
        RequestID(),
        tuple(given_ids["prompt"]),
        SamplingParams(max_new_tokens=20),
        seed=0,
        eos_token_ids=frozenset(given_ids["eos"]),
        accepted=tuple(given_ids["accepted"]),
    )
    with pytest.raises(ValueError, match=f"token {wrong} is not in the vocabulary of {VOCAB}"):
        generator.add(sequence)


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma2"])
def test_one_request_whose_scores_are_no_numbers_fails_and_the_others_go_on(architecture: str, tmp_path: Path) -> None:
    """Also those that get its memory afterwards, and those that ran beside it or had its prefix."""
    untied = {"tie_word_embeddings": False}  # else NaN in an embedding would be NaN in everybody's scores
    model = load(save_checkpoint(tmp_path, architecture, **untied))
    engine = Engine(model, EngineConfig(max_batch=4, token_budget=16, block_size=BLOCK, num_blocks=30))
    free = engine.free_blocks
    texts = [[token for token in text if token != POISON] for text in prompts(3, longest=30)]
    good = [start(text, seed=i, temperature=i / 2, max_new_tokens=12) for i, text in enumerate(texts)]
    expected = generate(engine, [again(one) for one in good])
    model.module.get_input_embeddings().get_parameter("weight").data[POISON] = torch.nan
    bad = start([*texts[0][:9], POISON, 7], max_new_tokens=12)

    said, failed = _run_without_the_failed(engine, [*good, bad])
    assert said == [*expected, ()]
    assert failed == {
        bad.request_id: [f"sequence {bad.request_id}: no token can follow: every score is -inf, or the model gave NaN"]
    }
    assert engine.free_blocks == free
    assert generate(engine, [again(one) for one in reversed(good)]) == expected[::-1]


@pytest.mark.parametrize("overlap", [False, True])
def test_a_prompt_whose_log_probabilities_are_no_numbers_fails_alone(
    overlap: bool, checkpoint: Callable[[str], Path]
) -> None:
    """And no token of the others is lost, though it is in the midst of its prompt while they speak."""
    model = load(checkpoint("llama"))
    config = EngineConfig(max_batch=4, token_budget=16, block_size=BLOCK, num_blocks=60, overlap=overlap)
    engine = Engine(model, config)
    good = [start([5, 6, 7 + i], max_new_tokens=12, allowed_token_ids=tuple(range(POISON))) for i in range(3)]
    expected = generate(engine, [again(one) for one in good])
    model.module.get_input_embeddings().get_parameter("weight").data[POISON] = torch.nan
    bad = start([8, POISON] + [9] * 50, max_new_tokens=12, prompt_logprobs=0)
    said, failed = _run_without_the_failed(engine, [*good[:2], bad, good[2]])
    assert said == [*expected[:2], (), expected[2]]
    assert list(failed) == [bad.request_id]
    assert "its prompt has no log probabilities" in failed[bad.request_id][0]
    assert engine.free_blocks == 60


def _run_without_the_failed(
    engine: Engine, starts: list[SequenceStart]
) -> tuple[list[tuple[int, ...]], dict[RequestID, list[str]]]:
    """Run to the end as a worker does, that drops a sequence which an error names: tokens, and what the errors say."""
    said: dict[RequestID, tuple[int, ...]] = {one.request_id: () for one in starts}
    failed: dict[RequestID, list[str]] = {}
    for one in starts:
        engine.add(one)
    active = set(said)
    while active:
        try:
            deltas = engine.step(active)
        except SequenceError as problem:
            key = RequestID(problem.name)
            failed[key] = [*failed.get(key, []), str(problem)]
            active.remove(key)
            engine.release(key)
            continue
        for key, delta in deltas.items():
            said[key] += delta.tokens
            if delta.status.is_done:
                active.remove(key)
                engine.release(key)
    return [said[one.request_id] for one in starts], failed
