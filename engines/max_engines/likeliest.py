"""The highest scores, found without a sort of the vocabulary."""

from __future__ import annotations

import torch
from torch import Tensor

from .kernels import kernels_for

COLUMNS = 32  # torch's vector loops take so many floats; a rest would be computed by other code, in the last row only


def highest(scores: Tensor) -> tuple[Tensor, Tensor]:
    """The highest score of each row `[rows, columns]`, and its column. NaN if there is one."""
    kernels = kernels_for(scores.dtype, scores.device, scores.shape[1])
    if kernels is not None and scores.is_contiguous():
        return kernels.highest(scores)
    best, columns = scores.max(1)
    return best, columns


def likeliest(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` highest scores of each row `[rows, columns]`, highest first, and their columns.

    The k highest lie in the k groups of 32 columns whose own highest are highest: only those are looked at closely.
    """
    rows, columns = scores.shape
    groups = columns // COLUMNS
    if columns % COLUMNS or count * 2 > groups:
        found = torch.topk(scores, count)
        return found.values, found.indices
    grouped = scores.view(rows * groups, COLUMNS)
    chosen = torch.topk(grouped.amax(1).view(rows, groups), count).indices
    first = torch.arange(0, rows * groups, groups, device=scores.device)[:, None]
    found = torch.topk(grouped.index_select(0, (chosen + first).view(-1)).view(rows, -1), count)
    return found.values, chosen.gather(1, found.indices // COLUMNS) * COLUMNS + found.indices % COLUMNS
