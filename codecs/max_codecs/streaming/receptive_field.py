"""How far a decoder looks back and ahead, from its layers alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .stage import Stage


@dataclass(frozen=True, slots=True)
class ReceptiveField:
    """What the samples of one latent step depend on: latent steps `back` before it, and `ahead` after it."""

    back: int
    ahead: int

    def frames(self, latents_per_frame: int) -> tuple[int, int]:
        """(context, look-ahead) in whole frames of `latents_per_frame` steps."""
        return math.ceil(self.back / latents_per_frame), math.ceil(self.ahead / latents_per_frame)


def receptive_field(stages: Sequence[Stage]) -> ReceptiveField:
    """Follow the first and the last sample of latent step 0 back through the decoder, layer by layer."""
    first, last = 0, math.prod(stage.rate for stage in stages) - 1
    for stage in reversed(stages):
        first, last = stage.needs(first), stage.awaits(last)
    return ReceptiveField(back=-first, ahead=last)
