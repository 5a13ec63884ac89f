"""A layer of a transformer over the last rows, as a stage of a stream."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from .stage import Opening, Stage

RowFunction: TypeAlias = Callable[[Tensor], Tensor]  # rows float[n, in] to rows float[n, out], each by itself


@dataclass(frozen=True, slots=True)
class Heads:
    """Query heads, the heads of keys and values that they share, and the width of one."""

    queries: int
    keys: int
    width: int


@dataclass(frozen=True, slots=True)
class Layer:
    """What a layer does to single rows: x + output(attention(queries, keys, values)), then x + feed_forward(x).

    Norms and scales are within these functions. `rotation` gives cosine and sine, float[n, width] each, for positions
    int64[n].
    """

    heads: Heads
    queries: RowFunction
    keys: RowFunction
    values: RowFunction
    output: RowFunction
    feed_forward: RowFunction
    before_attention: RowFunction
    rotation: Callable[[Tensor], tuple[Tensor, Tensor]]


class Attention(Stage):
    """Attends to the last `window` rows, its own among them, at their absolute positions (RoPE).

    It keeps the keys and values of window - 1 rows, so its memory has a bound however long a sound becomes.
    """

    _keys: Tensor  # float[heads, kept, width]
    _values: Tensor
    _next: int  # absolute number of the next row

    def __init__(self, layer: Layer, window: int, like: Tensor) -> None:
        self._layer = layer
        self._window = window
        self._none = like.new_zeros(layer.heads.keys, 0, layer.heads.width)

    def open(self, opening: Opening) -> Self:
        stage = copy.copy(self)
        stage._keys = stage._values = self._none
        stage._next = opening.row
        return stage

    def needs(self, row: int) -> int:
        return row - (self._window - 1)

    def step(self, x: Tensor, last: bool) -> Tensor:
        if not x.shape[0]:
            return x
        layer = self._layer
        x = x + layer.output(self._attended(layer.before_attention(x)))
        return x + layer.feed_forward(x)

    def _attended(self, x: Tensor) -> Tensor:
        """Rows float[n, channels], n > 0, to what their queries find, float[n, heads * width]."""
        layer, heads, count = self._layer, self._layer.heads, x.shape[0]
        cosine, sine = layer.rotation(torch.arange(self._next, self._next + count, device=x.device))
        queries = _rotated(_split(layer.queries(x), heads.queries), cosine, sine)
        keys = torch.cat((self._keys, _rotated(_split(layer.keys(x), heads.keys), cosine, sine)), 1)
        values = torch.cat((self._values, _split(layer.values(x), heads.keys)), 1)
        found = functional.scaled_dot_product_attention(
            queries[None], keys[None], values[None], self._seen(count, keys.shape[1], x.device), enable_gqa=True
        )
        kept = max(keys.shape[1] - (self._window - 1), 0)
        self._keys, self._values = keys[:, kept:].clone(), values[:, kept:].clone()
        self._next += count
        return found[0].transpose(0, 1).reshape(count, -1)

    def _seen(self, count: int, known: int, device: torch.device) -> Tensor:
        """Which keys bool[count, known] the queries of the last `count` rows see."""
        distance = torch.arange(known - count, known, device=device)[:, None] - torch.arange(known, device=device)
        return (distance >= 0) & (distance < self._window)


def _split(x: Tensor, heads: int) -> Tensor:
    """Rows float[n, heads * width] to float[heads, n, width]."""
    return x.view(x.shape[0], heads, -1).transpose(0, 1)


def _rotated(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """RoPE as Llama has it: each half of a head is the other's partner."""
    first, second = x.chunk(2, -1)
    return x * cosine + torch.cat((-second, first), -1) * sine
