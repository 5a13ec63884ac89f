"""Which rows of a step are attended to in one call."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

import torch
from torch import Tensor

from .attention import Group, Pieces, Staged
from .kernels import RowKernels
from .kv_cache import KVCache, Lanes, PackedRows, runs
from .masks import PlacedSpan, Span
from .scheduler import Chunk
from .sequence import Sequence as EngineSequence


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
        if not chunk.single:
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


def apart(chunks: Iterable[Chunk]) -> tuple[list[Chunk], list[Chunk], list[Chunk]]:
    """`chunks` sorted by how their keys and values are kept: all of them and plain, of a window, quantised.

    Of the last those of one format stand together.
    """
    plain: list[Chunk] = []
    windowed: list[Chunk] = []
    quantised: list[Chunk] = []
    for chunk in chunks:
        kv_format = chunk.sequence.kv_format
        kind = plain if chunk.sequence.plain else windowed if kv_format.bits is None else quantised
        kind.append(chunk)
    quantised.sort(key=_packing)
    return plain, windowed, quantised


def staged(chunks: Iterable[Chunk], start: int, cache: KVCache) -> list[Staged]:
    """Where the keys and values of quantised `chunks` go, whose first is row `start` of the step."""
    found: list[Staged] = []
    for (bits, group), same in groupby(chunks, _packing):
        blocks: list[int] = []
        offsets: list[int] = []
        for chunk in same:
            sequence, size = chunk.sequence, chunk.sequence.block_size
            for position in range(chunk.first, chunk.last):
                index, offset = divmod(position, size)
                blocks.append(held(sequence, index))
                offsets.append(offset)
        where = [torch.tensor(values, dtype=torch.int64, device=cache.device) for values in (blocks, offsets)]
        rows = PackedRows(cache.packed(bits, group), *where)
        found.append(Staged(start, start + len(blocks), rows))
        start += len(blocks)
    return found


def placed_groups(chunks: Iterable[Chunk], start: int, cache: KVCache, size: int) -> list[Group]:
    """The groups of chunks that have a window or are quantised; the first of them is row `start` of the step.

    Each sequence is attended to by itself, `size` positions at a time. How many keys a query reads depends on its
    position alone, also where some of them are no longer there.
    """
    groups: list[Group] = []
    for chunk in chunks:
        first = chunk.first
        while first < chunk.last:
            begin = first // size * size
            last = min(chunk.last, begin + size)
            groups.append(_placed_group(chunk.sequence, start, first, last, (begin, begin + size), cache))
            start += last - first
            first = last
    return groups


def _placed_group(
    sequence: EngineSequence, row: int, first: int, last: int, span: tuple[int, int], cache: KVCache
) -> Group:
    kv_format, size = sequence.kv_format, sequence.block_size
    end = -(-span[1] // size)
    pinned = min(end, sequence.pinned)
    indices = [*range(pinned), *range(max(pinned, kv_format.first_seen(span[0]) // size), end)]
    blocks = [held(sequence, index) for index in indices]
    within = torch.arange(size, device=cache.device)
    places = (torch.tensor(indices, device=cache.device)[:, None] * size + within).flatten()
    spanned = PlacedSpan(tuple(range(first, last)), last - first, len(places), places, kv_format.recent)
    return Group(row, row + last - first, cache.table(blocks, kv_format), spanned)


def held(sequence: EngineSequence, index: int) -> int:
    """Where block `index` lies; its first one in the place of one that it does not have, which nobody sees."""
    block = sequence.block(index)
    return sequence.blocks[0] if block is None else block


def _packing(chunk: Chunk) -> tuple[int, int]:
    return chunk.sequence.kv_format.bits or 0, chunk.sequence.kv_format.group


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
