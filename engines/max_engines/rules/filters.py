"""Rules that cut off a tail of the distribution. Rows that are greedy never come here.

A filter cuts at a value, so that equal weights share their fate and no order among them matters. What is cut has weight
0; a comparison that writes floats and a product do that five times faster than a boolean mask does (torch 2.13, CPU).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..sampling_row import SamplingRow
from .rule import column

FIRST_LOOK = 64  # how many of the likeliest are sorted at first; the nucleus of a sure model is smaller


class TopK:
    """Keep the `top_k` likeliest, and what ties with the last of them. Source: transformers' TopKLogitsWarper."""

    def concerns(self, row: SamplingRow) -> bool:
        return row.params.top_k > 0

    def apply(self, values: Tensor, rows: Sequence[SamplingRow]) -> Tensor:
        counts = [min(row.params.top_k, values.shape[1]) for row in rows]
        likeliest = torch.topk(values, max(counts)).values
        last = torch.tensor(counts, device=values.device)[:, None] - 1
        return _keep_from(values, likeliest.gather(1, last))


class TopP:
    """Keep the smallest set of likeliest tokens whose probabilities reach `top_p`.

    Source: nucleus sampling (https://arxiv.org/abs/1904.09751), transformers' TopPLogitsWarper. Only as many weights
    are sorted as the widest nucleus needs: a few at first, eight times more whenever they do not reach.
    """

    def concerns(self, row: SamplingRow) -> bool:
        return row.params.top_p < 1

    def apply(self, values: Tensor, rows: Sequence[SamplingRow]) -> Tensor:
        wanted = values.sum(1, keepdim=True) * column([row.params.top_p for row in rows], values)
        size, width = values.shape[1], min(FIRST_LOOK, values.shape[1])
        while True:
            likeliest = torch.topk(values, width).values
            short = likeliest.cumsum(1) < wanted
            if width == size or not bool(short[:, -1].any()):
                break
            width = min(width * 8, size)
        last = short.sum(1, keepdim=True).clamp_max_(width - 1)  # rounding may leave even all of them short
        return _keep_from(values, likeliest.gather(1, last))


class MinP:
    """Keep what is at least `min_p` times as likely as the likeliest. Source: https://arxiv.org/abs/2407.01082."""

    def concerns(self, row: SamplingRow) -> bool:
        return row.params.min_p > 0

    def apply(self, values: Tensor, rows: Sequence[SamplingRow]) -> Tensor:
        return _keep_from(values, column([row.params.min_p for row in rows], values))  # the likeliest weighs 1


class TypicalP:
    """Keep the tokens whose surprise is nearest to the entropy, until their probabilities reach `typical_p`.

    Source: locally typical sampling (https://arxiv.org/abs/2202.00666), transformers' TypicalLogitsWarper.
    """

    def concerns(self, row: SamplingRow) -> bool:
        return row.params.typical_p < 1

    def apply(self, values: Tensor, rows: Sequence[SamplingRow]) -> Tensor:
        p = values / values.sum(1, keepdim=True)
        entropy = -torch.xlogy(p, p).sum(1, keepdim=True)
        distance = (p.log() + entropy).abs()  # infinite for what is already cut
        nearest, order = distance.sort(1)
        short = p.gather(1, order).cumsum(1) < column([row.params.typical_p for row in rows], values)
        last = short.sum(1, keepdim=True).clamp_max_(values.shape[1] - 1)
        return values.mul_(distance <= nearest.gather(1, last))


def _keep_from(weights: Tensor, least: Tensor) -> Tensor:
    """`weights` with everything below `least` `[rows, 1]` set to 0."""
    return weights.mul_(torch.ge(weights, least, out=torch.empty_like(weights)))
