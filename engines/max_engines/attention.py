"""Attention over the paged KV cache, for any transformers model that takes its attention from the interface.

In float32 on a CPU a row's result is bit for bit the same whatever else is in the step, which takes three things
(measured with torch 2.13 and MKL; `tests/engines/test_invariance.py` holds them):

1. The number of keys a query reads depends on its position alone: all keys up to the end of its own block, those
   after it masked. So queries are grouped by block, and a prompt gives the same in chunks as in one piece.
2. A group has at most 32 queries, the block of torch's kernel, and at least 4 (12 for heads wider than 64), because
   MKL has other kernels for fewer rows. Groups that are too small are filled up with copies of their first query.
3. Each sequence is attended to by itself; on a CPU that costs no more than a batch padded to the longest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from .kv_cache import KVCache, KVView

PAGED_ATTENTION = "maxpipe_paged"  # the name under which transformers finds it
MAX_BLOCK_SIZE = 32  # queries that torch's CPU kernel takes at a time


class PagedAttentionError(RuntimeError):
    """A model asks for an attention that this one cannot do."""


@dataclass(frozen=True, slots=True)
class Span:
    """Queries of one sequence that lie in one block: rows `start` to `stop` of the step.

    `offset` is where in the block the first of them lies; `view` holds `keys` slots, up to the end of the block.
    """

    start: int
    stop: int
    offset: int
    view: KVView
    keys: int


class AttentionStep:
    """What the attention of every layer needs to know about one step. Rows no span covers are padding.

    `singles` are the leading spans of one query each, which is all that decode consists of; `groups` are the others.
    """

    def __init__(self, cache: KVCache, masks: BlockMasks, slots: Tensor, spans: Sequence[Span]) -> None:
        self.cache = cache
        self.slots = slots
        count = next((i for i, span in enumerate(spans) if span.stop - span.start > 1), len(spans))
        self.singles = spans[:count]
        self.groups = spans[count:]
        self.covered = spans[-1].stop if spans else 0
        self._masks = masks
        self._reach: dict[int | None, list[tuple[Tensor, int]]] = {}
        self._rotation: tuple[Tensor, Tensor] | None = None

    def rotation(self, position_embeddings: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Cosines and sines `[tokens, 1, head_dim]` of the positions, the sines of the first half negative.

        With x rolled by half a head, x * cos + rolled * sin is the rotary embedding. Taken from the first layer's.
        """
        if self._rotation is None:
            cos, sin = position_embeddings
            first, second = sin[0, :, None].chunk(2, -1)
            self._rotation = cos[0, :, None], torch.cat((-first, second), -1)
        return self._rotation

    def reach(self, window: int | None) -> list[tuple[Tensor, int]]:
        """For every span, in order: the mask `[1, 1, queries, keys]`, and the first key of its view that it is for."""
        known = self._reach.get(window)
        if known is None:
            known = self._reach[window] = [self._masks.reach(s, window) for s in (*self.singles, *self.groups)]
        return known


class BlockMasks:
    """Additive masks `[queries, keys]`, cut from one template per window: nothing is built in a step.

    Row r of a template is a query at offset r of its block, its last column the block's last slot.
    """

    def __init__(self, block_size: int, dtype: torch.dtype, device: torch.device) -> None:
        self._block_size = block_size
        self._dtype = dtype
        self._device = device
        self._templates: dict[int | None, Tensor] = {}

    def reach(self, span: Span, window: int | None) -> tuple[Tensor, int]:
        """A span's mask `[1, 1, queries, keys]`, and the first key that any query in the span's block may see."""
        block_start = span.keys - self._block_size
        first = 0
        if window is not None and block_start >= window:
            first = (block_start - window + 1) // self._block_size * self._block_size
        keys = span.keys - first
        template = self._templates.get(window)
        if template is None or template.shape[1] < keys:
            template = self._templates[window] = self._template(window, keys)
        rows = slice(span.offset, span.offset + span.stop - span.start)
        return template[rows, template.shape[1] - keys :][None, None], first

    def _template(self, window: int | None, keys: int) -> Tensor:
        size = self._block_size
        width = max(keys, 1024) if window is None else window + 2 * size
        width = 1 << (width - 1).bit_length()
        query = torch.arange(size)[:, None]
        key = torch.arange(width)[None] - (width - size)
        seen = key <= query
        if window is not None:
            seen &= key > query - window
        mask = torch.zeros(size, width).masked_fill_(~seen, -torch.inf)
        return mask.to(self._device, self._dtype)


def paged_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    attention_step: AttentionStep | None = None,
    **others: object,
) -> tuple[Tensor, None]:
    """Attention of one layer, with the signature of transformers' `AttentionInterface`.

    `query` `[1, query heads, tokens, head_dim]`, `key` and `value` `[1, heads, tokens, head_dim]` of all rows of the
    step; returns `[1, tokens, query heads, head_dim]`. Raises PagedAttentionError for what it does not know.
    """
    unknown = sorted(name for name in ("s_aux", "position_bias") if others.get(name) is not None)
    layer = getattr(module, "layer_idx", None)
    if unknown or attention_step is None or layer is None:
        raise PagedAttentionError(f"{type(module).__name__} needs {', '.join(unknown) or 'an attention of its own'}")
    keys, values = key[0].transpose(0, 1), value[0].transpose(0, 1)
    return attend(attention_step, layer, query, keys, values, scaling, sliding_window, softcap), None


def attend(
    step: AttentionStep,
    layer: int,
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    scaling: float | None,
    window: int | None,
    softcap: float | None,
) -> Tensor:
    """Store a layer's new `keys` and `values` `[tokens, heads, head_dim]`, and attend to all that it has.

    `query` `[1, query heads, tokens, head_dim]`; returns `[1, tokens, query heads, head_dim]`.
    """
    step.cache.write(layer, step.slots, keys, values)
    kernel = Kernel(layer, scaling, softcap, query.shape[1] != keys.shape[1])
    reach = step.reach(window)
    count = len(step.singles)
    attended = [
        kernel.single(filled, span, *seen)
        for filled, span, seen in zip(_filled(query[:, :, :count]), step.singles, reach[:count], strict=True)
    ]
    for span, seen in zip(step.groups, reach[count:], strict=True):
        attended.append(kernel.group(query[:, :, span.start : span.stop], span, *seen))
    if step.covered < query.shape[2]:
        attended.append(torch.zeros_like(query[:, :, step.covered :]))
    output = attended[0] if len(attended) == 1 else torch.cat(attended, 2)
    return output.transpose(1, 2)


def _filled(query: Tensor) -> tuple[Tensor, ...]:
    """Of n single queries `[1, heads, n, head_dim]`, each as a group `[1, heads, least, head_dim]` of copies."""
    _, heads, count, head_dim = query.shape
    copies = query[0].transpose(0, 1)[:, None, :, None].expand(count, 1, heads, _least_queries(query), head_dim)
    return copies.contiguous().unbind(0)


def _least_queries(query: Tensor) -> int:
    """How many queries a group needs for a row's result not to depend on their number."""
    if query.dtype != torch.float32 or query.device.type != "cpu":
        return 1  # bit equality is not promised there
    return 4 if query.shape[3] <= 64 else 12


@dataclass(frozen=True, slots=True)
class Kernel:
    """Attention of one layer, for one span at a time."""

    layer: int
    scaling: float | None
    softcap: float | None
    grouped: bool

    def single(self, filled: Tensor, span: Span, mask: Tensor, first: int) -> Tensor:
        """One query, `filled` with copies of itself; returns `[1, heads, 1, head_dim]`."""
        return self._attend(filled, span, mask, first)[:, :, :1]

    def group(self, query: Tensor, span: Span, mask: Tensor, first: int) -> Tensor:
        """Several queries `[1, heads, queries, head_dim]`; returns the same shape."""
        count = query.shape[2]
        missing = _least_queries(query) - count
        if missing > 0:
            query = torch.cat((query, query[:, :, :1].expand(-1, -1, missing, -1)), 2)
            mask = torch.cat((mask, mask[:, :, :1].expand(-1, -1, missing, -1)), 2)
        return self._attend(query, span, mask, first)[:, :, :count]

    def _attend(self, query: Tensor, span: Span, mask: Tensor, first: int) -> Tensor:
        keys, values = span.view.layer(self.layer)
        if first:
            keys, values = keys[:, :, first:], values[:, :, first:]
        if self.softcap is not None:
            return _softcapped(query, keys, values, mask, self.scaling, self.softcap)
        return scaled_dot_product_attention(
            query, keys, values, attn_mask=mask, scale=self.scaling, enable_gqa=self.grouped
        )


def _softcapped(
    query: Tensor, keys: Tensor, values: Tensor, mask: Tensor, scaling: float | None, softcap: float
) -> Tensor:
    """Attention with scores bent by tanh, as in Gemma 2 (https://arxiv.org/abs/2408.00118, section 2)."""
    groups = query.shape[1] // keys.shape[1]
    if groups > 1:
        keys, values = keys.repeat_interleave(groups, 1), values.repeat_interleave(groups, 1)
    scores = query @ keys.transpose(2, 3)
    scores = scores * (query.shape[3] ** -0.5 if scaling is None else scaling)
    scores = torch.tanh(scores / softcap) * softcap + mask
    return torch.softmax(scores, -1, dtype=torch.float32).to(query.dtype) @ values


AttentionInterface.register(PAGED_ATTENTION, paged_attention)
