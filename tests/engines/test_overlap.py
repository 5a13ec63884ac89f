"""The overlapped step says what the plain one says, each token a step later; and so do recorded decode steps."""

from __future__ import annotations

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
from tests.engines.tiny_models import VOCAB, Params, again, generate, load, prompts, start

CPU = torch.device("cpu")
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


def test_a_failure_is_found_a_step_later_and_undoes_both(
    checkpoint: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(load(checkpoint("llama")), EngineConfig(overlap=True))
    sequences = [start(text, max_new_tokens=6) for text in prompts(2)]
    expected = generate(engine, [again(s) for s in sequences])
    for sequence in sequences:
        engine.add(sequence)
    active = {s.request_id for s in sequences}
    tokens: dict[object, tuple[int, ...]] = {s.request_id: () for s in sequences}
    sample, steps = engine._sampler.sample, 0

    @torch.inference_mode()
    def poisoned(logits: torch.Tensor, rows: list[object]) -> object:
        nonlocal steps
        steps += 1
        if steps == 3:
            logits[0] = torch.nan
        return sample(logits, rows)  # type: ignore[arg-type]

    monkeypatch.setattr(engine._sampler, "sample", poisoned)
    failures = 0
    while active:
        try:
            deltas = engine.step(active)
        except SequenceError:
            failures += 1
            continue
        for request_id, delta in deltas.items():
            tokens[request_id] += delta.tokens
            if delta.status.is_done:
                active.discard(request_id)
    assert failures == 1
    assert [tokens[s.request_id] for s in sequences] == expected


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


def test_doubling() -> None:
    assert [doubling(1, 1), doubling(1, 6), doubling(8, 32), doubling(9, 4)] == [[1], [1, 2, 4, 6], [8, 16, 32], [4]]
