"""The decoder of one sound, fed piece by piece."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .decoder import Decoder, NoiseSource
from .stages import Opening, Stage, stages_of


class StreamingDecoder:
    """A `Decoder` for serving: weight norm folded, stateful; any split of the latents gives the same samples.

    Symmetric or causal alike: a symmetric one holds back the samples that depend on latents to come. The weights are
    read once, here; the module can be dropped.
    """

    def __init__(self, decoder: Decoder) -> None:
        with torch.inference_mode():
            self._stages = stages_of(decoder.model)

    def open(self, latent: int = 0, noise: NoiseSource | None = None) -> DecoderStream:
        """A stream that begins at latent number `latent`, as if nothing came before it."""
        opening = Opening(latent, noise)
        return DecoderStream([stage.open(opening) for stage in self._stages])


class DecoderStream:
    """The state of one stream. One thread owns it."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        self._stages = stages

    @torch.inference_mode()
    def push(self, latents: Tensor, last: bool = False) -> Tensor:
        """Latents float[n, channels], n may be 0, to the samples float[m] that are now certain; `last`: to all."""
        x = latents
        for stage in self._stages:
            x = stage.step(x, last)
        return x.reshape(-1)
