"""Rows, logits, and what the sampler would draw from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from max_engines.draw import Draw, weigh
from max_engines.likeliest import COLUMNS
from max_engines.rules import Candidates, Layout, Watermark, score_rules
from max_engines.sampler import Plan
from max_engines.sampling_row import SamplingRow
from tests.engines.tiny_models import Params, start

V = 150


def row(
    output: Sequence[int] = (),
    prompt: Sequence[int] = (1,),
    seed: int = 0,
    bad_words: Sequence[Sequence[int]] = (),
    **params: Any,
) -> SamplingRow:
    """A row at temperature 1 unless `params` say otherwise."""
    chosen: Params = {"temperature": 1.0, **params}
    sequence = start(prompt, seed=seed, accepted=output, **chosen)
    return SamplingRow(replace(sequence, bad_words=tuple(map(tuple, bad_words))))


def logits(rows: int = 1, seed: int = 0, scale: float = 3.0, vocab: int = V) -> Tensor:
    return torch.randn(rows, vocab, generator=torch.Generator().manual_seed(seed)) * scale


def scores_after(scores: Tensor, *rows: SamplingRow, watermark: Watermark | None = None) -> Tensor:
    """Scores `[rows, columns]` after the rules on scores."""
    size = scores.shape[1]
    layout = Layout(size, -(-size // COLUMNS) * COLUMNS, scores.device)
    return Plan(rows, layout, score_rules(Watermark() if watermark is None else watermark)).scores(scores.clone())


def probabilities(scores: Tensor, *rows: SamplingRow) -> Tensor:
    """What a draw that looks at everything draws from, `[rows, vocabulary]`."""
    after = scores_after(scores, *rows)
    draw = Draw(rows, scores.device)
    candidates = Candidates(weigh(after, after.amax(1, keepdim=True), draw.temperature))
    draw.cut(candidates)
    return (candidates.weights / candidates.weights.sum(1, keepdim=True))[:, : scores.shape[1]]


def softmax(scores: Tensor) -> Tensor:
    return torch.softmax(scores, 1)
