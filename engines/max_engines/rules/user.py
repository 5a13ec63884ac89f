"""Functions of the user's own."""

from __future__ import annotations

import torch
from torch import Tensor

from ..processors import lookup
from ..sampling_row import SamplingRow
from .rule import Apply, Layout, Rows, SequenceError


class UserProcessors:
    """The functions that `logits_processors` names, in their order. What is forbidden already stays forbidden.

    A function that fails, or gives anything but finite or -inf scores of the right shape, fails its sequence only.
    """

    def concerns(self, row: SamplingRow) -> bool:
        return bool(row.params.logits_processors)

    def prepare(self, rows: Rows, layout: Layout) -> Apply:
        def apply(scores: Tensor) -> None:
            for index, row in rows.items():
                mine = scores[index, : layout.vocab_size]
                forbidden = mine == -torch.inf
                for name in row.params.logits_processors:
                    mine.copy_(_call(name, row, mine)).masked_fill_(forbidden, -torch.inf)

        return apply


def _call(name: str, row: SamplingRow, scores: Tensor) -> Tensor:
    """The scores that a processor gives for a copy of `scores`. SequenceError with what went wrong."""
    try:
        processor = lookup(name)
    except ValueError as error:
        raise SequenceError(row.name, str(error)) from None
    try:
        given: object = processor(row.prompt, tuple(row.output), scores.clone())
    except Exception as error:
        raise SequenceError(row.name, f"logits processor {name!r} failed: {error!r:.300}") from error
    if not isinstance(given, Tensor) or given.shape != scores.shape or not given.is_floating_point():
        what = f"{given.dtype}{list(given.shape)}" if isinstance(given, Tensor) else type(given).__name__
        raise SequenceError(
            row.name, f"logits processor {name!r} gave {what}: must be floating point scores {list(scores.shape)}"
        )
    if bool((torch.isnan(given) | (given == torch.inf)).any()):
        raise SequenceError(row.name, f"logits processor {name!r} gave NaN or infinite scores")
    return given
