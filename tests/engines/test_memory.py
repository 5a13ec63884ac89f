"""10,000 random arrivals, cancels, preemptions and ends, amid pauses, forks and failures: all memory comes back."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest

from max_engines.sequence import Sequence
from max_interfaces.identity import RequestID
from max_interfaces.protocols import SequenceStart
from tests.engines.tiny_models import Params, start
from tests.engines.written_memory import WrittenMemory, said

EVENTS = 10_000  # of all tests together
FORMATS: list[Params] = [
    {},
    {},
    {},
    {"kv_bits": 8, "quantized_kv_start": 0},
    {"kv_bits": 4, "quantized_kv_start": 20},
    {"max_kv_size": 16},
    {"kv_bits": 8, "quantized_kv_start": 22, "max_kv_size": 18},
]


class Traffic:
    """Random callers of a scheduler; `events` counts what happened."""

    def __init__(self, memory: WrittenMemory, seed: int) -> None:
        self.memory = memory
        self.live: dict[RequestID, SequenceStart] = {}
        self.events: Counter[str] = Counter()
        self._source = random.Random(seed)
        self._openings = [[self._source.randrange(97) for _ in range(20)] for _ in range(4)]

    def turn(self, open_door: bool = True) -> None:
        """One step, and what callers do around it."""
        if open_door and len(self.live) < 14 and self._source.random() < 0.7:
            self._arrive()
        active = [request_id for request_id in self.live if self._happens("pauses", 0.1) is False]
        running = [s for s in self._sequences() if s.running]
        chunks = self.memory.step(active, fails=self._happens("failures", 0.03))
        self.events["preemptions"] += sum(not s.running and not s.status.is_done for s in running)
        self.events["chunks"] += len(chunks)
        self.events["quantised later"] += sum(s.kv_plan.switch is not None and s.switches is None for s in running)
        for sequence in self._sequences():  # also after a failure nothing before a switch is computed behind it
            assert sequence.switches is not None or sequence.computed >= (sequence.kv_plan.switch or 0)
        self.events["dropped"] += sum(s.dropped > 0 for s in running)
        self.events["reused"] += sum(s.cached_tokens > 0 for s in self._sequences())
        for sequence in self._sequences():
            if sequence.status.is_done:
                assert tuple(sequence.row.output) == said(self.live[sequence.request_id])
                self._leave(sequence.request_id, "finishes")
            elif self._happens("cancels", 0.02):
                self._leave(sequence.request_id, "cancelled")

    def _arrive(self) -> None:
        one = self._new()
        if self.live and self._happens("forks", 0.3):
            one = replace(self._source.choice(list(self.live.values())), request_id=RequestID())
        self.events["arrivals"] += 1
        self.live[one.request_id] = one
        self.memory.add(one)

    def _new(self) -> SequenceStart:
        source = self._source
        prompt = source.choice(self._openings)[: source.randint(0, 20)] + [source.randrange(97)] * source.randint(1, 4)
        scored = source.choice((None, None, None, 0))
        kept = source.choice(FORMATS)
        one = start(prompt, max_new_tokens=source.randint(0, 14), prompt_logprobs=scored, **kept)
        heard = said(one)[: source.choice((0, 0, 3))]
        return replace(one, accepted=heard, priority=source.randint(-1, 1), cache_salt=source.choice(("", "", "b")))

    def _leave(self, request_id: RequestID, how: str) -> None:
        self.events[how] += 1
        self.memory.scheduler.release(request_id)
        del self.live[request_id]

    def _sequences(self) -> list[Sequence]:
        return [self.memory.scheduler.sequences[request_id] for request_id in self.live]

    def _happens(self, what: str, share: float) -> bool:
        happens = self._source.random() < share
        self.events[what] += happens
        return happens


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize(("blocks", "max_batch", "token_budget"), [(14, 5, 11), (40, 8, 24)])
def test_free_blocks_at_the_end_are_those_at_the_start(
    blocks: int, max_batch: int, token_budget: int, overlap: bool
) -> None:
    memory = WrittenMemory(blocks, max_batch=max_batch, token_budget=token_budget, overlap=overlap)
    traffic = Traffic(memory, seed=blocks)
    counted = ("arrivals", "cancels", "preemptions", "finishes")
    turns = 0
    while sum(traffic.events[what] for what in counted) < EVENTS // 4:
        traffic.turn()
        turns += 1
        if turns % 50 == 0:
            assert memory.scheduler.audit() == []
    while traffic.live:
        traffic.turn(open_door=False)
    assert memory.scheduler.audit() == []
    assert memory.scheduler.pool.free == blocks
    assert (
        min(
            traffic.events[what]
            for what in (*counted, "pauses", "forks", "failures", "reused", "dropped", "quantised later")
        )
        >= 20
    )


@pytest.mark.parametrize("kept", FORMATS[3:])
def test_what_a_step_that_fails_has_written_is_zeroed(kept: Params) -> None:
    memory = WrittenMemory(20, token_budget=7)
    one = start(range(3, 43), max_new_tokens=9, **kept)
    sequence = memory.add(one)
    while not sequence.row.output:
        memory.step([one.request_id])
        memory.step([one.request_id], fails=True)
        size, first = sequence.block_size, sequence.computed
        for index in range(first // size, sequence.last_block):
            block = sequence.block(index)
            assert block is not None
            keys, _ = memory.cache.table([block], sequence.kv_format).layer(0)
            assert not keys[0, 0, max(0, first - index * size) :].any()
    memory.run([sequence])
    assert tuple(sequence.row.output) == said(one)
