"""Rules that cut off a tail of the distribution. Rows that are greedy never come here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

from ..sampling_row import SamplingRow
from .candidates import Candidates
from .crossing import crossing

ONE = 0x3F800000  # the bits of 1.0: those of floats from 0 to 1, read as integers, are in the same order

Cut: TypeAlias = Callable[[Candidates], None]


class Filter(Protocol):
    """Cuts off candidates of the rows that asked for it, each row by itself."""

    def concerns(self, row: SamplingRow) -> bool:
        """True if the row asked for this filter; the answer is the same for as long as it lives."""
        ...

    def prepare(self, rows: Sequence[SamplingRow], device: torch.device) -> Cut:
        """What to do in each step with the candidates of exactly these rows, all of them concerned."""
        ...


class TopK:
    """Keep the `top_k` likeliest, and what ties with the last of them. Source: transformers' TopKLogitsWarper."""

    def concerns(self, row: SamplingRow) -> bool:
        return row.params.top_k > 0

    def prepare(self, rows: Sequence[SamplingRow], device: torch.device) -> Cut:
        most = max(row.params.top_k for row in rows)
        last = torch.tensor([row.params.top_k for row in rows], device=device)[:, None] - 1

        def cut(candidates: Candidates) -> None:
            weights = candidates.weights
            width = weights.shape[1]
            highest = torch.topk(weights, min(most, width)).values
            candidates.cut_below(highest.gather(1, last.clamp_max(width - 1)))
            candidates.recount()

        return cut


class TopP:
    """Keep the smallest set of likeliest tokens whose probabilities reach `top_p`, and what ties with the last of them.

    Source: nucleus sampling (https://arxiv.org/abs/1904.09751), transformers' TopPLogitsWarper.
    """

    def concerns(self, row: SamplingRow) -> bool:
        return row.params.top_p < 1

    def prepare(self, rows: Sequence[SamplingRow], device: torch.device) -> Cut:
        top_p = column([row.params.top_p for row in rows], device)

        def cut(candidates: Candidates) -> None:
            keys = ONE - candidates.weights.view(torch.int32)  # the heaviest first
            last = crossing(keys, candidates.weights, candidates.total * top_p)
            candidates.cut_below((ONE - last.clamp_max_(ONE)).view(torch.float32))

        return cut


class MinP:
    """Keep what is at least `min_p` times as likely as the likeliest. Source: https://arxiv.org/abs/2407.01082."""

    def concerns(self, row: SamplingRow) -> bool:
        return row.params.min_p > 0

    def prepare(self, rows: Sequence[SamplingRow], device: torch.device) -> Cut:
        least = column([row.params.min_p for row in rows], device)  # the likeliest weighs 1
        return lambda candidates: candidates.cut_below(least)


class TypicalP:
    """Keep the tokens whose surprise is nearest to the entropy, until their probabilities reach `typical_p`.

    Source: locally typical sampling (https://arxiv.org/abs/2202.00666), transformers' TypicalLogitsWarper.
    """

    def concerns(self, row: SamplingRow) -> bool:
        return row.params.typical_p < 1

    def prepare(self, rows: Sequence[SamplingRow], device: torch.device) -> Cut:
        typical_p = column([row.params.typical_p for row in rows], device)

        def cut(candidates: Candidates) -> None:
            candidates.recount()
            p = candidates.weights / candidates.total
            entropy = -torch.xlogy(p, p).cumsum(1)[:, -1:]
            distance = (p.log() + entropy).abs_()  # infinite for what is already cut
            last = crossing(distance.view(torch.int32), p, typical_p)
            candidates.cut(-distance, -last.view(torch.float32))

        return cut


def column(values: Sequence[float], device: torch.device) -> Tensor:
    """One number per row, as float32[rows, 1]."""
    return torch.tensor(values, dtype=torch.float32, device=device)[:, None]
