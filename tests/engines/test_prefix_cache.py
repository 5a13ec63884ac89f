"""A beginning that several sequences share is computed once, and each still says what it would have said alone."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from max_engines.config import EngineConfig
from max_engines.engine import Engine
from max_engines.loading import LoadedModel
from max_interfaces.identity import RequestID
from max_interfaces.protocols import SequenceStart
from max_interfaces.status import GenerationStatus
from tests.engines.tiny_models import start
from tests.engines.written_memory import WrittenMemory, said


def text(count: int, seed: int) -> list[int]:
    source = random.Random(seed)
    return [source.randrange(3, 97) for _ in range(count)]


def check(memory: WrittenMemory, starts: list[SequenceStart]) -> None:
    """Run all sequences to their ends, and compare with what each says alone."""
    sequences = [memory.add(one) for one in starts]
    memory.run(sequences)
    for one, sequence in zip(starts, sequences, strict=True):
        assert tuple(sequence.row.output) == said(one)
        memory.scheduler.release(one.request_id)
    assert memory.scheduler.audit() == []
    assert memory.scheduler.pool.free == memory.scheduler.pool.total


def test_of_32_that_arrive_together_one_computes_their_prefix() -> None:
    memory = WrittenMemory(32 * 18, block_size=32, max_batch=32, token_budget=128)
    shared = text(512, 0)
    check(memory, [start(shared + text(20 + i, i + 1), max_new_tokens=1) for i in range(32)])
    assert memory.computed == 512 + sum(20 + i for i in range(32))


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 30, 32])
def test_children_of_one_prompt_compute_one_token_of_it_each(length: int) -> None:
    memory = WrittenMemory(100)
    parent = start(text(length, 0), max_new_tokens=9)
    check(memory, [parent, *(replace(parent, request_id=RequestID()) for _ in range(7))])
    assert memory.computed == length + 7 + 8 * 8


def test_a_prompt_is_found_again_with_all_that_was_said_after_it() -> None:
    memory = WrittenMemory(100)
    first = start(text(21, 0), max_new_tokens=10)
    check(memory, [first])
    for again, cached, computed in (
        (start([*first.prompt, *said(first), *text(5, 1)], max_new_tokens=3), 28, 36),  # 30 were computed: whole blocks
        (replace(first, request_id=RequestID(), accepted=said(first)[:6]), 21, 27),
        (replace(first, request_id=RequestID()), 20, 21),  # one token is computed, for its scores
    ):
        sequence = memory.add(again)
        memory.step([again.request_id])
        assert (sequence.cached_tokens, sequence.computed) == (cached, computed)


@pytest.mark.parametrize("shared", [0, 1, 3, 4, 5, 8, 20, 21, 1000])
def test_of_a_text_that_is_said_once_its_beginning_alone_is_found(shared: int) -> None:
    memory = WrittenMemory(100)
    first = replace(start(text(21, 0), max_new_tokens=10), shared_prefix=shared)
    check(memory, [first])
    for common in (shared, None):
        again = replace(first, request_id=RequestID(), shared_prefix=common)
        sequence = memory.add(again)
        memory.step([again.request_id])
        assert (sequence.cached_tokens, sequence.computed) == (min(shared, 21) // 4 * 4, 21)
        memory.scheduler.release(again.request_id)


@pytest.mark.parametrize("shared", [0, 4, 5])
def test_who_shares_a_beginning_looks_for_no_more_than_that(shared: int) -> None:
    memory = WrittenMemory(100)
    first = start(text(21, 0), max_new_tokens=10)
    check(memory, [first])
    again = replace(first, request_id=RequestID(), shared_prefix=shared)
    sequence = memory.add(again)
    memory.step([again.request_id])
    assert (sequence.cached_tokens, sequence.computed) == (shared // 4 * 4, 21)


def test_texts_that_are_said_once_lie_where_the_last_one_lay() -> None:
    memory = WrittenMemory(160, max_batch=8)
    places = set()
    for seed in range(12):
        one = replace(start(text(21, seed), max_new_tokens=10), shared_prefix=0)
        sequence = memory.add(one)
        memory.step([one.request_id])
        places.add(sequence.blocks[0])
        memory.run([sequence])
        memory.scheduler.release(one.request_id)
    assert len(places) == 1
    assert not memory.scheduler.pool.prefixes.blocks()


@pytest.mark.parametrize("length", [20, 21, 23])
def test_a_text_lies_beside_its_sample(length: int) -> None:
    memory = WrittenMemory(160, max_batch=8)
    sample = text(length, 99)
    for seed in range(5):
        one = replace(start([*sample, *text(9, seed)], max_new_tokens=9), shared_prefix=length)
        sequence = memory.add(one)
        while not sequence.status.is_done:
            memory.step([one.request_id])
            assert sequence.side_by_side == len(sequence.blocks)
        assert sequence.cached_tokens == (20 if seed else 0)
        memory.scheduler.release(one.request_id)


def test_a_sample_outlives_any_number_of_texts_that_are_said_once() -> None:
    memory = WrittenMemory(160, max_batch=8)
    sample = text(20, 99)
    check(memory, [replace(start([*sample, *text(9, 0)], max_new_tokens=9), shared_prefix=20)])
    for seed in range(100):
        check(memory, [replace(start(text(40, seed), max_new_tokens=9), shared_prefix=0)])
    later = replace(start([*sample, *text(9, 1)], max_new_tokens=9), shared_prefix=20)
    sequence = memory.add(later)
    memory.step([later.request_id])
    assert sequence.cached_tokens == 20


def test_other_salts_and_other_beginnings_share_nothing() -> None:
    memory = WrittenMemory(100)
    first = start(text(20, 0), max_new_tokens=2)
    check(memory, [first])
    salted = replace(first, request_id=RequestID(), cache_salt="b")
    different = start([5, *text(19, 0)], max_new_tokens=2)
    for other in (salted, different):
        sequence = memory.add(other)
        memory.step([other.request_id])
        assert (sequence.cached_tokens, sequence.computed) == (0, 20)
    for known in (first, salted):
        again = memory.fork(known)
        memory.step([again.request_id])
        assert again.cached_tokens == 19


def test_a_sequence_whose_prompt_is_scored_computes_all_of_it_and_helps_others() -> None:
    memory = WrittenMemory(100)
    scored = start(text(20, 0), max_new_tokens=1, prompt_logprobs=0)
    check(memory, [scored])
    assert memory.computed == 20
    check(memory, [replace(scored, request_id=RequestID())])
    assert memory.computed == 40
    sequences = [memory.fork(scored), memory.add(start(scored.prompt, max_new_tokens=1))]
    chunks = memory.step([s.request_id for s in sequences])
    assert [chunk.scored for chunk in chunks if chunk.sequence is sequences[0]] == [19]
    assert [s.cached_tokens for s in sequences] == [0, 19]


def test_a_step_that_fails_leaves_nothing_to_be_found() -> None:
    memory = WrittenMemory(100, token_budget=8)
    poison, neighbour = (memory.add(start(text(16, 0), max_new_tokens=2)) for _ in range(2))
    both = [poison.request_id, neighbour.request_id]
    for _ in range(3):
        memory.step(both, fails=True)
    assert (poison.computed, neighbour.computed) == (0, 0)
    memory.step([neighbour.request_id])  # whose owner is left out, so it waits no longer
    assert (neighbour.computed, neighbour.cached_tokens) == (8, 0)
    memory.scheduler.release(poison.request_id)
    memory.run([neighbour])
    assert memory.computed == 17


@pytest.mark.parametrize("ending", ["paused", "cancelled", "thrown out"])
def test_who_waits_for_a_prefix_goes_on_without_its_owner(ending: str) -> None:
    memory = WrittenMemory(12, token_budget=8)
    owner, heir = (memory.add(start(text(24, 0) + text(2, i), max_new_tokens=2)) for i in (1, 2))
    active = {owner.request_id, heir.request_id}
    for _ in range(2):
        assert [chunk.sequence for chunk in memory.step(active)] == [owner]
    if ending == "paused":
        active.remove(owner.request_id)
    elif ending == "cancelled":
        active.remove(owner.request_id)
        memory.scheduler.release(owner.request_id)
    else:
        urgent = memory.add(replace(start(text(30, 7), max_new_tokens=2), priority=1))
        memory.step({*active, urgent.request_id})
        assert not owner.running
        memory.run([urgent])
    memory.step(active)
    memory.run([heir])
    assert heir.cached_tokens in ((16,) if ending != "thrown out" else (0, 24))


def test_who_waits_for_a_prefix_lets_others_pass() -> None:
    memory = WrittenMemory(100, token_budget=12)
    owner, heir, other = (
        memory.add(start(prompt, max_new_tokens=2)) for prompt in (text(10, 0), [*text(10, 0), 5], text(8, 1))
    )
    everyone = [s.request_id for s in (owner, heir, other)]
    assert {c.sequence: c.count for c in memory.step(everyone)} == {owner: 10, other: 2}
    assert {c.sequence: c.count for c in memory.step(everyone)} == {owner: 1, heir: 3, other: 6}


def test_one_of_higher_priority_does_not_wait_for_a_lower_one() -> None:
    memory = WrittenMemory(100, token_budget=8)
    low = memory.add(start(text(24, 0), max_new_tokens=2))
    memory.step([low.request_id])
    high = memory.add(replace(start(text(24, 0), max_new_tokens=2), priority=1))
    assert [c.sequence for c in memory.step([low.request_id, high.request_id])] == [high]
    assert high.cached_tokens == 8


def test_what_it_would_copy_does_not_stand_in_its_own_way() -> None:
    memory = WrittenMemory(3)
    whole = start(text(10, 0), max_new_tokens=2)
    check(memory, [whole])
    check(
        memory, [replace(whole, request_id=RequestID())]
    )  # needs all three blocks; the last would be the copy's source
    assert memory.computed == 11 + 3


SHARING = st.tuples(
    st.integers(0, 2), st.integers(0, 14), st.integers(1, 9), st.integers(1, 8), st.none() | st.integers(0, 16)
)


@settings(max_examples=150, deadline=None)
@given(st.lists(SHARING, min_size=1, max_size=9), st.sampled_from([2, 4, 8]), st.integers(8, 40))
def test_whatever_is_shared_everyone_says_what_it_says_alone(
    sequences: list[tuple[int, int, int, int, int | None]], block_size: int, blocks: int
) -> None:
    memory = WrittenMemory(blocks, block_size, max_batch=4, token_budget=7)
    starts = [
        replace(
            start((text(14, root)[:shared] + text(own, own))[: blocks * block_size - new], max_new_tokens=new),
            shared_prefix=findable,
        )
        for root, shared, own, new, findable in sequences
    ]
    check(memory, starts)


def test_without_a_prefix_cache_nothing_is_kept(llama: LoadedModel) -> None:
    engine = Engine(llama, EngineConfig(block_size=8, prefix_caching=False))
    one = start(text(21, 0), max_new_tokens=3)
    engine.add(one)
    while not engine.step([one.request_id])[one.request_id].status.is_done:
        assert not engine._scheduler.pool.prefixes.blocks()
    engine.release(one.request_id)
    assert not engine._scheduler.pool.prefixes.blocks()


def test_the_engine_reports_cached_tokens_once_with_the_first_token(llama: LoadedModel) -> None:
    engine = Engine(llama, EngineConfig(block_size=8))
    for expected in (0, 20):
        again = start(text(21, 0), max_new_tokens=3)
        engine.add(again)
        reports = []
        status = GenerationStatus.ACTIVE
        while not status.is_done:
            delta = engine.step([again.request_id])[again.request_id]
            status = delta.status
            if delta.prompt is not None:
                reports.append((len(delta.tokens), delta.prompt.cached_tokens))
        engine.release(again.request_id)
        assert reports == [(1, expected)]
