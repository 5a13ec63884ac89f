"""What is asked of every contender: how many requests at once, how long, and what they share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

FIRST_ID = 3  # ids below are special in many vocabularies
WARM_UP_TOKENS = 8


@dataclass(frozen=True, slots=True)
class Scenario:
    """`requests` arrive at once; each has `prompt` random tokens of its own after `shared` common ones."""

    name: str
    says: str
    requests: int
    prompt: int
    new_tokens: int
    shared: int = 0
    needs_cuda: bool = False

    @property
    def longest(self) -> int:
        """Tokens of one request, prompt and output."""
        return self.shared + self.prompt + self.new_tokens

    def prompts(self, vocabulary: int, seed: int) -> list[list[int]]:
        """Token ids. Another seed gives others, so that a prefix cache knows nothing from an earlier round."""
        random = np.random.default_rng([seed, self.requests, self.longest])
        shared = random.integers(FIRST_ID, vocabulary, self.shared).tolist()
        own = random.integers(FIRST_ID, vocabulary, (self.requests, self.prompt)).tolist()
        return [shared + row for row in own]


ALONE = Scenario("alone", "1 request, 64 → 128 tokens", 1, 64, 128)
STREAMS = Scenario("256-streams", "256 requests, 64 → 1,000 tokens", 256, 64, 1000, needs_cuda=True)
SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        ALONE,
        Scenario("16-at-once", "16 requests, 64 → 128 tokens", 16, 64, 128),
        Scenario("64-at-once", "64 requests, 64 → 64 tokens", 64, 64, 64),
        Scenario("long-prompts", "8 requests, 1,024 → 64 tokens", 8, 1024, 64),
        Scenario("shared-prefix", "32 requests, 512 common + 32 own → 32 tokens", 32, 32, 32, shared=512),
        STREAMS,
    )
}


def chosen(names: Sequence[str]) -> list[Scenario]:
    """The scenarios named, in their own order; all for no names. ValueError for one that there is not."""
    unknown = sorted(set(names) - set(SCENARIOS))
    if unknown:
        raise ValueError(f"--scenarios {', '.join(unknown)}: there are {', '.join(SCENARIOS)}")
    return [scenario for name, scenario in SCENARIOS.items() if not names or name in names]
