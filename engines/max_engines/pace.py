"""How fast a model computes tokens, and what follows: how many of them a step may have, and how long it may take."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

STEP_S = 0.2  # how long a step may make the others wait for their next token
LARGEST_BUDGET = 8192


@dataclass(frozen=True, slots=True)
class Pace:
    """`token_s` seconds a token of a short text.

    Attention doubles that in a text of `width` tokens, which is more than it does: a layer's products cost as much as
    attention over six times its width.
    """

    token_s: float
    width: int

    def seconds(self, tokens: int, longest: int) -> float:
        """What so many tokens may take, of texts that have up to `longest`."""
        return tokens * self.token_s * (1 + longest / self.width)

    @property
    def budget(self) -> int:
        """Tokens that a step of `STEP_S` computes, a power of two."""
        affordable = max(1, int(STEP_S / self.token_s))
        return min(LARGEST_BUDGET, 1 << affordable.bit_length() - 1)


def measured(run: Callable[[], object], tokens: int, width: int) -> Pace:
    """The pace on this machine, now: `run` computes so many tokens of one text, or of several short ones."""
    run()  # the first of its size pays for more than its tokens
    begin = time.perf_counter()
    run()
    return Pace(max(1e-9, (time.perf_counter() - begin) / tokens), width)
