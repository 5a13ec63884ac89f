"""The decoder of one sound, fed piece by piece."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .stage import NoiseSource, Opening, Skip, Stage


class StreamingDecoder:
    """Stages in a row, from latents to samples: any split of the latents gives the same samples.

    A layer that looks ahead holds back the rows that depend on latents to come.
    """

    def __init__(self, stages: Sequence[Stage]) -> None:
        self.stages = tuple(stages)

    def open(self, latent: int = 0, noise: NoiseSource | None = None, sample: int = 0) -> DecoderStream:
        """A stream that takes latents from number `latent` on, as if nothing came before, and gives their samples, but
        for those before number `sample`.

        What only samples before that depend on is not computed: of a long context, stages with many rows a latent
        need the last few latents alone (measured: 19 frames of the embedded voice take 6 ms in place of 39).
        """
        starts = self._starts(latent, sample)
        stages: list[Stage] = []
        row = latent  # the number of the row that comes next
        for stage, start in zip(self.stages, starts, strict=True):
            stages += [Skip(start - row)] if start > row else []
            stages.append(stage.open(Opening(start, noise)))
            row = start * stage.rate
        return DecoderStream([*stages, Skip(sample - row)] if sample > row else stages)

    def _starts(self, latent: int, sample: int) -> list[int]:
        """The first row that each stage is given, so that the samples from `sample` on are exact."""
        firsts = [latent]  # of each stage's input, if nothing were left out
        for stage in self.stages[:-1]:
            firsts.append(firsts[-1] * stage.rate)
        starts: list[int] = []
        row = sample
        for stage, first in zip(reversed(self.stages), reversed(firsts), strict=True):
            row = max(first, stage.needs(row))
            starts.append(row)
        return starts[::-1]


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
