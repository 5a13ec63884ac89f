"""Log-mel spectra: a power spectrum every 10 ms, in bands as wide as the ear's."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

RATE = 16_000
HOP = 160  # samples: 10 ms
BANDS = 64

Sound = NDArray[np.float32]
Rows = NDArray[np.float64]

_WINDOW = 512  # samples: 32 ms, two periods of a low voice
_LOWEST_HZ = 60.0
_RANGE_DB = 60.0  # below a sound's loudest band; what is quieter is noise, of which no two are alike
_SILENT = 1e-12  # power of digital silence


def log_mel(sound: Sound) -> Rows:
    """Sound [n] at 16 kHz → decibels (frames, BANDS), not further below the loudest than 60 dB.

    Frame t is centred on sample t * HOP; a sound of any length has n // HOP + 1 of them.
    """
    power = np.abs(np.fft.rfft(windows(sound, _WINDOW) * np.hanning(_WINDOW))) ** 2
    decibels = 10 * np.log10(power @ _filters().T + _SILENT)
    return np.asarray(np.maximum(decibels, decibels.max() - _RANGE_DB))


def windows(sound: Sound, size: int) -> Rows:
    """Stretches (frames, size) of a sound, each centred on its hop, with silence around the whole."""
    padded = np.pad(sound.astype(np.float64), size // 2)
    return np.lib.stride_tricks.sliding_window_view(padded, size)[::HOP][: sound.size // HOP + 1]


def active(mel: Rows, within_db: float = 40.0) -> NDArray[np.bool_]:
    """Which frames [frames] have something to hear in them: those near enough to the loudest."""
    loudness = mel.max(axis=1)
    return np.asarray(loudness > loudness.max() - within_db)


@cache
def _filters() -> Rows:
    """Triangles over FFT bins (BANDS, bins), neighbours overlapping, each of sum 1."""
    edges = _hertz(np.linspace(_mel(_LOWEST_HZ), _mel(RATE / 2), BANDS + 2))
    bins = np.linspace(0, RATE / 2, _WINDOW // 2 + 1)
    left, centre, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    least = RATE / _WINDOW  # a narrow band would fall between two bins
    rising = (bins - np.minimum(left, centre - least)) / np.maximum(centre - left, least)
    falling = (np.maximum(right, centre + least) - bins) / np.maximum(right - centre, least)
    triangles = np.clip(np.minimum(rising, falling), 0, None)
    return np.asarray(triangles / triangles.sum(axis=1, keepdims=True))


def _mel(hertz: float) -> float:
    return float(2595 * np.log10(1 + hertz / 700))


def _hertz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(700 * (10 ** (mel / 2595) - 1))
