"""Sound in other forms: every file format, other rates, other speeds; in pieces it is what it is in one."""

from __future__ import annotations

import io
from collections.abc import Sequence

import av
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from numpy.typing import NDArray

from max_codecs.sound.encoder import open_encoder
from max_codecs.sound.formats import FORMATS
from max_codecs.sound.resampler import Resampler
from max_codecs.sound.tempo import Tempo

RATE = 24_000
TONE_HZ = 440.0
Samples = NDArray[np.float32]


def tone(seconds: float, rate: int = RATE, hz: float = TONE_HZ) -> Samples:
    return (0.3 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def pieces_of(samples: Samples, sizes: Sequence[int]) -> list[Samples]:
    return np.split(samples, np.cumsum(sizes)[np.cumsum(sizes) < samples.size])


def encoded(name: str, pieces: Sequence[Samples], rate: int = RATE, to_rate: int | None = None) -> bytes:
    form = FORMATS[name]
    encoder = open_encoder(form, rate, to_rate or form.rate_for(rate))
    return b"".join([*(encoder.push(piece) for piece in pieces), encoder.finish()])


def decoded(name: str, data: bytes) -> tuple[Samples, int]:
    """The samples of a file, and their rate."""
    if name == "pcm":
        return np.frombuffer(data, "<i2").astype(np.float32) / np.float32(32767), RATE
    with av.open(io.BytesIO(data), "r") as file:
        stream = file.streams.audio[0]
        resampler = av.AudioResampler(format="flt", layout="mono", rate=stream.rate)
        frames = [part for frame in file.decode(stream) for part in resampler.resample(frame)]
        return np.concatenate([frame.to_ndarray().reshape(-1) for frame in frames]), stream.rate


def pitch(samples: Samples, rate: int) -> float:
    """The strongest frequency of the middle half, in Hz."""
    middle = samples[samples.size // 4 : -samples.size // 4]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(middle.size)))
    return float(np.argmax(spectrum)) * rate / middle.size


def roughness(samples: Samples, rate: int) -> float:
    """The largest jump from one sample to the next in the middle, beside that of the tone itself."""
    middle = samples[samples.size // 8 : -samples.size // 8]
    return float(np.abs(np.diff(middle)).max() / (0.3 * 2 * np.pi * TONE_HZ / rate))


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_is_one_unbroken_tone(name: str) -> None:
    data = encoded(name, pieces_of(tone(2.0), [3072, 1, 700, 6144, 2048, 9999]))
    samples, rate = decoded(name, data)
    assert samples.size / rate == pytest.approx(2.0, abs=0.1)  # encoders pad at both ends
    assert pitch(samples, rate) == pytest.approx(TONE_HZ, abs=2)
    assert roughness(samples, rate) < 1.3, "a click"
    assert np.abs(samples).max() == pytest.approx(0.3, abs=0.05)


@pytest.mark.parametrize("name", FORMATS)
def test_what_was_pushed_leaves_soon(name: str) -> None:
    form = FORMATS[name]
    encoder = open_encoder(form, RATE, form.rate_for(RATE))
    sizes = [len(encoder.push(piece)) for piece in np.split(tone(2.0), 20)]
    assert all(sizes), "some of it waits for more than the next 0.1 s"


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=5, deadline=None)
@given(sizes=st.lists(st.integers(0, 5000), max_size=30))
def test_pieces_make_no_difference(name: str, sizes: list[int]) -> None:
    whole = tone(0.5)
    assert encoded(name, pieces_of(whole, sizes)) == encoded(name, [whole])


@pytest.mark.parametrize("name", FORMATS)
def test_no_sound_at_all_is_a_file_too(name: str) -> None:
    assert encoded(name, []) == encoded(name, [np.zeros(0, np.float32)])


def test_the_wav_header_comes_once_and_leaves_the_size_open() -> None:
    data = encoded("wav", [tone(0.1), tone(0.1)], to_rate=16_000)
    assert data.count(b"RIFF") == 1
    assert data[4:8] == data[40:44] == b"\xff\xff\xff\xff"
    assert int.from_bytes(data[24:28], "little") == 16_000


def test_pcm_is_sixteen_bits_and_nothing_else() -> None:
    loud = np.array([0.0, 1.0, -1.0, 2.0], np.float32)
    assert np.frombuffer(encoded("pcm", [loud]), "<i2").tolist() == [0, 32767, -32767, 32767]


@pytest.mark.parametrize(("name", "rate"), [("opus", 44_100), ("mp3", 96_000), ("flac", 3999)])
def test_a_rate_that_a_format_cannot_hold(name: str, rate: int) -> None:
    with pytest.raises(ValueError, match=f"sample_rate = {rate}: {name} takes"):
        open_encoder(FORMATS[name], RATE, rate)


@settings(max_examples=30, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 3000), max_size=20), to_rate=st.sampled_from([8000, 16_000, 22_050, 44_100, 48_000])
)
def test_a_resampler_takes_pieces_of_any_size(sizes: list[int], to_rate: int) -> None:
    sound = tone(0.4)

    def resampled(pieces: Sequence[Samples]) -> Samples:
        resampler = Resampler(RATE, to_rate)
        return np.concatenate([*(resampler.push(piece) for piece in pieces), resampler.flush()])

    whole = resampled([sound])
    assert np.array_equal(resampled(pieces_of(sound, sizes)), whole)
    assert whole.size == pytest.approx(sound.size * to_rate / RATE, abs=2)
    assert pitch(whole, to_rate) == pytest.approx(TONE_HZ, abs=8)


def test_a_resampler_that_has_nothing_to_do_changes_nothing() -> None:
    sound = tone(0.1)
    resampler = Resampler(RATE, RATE)
    assert resampler.push(sound) is sound
    assert not resampler.flush().size


@settings(max_examples=20, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 6000), max_size=20), speed=st.sampled_from([0.25, 0.4, 0.5, 0.9, 1.0, 1.5, 2.5, 4.0])
)
def test_another_speed_has_the_same_pitch(sizes: list[int], speed: float) -> None:
    sound = tone(2.0)

    def changed(pieces: Sequence[Samples]) -> Samples:
        tempo = Tempo(RATE, speed)
        return np.concatenate([*(tempo.push(piece) for piece in pieces), tempo.flush()])

    whole = changed([sound])
    assert np.array_equal(changed(pieces_of(sound, sizes)), whole)
    assert whole.size / RATE == pytest.approx(2.0 / speed, abs=0.06)
    assert pitch(whole, RATE) == pytest.approx(TONE_HZ, abs=10)


def bursts(rate: int, seed: int) -> tuple[Samples, list[int]]:
    """Sounds with silence between them, and where each begins."""
    rng, pieces, onsets = np.random.default_rng(seed), [np.zeros(rate, np.float32)], list[int]()
    for _ in range(12):
        onsets.append(sum(piece.size for piece in pieces))
        pieces.append(tone(rng.uniform(0.3, 0.6), rate, rng.uniform(90, 300)))
        pieces.append(np.zeros(round(rng.uniform(0.8, 1.4) * rate), np.float32))
    return np.concatenate(pieces), onsets


def onsets_in(sound: Samples, gap: float) -> NDArray[np.int64]:
    loud = np.flatnonzero(np.abs(sound) > 0.03)
    return loud[[0, *(np.flatnonzero(np.diff(loud) > gap) + 1)]]


@pytest.mark.parametrize("rate", [8000, 16_000, 24_000, 44_100])
@pytest.mark.parametrize(
    ("speed", "bound_s"), [(0.25, 0.1), (0.5, 0.04), (0.75, 0.04), (1.0, 0.002), (1.5, 0.04), (2.0, 0.04), (4.0, 0.04)]
)
def test_it_is_known_when_a_changed_sound_is_heard(rate: int, speed: float, bound_s: float) -> None:
    tempo, (sound, onsets) = Tempo(rate, speed), bursts(rate, 7)
    changed = onsets_in(np.concatenate([tempo.push(sound), tempo.flush()]), 0.5 * rate / speed)
    off = changed / rate - (np.array(onsets) / rate / speed - tempo.early_s)
    assert np.abs(off).max() <= bound_s
    assert abs(np.mean(off)) <= bound_s / 3  # nothing that is always there is left


@pytest.mark.parametrize("speed", [0.0, 0.24, 4.1, float("nan")])
def test_a_speed_that_is_none(speed: float) -> None:
    with pytest.raises(ValueError, match=r"must be 0\.25 to 4\.0"):
        Tempo(RATE, speed)
