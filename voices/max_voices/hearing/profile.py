"""Whose voice is it? Pitch and the long-term average spectrum tell a few speakers apart, whatever they say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .pitch import pitches
from .spectra import Sound, active, log_mel

# What one sentence deviates by from its speaker's profile, root mean square over 100 sentences of flite's four voices.
_PITCH_SEMITONES = 0.6
_SPREAD_SEMITONES = 0.7
_SPECTRUM_DB = 1.7


@dataclass(frozen=True, slots=True, eq=False)
class Profile:
    """Statistics of a speaker, from one sound or many.

    `pitch_hz` is the median pitch (NaN if nothing is voiced), `spread` what lies between the quartiles of pitch, in
    semitones; `spectrum` float64[BANDS] is the mean level of each band in dB, about a mean of 0.
    """

    pitch_hz: float
    spread: float
    spectrum: NDArray[np.float64]


def profile(sounds: Sequence[Sound]) -> Profile:
    """The profile of somebody's sounds at 16 kHz. ValueError if nothing can be heard in any."""
    heard = [mel[active(mel)] for mel in (log_mel(sound) for sound in sounds if np.any(sound))]
    if not heard:
        raise ValueError("sounds: there is nothing to hear in any of them")
    spectrum = np.concatenate([mel - mel.mean() for mel in heard]).mean(axis=0)
    notes = 12 * np.log2(np.concatenate([pitches(sound) for sound in sounds]))
    if not notes.size:
        return Profile(float("nan"), 0.0, spectrum)
    low, middle, high = np.percentile(notes, (25, 50, 75))
    return Profile(float(2 ** (middle / 12)), float(high - low), spectrum)


def spectral_distance(one: Profile, other: Profile) -> float:
    """What two average spectra differ by, root mean square over the bands, in dB."""
    return float(np.sqrt(np.mean((one.spectrum - other.spectrum) ** 2)))


def unlikeness(one: Profile, other: Profile) -> float:
    """How far apart two speakers are; a sentence is 1 to 2 from its own speaker's profile."""
    pitch = 12 * np.log2(one.pitch_hz / other.pitch_hz) / _PITCH_SEMITONES
    spread = (one.spread - other.spread) / _SPREAD_SEMITONES
    spectrum = spectral_distance(one, other) / _SPECTRUM_DB
    return float(np.sqrt(np.nansum([pitch**2, spread**2, spectrum**2])))


def nearest(sound: Sound, profiles: Mapping[str, Profile]) -> str:
    """The name of the profile that a sound at 16 kHz is most like.

    ValueError if there is no profile, or nothing to hear in the sound.
    """
    if not profiles:
        raise ValueError("profiles: there is none; give at least one")
    own = profile([sound])
    return min(profiles, key=lambda name: unlikeness(own, profiles[name]))
