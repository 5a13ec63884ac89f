"""Attention over the paged KV cache, for any transformers model that takes its attention from the interface.

In float32 on a CPU a row's result is bit for bit the same whatever else is in the step. The compiled kernel sees to it:
a query's result depends on its own keys alone. Where there is none, torch's attention takes three things (measured with
torch 2.13 and MKL on Intel's and AMD's processors; `tests/engines/test_invariance.py` holds them):

1. The number of keys a query reads depends on its position alone: all keys up to the end of its own block, those
   after it masked. So queries are grouped by block, and a prompt gives the same in chunks as in one piece.
2. A kernel's call has at most 32 queries a head, the block of torch's kernel, and at least 4 (12 for heads wider than
   64), because MKL has other kernels for fewer rows. What is too small is filled up with copies.
3. Sequences are attended to in one call only where each has a batch entry of its own: entries do not see each other.

In bfloat16, where bit equality is not promised, decode takes the compiled kernel, and prompts take torch's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from .kernels import RowKernels
from .kv_cache import KVCache, KVView, PackedRows
from .masks import BlockMasks, Span

PAGED_ATTENTION = "maxpipe_paged"  # the name under which transformers finds it


class PagedAttentionError(RuntimeError):
    """A model asks for an attention that this one cannot do."""


@dataclass(frozen=True, slots=True)
class Group:
    """Rows `start` to `stop` of the step that are attended to in one call.

    They are `view`'s sequences, each with the same number of queries: one in decode, or several of one sequence.
    """

    start: int
    stop: int
    view: KVView
    span: Span


@dataclass(frozen=True, slots=True)
class Pieces:
    """The first `count` rows of the step, for the compiled kernel; see `RowKernels.attend`."""

    kernels: RowKernels
    count: int
    pieces: Tensor
    runs: Tensor
    longest: int  # most keys of a row


@dataclass(frozen=True, slots=True)
class Staged:
    """Rows `start` to `stop` of the step, whose keys and values are quantised before they are stored."""

    start: int
    stop: int
    rows: PackedRows


class AttentionStep:
    """What the attention of every layer needs to know about one step. Rows that nothing covers are padding.

    Rows from `plain_rows` on are not stored as they are: they are `staged`, or padding.
    """

    def __init__(
        self,
        cache: KVCache,
        masks: BlockMasks,
        slots: Tensor,
        groups: Sequence[Group],
        pieces: Pieces | None = None,
        staged: Sequence[Staged] = (),
        longest: int = 1,
    ) -> None:
        self.cache = cache
        self.groups = groups
        self.pieces = pieces
        self.covered = groups[-1].stop if groups else 0 if pieces is None else pieces.count
        # No position is beyond it, be it one of a key or a rotary one, which may be further.
        self.longest = max([group.span.end for group in groups], default=1)
        self.longest = max(self.longest, longest)
        if pieces is not None:
            self.longest = max(self.longest, pieces.longest)
        self._masks = masks
        self.slots = slots
        self.plain_rows = slots.shape[0]
        self.staged = staged
        self._reach: dict[int | None, list[tuple[Tensor, int]]] = {}

    def store(self, layer: int, keys_values: Tensor) -> None:
        """Put the `[tokens, 2 * heads, head_dim]` of the step's tokens where they belong, the keys' heads first."""
        if not self.staged:
            self.cache.write(layer, self.slots, keys_values)
            return
        self.cache.write(layer, self.slots, keys_values[: self.plain_rows])
        self.store_staged(layer, keys_values[self.plain_rows :])

    def store_staged(self, layer: int, keys_values: Tensor) -> None:
        """The same of the rows from `plain_rows` on alone."""
        for staged in self.staged:
            rows = keys_values[staged.start - self.plain_rows : staged.stop - self.plain_rows]
            staged.rows.write(layer, rows)

    def reach(self, window: int | None) -> list[tuple[Tensor, int]]:
        """For every group: its mask `[sequences, 1, queries, keys]`, and the first key of its view that it is for."""
        known = self._reach.get(window)
        if known is None:
            known = self._reach[window] = [self._masks.reach(group.span, window) for group in self.groups]
        return known


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
    attention_step.store(layer, torch.cat((key[0], value[0])).transpose(0, 1))
    attention = Attention(layer, scaling, sliding_window, softcap)
    return attention(query[0].transpose(0, 1), attention_step)[None], None


@dataclass(frozen=True, slots=True)
class Attention:
    """The attention of one layer; `scaling` None is 1 / sqrt(head_dim)."""

    layer: int
    scaling: float | None
    window: int | None
    softcap: float | None = None

    def __call__(self, query: Tensor, step: AttentionStep) -> Tensor:
        """Attend to all that is stored: `query` `[tokens, query heads, head_dim]`; returns the same shape."""
        reach = step.reach(self.window)
        if len(step.groups) == 1 and step.covered == query.shape[0] and step.pieces is None:
            return self._group(query, step.groups[0], *reach[0])
        attended = query.new_empty(query.shape)
        if step.pieces is not None:
            self._pieces(query, attended, step.pieces, step.cache)
        for group, (mask, first) in zip(step.groups, reach, strict=True):
            attended[group.start : group.stop] = self._group(query[group.start : group.stop], group, mask, first)
        if step.covered < query.shape[0]:
            attended[step.covered :] = 0
        return attended

    def _pieces(self, query: Tensor, attended: Tensor, pieces: Pieces, cache: KVCache) -> None:
        store = cache.of_layer(self.layer)
        scaling = query.shape[2] ** -0.5 if self.scaling is None else self.scaling
        if query.dtype != store.dtype:
            raise PagedAttentionError(f"layer {self.layer} asks in {query.dtype}, its keys are {store.dtype}")
        if query.stride(2) != 1:
            query = query.contiguous()
        pieces.kernels.attend(query, attended, store, pieces.pieces, pieces.runs, self.window, scaling, self.softcap)

    def _group(self, query: Tensor, group: Group, mask: Tensor, first: int) -> Tensor:
        keys, values = group.view.layer(self.layer)
        if first:
            keys, values = keys[:, :, first:], values[:, :, first:]
        if group.span.queries == 1:
            return self._decode(query, keys, values, mask)
        return self._prefill(query, keys, values, mask)

    def _decode(self, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """One query of each sequence; those heads that share a key's head are taken for several queries."""
        count, heads, width = query.shape
        shared = heads // keys.shape[1]
        folded = query.view(count, -1, shared, width)
        copies = -(-_least_queries(query) // shared)
        if copies == 1:
            return self._attend(folded, keys, values, mask).reshape(count, heads, width)
        filled = folded.repeat_interleave(copies, 2)
        return self._attend(filled, keys, values, mask)[:, :, ::copies].reshape(count, heads, width)

    def _prefill(self, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """Several queries of one sequence."""
        count = query.shape[0]
        missing = _least_queries(query) - count
        if missing > 0:
            query = torch.cat((query, query[:1].expand(missing, -1, -1)))
            mask = torch.cat((mask, mask[:, :, :1].expand(-1, -1, missing, -1)), 2)
        return self._attend(query.transpose(0, 1)[None], keys, values, mask)[0, :, :count].transpose(0, 1)

    def _attend(self, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        if self.softcap is not None:
            return _softcapped(query, keys, values, mask, self.scaling, self.softcap)
        grouped = query.shape[1] != keys.shape[1]
        return scaled_dot_product_attention(query, keys, values, attn_mask=mask, scale=self.scaling, enable_gqa=grouped)


def _least_queries(query: Tensor) -> int:
    """How many queries a call needs for a row's result not to depend on their number."""
    if query.dtype != torch.float32 or query.device.type != "cpu":
        return 1  # bit equality is not promised there
    return 4 if query.shape[-1] <= 64 else 12


def _softcapped(
    query: Tensor, keys: Tensor, values: Tensor, mask: Tensor, scaling: float | None, softcap: float
) -> Tensor:
    """Attention with scores bent by tanh, as in Gemma 2 (https://arxiv.org/abs/2408.00118, section 2)."""
    shared = query.shape[1] // keys.shape[1]
    if shared > 1:
        keys, values = keys.repeat_interleave(shared, 1), values.repeat_interleave(shared, 1)
    scores = query @ keys.transpose(2, 3)
    scores = scores * (query.shape[3] ** -0.5 if scaling is None else scaling)
    scores = torch.tanh(scores / softcap) * softcap + mask
    return torch.softmax(scores, -1, dtype=torch.float32).to(query.dtype) @ values


AttentionInterface.register(PAGED_ATTENTION, paged_attention)
