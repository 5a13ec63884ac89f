"""The engine says what transformers says: greedily, and sampled with the rules of the reference."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from max_engines.config import EngineConfig
from max_engines.engine import Engine
from max_engines.loading import LoadedModel
from max_engines.reference import ReferenceEngine
from max_interfaces.protocols import SequenceStart, TokenDelta
from tests.engines.tiny_models import (
    ARCHITECTURES,
    PUBLISHED,
    VOCAB,
    Params,
    again,
    generate,
    load,
    plain_greedy,
    prompts,
    run,
    start,
)

SAMPLED: list[Params] = [
    {"temperature": 1.0},
    {"temperature": 0.7, "top_p": 0.8, "repetition_penalty": 1.3},
    {"temperature": 1.3, "top_k": 9, "min_p": 0.05},
    {"repetition_penalty": 1.5, "repetition_context_size": 8, "frequency_penalty": 0.4},
    {"temperature": 0.9, "typical_p": 0.7, "presence_penalty": 0.6, "logit_bias": {5: 3.0, 9: -100.0}},
]
BLOCK = 8
COUNT = 24  # new tokens
SHARED = list(range(40, 40 + 2 * BLOCK))  # two whole blocks
TEXTS = [*(SHARED + tail for tail in prompts(3, longest=6)), *prompts(3, longest=40)]


@pytest.fixture(params=[*ARCHITECTURES, *PUBLISHED], scope="module")
def folder(request: pytest.FixtureRequest, checkpoint: Callable[[str], Path]) -> Path:
    """A checkpoint of every architecture, one after the other."""
    return checkpoint(request.param)


@pytest.fixture(scope="module")
def expected(folder: Path) -> list[tuple[int, ...]]:
    """What transformers says to each of `TEXTS`."""
    return plain_greedy(folder, TEXTS, COUNT)


@pytest.fixture(scope="module")
def model(folder: Path) -> LoadedModel:
    """The same checkpoint for the engines."""
    return load(folder)


def starts() -> list[SequenceStart]:
    """Each of `TEXTS`, under a new id."""
    return [start(text, max_new_tokens=COUNT, ignore_eos=True) for text in TEXTS]


def test_the_tokens_are_not_all_the_same(expected: list[tuple[int, ...]]) -> None:
    assert len(set(expected)) > 3
    assert max(len(set(tokens)) for tokens in expected) > 3


def test_greedy_tokens_equal_generate_alone(model: LoadedModel, expected: list[tuple[int, ...]]) -> None:
    engine = Engine(model, EngineConfig(max_batch=2, token_budget=128, num_blocks=16, block_size=BLOCK))
    assert [generate(engine, [alone])[0] for alone in starts()] == expected


def test_greedy_tokens_equal_generate_in_a_mixed_batch_with_chunks(
    model: LoadedModel, expected: list[tuple[int, ...]]
) -> None:
    """With ten tokens a step, a prompt of forty is computed in pieces beside the others' next tokens."""
    engine = Engine(model, EngineConfig(max_batch=6, token_budget=10, num_blocks=80, block_size=BLOCK))
    assert generate(engine, starts(), join={i: 5 - i for i in range(6)}) == expected


def test_greedy_tokens_equal_generate_where_prefixes_are_reused(
    model: LoadedModel, expected: list[tuple[int, ...]]
) -> None:
    engine = Engine(model, EngineConfig(max_batch=6, token_budget=64, num_blocks=80, block_size=BLOCK))
    first = run(engine, starts()[:1])
    second = run(engine, starts())
    assert [_tokens(deltas) for deltas in (*first, *second)] == [expected[0], *expected]
    assert [_cached(deltas) >= 2 * BLOCK for deltas in (*first, *second[:3])] == [False, True, True, True]


def test_greedy_tokens_equal_generate_where_memory_runs_out(
    model: LoadedModel, expected: list[tuple[int, ...]]
) -> None:
    """Three prompts of three blocks enter a memory of twelve, and then want six blocks each: some must leave."""
    engine = Engine(model, EngineConfig(max_batch=3, token_budget=64, num_blocks=12, block_size=BLOCK))
    free = engine.free_blocks
    apart = [replace(one, cache_salt=str(index)) for index, one in enumerate(starts()[:3])]
    assert generate(engine, apart) == expected[:3]
    assert engine.free_blocks == free


def test_greedy_tokens_equal_generate_with_all_of_it_at_once(
    model: LoadedModel, expected: list[tuple[int, ...]]
) -> None:
    engine = Engine(model, EngineConfig(max_batch=6, token_budget=10, num_blocks=14, block_size=BLOCK))
    free = engine.free_blocks
    assert generate(engine, starts(), join={i: 3 * i for i in range(6)}) == expected
    assert engine.free_blocks == free


def _tokens(deltas: Iterable[TokenDelta]) -> tuple[int, ...]:
    return tuple(token for delta in deltas for token in delta.tokens)


def _cached(deltas: Iterable[TokenDelta]) -> int:
    return sum(delta.prompt.cached_tokens for delta in deltas if delta.prompt is not None)


@pytest.mark.parametrize("architecture", ["llama", "gemma2", "mixtral", "gpt2"])
def test_sampled_tokens_equal_the_reference_in_a_mixed_batch(
    architecture: str, checkpoint: Callable[[str], Path]
) -> None:
    drawn = [
        start(text, seed=i, max_new_tokens=12 + i, ignore_eos=True, **params)
        for i, (text, params) in enumerate(zip(prompts(5), SAMPLED, strict=True))
    ]
    engine = Engine(load(checkpoint(architecture)), EngineConfig(max_batch=4, token_budget=40, block_size=BLOCK))
    reference = ReferenceEngine(load(checkpoint(architecture)))
    mixed = generate(engine, drawn, join={i: 2 * i for i in range(5)})
    assert [generate(reference, [again(one)])[0] for one in drawn] == mixed


@pytest.mark.parametrize("architecture", ["mixtral", "qwen3-moe", "gpt2", "phi3-window", "gemma3", "olmo2"])
def test_scores_are_the_same_to_the_last_bit_alone_and_among_others(
    architecture: str, checkpoint: Callable[[str], Path]
) -> None:
    """Experts, too: which rows go to the same one is a matter of who else is there."""
    engine = Engine(load(checkpoint(architecture)), EngineConfig(max_batch=24))
    many = [start(text, seed=i, temperature=i % 2, max_new_tokens=8, logprobs=-1) for i, text in enumerate(prompts(24))]
    mixed = run(engine, many)
    for index in (0, 11, 23):
        (alone,) = run(engine, [again(many[index])])
        assert [_scores(delta) for delta in alone if delta.tokens] == [
            _scores(delta) for delta in mixed[index] if delta.tokens
        ]


def _scores(delta: TokenDelta) -> bytes:
    assert delta.log_probabilities is not None
    assert delta.log_probabilities.all_log_probabilities is not None
    return delta.log_probabilities.all_log_probabilities.tobytes()


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_engine_and_reference_give_the_same_tokens(
    data: st.DataObject, llama: LoadedModel, plain_llama: LoadedModel
) -> None:
    prompt = data.draw(st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=40), "prompt")
    params: Params = data.draw(
        st.fixed_dictionaries(
            {"max_new_tokens": st.integers(0, 12), "temperature": st.sampled_from([0.0, 0.5, 1.0])},
            optional={
                "top_k": st.integers(1, 200),
                "top_p": st.floats(0.05, 1.0),
                "min_p": st.floats(0.0, 1.0),
                "typical_p": st.floats(0.05, 1.0),
                "repetition_penalty": st.floats(0.5, 2.0),
                "frequency_penalty": st.floats(-2, 2),
                "presence_penalty": st.floats(-2, 2),
                "stop_token_ids": st.lists(st.integers(0, VOCAB - 1), max_size=20).map(tuple),
            },
        ),
        "params",
    )
    sequence = start(prompt, seed=data.draw(st.integers(0, 2**63 - 1), "seed"), eos=[2], **params)
    engine = Engine(llama, EngineConfig(max_batch=2, token_budget=16, block_size=4))
    assert generate(engine, [sequence]) == generate(ReferenceEngine(plain_llama), [again(sequence)])


def test_a_model_that_an_engine_has_taken_over_is_no_reference(llama: LoadedModel) -> None:
    Engine(llama)
    with pytest.raises(ValueError, match="belongs to an Engine"):
        ReferenceEngine(llama)
