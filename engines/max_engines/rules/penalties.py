"""Rules that make what was said before less likely."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..sampling_row import SamplingRow
from ..token_counts import TokenCounts
from .rule import Apply, Layout, Rows


class RepetitionPenalty:
    """Divide positive and multiply negative scores of ids seen in the prompt or the output.

    `repetition_context_size` looks at the last so many ids only. Source: transformers'
    RepetitionPenaltyLogitsProcessor (https://arxiv.org/abs/1909.05858); the context size is MLX-LM's.
    """

    def concerns(self, row: SamplingRow) -> bool:
        return row.params.repetition_penalty != 1

    def prepare(self, rows: Rows, layout: Layout) -> Apply:
        penalties = np.array([row.params.repetition_penalty for row in rows.values()], np.float32)

        def apply(scores: Tensor) -> None:
            said = _Said(rows, [row.seen() for row in rows.values()])
            named, penalty = said.entries(layout), said.column(penalties).to(layout.device)
            known = scores[named]
            scores[named] = torch.where(known < 0, known * penalty, known / penalty)

        return apply


class FrequencyAndPresencePenalty:
    """Subtract `frequency_penalty` × count and `presence_penalty` from ids of the output, not of the prompt.

    Source: OpenAI's API reference, "Frequency and presence penalties".
    """

    def concerns(self, row: SamplingRow) -> bool:
        return bool(row.params.frequency_penalty or row.params.presence_penalty)

    def prepare(self, rows: Rows, layout: Layout) -> Apply:
        frequency = np.array([row.params.frequency_penalty for row in rows.values()], np.float32)
        presence = np.array([row.params.presence_penalty for row in rows.values()], np.float32)

        def apply(scores: Tensor) -> None:
            said = _Said(rows, [row.generated() for row in rows.values()])
            lost = said.column(frequency) * said.times + said.column(presence)
            scores[said.entries(layout)] -= lost.to(layout.device)

        return apply


class _Said:
    """What some rows have said, as one flat list of (row, id, count)."""

    def __init__(self, rows: Rows, counts: Sequence[TokenCounts]) -> None:
        times = np.concatenate([count.times for count in counts])
        self._there = times > 0
        self._lengths = [len(count.ids) for count in counts]
        self._indices = np.array(list(rows))
        self._ids = np.concatenate([count.ids for count in counts])[self._there]
        self.times = torch.from_numpy(times[self._there])

    def entries(self, layout: Layout) -> tuple[Tensor, Tensor]:
        """Index of the scores in question."""
        both = np.stack((np.repeat(self._indices, self._lengths)[self._there], self._ids))
        rows, ids = torch.from_numpy(both).to(layout.device)
        return rows, ids

    def column(self, values: NDArray[np.float32]) -> Tensor:
        """One value per row, repeated for each of its entries; on the host."""
        return torch.from_numpy(np.repeat(values, self._lengths)[self._there])
