"""The contract of `TokenGenerator`: how sequences begin, end, fail, pause, and go on elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from max_engines.config import EngineConfig
from max_engines.engine import Engine
from max_engines.launched import Launched
from max_engines.loading import DType, LoadedModel, load_model
from max_engines.rules import SequenceError
from max_engines.runner import ModelRunner, Scores
from max_engines.scheduler import Chunk
from max_interfaces.identity import RequestID
from max_interfaces.protocols import TokenDelta, TokenGenerator
from max_interfaces.status import GenerationStatus
from tests.engines.tiny_models import CONTEXT, VOCAB, Params, again, generate, load, prompts, save_checkpoint, start

END = GenerationStatus.END_OF_SEQUENCE
FULL = GenerationStatus.MAXIMUM_LENGTH


@pytest.fixture
def engine(llama: LoadedModel) -> Engine:
    return Engine(llama, EngineConfig(max_batch=4, token_budget=16, block_size=4, num_blocks=80))


def last_status(engine: TokenGenerator, sequence_id: RequestID) -> tuple[list[int], GenerationStatus]:
    """Run one sequence to its end; its tokens and how it ended."""
    tokens: list[int] = []
    for _ in range(1000):
        delta = engine.step([sequence_id]).get(sequence_id, TokenDelta())
        tokens.extend(delta.tokens)
        if delta.status.is_done:
            return tokens, delta.status
    raise RuntimeError("no end")


def test_an_end_token_ends_a_sequence_and_is_its_last(engine: Engine) -> None:
    text = prompts(1)[0]
    tokens = generate(engine, [start(text, max_new_tokens=30)])[0]
    end = tokens[7]
    expected = list(tokens[: tokens.index(end) + 1])
    unsaid = next(token for token in range(VOCAB) if token not in tokens)
    for sequence in (start(text, eos=[end]), start(text, stop_token_ids=(end,)), start(text, eos=[end, unsaid])):
        engine.add(sequence)
        assert last_status(engine, sequence.request_id) == (expected, END)
    deaf = start(text, eos=[end], ignore_eos=True, max_new_tokens=30)
    engine.add(deaf)
    assert last_status(engine, deaf.request_id) == (list(tokens), FULL)


def test_min_new_tokens_puts_the_end_off(engine: Engine) -> None:
    text = prompts(1)[0]
    first = generate(engine, [start(text)])[0][0]
    late = generate(engine, [start(text, eos=[first], min_new_tokens=5)])[0]
    assert len(late) >= 5
    assert first not in late[:4]


def test_a_sequence_ends_with_its_limit_or_the_context(engine: Engine, llama: LoadedModel) -> None:
    sequence = start([5, 6], max_new_tokens=3)
    engine.add(sequence)
    assert last_status(engine, sequence.request_id)[1] is FULL
    long = start(list(range(3, 103)) * 2, max_new_tokens=None)
    assert len(generate(engine, [long])[0]) == CONTEXT - 200
    small = Engine(llama, EngineConfig(max_batch=1, token_budget=8, block_size=4, num_blocks=5))
    assert small.max_length == 20
    assert len(generate(small, [start([5] * 10, max_new_tokens=None)])[0]) == 10


def test_nothing_is_left_to_say(engine: Engine) -> None:
    tokens = generate(engine, [start([5, 6, 7])])[0]
    for sequence, status in (
        (start([5, 6, 7], accepted=tokens), FULL),
        (start([5, 6, 7], max_new_tokens=0), FULL),
        (start([5, 6, 7], accepted=tokens[:3], eos=[tokens[2]]), END),
    ):
        engine.add(sequence)
        assert engine.step([sequence.request_id]) == {sequence.request_id: TokenDelta((), status)}
        assert engine.step([sequence.request_id]) == {}
        engine.release(sequence.request_id)


def test_a_resumed_sequence_goes_on_as_if_nothing_had_happened(engine: Engine) -> None:
    whole = start(
        prompts(1)[0],
        seed=11,
        temperature=1.1,
        top_p=0.95,
        repetition_penalty=1.2,
        frequency_penalty=0.3,
        max_new_tokens=25,
        min_new_tokens=20,
        constraint=Alternating(),
        eos=[4],
    )
    tokens = generate(engine, [whole])[0]
    for count in range(1, len(tokens) + 1, 3):
        assert generate(engine, [again(whole, tokens[:count])]) == [tokens[count:]]


class Alternating:
    """Even ids after an even number of tokens, odd ids after an odd one."""

    def __init__(self) -> None:
        self.masks = [np.arange(VOCAB) % 2 == parity for parity in (0, 1)]

    def allowed(self, tokens: Sequence[int]) -> NDArray[np.bool_] | None:
        mask: NDArray[np.bool_] = self.masks[len(tokens) % 2]
        return mask


def test_constraints_hold_beside_free_sequences(engine: Engine) -> None:
    starts = [
        start(text, seed=i, temperature=i % 2, constraint=Alternating() if i % 3 else None, max_new_tokens=12)
        for i, text in enumerate(prompts(6))
    ]
    for index, tokens in enumerate(generate(engine, starts)):
        if index % 3:
            assert [token % 2 for token in tokens] == [0, 1] * 6


def test_sequences_left_out_of_a_step_are_paused(engine: Engine) -> None:
    one, two = (start(text, max_new_tokens=10) for text in prompts(2))
    expected = generate(engine, [again(one), again(two)])
    for sequence in (one, two):
        engine.add(sequence)
    tokens: dict[RequestID, tuple[int, ...]] = {one.request_id: (), two.request_id: ()}
    for step in range(60):
        active = [one.request_id] if step % 7 < 4 else [two.request_id]
        for request_id, delta in engine.step(active).items():
            assert request_id in active
            tokens[request_id] += delta.tokens
    assert [tokens[one.request_id], tokens[two.request_id]] == expected


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 5, 30])
def test_release_in_any_phase_frees_everything(engine: Engine, steps: int) -> None:
    free = engine.free_blocks
    starts = [start(text, max_new_tokens=15) for text in prompts(7)]
    for sequence in starts:
        engine.add(sequence)
    for _ in range(steps):
        engine.step([s.request_id for s in starts])
    for sequence in starts:
        engine.release(sequence.request_id)
        engine.release(sequence.request_id)
    assert engine.free_blocks == free
    assert engine.step([]) == {}


@pytest.mark.parametrize("where", [(ModelRunner, "run"), ("sampler", "sample")])
def test_a_step_that_fails_changes_nothing_and_can_be_repeated_with_fewer(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, where: tuple[object, str]
) -> None:
    starts = [start(text, seed=i, temperature=1.0, max_new_tokens=10) for i, text in enumerate(prompts(3))]
    expected = generate(engine, [again(s) for s in starts])
    poison = starts[1]
    run = ModelRunner.run

    def poisoned(
        runner: ModelRunner, chunks: Sequence[Chunk], earlier: Launched | None, replays: bool = True
    ) -> Scores:
        scores = run(runner, chunks, earlier, replays)
        if any(chunk.sequence.request_id == poison.request_id for chunk in chunks):
            if where[0] is ModelRunner:
                raise RuntimeError("poison")
            sampled = [chunk.sequence.request_id for chunk in scores.chunks if chunk.samples]
            if poison.request_id in sampled:
                scores.sampled[sampled.index(poison.request_id)] = float("nan")
        return scores

    monkeypatch.setattr(ModelRunner, "run", poisoned)
    for sequence in starts:
        engine.add(sequence)
    everyone = {s.request_id for s in starts}
    active = set(everyone)
    tokens: dict[RequestID, tuple[int, ...]] = dict.fromkeys(everyone, ())
    failures = 0
    while active:
        try:
            deltas = engine.step(active)
        except (RuntimeError, SequenceError):
            failures += 1
            deltas = engine.step(active - {poison.request_id})
            if failures == 3:  # the pipeline has made out whose fault it is
                active.remove(poison.request_id)
                engine.release(poison.request_id)
        for request_id, delta in deltas.items():
            tokens[request_id] += delta.tokens
            if delta.status.is_done:
                active.remove(request_id)
                engine.release(request_id)
    assert failures == 3
    assert [tokens[s.request_id] for s in starts] == [expected[0], (), expected[2]]
    assert engine.free_blocks == 80


def test_what_could_never_run_is_refused_by_name(engine: Engine) -> None:
    for sequence, words in (
        (start([]), "prompt = "),
        (start([5, VOCAB]), f"token {VOCAB} is not in the vocabulary of {VOCAB}"),
        (start([5], accepted=[VOCAB]), "accepted"),
        (start([5], allowed_token_ids=(VOCAB,)), "allowed_token_ids"),
        (start([5], allowed_token_ids=()), "allowed_token_ids"),
        (start([5], logit_bias={VOCAB: 1.0}), "logit_bias"),
        (start([5], beam_width=4, kv_bits=8), "kv_bits = 8: beams keep all"),
        (start([5], beam_width=4, max_kv_size=64), "max_kv_size = 64: beams keep all"),
        (start([5], stop_token_ids=(VOCAB,)), "stop_token_ids"),
        (start([5] * CONTEXT), f"prompt has {CONTEXT} tokens: at most {CONTEXT - 1} fit"),
    ):
        with pytest.raises(ValueError, match=words):
            engine.add(sequence)
    twice = start([5])
    engine.add(twice)
    with pytest.raises(ValueError, match="is running already"):
        engine.add(replace(twice, prompt=(6,)))
    with pytest.raises(KeyError, match="was not added"):
        engine.step([RequestID()])
    engine.add(start([5] * (CONTEXT - 1)))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_batch": 0}, "max_batch = 0"),
        ({"max_batch": 8, "token_budget": 7}, "token_budget = 7"),
        ({"block_size": 0}, "block_size = 0"),
        ({"block_size": 33}, "block_size = 33"),
        ({"num_blocks": 0}, "num_blocks = 0"),
        ({"kv_memory": 0}, "kv_memory = 0"),
        ({"num_blocks": 4, "kv_memory": 10**6}, "give one of num_blocks"),
    ],
)
def test_a_bad_configuration_is_refused_by_name(options: Params, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        EngineConfig(**options)


def test_memory_is_given_in_bytes_or_blocks(llama: LoadedModel) -> None:
    per_token = 2 * 2 * 2 * 16 * 4  # keys and values, layers, heads, head_dim, float32
    assert Engine(llama, EngineConfig(kv_memory=per_token * 32 * 7)).free_blocks == 7
    assert Engine(llama, EngineConfig(max_batch=3)).free_blocks == 3 * CONTEXT // 32
    with pytest.raises(ValueError, match=f"one block of this model takes {per_token * 32} bytes"):
        Engine(llama, EngineConfig(kv_memory=1000))


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
@pytest.mark.parametrize(("context", "dtype"), [(2, "float32"), (8, "bfloat16"), (11, "float32")])
def test_a_context_shorter_than_a_trial_will_do(architecture: str, context: int, dtype: DType, tmp_path: Path) -> None:
    model = load_model(save_checkpoint(tmp_path, architecture, max_position_embeddings=context), dtype=dtype)
    engine = Engine(model)
    assert engine.max_length == context
    assert len(generate(engine, [start([5], max_new_tokens=None)])[0]) == context - 1


@pytest.mark.parametrize("budget", [1, 2, 8])
def test_a_budget_smaller_than_a_trial_will_do(budget: int, tmp_path: Path, llama: LoadedModel) -> None:
    config = EngineConfig(max_batch=1, token_budget=budget)
    sequence = start(prompts(1)[0])
    engine = Engine(load(save_checkpoint(tmp_path, "llama")), config)
    assert generate(engine, [sequence]) == generate(Engine(llama), [again(sequence)])


def test_room_for_one_token_is_refused(tmp_path: Path) -> None:
    model = load(save_checkpoint(tmp_path, "llama"))
    with pytest.raises(ValueError, match=r"need 2 tokens at least \(context 256, memory 1 tokens\)"):
        Engine(model, EngineConfig(block_size=1, num_blocks=1))
    sequence = start([5])
    assert len(generate(Engine(model, EngineConfig(block_size=1, num_blocks=2)), [sequence])[0]) == 1
