"""Which keys a query may see."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .kv_format import PINNED

MAX_BLOCK_SIZE = 32  # queries that torch's CPU kernel takes at a time
LONGEST_SPAN = 128  # queries of one sequence in one call: half the keys of a longer one would be masked


@dataclass(frozen=True, slots=True)
class Span:
    """Queries at `positions`: `queries` of one sequence in a row, or one each of several; of `keys` slots each.

    `keys` is up to the end of the last query's block.
    """

    positions: tuple[int, ...]
    queries: int
    keys: int

    @property
    def end(self) -> int:
        """No query is at or behind it."""
        return self.keys


@dataclass(frozen=True, slots=True, eq=False)
class PlacedSpan(Span):
    """Queries of one sequence whose keys are those of the positions `places`, int64[keys], in any order.

    They see the first, pinned ones, and of the others the last `recent`; None is all.
    """

    places: Tensor
    recent: int | None

    @property
    def end(self) -> int:
        """No query is at or behind it."""
        return self.positions[-1] + 1


@dataclass(frozen=True, slots=True)
class JointSpan(Span):
    """Queries of one sequence that see all keys before `stop`, those behind them, too; a window is of those before."""

    stop: int


class BlockMasks:
    """Additive masks `[sequences, 1, queries, keys]`, cut from one template per window: nothing is built in a step.

    A template's last column is the last slot of a view; its row r is for a query that has `rows - 1 - r` slots after
    its own.
    """

    def __init__(self, block_size: int, dtype: torch.dtype, device: torch.device) -> None:
        exact = dtype == torch.float32 and device.type == "cpu"
        self.span = block_size if exact else LONGEST_SPAN  # see point 1 of `attention`
        self._block_size = block_size
        self._rows = block_size if exact else LONGEST_SPAN + block_size
        self._dtype = dtype
        self._device = device
        self._templates: dict[int | None, Tensor] = {}

    def reach(self, span: Span, window: int | None) -> tuple[Tensor, int]:
        """A span's mask, and the first key that any query in its block may see."""
        if isinstance(span, PlacedSpan):
            return self._placed(span, window), 0
        if isinstance(span, JointSpan):
            return self._joint(span, window), 0
        first = 0
        if window is not None:
            block_start = min(span.positions) // self._block_size * self._block_size
            first = max(0, (block_start - window + 1) // self._block_size * self._block_size)
        keys = span.keys - first
        template = self._templates.get(window)
        if template is None or template.shape[1] < keys:
            template = self._templates[window] = self._template(window, keys)
        offset = self._rows - span.keys
        columns = template[:, template.shape[1] - keys :]
        if len(span.positions) == span.queries:
            start = offset + span.positions[0]
            return columns[start : start + span.queries][None, None], first
        rows = torch.tensor([offset + position for position in span.positions], device=self._device)
        return columns.index_select(0, rows)[:, None, None], first

    def _placed(self, span: PlacedSpan, window: int | None) -> Tensor:
        """The mask of a span whose keys can be anywhere; `window` is the layer's own, which pins nothing."""
        after = torch.tensor(span.positions, device=self._device)[:, None] - span.places
        seen = after >= 0
        if window is not None:
            seen &= after < window
        if span.recent is not None:
            seen &= (after < span.recent) | (span.places < PINNED)
        mask = torch.zeros(seen.shape, dtype=self._dtype, device=self._device)
        return mask.masked_fill_(~seen, -torch.inf)[None, None]

    def _joint(self, span: JointSpan, window: int | None) -> Tensor:
        keys = torch.arange(span.keys, device=self._device)
        seen = (keys < span.stop).expand(span.queries, -1)
        if window is not None:
            after = torch.tensor(span.positions, device=self._device)[:, None] - keys
            seen = seen & (after < window)
        mask = torch.zeros(seen.shape, dtype=self._dtype, device=self._device)
        return mask.masked_fill_(~seen, -torch.inf)[None, None]

    def _template(self, window: int | None, keys: int) -> Tensor:
        width = max(keys, 1024) if window is None else window + self._rows + self._block_size
        width = 1 << (width - 1).bit_length()
        after_query = torch.arange(self._rows - 1, -1, -1)[:, None]
        after_key = torch.arange(width - 1, -1, -1)[None]
        seen = after_key >= after_query
        if window is not None:
            seen &= after_key < after_query + window
        mask = torch.zeros(self._rows, width).masked_fill_(~seen, -torch.inf)
        return mask.to(self._device, self._dtype)
