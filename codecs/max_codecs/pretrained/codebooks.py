"""Residual vector quantizers: a latent step is the sum of one vector from each codebook."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..slots import Slot


class Group:
    """Codebooks whose vectors are summed, then projected: `tables` float[size, width] each, `projection` kernel 1."""

    def __init__(self, tables: Sequence[Tensor], projection: nn.Conv1d | None = None) -> None:
        self.tables = torch.cat([table.detach() for table in tables])
        self.count = len(tables)
        self._weight = projection.weight.detach()[:, :, 0].t().contiguous() if projection is not None else None
        self._bias = (
            projection.bias.detach().clone() if projection is not None and projection.bias is not None else None
        )

    def latents(self, rows: Tensor) -> Tensor:
        """Rows of `tables` int64[n, count] to latents float[n, channels]."""
        summed = functional.embedding(rows, self.tables).sum(1)
        if self._weight is None:
            return summed
        projected = summed @ self._weight
        return projected if self._bias is None else projected + self._bias


class ResidualCodebooks:
    """A `Quantizer`: groups of codebooks, coarse to fine, whose latents are summed.

    `slots` says which codebook each code of a frame belongs to.
    """

    def __init__(self, groups: Sequence[Group], slots: Sequence[Slot]) -> None:
        device = groups[0].tables.device
        order = sorted(range(len(slots)), key=lambda column: slots[column])
        self._groups: list[
            tuple[Group, Tensor, Tensor]
        ] = []  # each with the columns of its codes, and where they begin
        for group in groups:
            columns, order = order[: group.count], order[group.count :]
            size = group.tables.shape[0] // group.count
            begins = torch.arange(len(columns), device=device) * size
            self._groups.append((group, torch.tensor(columns, device=device), begins))

    def latents(self, frames: Tensor) -> Tensor:
        """See `Quantizer.latents`."""
        parts = [
            group.latents(frames.to(columns.device)[:, columns] + begins) for group, columns, begins in self._groups
        ]
        return torch.stack(parts).sum(0)


def used(slots: Sequence[Slot] | None, available: int) -> tuple[Slot, ...]:
    """The slots, or one code of each codebook. ValueError unless they are one code of each of the first codebooks."""
    if slots is None:
        return tuple((level, 0) for level in range(available))
    levels = sorted(slots)
    if levels != [(level, 0) for level in range(len(levels))]:
        raise ValueError(f"slots={list(slots)}: must be one code of each codebook, from the first one on")
    if len(levels) > available:
        raise ValueError(f"slots={list(slots)}: {len(levels)} codebooks, of which this codec has {available}")
    return tuple(slots)
