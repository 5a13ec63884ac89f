"""The overlapped step says what the plain one says, each token a step later; and so do recorded decode steps."""

from __future__ import annotations

import gc
import random
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from max_engines.attention import AttentionStep, Group
from max_engines.blocks import BlockPool
from max_engines.config import EngineConfig
from max_engines.decode_graphs import DecodeGraphs, Work, doubling
from max_engines.engine import Engine
from max_engines.fused_decoder import fused_decoder
from max_engines.kv_cache import KVCache, KVShape, Lanes
from max_engines.loading import LoadedModel
from max_engines.masks import BlockMasks, Span
from max_engines.rules import SequenceError
from max_engines.scheduler import Chunk
from max_engines.sequence import Sequence
from max_interfaces.identity import RequestID
from max_interfaces.protocols import SequenceStart, TokenDelta
from max_interfaces.status import GenerationStatus
from tests.engines.tiny_models import VOCAB, Params, again, generate, load, prompts, run, save_checkpoint, start

CPU = torch.device("cpu")
POISON = VOCAB - 2
MIXED: list[Params] = [
    {},
    {"temperature": 1.0, "top_p": 0.9},
    {"temperature": 0.8, "repetition_penalty": 1.3},
    {"min_new_tokens": 5, "stop_token_ids": tuple(range(3, 60))},
    {"temperature": 1.2, "top_k": 7, "frequency_penalty": 0.5},
    {"temperature": 1.0, "logprobs": 2, "prompt_logprobs": 0},
]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_the_overlapped_step_gives_the_same_tokens(data: st.DataObject, llama: LoadedModel) -> None:
    count = data.draw(st.integers(1, 7), "sequences")
    kinds = data.draw(st.lists(st.sampled_from(MIXED), min_size=count, max_size=count), "kinds")
    join = {i: data.draw(st.integers(0, 12), f"join {i}") for i in range(count)}
    blocks = data.draw(st.sampled_from([17, 24, 64]), "blocks")  # 17 is no more than one of them may need
    starts = [
        start(text, seed=i, **{"max_new_tokens": 6 + 4 * i, **kind})
        for i, (text, kind) in enumerate(zip(prompts(count), kinds, strict=True))
    ]
    config = EngineConfig(max_batch=4, token_budget=30, block_size=8, num_blocks=blocks, overlap=False)
    plain = Engine(llama, config)
    overlapped = Engine(llama, replace(config, overlap=True))

    expected = generate(plain, starts, join)

    assert generate(overlapped, [again(s) for s in starts], join) == expected
    assert overlapped.free_blocks == plain.free_blocks == blocks


def test_a_token_comes_a_step_after_it_was_launched(llama: LoadedModel) -> None:
    engine = Engine(llama, EngineConfig(overlap=True))
    sequence = start(prompts(1)[0], max_new_tokens=2)
    engine.add(sequence)
    active = [sequence.request_id]
    assert engine.step(active) == {}
    assert len(engine.step(active)[sequence.request_id].tokens) == 1
    last = engine.step(active)[sequence.request_id]
    assert (len(last.tokens), last.status.is_done) == (1, True)


def test_a_sequence_released_while_its_token_is_under_way_leaves_nothing(llama: LoadedModel) -> None:
    engine = Engine(llama, EngineConfig(max_batch=4, block_size=8, num_blocks=40, overlap=True))
    starts = [start(text, max_new_tokens=30) for text in prompts(4)]
    expected = generate(engine, [again(s) for s in starts])
    for sequence in starts:
        engine.add(sequence)
    active = {s.request_id for s in starts}
    for _ in range(3):
        engine.step(active)
    engine.release(starts[0].request_id)
    assert generate(engine, [again(starts[0])]) == expected[:1]  # while the others are paused
    for sequence in starts[1:]:
        engine.release(sequence.request_id)
    assert engine.free_blocks == 40


@pytest.fixture
def poisoned(checkpoint: Callable[[str], Path]) -> Engine:
    """An overlapped engine whose model knows only NaN of the id POISON."""
    model = load(checkpoint("llama"))
    engine = Engine(model, EngineConfig(max_batch=4, block_size=8, num_blocks=60, overlap=True))
    model.module.get_input_embeddings().get_parameter("weight").data[POISON] = torch.nan
    return engine


def by_halving(
    engine: Engine, starts: list[SequenceStart], pauses: random.Random | None = None
) -> tuple[list[tuple[int, ...]], set[RequestID]]:
    """Run all as a worker does, which blames who is alone in a step that fails: their tokens, and who failed.

    With `pauses` a third are left out of each step.
    """
    tokens: dict[RequestID, tuple[int, ...]] = {one.request_id: () for one in starts}
    failed: set[RequestID] = set()
    active = list(tokens)

    def step(some: list[RequestID]) -> dict[RequestID, TokenDelta]:
        try:
            return dict(engine.step(some))
        except SequenceError:
            if len(some) > 1:
                return step(some[: len(some) // 2]) | step(some[len(some) // 2 :])
            failed.add(some[0])
            return {some[0]: TokenDelta((), GenerationStatus.CANCELLED)}

    for one in starts:
        engine.add(one)
    for _ in range(500):
        if not active:
            return list(tokens.values()), failed
        named = [key for key in active if pauses is None or pauses.random() > 1 / 3]
        for request_id, delta in step(named).items():
            tokens[request_id] += delta.tokens
            if delta.status.is_done:
                active.remove(request_id)
                engine.release(request_id)
    raise AssertionError(f"no end: {len(active)} sequences are still active")


@pytest.mark.parametrize("place", range(5))
def test_halving_finds_the_one_at_fault_though_it_fails_a_step_later(place: int, poisoned: Engine) -> None:
    starts = [start(text[:20], max_new_tokens=6) for text in prompts(4, 40)]
    expected = [generate(poisoned, [again(one)])[0] for one in starts]
    assert POISON not in {token for tokens in expected for token in tokens} | {t for s in starts for t in s.prompt}
    bad = start([5, POISON, 7], max_new_tokens=6)
    starts.insert(place, bad)
    expected.insert(place, ())
    assert by_halving(poisoned, starts) == (expected, {bad.request_id})
    assert poisoned.free_blocks == 60


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6))
def test_amid_pauses_and_failures_the_others_say_the_same(seed: int, poisoned: Engine) -> None:
    source = random.Random(seed)
    starts = []
    for text in prompts(source.randint(2, 7), 20, seed):
        params: Params = {"max_new_tokens": source.randint(5, 12), **source.choice(MIXED)}
        starts.append(start([t for t in text if t < POISON] + [5], allowed_token_ids=tuple(range(POISON)), **params))
    expected = [generate(poisoned, [again(one)])[0] for one in starts]
    for _ in range(source.randint(1, 2)):
        place = source.randint(0, len(starts))
        starts.insert(place, start([5, POISON, *[7] * source.randint(0, 90)], **source.choice(MIXED)))
        expected.insert(place, ())
    bad = {one.request_id for one in starts if POISON in one.prompt}
    assert by_halving(poisoned, starts, pauses=source) == (expected, bad)
    assert poisoned.free_blocks == 60


def test_a_row_of_nan_draws_an_id_that_the_next_step_can_look_up(poisoned: Engine) -> None:
    params: list[Params] = [{"top_k": 0}, {"top_k": 5}, {"top_p": 0.9}, {"temperature": 0.7}, {"min_p": 0.1}]
    for kind in params:
        bad = start([5, POISON, 7], **{"temperature": 1.0, **kind})
        poisoned.add(bad)
        poisoned.step([bad.request_id])
        with pytest.raises(SequenceError):
            poisoned.step([bad.request_id])
        poisoned.release(bad.request_id)


def test_what_fails_after_its_sequence_has_gone_fails_nobody(poisoned: Engine) -> None:
    good, bad = start([5, 6, 7], max_new_tokens=6), start([5, POISON, 7], max_new_tokens=6)
    expected = generate(poisoned, [again(good)])[0]
    for gone in (True, False):  # released, or paused
        one, other = again(good), again(bad)
        poisoned.add(one)
        poisoned.add(other)
        poisoned.step([one.request_id, other.request_id])
        if gone:
            poisoned.release(other.request_id)
        tokens: tuple[int, ...] = ()
        while len(tokens) < 6:
            tokens += poisoned.step([one.request_id]).get(one.request_id, TokenDelta()).tokens
        assert tokens == expected
        poisoned.release(one.request_id)
        poisoned.release(other.request_id)


def test_an_unknown_id_loses_no_token_that_is_under_way(llama: LoadedModel) -> None:
    engine = Engine(llama, EngineConfig(overlap=True))
    sequence = start([5, 6, 7], max_new_tokens=4, repetition_penalty=1.1)  # each step waits for the one before
    expected = generate(engine, [again(sequence)])[0]
    engine.add(sequence)
    tokens: tuple[int, ...] = ()
    while len(tokens) < 4:
        with pytest.raises(KeyError, match="was not added"):
            engine.step([sequence.request_id, RequestID()])
        tokens += engine.step([sequence.request_id]).get(sequence.request_id, TokenDelta()).tokens
    assert tokens == expected


def test_scores_of_a_prompt_are_told_whole_though_its_memory_was_taken_before_they_were_read(
    llama: LoadedModel,
) -> None:
    config = EngineConfig(max_batch=2, token_budget=9, block_size=4, num_blocks=8)
    scored, urgent = start([*range(3, 21)], max_new_tokens=3, prompt_logprobs=1), start([7] * 17, max_new_tokens=2)
    reports = []
    for overlap in (False, True):
        for before in (1, 2, 3):  # after so many steps somebody of higher priority takes its memory
            engine = Engine(llama, replace(config, overlap=overlap))
            one, other = again(scored), replace(again(urgent), priority=1)
            engine.add(one)
            active = [one.request_id]
            said = [engine.step(active).get(one.request_id, TokenDelta()) for _ in range(before)]
            engine.add(other)
            active.append(other.request_id)
            while active:
                for request_id, delta in engine.step(active).items():
                    if request_id == one.request_id:
                        said.append(delta)
                    if delta.status.is_done:
                        active.remove(request_id)
            reports += [delta.prompt.log_probabilities for delta in said if delta.prompt is not None]
            assert sum(len(delta.tokens) for delta in said) == 3
    assert len(reports) == 6
    assert reports[0] is not None
    assert len(reports[0].token_log_probabilities) == 17
    assert all(report == reports[0] for report in reports)


class Plain:
    """A recorder that records nothing: the work is done anew at each call."""

    def record(self, work: Work) -> Work:
        return work


@pytest.mark.parametrize("window", [None, 9])
def test_a_recorded_shape_computes_what_the_step_computes(
    window: int | None, checkpoint: Callable[[str], Path]
) -> None:
    model = load(checkpoint("llama" if window is None else "mistral-window"))
    decoder = fused_decoder(model.module)
    assert decoder is not None
    pool = BlockPool(40, 5)
    cache = KVCache(KVShape(2, 2, 16, torch.float32), 40, 4, CPU)
    masks = BlockMasks(4, torch.float32, CPU)
    cache._store.copy_(torch.randn(cache._store.shape, generator=torch.Generator().manual_seed(1)))
    graphs = DecodeGraphs(decoder, cache, masks, 5, pool.lane_size, Plain())
    graphs.record_all()
    chunks = []
    for length in (3, 17, 9):
        sequence = Sequence(start([5] * length), 40)
        sequence.blocks = pool.allocate(-(-length // 4))
        sequence.computed = length - 1
        chunks.append(Chunk.next(sequence, 1))
    ids, positions = torch.tensor([7, 8, VOCAB - 1]), torch.tensor([chunk.first for chunk in chunks])
    slots = torch.tensor([c.sequence.blocks[c.first // 4] * 4 + c.first % 4 for c in chunks])
    groups = [
        Group(i, i + 1, cache.lanes(Lanes(c.sequence.blocks[0], 0, 1, len(c.sequence.blocks))),
              Span((c.first,), 1, len(c.sequence.blocks) * 4))
        for i, c in enumerate(chunks)
    ]  # fmt: skip
    with torch.inference_mode():
        expected = decoder(ids, positions, AttentionStep(cache, masks, slots, groups), None)
    found = graphs.replay(ids, positions, slots, chunks)
    assert found is not None
    torch.testing.assert_close(found, expected)
    chunks[0].sequence.blocks = [1]
    assert graphs.replay(ids, positions, slots, chunks) is None  # no lane begins there


def recording(model: LoadedModel, config: EngineConfig) -> Engine:
    """An engine that replays decode steps, as one on a GPU does."""
    engine = Engine(model, config)
    pool, runner = engine._scheduler.pool, engine._runner
    runner._least_rows = 1  # only a float32 CPU pads
    runner.record_decode(Plain(), min(config.max_batch, pool.total), pool.lane_size)
    return engine


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("budget", [3, 4, 16])
def test_an_engine_that_replays_says_the_same(budget: int, overlap: bool, llama: LoadedModel) -> None:
    """Also where a step has one token of a prompt, whose scores nobody wants: no other one's are taken for them."""
    config = EngineConfig(max_batch=3, token_budget=budget, block_size=4, num_blocks=60)
    starts = [start(text, max_new_tokens=9 + i, prompt_logprobs=0 if i % 3 else None) for i, text in
              enumerate(prompts(6, 20))]  # fmt: skip
    join = {i: 4 * i for i in range(6)}
    said = run(Engine(llama, config), starts, join)
    replayed = run(recording(llama, replace(config, overlap=overlap)), [again(one) for one in starts], join)
    for expected, found in zip(said, replayed, strict=True):
        assert [t for delta in found for t in delta.tokens] == [t for delta in expected for t in delta.tokens]
        scores, others = ([d.prompt.log_probabilities for d in deltas if d.prompt] for deltas in (expected, found))
        assert [one is None for one in scores] == [one is None for one in others]
        if scores[0] is not None and others[0] is not None:
            assert others[0].token_log_probabilities == pytest.approx(scores[0].token_log_probabilities, abs=1e-4)


@pytest.mark.parametrize("end", ["fails", "is released while it fails", "is released in its prompt"])
def test_nan_that_another_left_in_a_lane_fails_nobody(end: str, checkpoint: Callable[[str], Path]) -> None:
    """A recorded step reads a lane to its end, where 0 × NaN would still be NaN."""
    model = load(checkpoint("llama"))
    engine = recording(model, EngineConfig(max_batch=2, token_budget=16, block_size=4, num_blocks=40, overlap=True))
    good = [start([5, 6, 7], max_new_tokens=6), start([8, 9], max_new_tokens=6)]
    expected = generate(engine, [again(one) for one in good])
    model.module.get_input_embeddings().get_parameter("weight").data[POISON] = torch.nan
    bad = start([9] * 10 + [POISON] + [8] * (20 if end.endswith("prompt") else 4))
    engine.add(bad)
    engine.step([bad.request_id])
    if end == "fails":
        with pytest.raises(SequenceError):
            engine.step([bad.request_id])
    engine.release(bad.request_id)
    strangers = [replace(again(one), cache_salt="shares no prefix") for one in good]
    assert generate(engine, strangers) == expected


def test_quantised_bytes_in_a_lane_fail_nobody(llama: LoadedModel) -> None:
    """As numbers many of them are NaN, and a recorded step reads a lane to its end."""
    config = EngineConfig(max_batch=3, token_budget=64, block_size=4, num_blocks=60)
    quantised = [start(text * 20, max_new_tokens=9, kv_bits=8, quantized_kv_start=0) for text in ([5, 6, 7], [8, 9])]
    plain = [start(text, max_new_tokens=9) for text in prompts(4, 20)]
    expected = generate(Engine(llama, config), [*quantised, *plain])
    engine = recording(llama, config)
    mixed = generate(engine, [again(one) for one in (*quantised, *plain)])
    assert mixed == expected
    assert generate(engine, [again(one) for one in plain]) == expected[2:]


def test_what_a_recording_reads_outlives_a_longer_text(tmp_path: Path) -> None:
    model = load(save_checkpoint(tmp_path, "llama", max_position_embeddings=4096))
    engine = recording(model, EngineConfig(max_batch=2, num_blocks=40))
    decoder = fused_decoder(model.module)
    assert decoder is not None
    read = weakref.ref(decoder._rotary._tables[-1])
    generate(engine, [start([5] * 1100, max_new_tokens=2)])
    gc.collect()
    assert read() is not None


def test_doubling() -> None:
    assert [doubling(1, 1), doubling(1, 6), doubling(8, 32), doubling(9, 4)] == [[1], [1, 2, 4, 6], [8, 16, 32], [4]]
