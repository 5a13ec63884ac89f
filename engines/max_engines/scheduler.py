"""Who runs in a step, with how many tokens, and who gets memory."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from max_interfaces.identity import RequestID

from .blocks import BlockPool
from .kv_cache import KVCache
from .sequence import Sequence


@dataclass(frozen=True, slots=True)
class Chunk:
    """The next `count` tokens of a sequence, to be computed in this step."""

    sequence: Sequence
    count: int

    @property
    def first(self) -> int:
        """Position of the first of them."""
        return self.sequence.computed

    @property
    def last(self) -> int:
        """Position after the last of them."""
        return self.sequence.computed + self.count

    @property
    def samples(self) -> bool:
        """True if a new token can be sampled after it."""
        return self.count == self.sequence.wanted


class Scheduler:
    """Deals each step's token budget, and the blocks of the KV cache.

    Sequences that want one token come first, then prompts in chunks; among equals the one that was added first. A
    waiting sequence enters when its blocks fit; those behind it wait, too. When blocks run out, a paused sequence
    gives its up, or else the youngest; it computes them again later. A sequence that nobody younger can help waits.
    The oldest active one therefore always goes on, so that all finish.

    Scheduling moves memory but no token: a step that fails after it has lost nothing.
    """

    def __init__(self, cache: KVCache, pool: BlockPool, max_batch: int, token_budget: int) -> None:
        self.sequences: dict[RequestID, Sequence] = {}  # in the order they were added
        self.pool = pool
        self._cache = cache
        self._max_batch = max_batch
        self._token_budget = token_budget

    @property
    def capacity(self) -> int:
        """Tokens that fit in the memory."""
        return self.pool.total * self._cache.block_size

    def schedule(self, active: Collection[RequestID]) -> list[Chunk]:
        """What to compute in this step for the sequences named by `active`. KeyError for an unknown id."""
        named = set(active)
        unknown = named - self.sequences.keys()
        if unknown:
            raise KeyError(f"no sequence {min(unknown)}: it was not added, or has been released")
        ready = [s for s in self.sequences.values() if s.request_id in named and not s.status.is_done]
        chunks = [Chunk(s, 1) for s in ready if s.running and s.wanted == 1 and self._grow(s, ready)]
        budget = self._token_budget - len(chunks)
        for sequence in ready:
            if budget <= 0:
                break
            if sequence.running and sequence.wanted == 1:
                continue  # dealt with above
            if not sequence.running and not self._admit(sequence, ready):
                break  # those behind it would take what it waits for
            chunks.append(Chunk(sequence, min(budget, sequence.wanted)))
            budget -= chunks[-1].count
        return chunks

    def retire(self, sequence: Sequence) -> None:
        """Free the memory of a sequence that is done, and note that its end has been told."""
        self.pool.release(sequence.forget())
        sequence.reported = True

    def release(self, request_id: RequestID) -> None:
        """Forget a sequence and free its blocks."""
        sequence = self.sequences.pop(request_id, None)
        if sequence is not None:
            self.pool.release(sequence.forget())

    def _admit(self, sequence: Sequence, ready: Collection[Sequence]) -> bool:
        """Give a waiting sequence a place in the batch and blocks for all its tokens, if there is room."""
        needed = self._blocks(sequence.length)
        paused = [s for s in self._running() if s not in ready]
        others = [s for s in self._running() if s in ready]
        while paused and (len(paused) + len(others) >= self._max_batch or self.pool.free < needed):
            self.pool.release(paused.pop().forget())
        # One block per running sequence is left free: else it would be the first to be thrown out again.
        if len(paused) + len(others) >= self._max_batch or self.pool.free < needed + len(others):
            return False
        self._allocate(sequence, needed)
        return True

    def _grow(self, sequence: Sequence, ready: Collection[Sequence]) -> bool:
        """See that a running sequence has a block for its next token, at the expense of others if need be."""
        if not sequence.running:
            return False  # it was thrown out for another one in this very step
        missing = self._blocks(sequence.length) - len(sequence.blocks)
        while missing > self.pool.free:
            victim = self._victim(sequence, ready)
            if victim is None:
                return False
            self.pool.release(victim.forget())
        if missing:
            self._allocate(sequence, missing)
        return True

    def _victim(self, needy: Sequence, ready: Collection[Sequence]) -> Sequence | None:
        """The youngest paused sequence, or the youngest one after `needy`; None if there is neither."""
        running = list(self._running())
        paused = [s for s in running if s not in ready]
        younger = running[running.index(needy) + 1 :]
        candidates = paused or younger
        return candidates[-1] if candidates else None

    def _allocate(self, sequence: Sequence, count: int) -> None:
        blocks = self.pool.allocate(count, after=sequence.blocks[-1] if sequence.blocks else None)
        self._cache.clear(blocks)
        sequence.blocks.extend(blocks)

    def _running(self) -> Iterable[Sequence]:
        return (s for s in self.sequences.values() if s.running)

    def _blocks(self, tokens: int) -> int:
        return -(-tokens // self._cache.block_size)
