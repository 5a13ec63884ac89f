"""A recording, made a sample of a voice: mono, at the codec's rate, without silence around it, as loud as others."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from max_codecs.sound.loudness import amplified, loudness

from ..config import VoicesConfig
from ..media.access import Access
from ..media.items import SoundItem
from ..media.limits import MediaLimits
from ..media.sound import read_sound

LIMITS: Final = MediaLimits(bytes=64 * 2**20, seconds=600.0)  # of a recording, silence included
WINDOW_S = 0.02  # of which the loudness is looked at
BELOW_PEAK_DB = 40.0  # what is softer than the loudest window by more is silence
SILENCE_DB = -60.0  # of full scale: a sound that is nowhere louder is none
MARGIN_S = 0.06  # of silence that stays on each side: a consonant begins softly

Samples = NDArray[np.float32]


def clean_sample(item: SoundItem, rate: int, limits: VoicesConfig, target_lufs: float, access: Access) -> Samples:
    """The recording as float32 [n] at `rate`.

    ValueError, saying what is wrong with it, for what cannot be decoded, is silent, or is too short or too long.
    """
    sound = read_sound(item, rate, LIMITS, access, name="sample").samples
    if sound.size:
        sound = sound - sound.mean(dtype=np.float64).astype(np.float32)  # a constant is nothing to hear
    spoken = trimmed(sound, rate)
    seconds = len(spoken) / rate
    if not len(spoken):
        raise ValueError("sample: is silent; record somebody who speaks")
    if seconds < limits.min_sample_s:
        raise ValueError(
            f"sample: has {seconds:.2f} s of sound, without the silence around it; at least {limits.min_sample_s:g} s"
            " are wanted"
        )
    if seconds > limits.max_sample_s:
        raise ValueError(
            f"sample: has {seconds:.2f} s of sound; cut it, with its transcript, to {limits.max_sample_s:g} s at most"
        )
    level = loudness(spoken, rate)
    if math.isinf(level):
        raise ValueError("sample: is too soft to be heard; record it louder")
    return amplified(spoken, target_lufs - level)


def trimmed(samples: Samples, rate: int) -> Samples:
    """Without the silence at both ends, but for a margin; nothing [0] is left of a sound that is silent."""
    window = max(1, round(WINDOW_S * rate))
    whole = np.pad(samples, (0, -len(samples) % window)).reshape(-1, window)
    power = np.square(whole, dtype=np.float64).mean(1)
    loudest = float(power.max(initial=0.0))
    if loudest <= 10 ** (SILENCE_DB / 10):
        return samples[:0]
    heard = np.flatnonzero(power > loudest * 10 ** (-BELOW_PEAK_DB / 10))
    margin = round(MARGIN_S * rate)
    return samples[max(0, int(heard[0]) * window - margin) : (int(heard[-1]) + 1) * window + margin]
