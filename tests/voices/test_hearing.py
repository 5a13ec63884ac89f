"""What is measured of a voice: on sounds whose pitch, voice and length are known."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from max_voices.hearing.distance import aligned, mel_cepstral_distance
from max_voices.hearing.faults import Faults, faults
from max_voices.hearing.pitch import pitches
from max_voices.hearing.profile import Profile, nearest, profile, spectral_distance
from max_voices.hearing.spectra import BANDS, HOP, RATE, Sound, log_mel
from max_voices.recipe.corpus import everyday_sentences
from max_voices.recipe.flite import SPEAKERS, FliteUnavailable
from max_voices.recipe.judge import Hearing
from max_voices.recipe.reading import read_aloud
from max_voices.text import spell

WORDS = st.lists(st.sampled_from(["a", "b", "c"]), max_size=6).map(" ".join)


def buzz(hertz: float, seconds: float = 1.0, tilt: float = 1.0) -> Sound:
    """A voice of sorts: harmonics, each weaker than the one below by its number to the power of `tilt`."""
    time = np.arange(round(seconds * RATE)) / RATE
    numbers = np.arange(1, int(RATE / 2 / hertz))
    sound = (np.sin(2 * np.pi * hertz * numbers[:, None] * time) / numbers[:, None] ** tilt).sum(axis=0)
    return np.asarray(0.5 * sound / np.abs(sound).max(), np.float32)


def noise(seconds: float, seed: int = 0) -> Sound:
    return (0.1 * np.random.default_rng(seed).standard_normal(round(seconds * RATE))).astype(np.float32)


def melody(*notes: float) -> Sound:
    return np.concatenate([buzz(note, 0.25) for note in notes])


def test_a_frame_is_centred_on_its_hop() -> None:
    click = np.zeros(40 * HOP, np.float32)
    click[20 * HOP] = 1.0
    mel = log_mel(click)
    assert mel.shape == (41, BANDS)
    assert mel.max(axis=1).argmax() == 20


def test_a_tone_is_loudest_in_its_own_band() -> None:
    loudest = [int(log_mel(buzz(hertz, tilt=9)).mean(axis=0).argmax()) for hertz in (200, 500, 1000, 2000, 4000)]
    assert loudest == sorted(set(loudest))
    assert loudest[0] < BANDS // 8
    assert loudest[-1] > BANDS // 2


@pytest.mark.parametrize("hertz", [80, 120, 171.3, 250, 380])
def test_pitch_is_that_of_the_period_not_of_two_of_them(hertz: float) -> None:
    found = pitches(buzz(hertz))
    assert found.size > 90
    assert np.median(found) == pytest.approx(hertz, rel=0.003)
    assert pitches(0.01 * buzz(hertz)).size == found.size


def test_noise_and_silence_have_no_pitch() -> None:
    assert pitches(noise(1)).size < 3
    assert pitches(np.zeros(RATE, np.float32)).size == 0
    assert pitches(np.zeros(0, np.float32)).size == 0


def test_the_distance_of_a_sound_to_itself_is_nothing_however_loud_and_however_late() -> None:
    sound = melody(110, 220, 150)
    assert mel_cepstral_distance(sound, sound) == pytest.approx(0, abs=1e-5)
    assert mel_cepstral_distance(sound, np.float32(0.1) * sound) == pytest.approx(0, abs=1e-3)
    late = np.concatenate([np.zeros(20 * HOP, np.float32), sound, np.zeros(7 * HOP, np.float32)])
    assert mel_cepstral_distance(sound, late) < 0.5


def test_slower_is_nearer_than_another_sound_and_order_does_not_matter() -> None:
    sound, other = melody(110, 220, 150), np.concatenate([noise(0.3), buzz(300, 0.4, tilt=0.2)])
    slower = np.concatenate([buzz(note, 0.4) for note in (110, 220, 150)])
    assert mel_cepstral_distance(sound, slower) < 0.7
    assert mel_cepstral_distance(sound, other) > 5
    assert mel_cepstral_distance(sound, other) == pytest.approx(mel_cepstral_distance(other, sound))


@pytest.mark.parametrize("sound", [np.zeros(0, np.float32), np.zeros(RATE, np.float32), noise(61)])
def test_what_cannot_be_compared_is_said(sound: Sound) -> None:
    with pytest.raises(ValueError, match="frames with something in them"):
        mel_cepstral_distance(sound, buzz(100))


def cheapest(distances: NDArray[np.float64]) -> float:
    """All ways tried."""
    rows, columns = distances.shape

    def ways(row: int, column: int) -> Iterator[float]:
        here = float(distances[row, column])
        if (row, column) == (rows - 1, columns - 1):
            yield here
        for down, right in ((1, 0), (0, 1), (1, 1)):
            if row + down < rows and column + right < columns:
                yield from (here + rest for rest in ways(row + down, column + right))

    return min(ways(0, 0))


@settings(deadline=None)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 1000))
def test_no_way_through_is_cheaper(rows: int, columns: int, seed: int) -> None:
    distances = np.random.default_rng(seed).random((rows, columns))
    path = aligned(distances)
    assert list(path[0]) == [0, 0]
    assert list(path[-1]) == [rows - 1, columns - 1]
    assert {tuple(step) for step in np.diff(path, axis=0).tolist()} <= {(0, 1), (1, 0), (1, 1)}
    assert distances[path[:, 0], path[:, 1]].sum() == pytest.approx(cheapest(distances))


def test_a_profile_is_of_the_voice_not_of_its_loudness_or_its_pauses() -> None:
    one = profile([melody(110, 130), melody(120, 90)])
    pauses = [np.concatenate([np.zeros(RATE, np.float32), np.float32(0.2) * sound]) for sound in (melody(110, 130),)]
    other = profile([*pauses, melody(120, 90)])
    assert other.pitch_hz == pytest.approx(one.pitch_hz, rel=0.02)
    assert spectral_distance(one, other) < 0.5
    assert one.spread == pytest.approx(12 * np.log2(122.5 / 105), abs=1.2)
    assert nearest(melody(112, 125), {"low": one, "high": profile([melody(220, 260)])}) == "low"


def test_what_has_no_pitch_is_told_by_its_spectrum() -> None:
    hiss = profile([noise(1)])
    assert np.isnan(hiss.pitch_hz)
    assert nearest(noise(1, seed=1), {"buzz": profile([buzz(120)]), "hiss": hiss}) == "hiss"


def test_nobody_is_nearest_to_silence() -> None:
    with pytest.raises(ValueError, match="nothing to hear"):
        nearest(np.zeros(RATE, np.float32), {"any": Profile(100, 1, np.zeros(BANDS))})
    with pytest.raises(ValueError, match="profiles: there is none"):
        nearest(buzz(100), {})


def test_four_speakers_are_told_apart_by_a_sentence() -> None:
    texts = [spell(text) for text in everyday_sentences()[::6]]
    try:
        sounds = {speaker: list(read_aloud(speaker, texts)) for speaker in SPEAKERS}
    except FliteUnavailable as missing:
        pytest.skip(str(missing))
    known = {speaker: profile(some[:7]) for speaker, some in sounds.items()}
    unknown = [(speaker, sound) for speaker, some in sounds.items() for sound in some[7:]]
    assert len(unknown) == 40
    assert sum(nearest(sound, known) == speaker for speaker, sound in unknown) >= 39


def test_faults() -> None:
    teacher = buzz(100, 1.0)
    assert faults(buzz(100, 1.5), True, teacher) == Faults(runaway=False, cut=False, empty=False)
    assert faults(buzz(100, 1.7), True, teacher) == Faults(runaway=True, cut=False, empty=False)
    assert faults(buzz(100, 1.0), False, teacher) == Faults(runaway=True, cut=False, empty=False)
    assert faults(buzz(100, 0.5), True, teacher) == Faults(runaway=False, cut=True, empty=False)
    assert faults(buzz(100, 0.5), True, None) == Faults(runaway=False, cut=False, empty=False)
    assert faults(0.005 * buzz(100, 1.0), True, teacher) == Faults(runaway=False, cut=False, empty=True)
    click = np.zeros(RATE, np.float32)
    click[5000:5100] = 1
    assert faults(click, True, teacher).empty


@given(WORDS, WORDS)
def test_words_are_aligned_with_the_fewest_errors(said: str, heard: str) -> None:
    hearing = Hearing(said, heard)
    assert [one for one, _ in hearing.aligned if one] == said.split()
    assert [other for _, other in hearing.aligned if other] == heard.split()
    assert sum(one != other for one, other in hearing.aligned) == hearing.errors
    assert ("", "") not in hearing.aligned


def test_errors_are_substitutions_insertions_and_deletions() -> None:
    assert Hearing("the cat sat", "the cat sat").errors == 0
    assert Hearing("the cat sat", "a cat").aligned == (("the", "a"), ("cat", "cat"), ("sat", ""))
    assert Hearing("the cat", "the old cat").aligned == (("the", "the"), ("", "old"), ("cat", "cat"))
    assert Hearing("a b c", "").errors == Hearing("", "a b c").errors == 3
