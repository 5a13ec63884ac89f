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

    `scores` `[rows, columns]` are those of all rows of the step, `raw` the model's own `[vocabulary]` of those that
    want theirs told. How many of a row are looked at depends on that row alone: so which of equal ones are does, too.
    """

    def __init__(
        self, scores: Tensor, rows: Sequence[int], count: int, raw: Mapping[int, tuple[Tensor, Wanted]]
    ) -> None:
        self._rows = rows
        own = scores if len(rows) == len(scores) else scores[list(rows)]
        values, ids = likeliest(own, min(count, scores.shape[1]))
        self._copy = HostCopy(values, ids)
        self._told: dict[int, PendingLogProbabilities] = {}
        for row, (logits, wanted) in raw.items():
            tokens = ids[rows.index(row)].clamp_max(logits.shape[0] - 1)  # a forbidden column is no id
            self._told[row] = PendingLogProbabilities(logits.expand(len(tokens), -1), tokens, wanted)

    @cached_property
    def of_rows(self) -> dict[int, list[Continuation]]:
        """Those of each row by its index, the likeliest first; read from the device."""
        values, ids = self._copy.read()
        found: dict[int, list[Continuation]] = {}
        for row, scores, tokens in zip(self._rows, values.tolist(), ids.tolist(), strict=True):
            told = self._told[row].each() if row in self._told else [None] * len(tokens)
            found[row] = [Continuation(*one) for one in zip(tokens, scores, told, strict=True)]
        return found
