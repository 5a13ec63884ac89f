"""Memory and turns: who waits, who is thrown out, and that all finish."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from max_engines.blocks import BlockPool, OutOfBlocks
from max_engines.engine import Engine, EngineConfig
from max_engines.loading import LoadedModel
from max_interfaces.identity import RequestID
from tests.engines.tiny_models import again, generate, prompts, start


def test_blocks_of_one_owner_lie_side_by_side_with_room_to_grow() -> None:
    pool = BlockPool(64)
    first, second = pool.allocate(3), pool.allocate(3)
    assert first == [0, 1, 2]
    assert second == list(range(second[0], second[0] + 3))
    assert pool.allocate(2, after=first[-1]) == [3, 4]
    assert pool.allocate(1, after=second[-1]) == [second[-1] + 1]
    assert pool.free == 64 - 9
    pool.release(first)
    assert pool.free == 64 - 6
    with pytest.raises(OutOfBlocks, match="60 blocks wanted, 58 of 64 free"):
        pool.allocate(60)
    assert pool.free == 58
    with pytest.raises(RuntimeError, match="was free"):
        pool.release([0])


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 6)), max_size=60))
def test_no_block_has_two_owners(actions: list[tuple[int, int]]) -> None:
    pool = BlockPool(16)
    owned: dict[int, list[int]] = {}
    for owner, count in actions:
        blocks = owned.setdefault(owner, [])
        if count == 6:
            pool.release(owned.pop(owner))
        elif count <= pool.free:
            blocks.extend(pool.allocate(count, after=blocks[-1] if blocks else None))
        taken = [block for blocks in owned.values() for block in blocks]
        assert len(taken) == len(set(taken)) == pool.total - pool.free


def test_when_memory_runs_out_the_youngest_gives_way_and_all_finish(llama: LoadedModel) -> None:
    starts = [start(text, seed=i, temperature=1.0, max_new_tokens=50) for i, text in enumerate(prompts(6, 20))]
    expected = generate(Engine(llama), [again(s) for s in starts])
    tight = Engine(llama, EngineConfig(max_batch=6, token_budget=24, block_size=4, num_blocks=40))
    for sequence in starts:
        tight.add(sequence)
    tokens: dict[RequestID, tuple[int, ...]] = {s.request_id: () for s in starts}
    active = list(tokens)
    finished: list[RequestID] = []
    waited = False
    speaking: RequestID | None = None  # the oldest, once it has spoken as such
    while active:
        deltas = tight.step(active)
        oldest = active[0]
        assert oldest in deltas
        assert deltas[oldest].tokens or speaking != oldest  # it is never made to wait
        if deltas[oldest].tokens:
            speaking = oldest
        waited |= len(deltas) < len(active)
        for request_id, delta in deltas.items():
            tokens[request_id] += delta.tokens
            if delta.status.is_done:
                active.remove(request_id)
                finished.append(request_id)
    assert waited
    assert [tokens[s.request_id] for s in starts] == expected
    assert tight.free_blocks == 40


def test_a_paused_sequence_gives_up_its_memory_before_an_active_one(llama: LoadedModel) -> None:
    engine = Engine(llama, EngineConfig(max_batch=4, token_budget=16, block_size=4, num_blocks=16))
    old, young = (start(text, max_new_tokens=30) for text in prompts(2, 20, seed=3))
    expected = generate(engine, [again(old)]) + generate(engine, [again(young)])
    engine.add(old)
    engine.add(young)
    first: list[int] = []
    for _ in range(6):
        first.extend(engine.step([old.request_id])[old.request_id].tokens)
    assert first
    second: list[int] = []
    while len(second) < 30:
        second.extend(engine.step([young.request_id])[young.request_id].tokens)
    while len(first) < 30:
        first.extend(engine.step([old.request_id])[old.request_id].tokens)
    assert [tuple(first), tuple(second)] == expected


def test_a_prompt_is_computed_in_chunks_while_others_speak(llama: LoadedModel) -> None:
    engine = Engine(llama, EngineConfig(max_batch=4, token_budget=8, block_size=4))
    talker, reader = start([5], max_new_tokens=20), start([7] * 50, max_new_tokens=2)
    engine.add(talker)
    engine.step([talker.request_id])
    engine.add(reader)
    both = [talker.request_id, reader.request_id]
    for _ in range(7):  # 7 tokens of the budget of 8 go to the prompt
        deltas = engine.step(both)
        assert len(deltas[talker.request_id].tokens) == 1
        assert deltas[reader.request_id].tokens == ()
    assert len(engine.step(both)[reader.request_id].tokens) == 1


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6))
def test_random_adds_pauses_and_releases_leak_nothing_and_change_no_token(seed: int, llama: LoadedModel) -> None:
    source = random.Random(seed)
    engine = Engine(llama, EngineConfig(max_batch=3, token_budget=9, block_size=4, num_blocks=14))
    starts = [start(text, seed=i, temperature=i % 2, max_new_tokens=source.randint(1, 20)) for i, text in
              enumerate(prompts(6, 30, seed))]  # fmt: skip
    tokens: dict[RequestID, tuple[int, ...]] = {}
    done: set[RequestID] = set()
    waiting = list(starts)
    while waiting or tokens.keys() - done:
        if waiting and source.random() < 0.4:
            tokens[waiting[-1].request_id] = ()
            engine.add(waiting.pop())
        live = sorted(tokens.keys() - done)
        for request_id, delta in engine.step([i for i in live if source.random() < 0.8]).items():
            tokens[request_id] += delta.tokens
            if delta.status.is_done or source.random() < 0.02:
                engine.release(request_id)
                done.add(request_id)
    assert engine.free_blocks == 14
    for sequence in starts:
        said = tokens[sequence.request_id]
        assert generate(engine, [again(sequence)])[0][: len(said)] == said
