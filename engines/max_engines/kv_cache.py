"""The keys and values of all sequences, in blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


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


class KVCache:
    """Keys and values `[layers, slots, heads, head_dim]`, and one block more that nobody reads, for padding rows.

    Slot = block * block_size + offset. Which blocks belong to whom is the `BlockPool`'s business.
    """

    def __init__(self, shape: KVShape, num_blocks: int, block_size: int, device: torch.device) -> None:
        self.shape = shape
        self.block_size = block_size
        slots = (num_blocks + 1) * block_size
        size = (shape.layers, slots, shape.heads, shape.head_dim)
        # zeros() maps memory lazily: a cache that is never full never costs its full size.
        self._keys = torch.zeros(size, dtype=shape.dtype, device=device)
        self._values = torch.zeros(size, dtype=shape.dtype, device=device)
        self._layer_keys = self._keys.unbind(0)
        self._layer_values = self._values.unbind(0)
        self.padding_slot = num_blocks * block_size

    def clear(self, blocks: Sequence[int]) -> None:
        """Zero blocks for a new owner. Slots past a sequence's end are masked, but 0 × NaN would still be NaN."""
        for first, last in _runs(blocks):
            slots = slice(first * self.block_size, (last + 1) * self.block_size)
            self._keys[:, slots].zero_()
            self._values[:, slots].zero_()

    def write(self, layer: int, slots: Tensor, keys: Tensor, values: Tensor) -> None:
        """Store `keys` and `values` `[tokens, heads, head_dim]` of one layer at `slots` int64[tokens]."""
        self._layer_keys[layer].index_copy_(0, slots, keys)
        self._layer_values[layer].index_copy_(0, slots, values)

    def view(self, blocks: Sequence[int]) -> KVView:
        """Keys and values of one sequence, whose table is `blocks`. It sees what is written later, too."""
        runs = _runs(blocks)
        if len(runs) > 1:
            return GatheredView(self, torch.tensor(blocks, device=self._keys.device))
        first, last = runs[0]
        slots = slice(first * self.block_size, (last + 1) * self.block_size)
        keys = self._keys[:, slots].transpose(1, 2).unsqueeze(1).unbind(0)
        values = self._values[:, slots].transpose(1, 2).unsqueeze(1).unbind(0)
        return KVView(keys, values)

    def gather(self, layer: int, blocks: Tensor) -> tuple[Tensor, Tensor]:
        """Copies `[1, heads, keys, head_dim]` of one layer's blocks, in the order of `blocks` int64[n]."""
        heads, head_dim = self.shape.heads, self.shape.head_dim

        def collect(layers: tuple[Tensor, ...]) -> Tensor:
            paged = layers[layer].view(-1, self.block_size, heads, head_dim)
            return paged.index_select(0, blocks).view(1, -1, heads, head_dim).transpose(1, 2)

        return collect(self._layer_keys), collect(self._layer_values)


class KVView:
    """One sequence's keys and values, `[1, heads, keys, head_dim]` per layer; its blocks lie side by side."""

    def __init__(self, keys: tuple[Tensor, ...], values: tuple[Tensor, ...]) -> None:
        self._layers = tuple(zip(keys, values, strict=True))

    def layer(self, index: int) -> tuple[Tensor, Tensor]:
        """Keys and values of one layer."""
        return self._layers[index]


class GatheredView(KVView):
    """The same for blocks that are scattered: copied together whenever a layer asks."""

    def __init__(self, cache: KVCache, blocks: Tensor) -> None:
        self._cache = cache
        self._blocks = blocks

    def layer(self, index: int) -> tuple[Tensor, Tensor]:
        """Keys and values of one layer."""
        return self._cache.gather(index, self._blocks)


def _runs(blocks: Sequence[int]) -> list[tuple[int, int]]:
    """`blocks` as (first, last) pairs of neighbours: [3, 4, 5, 9] is [(3, 5), (9, 9)]."""
    runs: list[tuple[int, int]] = []
    for block in blocks:
        if runs and block == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], block)
        else:
            runs.append((block, block))
    return runs
