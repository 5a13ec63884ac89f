"""Decode steps of fixed shapes, recorded once as CUDA graphs and replayed: no launch costs the host anything.

A step fits a recording if every row is one token that is followed by a new one, and every sequence lies in a lane of
its own (see `BlockPool`). Row i of a recording is lane i; lanes without a sequence compute a padding row. Everything
else runs unrecorded.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

from .attention import AttentionStep, Group
from .fused_decoder import FusedDecoder
from .kv_cache import KVCache, Lanes
from .masks import BlockMasks, Span
from .scheduler import Chunk

LEAST_KEYS = 256
Work: TypeAlias = Callable[[], Tensor]


class Recorder(Protocol):
    """Turns work on tensors that stay where they are into something that does it again."""

    def record(self, work: Work) -> Work:
        """Does `work` anew whenever it is called; what it returns is overwritten by the next call."""
        ...


class CudaRecorder:
    """Records CUDA graphs, which share one pool of memory."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def record(self, work: Work) -> Work:
        """Warm up, capture, and return the replay."""
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            work()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            result = work()

        def replay() -> Tensor:
            graph.replay()
            return result

        return replay


class StaticStep(AttentionStep):
    """A step whose masks are computed from positions on the device, so that a recording serves all positions."""

    def __init__(self, cache: KVCache, masks: BlockMasks, slots: Tensor, group: Group, positions: Tensor) -> None:
        super().__init__(cache, masks, slots, [group])
        self._positions = positions
        self._dtype = cache.shape.dtype

    def reach(self, window: int | None) -> list[tuple[Tensor, int]]:
        """The mask `[lanes, 1, 1, keys]` of the one group; no key is left out beforehand."""
        keys = torch.arange(self.longest, device=self._positions.device)
        after = self._positions[:, None] - keys
        hidden = (after < 0) if window is None else (after < 0) | (after >= window)
        mask = torch.zeros(after.shape, dtype=self._dtype, device=after.device)
        return [(mask.masked_fill(hidden, -torch.inf)[:, None, None], 0)]


class DecodeGraphs:
    """Recordings of a decoder's steps for 1, 2, 4 … lanes and 256, 512 … keys, made at the start."""

    def __init__(
        self,
        decoder: FusedDecoder,
        cache: KVCache,
        masks: BlockMasks,
        lanes: int,
        lane_blocks: int,
        recorder: Recorder,
        longest: int | None = None,
    ) -> None:
        self._decoder = decoder
        self._cache = cache
        self._masks = masks
        self._recorder = recorder
        self._lane_blocks = lane_blocks
        device = cache.device
        self._ids = torch.zeros(lanes, dtype=torch.int64, device=device)
        self._positions = torch.zeros(lanes, dtype=torch.int64, device=device)
        self._slots = torch.full((lanes,), cache.padding_slot, dtype=torch.int64, device=device)
        self._lane_sizes = doubling(1, lanes)
        most = lane_blocks if longest is None else max(1, min(lane_blocks, longest // cache.block_size))
        self._key_blocks = doubling(min(most, max(1, LEAST_KEYS // cache.block_size)), most)
        self._recordings: dict[tuple[int, int], Work] = {}

    @torch.inference_mode()
    def record_all(self) -> None:
        """Record every shape, the largest first: the smaller ones then fit into its memory."""
        for lanes in reversed(self._lane_sizes):
            for blocks in reversed(self._key_blocks):
                try:
                    self._recordings[lanes, blocks] = self._recorder.record(self._work(lanes, blocks))
                except RuntimeError as problem:  # a matter of speed alone: such steps run unrecorded
                    warnings.warn(f"decode steps of {lanes} lanes could not be recorded: {problem}", stacklevel=2)
                    return

    def replay(self, ids: Tensor, positions: Tensor, slots: Tensor, chunks: Sequence[Chunk]) -> Tensor | None:
        """Scores `[rows, vocabulary]` of a step whose rows are `chunks`; None if nothing recorded fits."""
        rows = [self._lane(chunk) for chunk in chunks]
        blocks = -(-max(chunk.last for chunk in chunks) // self._cache.block_size)
        lanes = next((size for size in self._lane_sizes if size > max(rows)), 0)
        read = next((size for size in self._key_blocks if size >= blocks), 0)
        work = self._recordings.get((lanes, read))
        if work is None or min(rows) < 0:
            return None
        if any(self._cache.quantised_within(row * self._lane_blocks, read) for row in rows):
            return None  # another's bytes, behind its own, may be NaN as numbers
        where = torch.tensor(rows, device=ids.device)
        self._slots.fill_(self._cache.padding_slot)
        self._positions.zero_()
        for held, given in ((self._ids, ids), (self._positions, positions), (self._slots, slots)):
            held.index_copy_(0, where, given)
        return work().index_select(0, where)

    def _lane(self, chunk: Chunk) -> int:
        """The lane that a chunk's sequence lies in; -1 if it does not, or wants anything but one token's scores.

        A prompt's token whose scores nobody reads would take a NaN from the lane's end into the cache, unseen.
        """
        if not chunk.sequence.plain or chunk.sequence.turned is not None:
            return -1  # the mask of a recording is of rotary positions
        blocks = chunk.sequence.blocks
        lane, offset = divmod(blocks[0], self._lane_blocks)
        fits = chunk.count == 1 and chunk.samples and not offset and chunk.sequence.side_by_side == len(blocks)
        return lane if fits else -1

    def _work(self, lanes: int, blocks: int) -> Work:
        size = self._cache.block_size
        view = self._cache.lanes(Lanes(0, self._lane_blocks, lanes, blocks))
        group = Group(0, lanes, view, Span((0,) * lanes, 1, blocks * size))
        ids, positions, slots = self._ids[:lanes], self._positions[:lanes], self._slots[:lanes]

        def work() -> Tensor:
            step = StaticStep(self._cache, self._masks, slots, group, positions)
            return self._decoder(ids, positions, step, None)

        return work


def doubling(first: int, last: int) -> list[int]:
    """`first`, twice that and so on below `last`, and `last`."""
    sizes: list[int] = []
    while first < last:
        sizes.append(first)
        first *= 2
    return [*sizes, last]
