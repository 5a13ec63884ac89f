"""Pitch, by autocorrelation."""

import numpy as np
from numpy.typing import NDArray

from .spectra import RATE, Sound, windows

LOWEST_HZ, HIGHEST_HZ = 70.0, 400.0  # of a voice
_WINDOW = 640  # samples: 40 ms, nearly three periods of the lowest
_VOICED = 0.7  # of a window's energy comes again a period later
_AS_GOOD = 0.9  # of the best likeness: a sound of one period comes again after two as well
_AUDIBLE = 0.1  # of the loudest window's level, 20 dB: what is quieter is breath and noise


def pitches(sound: Sound) -> NDArray[np.float64]:
    """The pitch in Hz of each voiced frame of a sound at 16 kHz, one every 10 ms, in their order; maybe none."""
    frames = windows(sound, _WINDOW)
    frames = frames - frames.mean(axis=1, keepdims=True)
    level = np.sqrt((frames**2).mean(axis=1))
    frames = frames[(level > 0) & (level > _AUDIBLE * level.max())]
    again = np.fft.irfft(np.abs(np.fft.rfft(frames, 2 * _WINDOW)) ** 2)[:, :_WINDOW]
    shortest, longest = round(RATE / HIGHEST_HZ), round(RATE / LOWEST_HZ)
    again = again / (again[:, :1] * (1 - np.arange(_WINDOW) / _WINDOW))  # the further apart, the fewer samples meet
    inside = again[:, shortest : longest + 1]
    peak = (inside >= again[:, shortest - 1 : longest]) & (inside >= again[:, shortest + 1 : longest + 2])
    good = peak & (inside >= np.maximum(_VOICED, _AS_GOOD * inside.max(axis=1, keepdims=True, initial=0)))
    row = np.flatnonzero(good.any(axis=1))
    lag = shortest + good[row].argmax(axis=1)
    before, at, after = again[row, lag - 1], again[row, lag], again[row, lag + 1]
    bend = before - 2 * at + after
    between = np.where(bend < 0, (before - after) / np.where(bend < 0, 2 * bend, 1), 0)  # the top of a parabola
    return np.asarray(RATE / (lag + between))
