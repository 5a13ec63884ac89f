"""How loud a sound is, against the standard's own figures, and a gain that never clips."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from max_codecs.sound.loudness import KNEE, TARGET_LUFS, amplified, loudness, voice_gain_db


def sine(decibels: float, seconds: float, rate: int = 48_000, hertz: float = 997.0) -> NDArray[np.float32]:
    phase = 2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate
    return (10 ** (decibels / 20) * np.sin(phase)).astype(np.float32)


@pytest.mark.parametrize("rate", [16_000, 24_000, 44_100, 48_000])
def test_the_standards_own_sine(rate: int) -> None:
    assert loudness(sine(0, 5, rate), rate) == pytest.approx(-3.01, abs=0.05)  # BS.1770: 997 Hz at full scale


def test_soft_parts_do_not_count() -> None:
    """EBU Tech 3341, cases 3 to 5, in one channel: 3.01 LU below the stereo figures."""
    assert loudness(np.concatenate([sine(-36, 10), sine(-23, 60), sine(-36, 10)]), 48_000) == pytest.approx(
        -26.01, abs=0.1
    )
    parts = [sine(-72, 10), sine(-36, 10), sine(-23, 60), sine(-36, 10), sine(-72, 10)]
    assert loudness(np.concatenate(parts), 48_000) == pytest.approx(-26.01, abs=0.1)
    parts = [sine(-26, 20), sine(-20, 20.1), sine(-26, 20)]
    assert loudness(np.concatenate(parts), 48_000) == pytest.approx(-26.01, abs=0.1)


def test_what_the_ear_hears_less_of_is_softer() -> None:
    assert loudness(sine(-20, 2, hertz=40), 48_000) < loudness(sine(-20, 2), 48_000) - 3
    assert loudness(sine(-20, 2, hertz=4000), 48_000) > loudness(sine(-20, 2), 48_000) + 2


def test_a_sound_that_is_short_or_silent() -> None:
    assert loudness(sine(-20, 0.1), 48_000) == pytest.approx(-23, abs=0.5)
    assert loudness(np.zeros(48_000, np.float32), 48_000) == -math.inf


@pytest.mark.parametrize("shape", [(0,), (2, 100)])
def test_what_is_no_sound_of_one_channel_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="samples: has the shape"):
        loudness(np.zeros(shape, np.float32), 16_000)


def test_a_voices_gain_makes_it_as_loud_as_the_others() -> None:
    sounds = [sine(level, 1, 16_000) for level in (-30, -34, -32)]
    gain = voice_gain_db([*sounds, np.zeros(16_000, np.float32)], 16_000)
    assert loudness(amplified(sounds[2], gain), 16_000) == pytest.approx(TARGET_LUFS, abs=0.01)
    with pytest.raises(ValueError, match="nothing can be heard"):
        voice_gain_db([np.zeros(16_000, np.float32)], 16_000)


def test_without_a_gain_nothing_changes() -> None:
    samples = np.array([0.9, -1.4, 0.1], np.float32)
    assert amplified(samples, 0.0) is samples


@given(st.lists(st.floats(-4, 4, width=32), max_size=40), st.floats(-40, 40), st.integers(0, 40))
def test_a_gain_never_clips_and_does_not_see_pieces(values: list[float], gain: float, cut: int) -> None:
    samples = np.array(values, np.float32)
    whole = amplified(samples, gain)
    assert np.array_equal(np.concatenate([amplified(samples[:cut], gain), amplified(samples[cut:], gain)]), whole)
    assert whole.dtype == np.float32
    if gain:
        assert (np.abs(whole) <= 1).all()
        louder = samples * np.float32(10 ** (gain / 20))
        kept = np.abs(louder) <= KNEE
        assert np.array_equal(whole[kept], louder[kept])  # what is not loud is not bent
        assert (np.diff(whole[np.argsort(louder)]) >= 0).all()
