"""Which rows of a step are attended to in one call."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from .attention import Group, Pieces
from .kernels import RowKernels
from .kv_cache import KVCache, Lanes, runs
from .masks import Span
from .scheduler import Chunk


def decode_groups(chunks: Sequence[Chunk], cache: KVCache) -> tuple[list[Chunk], list[Group]]:
    """`chunks` in the order of the step's rows, those of one token first, and the groups that these are attended in.

    Sequences with equally many blocks that begin at equally spaced ones are one strided view of the cache. The
    `BlockPool` puts them so where it can; the others are groups of their own.
    """
    size = cache.block_size
    placed: list[tuple[int, int, int]] = []  # blocks, the first of them, which chunk
    scattered: list[int] = []
    others: list[Chunk] = []
    for index, chunk in enumerate(chunks):
        if chunk.count > 1:
            others.append(chunk)
            continue
        sequence = chunk.sequence
        blocks = chunk.first // size + 1
        if sequence.side_by_side >= blocks:
            placed.append((blocks, sequence.blocks[0], index))
        else:
            scattered.append(index)
    placed.sort()
    ordered = [chunks[index] for _, _, index in placed]
    groups = [_group(ordered, lanes, start, cache) for start, lanes in _lanes(placed)]
    for index in scattered:
        chunk = chunks[index]
        blocks = chunk.first // size + 1
        view = cache.table(chunk.sequence.blocks[:blocks])
        groups.append(Group(len(ordered), len(ordered) + 1, view, Span((chunk.first,), 1, blocks * size)))
        ordered.append(chunk)
    return ordered + others, groups


def pieces(chunks: Sequence[Chunk], cache: KVCache, kernels: RowKernels) -> Pieces:
    """The rows of `chunks` as the compiled kernel takes them. It wants no views: a sequence is where its blocks are."""
    size = cache.block_size
    found: list[tuple[int, int, int]] = []
    slots: list[tuple[int, int]] = []
    for chunk in chunks:
        sequence = chunk.sequence
        if sequence.side_by_side * size >= chunk.last:
            own = [(sequence.blocks[0] * size, chunk.last)]
        else:
            blocks = sequence.blocks[: -(-chunk.last // size)]
            own = [(first * size, (last - first + 1) * size) for first, last in runs(blocks)]
        found.append((chunk.count, len(own), chunk.first + 1))
        slots.extend(own)
    count = sum(chunk.count for chunk in chunks)
    return Pieces(kernels, count, _indices(found), _indices(slots), max(chunk.last for chunk in chunks))


def _indices(values: list[tuple[int, int, int]] | list[tuple[int, int]]) -> Tensor:
    return torch.tensor(values, dtype=torch.int64, device="cpu")


def _group(ordered: Sequence[Chunk], lanes: Lanes, start: int, cache: KVCache) -> Group:
    stop = start + lanes.count
    positions = tuple([chunk.first for chunk in ordered[start:stop]])
    return Group(start, stop, cache.lanes(lanes), Span(positions, 1, lanes.blocks * cache.block_size))


def _lanes(placed: Iterable[tuple[int, int, int]]) -> Iterable[tuple[int, Lanes]]:
    """Runs of sorted `placed` with as many blocks and the same spacing, each with the number of its first entry."""
    start = count = blocks = first = spacing = last = 0
    for number, (size, block, _) in enumerate(placed):
        if count == 1 and size == blocks:
            spacing = block - last
        elif count == 0 or size != blocks or block - last != spacing:
            if count:
                yield start, Lanes(first, spacing, count, blocks)
            start, count, blocks, first, spacing = number, 0, size, block, 0
        count, last = count + 1, block
    if count:
        yield start, Lanes(first, spacing, count, blocks)
