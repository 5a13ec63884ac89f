"""What fits in a step of an encoder, and how long the step may take."""

from __future__ import annotations

from dataclasses import dataclass

from max_engines.embedding.encoder import Encoder
from max_engines.pace import Pace, measured

STEP_S = 0.1  # how long a batch may make the next one wait
MEASURED_TOKENS = 256
LARGEST_BUDGET = 16384
CPU_BUDGET = 512  # more is no quicker there: a layer's values no longer fit in the cache


@dataclass(frozen=True, slots=True)
class Batching:
    """A batch has at most `token_budget` tokens with its padding, unless it is a single text."""

    token_budget: int
    pace: Pace

    def seconds(self, longest: int) -> float:
        """What a step may take with texts of up to so many tokens."""
        return self.pace.seconds(max(longest, self.token_budget), longest)


def batching(encoder: Encoder, token_budget: int | None = None) -> Batching:
    """Going by the pace on this machine, now. Without a `token_budget` it is what is embedded in `STEP_S`."""
    length = min(32, encoder.max_tokens)
    texts = [[1] * length] * max(1, MEASURED_TOKENS // length)
    pace = measured(lambda: encoder.embed(texts).sum().item(), length * len(texts), encoder.hidden_width)
    most = CPU_BUDGET if encoder.module.device.type == "cpu" else LARGEST_BUDGET
    budget = token_budget or max(MEASURED_TOKENS, min(most, int(STEP_S / pace.token_s)))
    return Batching(budget, pace)
