"""Memory and turns: who waits, who is thrown out, and that all finish."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TypeAlias

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from max_engines.config import EngineConfig
from max_engines.engine import Engine
from max_engines.loading import LoadedModel
from max_engines.sequence import Sequence
from max_interfaces.identity import RequestID
from max_interfaces.protocols import SequenceStart
from tests.engines.tiny_models import Params, again, generate, prompts, start
from tests.engines.written_memory import WrittenMemory, said


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


def sized(
    prompt: int,
    new: int,
    priority: int = 0,
    token: int = 5,
    kv_bits: int | None = None,
    max_kv_size: int | None = None,
    quantized_kv_start: int = 0,
) -> SequenceStart:
    kept: Params = {"kv_bits": kv_bits, "max_kv_size": max_kv_size, "quantized_kv_start": quantized_kv_start}
    return replace(start([token] * prompt, max_new_tokens=new, **kept), priority=priority)


def test_a_higher_priority_enters_first_and_throws_out_a_lower_one_but_no_equal() -> None:
    memory = WrittenMemory(12, max_batch=2, token_budget=16)
    low, equal, high = (memory.add(sized(8, 9, priority, 3 + i)) for i, priority in enumerate((0, 1, 1)))
    everyone = [s.request_id for s in (low, equal, high)]
    assert [chunk.sequence for chunk in memory.step(everyone)] == [equal, high]
    memory.run([equal, high])
    memory.step(everyone)
    assert low.running
    highest = [memory.add(sized(8, 9, 2, 9 + i)) for i in range(2)]
    late = memory.add(sized(8, 9, 2, 20))
    everyone = [s.request_id for s in (low, *highest, late)]
    assert {chunk.sequence for chunk in memory.step(everyone)} == {*highest}
    assert not low.running
    memory.run([low, *highest, late])
    assert tuple(low.row.output) == said(sized(8, 9, 0, 3))


def test_nobody_is_thrown_out_in_vain() -> None:
    memory = WrittenMemory(10, token_budget=40)
    equal, low = memory.add(sized(20, 9, 1, 3)), memory.add(sized(4, 9, 0, 4))
    memory.step([equal.request_id, low.request_id])
    large = memory.add(sized(30, 2, 1, 5))  # would not fit if `low` went
    for _ in range(3):
        memory.step([equal.request_id, low.request_id, large.request_id])
        assert low.running
    memory.run([equal, low, large])


def test_the_budget_goes_to_speakers_then_by_rank() -> None:
    memory = WrittenMemory(100, token_budget=10)
    speaker = memory.add(sized(2, 9, -5, 3))
    memory.step([speaker.request_id])
    later, first, second = (memory.add(sized(7, 3, priority, 4 + i)) for i, priority in enumerate((-1, 3, 3)))
    chunks = memory.step([s.request_id for s in (second, later, first, speaker)])
    assert [(chunk.sequence, chunk.count) for chunk in chunks] == [(speaker, 1), (first, 7), (second, 2)]


def test_a_waiting_sequence_stops_only_those_that_wait_behind_it() -> None:
    memory = WrittenMemory(8, token_budget=6)
    old, young = memory.add(sized(17, 9, 0, 3)), memory.add(sized(17, 9, 0, 4))
    memory.step([young.request_id])
    memory.step([old.request_id, young.request_id])
    assert young.computed == 12
    memory.run([old, young])


RANDOM_SEQUENCE = st.tuples(
    st.integers(1, 24), st.integers(1, 12), st.integers(-1, 2), st.integers(3, 6),
    st.sampled_from([None, None, 4, 8]), st.sampled_from([None, None, 16]), st.sampled_from([0, 12, 25]),
)  # fmt: skip
RandomSequence: TypeAlias = tuple[int, int, int, int, int | None, int | None, int]


@settings(max_examples=100, deadline=None)
@given(st.lists(RANDOM_SEQUENCE, min_size=2, max_size=9), st.integers(9, 24), st.randoms(use_true_random=False))
def test_there_is_always_progress_and_an_end(
    sequences: list[RandomSequence], blocks: int, source: random.Random
) -> None:
    """With any priorities and little memory, while sequences come, pause, fail and go."""
    memory = WrittenMemory(blocks, max_batch=3, token_budget=5)
    waiting = {one.request_id: one for one in (sized(*sequence) for sequence in sequences)}
    live: dict[RequestID, SequenceStart] = {}
    while waiting or live:
        if waiting and (not live or source.random() < 0.3):
            request_id, one = waiting.popitem()
            live[request_id] = one
            memory.add(one)
        active = [memory.scheduler.sequences[request_id] for request_id in live if source.random() < 0.8]
        had_memory = [s for s in active if s.running]
        fails = source.random() < 0.1
        moved = [chunk.sequence for chunk in memory.step([s.request_id for s in active], fails)]
        if active and not fails:
            check_turns(active, had_memory, moved)
        for request_id, one in list(live.items()):
            sequence = memory.scheduler.sequences[request_id]
            if sequence.status.is_done or source.random() < 0.01:
                assert not sequence.status.is_done or tuple(sequence.row.output) == said(one)
                memory.scheduler.release(request_id)
                del live[request_id]
        assert memory.scheduler.audit() == []
    assert memory.scheduler.pool.free == blocks


def check_turns(active: list[Sequence], had_memory: list[Sequence], moved: list[Sequence]) -> None:
    """Whose turn it must have been in a step."""
    assert moved
    leader = min(active, key=lambda s: s.rank)
    if all(s.priority < leader.priority for s in active if s is not leader):
        assert leader in moved
    if had_memory:
        assert min(had_memory, key=lambda s: s.rank) in moved or leader in moved


@settings(max_examples=40, deadline=None)
@given(st.lists(RANDOM_SEQUENCE, min_size=2, max_size=9), st.integers(9, 24))
def test_a_step_ahead_of_what_is_known_everyone_says_the_same(sequences: list[RandomSequence], blocks: int) -> None:
    memory = WrittenMemory(blocks, max_batch=3, token_budget=5, overlap=True)
    starts = [sized(*sequence) for sequence in sequences]
    added = [memory.add(one) for one in starts]
    memory.run(added)
    assert [tuple(sequence.row.output) for sequence in added] == [said(one) for one in starts]
    assert memory.scheduler.audit() == []
    assert memory.scheduler.pool.free == blocks


def test_an_audit_mends_what_it_finds_and_all_go_on() -> None:
    memory = WrittenMemory(30, token_budget=60)
    starts = [sized(9, 6, token=3 + i) for i in range(6)]
    fine, intruder, twice, claimant, lost, misnamed = added = [memory.add(one) for one in starts]
    memory.step([s.request_id for s in added])
    assert memory.scheduler.audit() == []
    intruder.blocks.append(fine.blocks[1])  # where it would write
    twice.blocks[0] = twice.blocks[1]
    claimant.blocks[0] = fine.blocks[0]  # which holds other tokens
    lost.computed = 13
    prefixes = memory.scheduler.pool.prefixes
    key = prefixes.extend(prefixes.root(""), [90] * 4)
    prefixes.insert(key, misnamed.blocks[0])
    findings = " / ".join(memory.scheduler.audit())
    for sequence in added:
        assert (f"{sequence.request_id} has" in findings) == (sequence is not fine)
        assert sequence.running == (sequence is fine)
    assert prefixes.find(key) is None
    assert memory.scheduler.audit() == []
    memory.run(added)
    assert [tuple(s.row.output) for s in added] == [said(one) for one in starts]
    assert memory.scheduler.pool.free == 30


def test_an_idle_engine_mends_a_leak_and_says_so(llama: LoadedModel) -> None:
    engine = Engine(llama, EngineConfig(num_blocks=9))
    engine._scheduler.pool.allocate(2)  # no caller can do that: an error of ours
    assert engine.free_blocks == 7
    with pytest.warns(UserWarning, match="3 things .* have been mended: block 0 has 1 references and 0 owners"):
        generate(engine, [start([5, 6, 7], max_new_tokens=3)])
    assert engine.free_blocks == 9
    generate(engine, [start([5, 6, 7], max_new_tokens=3)])
