"""How fast an encoder is: what fits in a step, and how long a step may take."""

from __future__ import annotations

import time
from dataclasses import dataclass

from max_engines.embedding.encoder import Encoder

STEP_S = 0.1  # how long a batch may make the next one wait
MEASURED_TOKENS = 256
LARGEST_BUDGET = 16384
CPU_BUDGET = 512  # more is no quicker there: a layer's values no longer fit in the cache


@dataclass(frozen=True, slots=True)
class Pace:
    """A batch has at most `token_budget` tokens with its padding, unless it is a single text.

    A short text takes `token_s` seconds a token; attention doubles that for one of `width` tokens, which is more than
    it does: a layer's products cost as much as attention over six times its width.
    """

    token_budget: int
    token_s: float
    width: int

    def seconds(self, longest: int) -> float:
        """What a step may take with texts of up to so many tokens."""
        return max(longest, self.token_budget) * self.token_s * (1 + longest / self.width)


def measured_pace(encoder: Encoder, token_budget: int | None = None) -> Pace:
    """The pace on this machine, now. Without a `token_budget` it is what is embedded in `STEP_S`."""
    length = min(32, encoder.max_tokens)
    texts = [[1] * length] * max(1, MEASURED_TOKENS // length)
    encoder.embed(texts)  # the first of its size pays for more than its tokens
    begin = time.perf_counter()
    encoder.embed(texts).sum().item()
    token_s = max(1e-9, (time.perf_counter() - begin) / (length * len(texts)))
    most = CPU_BUDGET if encoder.module.device.type == "cpu" else LARGEST_BUDGET
    budget = token_budget or max(MEASURED_TOKENS, min(most, int(STEP_S / token_s)))
    return Pace(budget, token_s, encoder.hidden_width)
