"""What a request's chunks say of its tokens, so that another worker can go on.

A request of one sequence has plain ids. With several, each chunk has one run: its sequence's number twice, plus one if
the sequence has ended; how many ids follow; the ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class Progress:
    """How far an earlier attempt had got with one sequence."""

    tokens: list[int] = field(default_factory=list)
    ended: bool = False


def run_of(index: int, tokens: tuple[int, ...], ended: bool) -> tuple[int, ...]:
    """The run of one chunk."""
    return (2 * index + ended, len(tokens), *tokens)


def progress(tokens: Sequence[int], sequences: int) -> list[Progress]:
    """What an attempt's tokens say of each of its sequences. ValueError if they are no runs of that many.

    If all had ended and the request had not, the last is taken up again, to say so.
    """
    if sequences == 1:
        return [Progress(list(tokens))]
    found = [Progress() for _ in range(sequences)]
    at = 0
    while at < len(tokens):
        head, count = divmod(tokens[at], 2), tokens[at + 1] if at + 1 < len(tokens) else -1
        if head[0] >= sequences or not 0 <= count <= len(tokens) - at - 2:
            raise ValueError(f"Attempt.tokens: no run of a sequence begins at {at}")
        found[head[0]].tokens += tokens[at + 2 : at + 2 + count]
        found[head[0]].ended |= bool(head[1])
        at += 2 + count
    found[-1].ended &= not all(one.ended for one in found)
    return found
