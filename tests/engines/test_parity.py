"""The engine says what transformers says: greedily, and sampled with the rules of the reference."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from max_engines.engine import Engine, EngineConfig
from max_engines.loading import LoadedModel
from max_engines.reference import ReferenceEngine
from tests.engines.tiny_models import ARCHITECTURES, VOCAB, Params, again, generate, load, plain_greedy, prompts, start

SAMPLED: list[Params] = [
    {},
    {"temperature": 1.0},
    {},
    {"temperature": 0.7, "top_p": 0.8, "repetition_penalty": 1.3},
    {},
    {"temperature": 1.3, "top_k": 9, "min_p": 0.05},
    {"repetition_penalty": 1.5, "repetition_context_size": 8, "frequency_penalty": 0.4},
    {"temperature": 0.9, "typical_p": 0.7, "presence_penalty": 0.6, "logit_bias": {5: 3.0, 9: -100.0}},
]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_greedy_tokens_equal_generate_alone_and_in_a_mixed_batch(
    architecture: str, checkpoint: Callable[[str], Path]
) -> None:
    folder = checkpoint(architecture)
    texts = prompts(8)
    starts = [
        start(text, seed=i, max_new_tokens=12 + i, ignore_eos=True, **params)
        for i, (text, params) in enumerate(zip(texts, SAMPLED, strict=True))
    ]
    engine = Engine(load(folder), EngineConfig(max_batch=6, token_budget=40, block_size=8))
    free = engine.free_blocks

    mixed = generate(engine, starts, join={i: 2 * i for i in range(8)})

    for index, text in enumerate(texts):
        if not SAMPLED[index]:
            expected = plain_greedy(folder, text, 12 + index)
            assert mixed[index] == expected
            assert generate(engine, [again(starts[index])]) == [expected]
    reference = ReferenceEngine(load(folder))
    for index in (1, 3, 5, 6, 7):
        assert generate(reference, [again(starts[index])]) == [mixed[index]]
    assert engine.free_blocks == free


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
