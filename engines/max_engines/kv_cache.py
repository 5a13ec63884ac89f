"""The keys and values of all sequences, in blocks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from mmap import MAP_ANONYMOUS, MAP_PRIVATE, mmap

import torch
from torch import Tensor

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
    is the `BlockPool`'s business.
    """

    def __init__(self, shape: KVShape, num_blocks: int, block_size: int, device: torch.device) -> None:
        self.shape = shape
        self.block_size = block_size
        slots = (num_blocks + 1) * block_size
        self._store = _zeros((shape.layers, slots, 2 * shape.heads, shape.head_dim), shape.dtype, device)
        self._layers = self._store.unbind(0)
        self._views: dict[Lanes, KVView] = {}
        self.padding_slot = num_blocks * block_size

    @property
    def device(self) -> torch.device:
        """Where it lies."""
        return self._store.device

    def clear(self, blocks: Sequence[int], offset: int = 0) -> None:
        """Zero blocks, the first of them from slot `offset` on.

        Slots past a sequence's end are masked, but 0 × NaN would still be NaN.
        """
        for first, last in runs(blocks):
            self._store[:, first * self.block_size + offset : (last + 1) * self.block_size].zero_()
            offset = 0

    def copy_block(self, source: int, target: int, tokens: int) -> None:
        """Copy the keys and values of a block's first `tokens`, all layers, to another block."""
        first, to = source * self.block_size, target * self.block_size
        self._store[:, to : to + tokens].copy_(self._store[:, first : first + tokens])

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

    def table(self, blocks: Sequence[int]) -> KVView:
        """Keys and values of one sequence whose blocks are `blocks`, wherever they lie."""
        if blocks[-1] - blocks[0] == len(blocks) - 1 and len(runs(blocks)) == 1:
            return self.lanes(Lanes(blocks[0], 0, 1, len(blocks)))
        return GatheredView(self._layers, self.block_size, torch.tensor(blocks, device=self._store.device))

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
