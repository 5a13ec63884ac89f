"""The keys and values of all sequences, in blocks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from mmap import MAP_ANONYMOUS, MAP_PRIVATE, mmap

import torch
from torch import Tensor

from .kv_format import PLAIN, KVFormat
from .packing import Packing

VIEWS_KEPT = 1024  # one is some 10 KB of tensor headers, and serves a group of rows for a whole block


@dataclass(frozen=True, slots=True)
class KVShape:
    """What one token's keys and values look like; the same in every layer."""

    layers: int
    heads: int
    head_dim: int
    dtype: torch.dtype

    @property
    def bytes_per_token(self) -> int:
        """Bytes of keys and values together, all layers."""
        return 2 * self.layers * self.heads * self.head_dim * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class Lanes:
    """Where some sequences lie that have equally many blocks, side by side, and begin at equally spaced blocks."""

    first: int
    spacing: int
    count: int
    blocks: int


class KVCache:
    """Keys and values `[layers, slots, 2 * heads, head_dim]`, the keys first; slot = block * block_size + offset.

    One block more than `num_blocks` takes what padding rows write, and is read by nobody. Which blocks belong to whom
    is the `BlockPool`'s business. A block of a quantised format has the same bytes, and more tokens: see `packed`.
    """

    def __init__(self, shape: KVShape, num_blocks: int, block_size: int, device: torch.device) -> None:
        self.shape = shape
        self.block_size = block_size
        slots = (num_blocks + 1) * block_size
        self._store = _zeros((shape.layers, slots, 2 * shape.heads, shape.head_dim), shape.dtype, device)
        self._layers = self._store.unbind(0)
        self._bytes = self._store.view(torch.uint8).view(shape.layers, num_blocks + 1, -1)
        self._views: dict[Lanes, KVView] = {}
        self._packed: dict[tuple[int, int], PackedStore] = {}
        self._quantised = bytearray(num_blocks + 1)  # 1 for blocks whose bytes are no numbers of the store's type
        self.padding_slot = num_blocks * block_size

    @property
    def device(self) -> torch.device:
        """Where it lies."""
        return self._store.device

    def packed(self, bits: int, group: int) -> PackedStore:
        """The same blocks as a quantised format sees them. ValueError if heads cannot be cut into such groups."""
        known = self._packed.get((bits, group))
        if known is None:
            packing = Packing(self.shape.head_dim, bits, group, self.shape.dtype)
            known = self._packed[bits, group] = PackedStore(packing, self.shape.heads, self._bytes)
        return known

    def tokens_per_block(self, kv_format: KVFormat) -> int:
        """How many tokens of a format lie in a block, one behind the other."""
        return self.block_size if kv_format.bits is None else self.packed(kv_format.bits, kv_format.group).block_size

    def clear(self, blocks: Sequence[int], offset: int = 0, kv_format: KVFormat = PLAIN) -> None:
        """Zero blocks, which are of a format from now on, the first of them from its token `offset` on.

        Slots past a sequence's end are masked, but 0 × NaN would still be NaN.
        """
        begin = offset * self._token_bytes(kv_format)
        for first, last in runs(blocks):
            if begin:
                self._bytes[:, first, begin:].zero_()
                first, begin = first + 1, 0
            self._bytes[:, first : last + 1].zero_()
        self._mark(blocks, kv_format)

    def copy_block(self, source: int, target: int, tokens: int, kv_format: KVFormat = PLAIN) -> None:
        """Copy the keys and values of a block's first `tokens`, all layers, to another block of the same format."""
        end = tokens * self._token_bytes(kv_format)
        self._bytes[:, target, :end].copy_(self._bytes[:, source, :end])

    def quantise(self, slots: Sequence[int], places: Sequence[int], blocks: Sequence[int], kv_format: KVFormat) -> None:
        """Quantise the tokens at `slots` into `blocks`, token i to `places[i]`, counted through all of them.

        Each layer is read before it is written: `blocks` can be those that the tokens come from.
        """
        if kv_format.bits is None:
            raise ValueError(f"{kv_format} is not quantised")
        packed = self.packed(kv_format.bits, kv_format.group)
        sources = torch.tensor(slots, dtype=torch.int64, device=self.device)
        targets = torch.tensor(blocks, dtype=torch.int64, device=self.device)
        where = torch.tensor(places, dtype=torch.int64, device=self.device)
        rows = PackedRows(packed, targets[where // packed.block_size], where % packed.block_size)
        for layer, store in enumerate(self._layers):
            keys_values = store.index_select(0, sources)
            self._bytes[layer].index_fill_(0, targets, 0)
            rows.write(layer, keys_values)
        self._mark(blocks, kv_format)

    def quantised_within(self, first: int, count: int) -> bool:
        """True if any of `count` blocks from `first` on holds bytes that are no numbers of the cache's type."""
        return self._quantised.find(1, first, first + count) >= 0

    def of_layer(self, layer: int) -> Tensor:
        """Keys and values of a layer, `[slots, 2 * heads, head_dim]`."""
        return self._layers[layer]

    def write(self, layer: int, slots: Tensor, keys_values: Tensor) -> None:
        """Store `keys_values` `[tokens, 2 * heads, head_dim]` of one layer at `slots` int64[tokens]."""
        self._layers[layer].index_copy_(0, slots, keys_values)

    def lanes(self, lanes: Lanes) -> KVView:
        """Keys and values of `lanes.count` sequences, without a copy. It sees what is written later, too."""
        view = self._views.get(lanes)
        if view is None:
            if len(self._views) == VIEWS_KEPT:
                self._views.clear()
            view = self._views[lanes] = self._view(lanes)
        return view

    def table(self, blocks: Sequence[int], kv_format: KVFormat = PLAIN) -> KVView:
        """Keys and values of one sequence whose blocks are `blocks`, wherever they lie."""
        if kv_format.bits is not None:
            packed = self.packed(kv_format.bits, kv_format.group)
            return PackedView(packed, torch.tensor(blocks, device=self.device))
        if blocks[-1] - blocks[0] == len(blocks) - 1 and len(runs(blocks)) == 1:
            return self.lanes(Lanes(blocks[0], 0, 1, len(blocks)))
        return GatheredView(self._layers, self.block_size, torch.tensor(blocks, device=self.device))

    def _token_bytes(self, kv_format: KVFormat) -> int:
        if kv_format.bits is None:
            return self.shape.bytes_per_token // self.shape.layers
        return self.packed(kv_format.bits, kv_format.group).token_bytes

    def _mark(self, blocks: Sequence[int], kv_format: KVFormat) -> None:
        for block in blocks:
            self._quantised[block] = kv_format.bits is not None

    def _view(self, lanes: Lanes) -> KVView:
        shape, size = self.shape, self.block_size
        per_layer, per_slot, per_head, _ = self._store.stride()
        both = self._store.as_strided(
            (shape.layers, lanes.count, 2 * shape.heads, lanes.blocks * size, shape.head_dim),
            (per_layer, lanes.spacing * size * per_slot, per_head, per_slot, 1),
            lanes.first * size * per_slot,
        )
        keys, values = both[:, :, : shape.heads].unbind(0), both[:, :, shape.heads :].unbind(0)
        return KVView(tuple(zip(keys, values, strict=True)))


class KVView:
    """Keys and values of some sequences, `[sequences, heads, keys, head_dim]` per layer."""

    def __init__(self, layers: tuple[tuple[Tensor, Tensor], ...]) -> None:
        self._layers = layers

    def layer(self, index: int) -> tuple[Tensor, Tensor]:
        """Keys and values of one layer."""
        return self._layers[index]


class GatheredView(KVView):
    """The same of one sequence whose blocks are scattered: copied together whenever a layer asks."""

    def __init__(self, stores: tuple[Tensor, ...], block_size: int, blocks: Tensor) -> None:
        self._stores = stores
        self._block_size = block_size
        self._blocks = blocks

    def layer(self, index: int) -> tuple[Tensor, Tensor]:
        """Keys and values of one layer."""
        _, both, head_dim = self._stores[index].shape
        paged = self._stores[index].view(-1, self._block_size, both, head_dim)
        collected = paged.index_select(0, self._blocks).view(1, -1, both, head_dim).transpose(1, 2)
        return collected[:, : both // 2], collected[:, both // 2 :]


class PackedStore:
    """All blocks as one quantised format sees them: `block_size` tokens each, and some bytes that are left over."""

    def __init__(self, packing: Packing, heads: int, blocks: Tensor) -> None:
        """`blocks` are the cache's bytes `[layers, blocks, bytes]`; `heads` those of the keys."""
        self.packing = packing
        self.token_bytes = 2 * heads * packing.row_bytes
        self.block_size = blocks.shape[2] // self.token_bytes
        whole = blocks[:, :, : self.block_size * self.token_bytes]
        shape = (*blocks.shape[:2], self.block_size, 2 * heads, packing.row_bytes)
        self.layers = whole.view(shape).unbind(0)


@dataclass(frozen=True, slots=True, eq=False)
class PackedRows:
    """Where some tokens go: `blocks` and the `offsets` in them, int64[tokens]."""

    store: PackedStore
    blocks: Tensor
    offsets: Tensor

    def write(self, layer: int, keys_values: Tensor) -> None:
        """Quantise and store the `[tokens, 2 * heads, head_dim]` of one layer."""
        self.store.layers[layer].index_put_((self.blocks, self.offsets), self.store.packing.pack(keys_values))


class PackedView(KVView):
    """Keys and values of one sequence in a quantised format: a layer is copied together and unpacked when it asks."""

    def __init__(self, store: PackedStore, blocks: Tensor) -> None:
        self._store = store
        self._blocks = blocks

    def layer(self, index: int) -> tuple[Tensor, Tensor]:
        """Keys and values of one layer."""
        rows = self._store.layers[index].index_select(0, self._blocks)
        values = self._store.packing.unpack(rows).flatten(0, 1)[None].transpose(1, 2)
        keys, values = values.chunk(2, 1)
        return keys, values


def runs(blocks: Sequence[int]) -> list[tuple[int, int]]:
    """`blocks` as (first, last) pairs of neighbours: [3, 4, 5, 9] is [(3, 5), (9, 9)]."""
    found: list[tuple[int, int]] = []
    for block in blocks:
        if found and block == found[-1][1] + 1:
            found[-1] = (found[-1][0], block)
        else:
            found.append((block, block))
    return found


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Zeros that on a CPU take no memory until something is written: a cache that is never full never costs its size.

    torch.zeros() would write them. A worker that dies is also gone the sooner, the less it has.
    """
    if device.type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    size = math.prod(shape) * dtype.itemsize
    return torch.frombuffer(mmap(-1, size, flags=MAP_PRIVATE | MAP_ANONYMOUS), dtype=dtype).view(shape)
