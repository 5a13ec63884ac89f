"""What is compared: log-mel spectrograms at two resolutions."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from max_voices.recipe.flite import SAMPLE_RATE

HOP = 128  # samples between two mel frames
LATENT_HOP = 512  # samples of one latent: 31.25 Hz
_SIZES = (512, 1024)  # 32 ms keeps the timing of stops, 64 ms the harmonics, hence the pitch
_BANDS = 80
BANDS = _BANDS * len(_SIZES)


def mel_filters(size: int, bands: int) -> Tensor:
    """Triangles over FFT bins, (bands, size // 2 + 1), 40 Hz to 8 kHz."""

    def mel(hertz: float) -> float:
        return 2595 * math.log10(1 + hertz / 700)

    edges = 700 * (10 ** (torch.linspace(mel(40.0), mel(SAMPLE_RATE / 2), bands + 2) / 2595) - 1)
    bins = torch.linspace(0, SAMPLE_RATE / 2, size // 2 + 1)
    left, centre, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    triangles = torch.minimum((bins - left) / (centre - left), (right - bins) / (right - centre)).clamp(min=0)
    return triangles / triangles.sum(1, keepdim=True).clamp(min=0.1)  # a narrow band may hold no bin


def magnitude(sound: Tensor, size: int, hop: int) -> Tensor:
    """|STFT| of (B, samples) → (B, size // 2 + 1, samples // hop), frame t centred on its hop."""
    window = torch.hann_window(size, device=sound.device)
    padded = functional.pad(sound[:, None], ((size - hop) // 2, (size - hop) // 2), mode="reflect")[:, 0]
    spectrum = torch.stft(padded, size, hop, window=window, center=False, return_complex=True)
    return torch.view_as_real(spectrum).square().sum(-1).add(1e-9).sqrt()


class Features(nn.Module):
    """Sound (B, samples) → (B, BANDS, samples // HOP), roughly −1…2."""

    def __init__(self) -> None:
        super().__init__()
        for size in _SIZES:
            self.register_buffer(f"filters_{size}", mel_filters(size, _BANDS))

    @torch.no_grad()
    def forward(self, sound: Tensor) -> Tensor:
        parts = list[Tensor]()
        for size in _SIZES:
            mels = self.get_buffer(f"filters_{size}") @ magnitude(sound, size, HOP)
            parts.append((mels.clamp(min=1e-3).log() + 2.5) / 2.5)
        return torch.cat(parts, dim=1)
