"""The rows of a step: the tokens of its chunks, one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from .scheduler import Chunk


@dataclass(slots=True, eq=False)
class Rows:
    """What a step computes, row by row: each has a token and a position.

    `unread` are the rows of tokens that nobody has read yet, which are 0 here. Some have three rotary positions of
    their own, int64 `[3, tokens]`: `turned` says so, by the first row of each piece. No position turns further than
    that of a sequence of `longest` tokens.
    """

    tokens: list[int]
    positions: list[int]
    unread: list[int]
    turned: list[tuple[int, Tensor]]
    longest: int

    def pad(self, count: int) -> None:
        """Rows that nobody looks at."""
        self.tokens += [0] * count
        self.positions += [0] * count


def rows_of(chunks: Sequence[Chunk]) -> Rows:
    """The rows of `chunks`, in their order."""
    tokens: list[int] = []
    positions: list[int] = []
    unread: list[int] = []
    turned: list[tuple[int, Tensor]] = []
    longest = 1
    for chunk in chunks:
        sequence = chunk.sequence
        tokens.extend(sequence.tokens(chunk.first, chunk.last))
        if chunk.last > sequence.known:
            unread.append(len(tokens))
            tokens.append(0)
        if sequence.turned is None:
            positions.extend(range(chunk.first, chunk.last))
            continue
        three = sequence.turned.apart(chunk.first, chunk.last)
        if three is not None:
            turned.append((len(positions), three))
        positions.extend(sequence.turned.times(chunk.first, chunk.last))
        longest = max(longest, sequence.turned.end(chunk.last))
    return Rows(tokens, positions, unread, turned, longest)


def kept_rows(chunks: Sequence[Chunk]) -> list[int]:
    """The rows of the step whose scores are wanted."""
    rows: list[int] = []
    start = 0
    for chunk in chunks:
        stop = start + chunk.count
        rows.extend(range(start, start + chunk.scored))
        if chunk.samples:
            rows.append(stop - 1)
        start = stop
    return rows
