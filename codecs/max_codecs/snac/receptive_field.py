"""How far a decoder looks back and ahead, from its configuration alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

KERNEL = 7  # of every convolution that is not pointwise
DILATIONS = (1, 3, 9)  # of a block's residual units


@dataclass(frozen=True, slots=True)
class ReceptiveField:
    """What the samples of one latent step depend on: latent steps `back` before it, and `ahead` after it."""

    back: int
    ahead: int

    def frames(self, latents_per_frame: int) -> tuple[int, int]:
        """(context, look-ahead) in whole frames of `latents_per_frame` steps."""
        return math.ceil(self.back / latents_per_frame), math.ceil(self.ahead / latents_per_frame)


def receptive_field(rates: Sequence[int], *, causal: bool) -> ReceptiveField:
    """Follow the first and the last sample of a latent step back through the decoder, layer by layer.

    A convolution widens the interval by what it is padded with; a transposed one (kernel 2s, stride s, `cut` rows
    cut at the left) makes row t from rows floor((t + cut) / s) - 1 and floor((t + cut) / s).
    """
    first, last = 0, math.prod(rates) - 1
    first, last = _convolution(first, last, 1, causal)  # the final one
    for stride in reversed(rates):
        for dilation in reversed(DILATIONS):
            first, last = _convolution(first, last, dilation, causal)
        cut = 0 if causal else math.ceil(stride / 2)
        first, last = (first + cut) // stride - 1, (last + cut) // stride
    first, last = _convolution(first, last, 1, causal)  # the entry
    return ReceptiveField(back=-first, ahead=last)


def _convolution(first: int, last: int, dilation: int, causal: bool) -> tuple[int, int]:
    reach = (KERNEL - 1) * dilation
    left = reach if causal else reach // 2
    return first - left, last + reach - left
