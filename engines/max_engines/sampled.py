"""What a step has sampled."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from math import inf, isfinite

from torch import Tensor

from max_interfaces.text import LogProbabilities

from .beams import Continuation
from .continuations import Continuations
from .host_copy import HostCopy
from .log_probabilities import PendingLogProbabilities
from .rules import SequenceError


class Sampled:
    """The tokens of a step, while the device may still be computing them.

    `tokens` int64[rows] lie on the device, where the next step can take them before anybody has read them. `best`
    `[rows]` are the highest scores: where one is not finite, no token is possible. `searched` is what may follow the
    rows that are beams; of these one may come to its end, while the others go on.
    """

    def __init__(
        self,
        tokens: Tensor,
        best: Tensor,
        names: Sequence[str],
        pending: Sequence[tuple[Sequence[int], PendingLogProbabilities]] = (),
        searched: Sequence[Continuations] = (),
    ) -> None:
        self.tokens = tokens
        self._names = names
        self._pending = pending
        self._searched = searched
        self._copy = HostCopy(tokens, best)

    def resolve(self) -> list[int]:
        """The token ids, read from the device. SequenceError names the first row in which no token is possible."""
        tokens, best = self._copy.read()
        for row, (name, score) in enumerate(zip(self._names, best.tolist(), strict=True)):
            if not isfinite(score) and not (score == -inf and row in self.continuations):
                raise SequenceError(name, "no token can follow: every score is -inf, or the model gave NaN")
        ids: list[int] = tokens.tolist()
        return ids

    @cached_property
    def continuations(self) -> dict[int, list[Continuation]]:
        """What may follow each of the rows that are beams."""
        return {row: found for searched in self._searched for row, found in searched.of_rows.items()}

    @cached_property
    def log_probabilities(self) -> list[LogProbabilities | None]:
        """For each row what it asked for, None if nothing; read from the device, as `resolve` does."""
        every: list[LogProbabilities | None] = [None] * len(self._names)
        for indices, pending in self._pending:
            for index, entry in zip(indices, pending.each(), strict=True):
                every[index] = entry
        return every
