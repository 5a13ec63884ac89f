"""From codes to what a decoder reads."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Quantizer(Protocol):
    """The codebooks of a codec, as far as decoding needs them."""

    def latents(self, frames: Tensor) -> Tensor:
        """Frames int64[n, codes], codes in range, to latents float[n * latents_per_frame, channels]."""
        ...
