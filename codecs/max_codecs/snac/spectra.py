"""Log-mel spectrograms at two resolutions: what a `MelEncoder` hears, and what the recipe's trainings compare."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

MEL_HOP = 128  # samples between two mel frames
_SIZES = (512, 1024)  # at 16 kHz, 32 ms keep the timing of stops, 64 ms the harmonics, hence the pitch
_BANDS = 80
BANDS = _BANDS * len(_SIZES)


def mel_filters(size: int, bands: int, sample_rate: int) -> Tensor:
    """Triangles over FFT bins, (bands, size // 2 + 1), from 40 Hz to half the rate."""

    def mel(hertz: float) -> float:
        return 2595 * math.log10(1 + hertz / 700)

    edges = 700 * (10 ** (torch.linspace(mel(40.0), mel(sample_rate / 2), bands + 2) / 2595) - 1)
    bins = torch.linspace(0, sample_rate / 2, size // 2 + 1)
    left, centre, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    triangles = torch.minimum((bins - left) / (centre - left), (right - bins) / (right - centre)).clamp(min=0)
    return triangles / triangles.sum(1, keepdim=True).clamp(min=0.1)  # a narrow band may hold no bin


def magnitude(sound: Tensor, size: int, hop: int) -> Tensor:
    """|STFT| of (B, samples) → (B, size // 2 + 1, samples // hop), frame t centred on its hop."""
    window = torch.hann_window(size, device=sound.device)
    padded = functional.pad(sound[:, None], ((size - hop) // 2, (size - hop) // 2), mode="reflect")[:, 0]
    spectrum = torch.stft(padded, size, hop, window=window, center=False, return_complex=True)
    return torch.view_as_real(spectrum).square().sum(-1).add(1e-9).sqrt()


class Spectra(nn.Module):
    """Sound (B, samples) → (B, BANDS, samples // MEL_HOP), roughly −1…2. Has no parameters."""

    def __init__(self, sample_rate: int) -> None:
        super().__init__()
        for size in _SIZES:
            self.register_buffer(f"filters_{size}", mel_filters(size, _BANDS, sample_rate), persistent=False)

    @torch.no_grad()
    def forward(self, sound: Tensor) -> Tensor:
        parts = list[Tensor]()
        for size in _SIZES:
            mels = self.get_buffer(f"filters_{size}") @ magnitude(sound, size, MEL_HOP)
            parts.append((mels.clamp(min=1e-3).log() + 2.5) / 2.5)
        return torch.cat(parts, dim=1)


def fold(features: Tensor, count: int) -> Tensor:
    """``count`` mel frames into one latent step: (B, bands, count · T) → (B, bands · count, T)."""
    b, bands, t = features.shape
    return features.view(b, bands, t // count, count).permute(0, 1, 3, 2).reshape(b, bands * count, -1)


def unfold(folded: Tensor, count: int) -> Tensor:
    """The inverse of `fold`."""
    b, rows, t = folded.shape
    return folded.view(b, rows // count, count, t).permute(0, 1, 3, 2).reshape(b, rows // count, -1)
