"""How loud a sound is to a listener (ITU-R BS.1770-5), and the gain that makes a voice as loud as the others."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

TARGET_LUFS = -19.0  # of speech in one channel: what podcasts have, with room for its peaks
BLOCK_S, HOP_S = 0.4, 0.1  # of the standard's gating: blocks overlap by three quarters
SILENCE_LUFS, BELOW_MEAN_LU = -70.0, 10.0  # blocks that are softer do not count
KNEE = 0.8  # of full scale: what is louder after a gain is bent, so that nothing goes beyond 1

_OFFSET = -0.691  # so that a sine of 997 Hz at full scale, in one channel, has -3.01 LUFS


def loudness(samples: NDArray[np.floating], rate: int) -> float:
    """The integrated loudness of samples [n] in [-1, 1], in LUFS; -inf for one in which nothing can be heard.

    A sound of less than a block counts as one block. ValueError for a sound that is empty, or has more than one axis.
    """
    if samples.ndim != 1 or not samples.size:
        raise ValueError(f"samples: has the shape {samples.shape}; give the samples [n] of one channel")
    powers = _block_powers(_weighted(samples.astype(np.float64), rate), rate)
    heard = powers[powers > _power(SILENCE_LUFS)]
    if not heard.size:
        return -math.inf
    return _lufs(float(heard[heard > heard.mean() * 10 ** (-BELOW_MEAN_LU / 10)].mean()))


def voice_gain_db(sounds: Iterable[NDArray[np.floating]], rate: int, target: float = TARGET_LUFS) -> float:
    """The gain in dB that gives a voice the target loudness, from some of its utterances: of their median.

    ValueError if none of them can be heard.
    """
    levels = [level for sound in sounds if math.isfinite(level := loudness(sound, rate))]
    if not levels:
        raise ValueError("sounds: nothing can be heard in any of them; give utterances of the voice")
    return target - float(np.median(levels))


def amplified(samples: NDArray[np.float32], gain_db: float) -> NDArray[np.float32]:
    """The samples with a gain, bent above `KNEE` so that all stay within [-1, 1]; with 0 dB they are as they were.

    A sample's value depends on that sample alone: pieces of any size give the same sound.
    """
    if gain_db == 0.0:
        return samples
    louder = samples * np.float32(10 ** (gain_db / 20))
    size = np.abs(louder)
    bent = KNEE + (1 - KNEE) * np.tanh((size - KNEE) / (1 - KNEE))
    return np.where(size > KNEE, np.copysign(bent, louder), louder).astype(np.float32)


def _block_powers(samples: NDArray[np.float64], rate: int) -> NDArray[np.float64]:
    """The mean square of each block, float64[blocks], one at least."""
    block, hop = round(BLOCK_S * rate), round(HOP_S * rate)
    squares = np.concatenate([[0.0], np.cumsum(samples**2)])
    if samples.size < block:
        return squares[-1:] / samples.size
    starts = np.arange(0, samples.size - block + 1, hop)
    return np.asarray(squares[starts + block] - squares[starts]) / block


def _weighted(samples: NDArray[np.float64], rate: int) -> NDArray[np.float64]:
    """The samples behind the K-weighting filter: a shelf for the head, a high pass for the ear.

    Both are applied to the spectrum; there is room behind the samples for what rings on.
    """
    size = 1 << (samples.size + rate // 2).bit_length()
    delay = np.exp(-2j * np.pi * np.arange(size // 2 + 1) / size)  # of one sample
    spectrum = np.fft.rfft(samples, size)
    for numerator, denominator in (_shelf(rate), _high_pass(rate)):
        spectrum *= np.polyval(numerator[::-1], delay) / np.polyval(denominator[::-1], delay)
    return np.fft.irfft(spectrum, size)[: samples.size]


def _shelf(rate: int) -> tuple[list[float], list[float]]:
    """4 dB more above 1.7 kHz: the standard's first filter, whose coefficients are given for 48 kHz, at any rate."""
    gain, quality, k = 10 ** (3.999843853973347 / 20), 0.7071752369554196, math.tan(math.pi * 1681.974450955533 / rate)
    middle = gain**0.4996667741545416
    a0 = 1 + k / quality + k * k
    numerator = [gain + middle * k / quality + k * k, 2 * (k * k - gain), gain - middle * k / quality + k * k]
    return [value / a0 for value in numerator], [1.0, 2 * (k * k - 1) / a0, (1 - k / quality + k * k) / a0]


def _high_pass(rate: int) -> tuple[list[float], list[float]]:
    """Less and less below 38 Hz: the standard's second filter."""
    quality, k = 0.5003270373238773, math.tan(math.pi * 38.13547087602444 / rate)
    a0 = 1 + k / quality + k * k
    return [1.0, -2.0, 1.0], [1.0, 2 * (k * k - 1) / a0, (1 - k / quality + k * k) / a0]


def _lufs(power: float) -> float:
    return _OFFSET + 10 * math.log10(power)


def _power(lufs: float) -> float:
    return float(10 ** ((lufs - _OFFSET) / 10))
