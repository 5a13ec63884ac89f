"""The encoder of a codec whose codes were made from log-mel spectra: sound to latents, for its quantizer.

Far smaller than SNAC's own, which works on the wave: half the parameters do at a tenth of the work.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from .spectra import BANDS, MEL_HOP, Spectra, fold

_KERNEL = 5


class Block(nn.Module):
    """Residual convolution over time of (B, T, width), its norm per latent: one over time would depend on the crop.

    Written as one matrix product over shifted copies: on a CPU far faster than ``Conv1d``.
    """

    def __init__(self, width: int, kernel: int, causal: bool) -> None:
        super().__init__()
        self.kernel = kernel
        self.pad = (kernel - 1, 0) if causal else (kernel // 2, kernel // 2)
        self.norm = nn.LayerNorm(width)
        self.mix = nn.Linear(kernel * width, width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        h = functional.pad(self.norm(x), (0, 0, *self.pad))
        shifted = [h[:, shift : shift + x.shape[1]] for shift in range(self.kernel)]
        mixed: Tensor = self.out(functional.gelu(self.mix(torch.cat(shifted, dim=-1))))
        return x + mixed


class Stack(nn.Module):
    """(B, inputs, T) → (B, outputs, T) by ``depth`` blocks."""

    def __init__(self, inputs: int, width: int, outputs: int, depth: int, *, causal: bool) -> None:
        super().__init__()
        blocks = [Block(width, _KERNEL, causal) for _ in range(depth)]
        self.layers = nn.Sequential(nn.Linear(inputs, width), *blocks, nn.Linear(width, outputs))
        self.context = depth * (_KERNEL - 1)  # steps before its own that an output depends on, if causal

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x.transpose(1, 2))
        return y.transpose(1, 2)


class MelEncoder(nn.Module):
    """Sound (B, n · hop) in −1…1, n a whole number of frames' latents → latents (B, latent, n).

    Sees both ways, 12 latents for 6 blocks. `hop` samples make a latent: ValueError unless a multiple of `MEL_HOP`.
    """

    def __init__(self, sample_rate: int, hop: int, latent: int, width: int, depth: int) -> None:
        super().__init__()
        if hop % MEL_HOP:
            raise ValueError(f"a latent has {hop} samples (decoder_rates): must be a multiple of {MEL_HOP}")
        self.count = hop // MEL_HOP
        self.spectra = Spectra(sample_rate)
        self.stack = Stack(BANDS * self.count, width, latent, depth, causal=False)

    def forward(self, sound: Tensor) -> Tensor:
        latents: Tensor = self.stack(fold(self.spectra(sound), self.count))
        return latents
