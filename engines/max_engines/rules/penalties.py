"""Rules that make what was said before less likely."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from ..sampling_row import SamplingRow


class RepetitionPenalty:
    """Divide positive and multiply negative scores of ids seen in the prompt or the output.

    `repetition_context_size` looks at the last so many ids only. Source: transformers'
    RepetitionPenaltyLogitsProcessor (https://arxiv.org/abs/1909.05858); the context size is MLX-LM's.
    """

    def concerns(self, row: SamplingRow) -> bool:
        return row.params.repetition_penalty != 1

    def apply(self, values: Tensor, rows: Sequence[SamplingRow]) -> Tensor:
        for index, row in enumerate(rows):
            ids = torch.tensor(sorted(_seen(row)), dtype=torch.int64, device=values.device)
            known, penalty = values[index, ids], row.params.repetition_penalty
            values[index, ids] = torch.where(known < 0, known * penalty, known / penalty)
        return values


class FrequencyAndPresencePenalty:
    """Subtract `frequency_penalty` × count and `presence_penalty` from ids of the output, not of the prompt.

    Source: OpenAI's API reference, "Frequency and presence penalties".
    """

    def concerns(self, row: SamplingRow) -> bool:
        return bool(row.output) and bool(row.params.frequency_penalty or row.params.presence_penalty)

    def apply(self, values: Tensor, rows: Sequence[SamplingRow]) -> Tensor:
        for index, row in enumerate(rows):
            counts = Counter(row.output)
            ids = torch.tensor(list(counts), device=values.device)
            times = torch.tensor(list(counts.values()), dtype=torch.float32, device=values.device)
            values[index, ids] -= row.params.frequency_penalty * times + row.params.presence_penalty
        return values


def _seen(row: SamplingRow) -> set[int]:
    """The ids that the repetition penalty is about."""
    size = row.params.repetition_context_size
    if size is None:
        return {*row.prompt, *row.output}
    from_prompt = size - len(row.output)
    if from_prompt > 0:
        return {*row.prompt[-from_prompt:], *row.output}
    return set(row.output[-size:]) if size else set()
