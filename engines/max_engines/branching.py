"""The memory of beams: what they have in common is shared by reference, and copied where one of them writes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence as Rows

from .beams import Beam
from .blocks import BlockPool
from .kv_cache import KVCache
from .sequence import Beginning, Sequence


class Branching:
    """Gives the beams of a search their blocks.

    When beams are chosen they share all blocks of those that they go on from: that takes no memory, and cannot fail.
    Before they are computed, all but one of those that share their last block, a partial one, get a copy of it.
    """

    def __init__(self, cache: KVCache, pool: BlockPool) -> None:
        self._cache = cache
        self._pool = pool
        self._size = cache.block_size

    def branch(self, team: Rows[Sequence], beams: Rows[Beam]) -> None:
        """Make the first of `team` the chosen `beams`, and take the memory of the others."""
        moved = [
            (team[rank], Beginning.of(team[beam.parent])) for rank, beam in enumerate(beams) if beam.parent != rank
        ]
        for _, beginning in moved:
            self._pool.share(beginning.blocks)
        for row, beginning in moved:
            self._pool.release(row.forget())
            row.become(beginning)
        for row in team[len(beams) :]:
            self._pool.release(row.forget())
        team[0].rows = [*team[: len(beams)]]
        for row, beam in zip(team[0].rows, beams, strict=True):
            row.accept(beam.token)

    def copies(self, rows: Rows[Sequence]) -> int:
        """How many blocks `separate` takes."""
        return 0 if len(rows) == 1 else sum(count - 1 for count in self._tails(rows).values())

    def separate(self, rows: Rows[Sequence]) -> None:
        """Let each of `rows` write its next token into a block of its own. OutOfBlocks if `copies` are not free."""
        sharing = self._tails(rows)
        for row in rows:
            index, offset = divmod(row.computed, self._size)
            shared = row.blocks[index] if index < len(row.blocks) else -1
            if sharing[shared] > 1:
                sharing[shared] -= 1
                (own,) = self._pool.allocate(1, after=row.blocks[index - 1] if index else None)
                self._cache.clear([own])
                self._cache.copy_block(shared, own, offset)
                row.replace_block(index, own)
                self._pool.release([shared])

    def needed(self, rows: Rows[Sequence], trunk: int) -> int:
        """How many blocks `spread` takes."""
        return sum(self._own(row, trunk) for row in rows if not row.blocks)

    def spread(self, rows: Rows[Sequence], trunk: int) -> None:
        """Give those without memory the first `trunk` tokens of the first one. OutOfBlocks if `needed` are not free."""
        full, offset = divmod(trunk, self._size)
        for row in rows:
            if row.blocks:
                continue
            begin = rows[0].blocks[:full]
            own = self._pool.allocate(self._own(row, trunk), after=begin[-1] if begin else None)
            self._cache.clear(own)
            if offset:
                self._cache.copy_block(rows[0].blocks[full], own[0], offset)
            self._pool.share(begin)
            row.blocks, row.computed, row.next_border = begin + own, trunk, 0

    def _tails(self, rows: Rows[Sequence]) -> Counter[int]:
        """How many of `rows` would write into each block."""
        nexts = [(row.blocks, row.computed // self._size) for row in rows]
        return Counter(blocks[index] for blocks, index in nexts if index < len(blocks))

    def _own(self, row: Sequence, trunk: int) -> int:
        return -(-row.length // self._size) - trunk // self._size
