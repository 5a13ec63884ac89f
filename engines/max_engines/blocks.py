"""Which blocks of the KV cache are free."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class OutOfBlocks(RuntimeError):
    """More blocks were asked for than are free."""


class BlockPool:
    """Counts the references to each of `total` blocks of the KV cache; a block without any is free.

    Blocks of one sequence are kept side by side where that is possible: attention then reads the cache through a
    view instead of gathering it. So a newcomer is put in the middle of the longest free run, with room to grow.
    """

    def __init__(self, total: int) -> None:
        self._references: NDArray[np.int32] = np.zeros(total, np.int32)
        self.free = total

    @property
    def total(self) -> int:
        """Blocks in all, free or not."""
        return len(self._references)

    def allocate(self, count: int, after: int | None = None) -> list[int]:
        """Take `count` blocks, next to block `after` if that is free. OutOfBlocks takes none."""
        if count > self.free:
            raise OutOfBlocks(f"{count} blocks wanted, {self.free} of {self.total} free")
        taken: list[int] = []
        while len(taken) < count:
            neighbour = None if after is None else after + 1
            if neighbour is None or neighbour == self.total or self._references[neighbour]:
                neighbour = self._place(count - len(taken))
            self._references[neighbour] = 1
            taken.append(neighbour)
            after = neighbour
        self.free -= count
        return taken

    def release(self, blocks: list[int]) -> None:
        """Give back one reference to each block."""
        for block in blocks:
            if not self._references[block]:
                raise RuntimeError(f"block {block} is released but was free")
            self._references[block] -= 1
            self.free += not self._references[block]

    def _place(self, count: int) -> int:
        """Where in the longest free run a group of `count` blocks begins."""
        edges = np.flatnonzero(np.diff(self._references == 0, prepend=False, append=False))
        starts, ends = edges[::2], edges[1::2]
        longest = int(np.argmax(ends - starts))
        start, length = int(starts[longest]), int(ends[longest] - starts[longest])
        spare = max(0, length - count)
        return start if start == 0 else start + spare // 2
