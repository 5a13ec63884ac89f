"""The memory of sequences that are quantised on their way."""

from __future__ import annotations

from .blocks import BlockPool
from .kv_cache import KVCache
from .kv_format import PINNED
from .sequence import NEVER, Sequence


class Switching:
    """Quantises what a sequence has when its next token is the first of its later format.

    That takes place in its own blocks, a layer at a time: no memory is needed for both.
    """

    def __init__(self, cache: KVCache, pool: BlockPool) -> None:
        self._cache = cache
        self._pool = pool

    def due(self, sequence: Sequence) -> bool:
        """True if all that a sequence has is to be quantised before it goes on."""
        return sequence.switches is not None and sequence.computed >= sequence.switches

    def cost(self, sequence: Sequence) -> int:
        """Free blocks that it takes: none if nobody shares the sequence's own."""
        return max(0, len(self._blocks(sequence)) - len(self._pool.sole(sequence.blocks)))

    def switch(self, sequence: Sequence) -> None:
        """Quantise. OutOfBlocks, if `cost` are not free, changes nothing; any other error leaves it without sense.

        Nobody finds its blocks: their tokens were computed in another format than those of a sequence that begins so.
        """
        later, indices = sequence.kv_plan.later, self._blocks(sequence)
        own = self._pool.sole(sequence.blocks)[: len(indices)]
        fresh = self._pool.allocate(len(indices) - len(own))
        slots, places = self._tokens(sequence, indices)
        self._pool.release([block for block in sequence.blocks if block not in set(own)])
        for block in own:
            self._pool.prefixes.evict(block)
        sequence.blocks, sequence.dropped = own + fresh, indices[-1] + 1 - len(indices)
        sequence.keep(later, self._cache.tokens_per_block(later))
        sequence.next_border = NEVER
        self._cache.quantise(slots, places, sequence.blocks, later)

    def _blocks(self, sequence: Sequence) -> list[int]:
        """Which blocks of its text a sequence will have, in its later format."""
        later = sequence.kv_plan.later
        size = self._cache.tokens_per_block(later)
        end, pinned = -(-(sequence.computed + 1) // size), -(-PINNED // size)
        first = later.first_seen(sequence.computed) // size
        return list(range(end)) if first <= pinned else [*range(pinned), *range(first, end)]

    def _tokens(self, sequence: Sequence, indices: list[int]) -> tuple[list[int], list[int]]:
        """The slots of the tokens that it has, and their places in the blocks `indices` of its later format."""
        old, size = sequence.block_size, self._cache.tokens_per_block(sequence.kv_plan.later)
        slots: list[int] = []
        places: list[int] = []
        for number, index in enumerate(indices):
            for position in range(index * size, min((index + 1) * size, sequence.computed)):
                block = sequence.block(position // old)
                if block is not None:
                    slots.append(block * old + position % old)
                    places.append(number * size + position % size)
        return slots, places
