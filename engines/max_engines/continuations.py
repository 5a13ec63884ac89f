"""What may follow the beams of a step, while the device may still be computing it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

from torch import Tensor

from .beams import Continuation
from .host_copy import HostCopy
from .likeliest import likeliest
from .log_probabilities import PendingLogProbabilities, Wanted


class Continuations:
    """The `count` likeliest of each of some rows, by their log probabilities after the rules.

    `scores` `[rows, columns]` are those of all rows of the step, `raw` by what is wanted the rows that have theirs told
    and the model's own logits `[those, vocabulary]`. How many of a row are looked at depends on that row alone: so
    which of equal ones are does, too.
    """

    def __init__(
        self, scores: Tensor, rows: Sequence[int], count: int, raw: Mapping[Wanted, tuple[Sequence[int], Tensor]]
    ) -> None:
        self._rows = rows
        own = scores if len(rows) == len(scores) else scores[list(rows)]
        values, ids = likeliest(own, min(count, scores.shape[1]))
        self._copy = HostCopy(values, ids)
        self._told: list[tuple[Sequence[int], PendingLogProbabilities]] = []
        for wanted, (telling, logits) in raw.items():
            tokens = ids[[rows.index(row) for row in telling]].clamp_max(logits.shape[1] - 1)  # no forbidden column
            self._told.append((telling, PendingLogProbabilities(logits, tokens, wanted)))

    @cached_property
    def of_rows(self) -> dict[int, list[Continuation]]:
        """Those of each row by its index, the likeliest first; read from the device."""
        values, ids = self._copy.read()
        told = {row: drafts for rows, pending in self._told for row, drafts in zip(rows, pending.drafts(), strict=True)}
        nothing = [None] * ids.shape[1]
        return {
            row: [Continuation(*one) for one in zip(own, scores, told.get(row, nothing), strict=True)]
            for row, scores, own in zip(self._rows, values.tolist(), ids.tolist(), strict=True)
        }
