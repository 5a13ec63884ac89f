"""Which blocks of the KV cache are free."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from .prefix_cache import PrefixCache

_NEVER = np.iinfo(np.int64).max


class OutOfBlocks(RuntimeError):
    """More blocks were asked for than are free."""


class BlockPool:
    """Counts the references to each of `total` blocks of the KV cache; a block without any is free.

    A free block may still hold a prefix that `prefixes` finds. It is cached: sharing it makes it used again, and
    allocating it evicts what it holds. Where there is a choice, the least recently used one goes.

    Blocks of one sequence are kept side by side where that is possible: attention then reads the cache through a
    view instead of gathering it. The pool is cut into equal lanes, one for each sequence that may run, and a newcomer
    is put at the beginning of one nobody uses; so views of several sequences begin at equal distances. Without such
    a lane it comes into the middle of the longest run that holds nothing, with room to grow.
    """

    def __init__(self, total: int, lanes: int = 1) -> None:
        self.prefixes = PrefixCache()
        self.free = total
        self.lane_size = max(1, total // lanes)
        # Plain arrays are read one by one in every step; numpy looks at the same memory when a place is sought.
        self._references = array("q", bytes(8 * total))
        self._released = array("q", bytes(8 * total))  # when a cached block was last used; 0 holds nothing findable
        self._references_view: NDArray[np.int64] = np.frombuffer(self._references, np.int64)
        self._released_view: NDArray[np.int64] = np.frombuffer(self._released, np.int64)
        self._clock = 0

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
            if self._released[neighbour]:
                self._released[neighbour] = 0
                self.prefixes.evict(neighbour)
            taken.append(neighbour)
            after = neighbour
        self.free -= count
        return taken

    def share(self, blocks: Iterable[int]) -> None:
        """Take one reference more to each block, used or cached."""
        for block in blocks:
            self.free -= not self._references[block]
            self._references[block] += 1
            self._released[block] = 0

    def release(self, blocks: Sequence[int]) -> None:
        """Give back one reference to each block. Those that hold a prefix are cached from now on."""
        for block in reversed(blocks):  # the end of a text is evicted before its beginning, without which it is no use
            if not self._references[block]:
                raise RuntimeError(f"block {block} is released but was free")
            self._references[block] -= 1
            if not self._references[block]:
                self.free += 1
                if block in self.prefixes:
                    self._clock += 1
                    self._released[block] = self._clock

    def evict(self, blocks: Iterable[int]) -> list[int]:
        """Forget what those of `blocks` hold that are free, and return them."""
        free = [block for block in blocks if not self._references[block]]
        for block in free:
            self._released[block] = 0
            self.prefixes.evict(block)
        return free

    def sole(self, blocks: Iterable[int]) -> list[int]:
        """Those of `blocks` that have one reference."""
        return [block for block in blocks if self._references[block] == 1]

    def unused(self, blocks: Iterable[int]) -> int:
        """How many of `blocks` are free."""
        return sum(not self._references[block] for block in blocks)

    def audit(self, owned: Iterable[Sequence[int]]) -> list[str]:
        """What is wrong, mended. `owned` are the blocks of each owner."""
        findings = self.prefixes.audit()
        owners = np.zeros(self.total, np.int64)
        for blocks in owned:
            np.add.at(owners, list(blocks), 1)
        for block in np.flatnonzero(owners != self._references_view):
            findings.append(f"block {block} has {self._references[block]} references and {owners[block]} owners")
            self._references[block] = int(owners[block])
        cached = np.zeros(self.total, np.bool_)
        cached[list(self.prefixes.blocks())] = True
        cached &= owners == 0
        for block in np.flatnonzero(cached != (self._released_view != 0)):
            findings.append(f"block {block} was {'not ' if cached[block] else ''}booked as cached")
            self._clock += 1
            self._released[block] = self._clock if cached[block] else 0
        free = int((owners == 0).sum())
        if free != self.free:
            findings.append(f"{free} blocks are free, {self.free} were booked as free")
            self.free = free
        return findings

    def _place(self, count: int) -> int:
        """Where a group of `count` blocks begins: a lane, room that holds nothing, or what was not used for longest."""
        free = self._references_view == 0
        lane = self._lane(free) if count <= self.lane_size else None
        if lane is not None:
            return lane
        edges = np.flatnonzero(np.diff(free & (self._released_view == 0), prepend=False, append=False))
        starts, lengths = edges[::2], edges[1::2] - edges[::2]
        if len(starts) and lengths.max() >= count:
            longest = int(lengths.argmax())
            start = int(starts[longest])
            return start if start == 0 else start + (int(lengths[longest]) - count) // 2
        return int(np.where(free, self._released_view, _NEVER).argmin())

    def _lane(self, free: NDArray[np.bool_]) -> int | None:
        """First block of the lane for a newcomer: one that holds no prefix if there is, and next to a used one."""
        lanes = self.total // self.lane_size
        used = np.any(~free[: lanes * self.lane_size].reshape(lanes, -1), axis=1)
        if used.all():
            return None
        last_used = np.max(self._released_view[: lanes * self.lane_size].reshape(lanes, -1), axis=1)
        beside = np.zeros(lanes, np.bool_)
        beside[1:] |= used[:-1]
        beside[:-1] |= used[1:]
        best = np.lexsort((~beside, np.where(used, _NEVER, last_used)))[0]
        return int(best) * self.lane_size
