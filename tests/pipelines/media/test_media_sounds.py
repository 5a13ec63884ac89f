"""What sounds come to, in whatever form they are given."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from max_codecs.wav import wav_header
from max_pipelines.media import IN_PROCESS, MediaLimits, Sound, SoundItem, read_sound
from tests.hearing import Heard, likeness, resampled
from tests.pipelines.media.making import film_file, greys, opus_file, sound_file, tone

TONE = tone()
WAV = sound_file(TONE[None], 16_000)
LOUD_AND_SILENT = np.stack([TONE, np.zeros_like(TONE)])
SHORT = MediaLimits(seconds=0.25)


def test_every_form_gives_the_same_sound(tmp_path: Path) -> None:
    path = tmp_path / "tone.wav"
    path.write_bytes(WAV)
    forms: dict[str, SoundItem] = {
        "path": path,
        "bytes": WAV,
        "file": io.BytesIO(WAV),
        "array": TONE,
        "doubles": TONE.astype(np.float64),
        "sound": Sound(TONE, 16_000),
        "pair": (TONE, 16_000),
        "one channel": (TONE[:, None], 16_000),
        "16 bits": (np.rint(TONE * 32767).astype(np.int16), 16_000),
        "32 bits": (np.rint(TONE * 2147483000.0).astype(np.int32), 16_000),
    }
    for form, item in forms.items():
        sound = read_sound(item, 16_000, access=IN_PROCESS)
        assert (sound.rate, str(sound.samples.dtype)) == (16_000, "float32"), form
        np.testing.assert_allclose(sound.samples, TONE, atol=1e-4, err_msg=form)


@pytest.mark.parametrize(
    ("form", "codec"),
    [
        ("aiff", "pcm_s16be"),
        ("adts", "aac"),
        ("avi", "pcm_s16le"),
        ("flac", "flac"),
        ("mp3", "libmp3lame"),
        ("mp4", "aac"),
        ("ogg", "libopus"),
        ("wav", "pcm_f32le"),
        ("wav", "pcm_u8"),
        ("webm", "libopus"),
    ],
)
def test_formats(form: str, codec: str) -> None:
    sound = read_sound(sound_file(TONE[None], 16_000, form, codec), 16_000)
    assert likeness(Heard(sound.samples, 16_000), Heard(TONE, 16_000)) > 0.95


def test_channels_are_mixed_by_their_mean() -> None:
    stereo = sound_file(LOUD_AND_SILENT, 16_000, layout="stereo")
    for item in (stereo, (LOUD_AND_SILENT, 16_000), (LOUD_AND_SILENT.T, 16_000)):
        np.testing.assert_allclose(read_sound(item, 16_000).samples, TONE / 2, atol=1e-4)


@pytest.mark.parametrize("rate", [8000, 24_000, 44_100])
def test_another_rate_is_the_same_sound(rate: int) -> None:
    for item in (WAV, Sound(TONE, 16_000)):
        sound = read_sound(item, rate)
        assert sound.rate == rate
        assert abs(sound.samples.size - TONE.size * rate / 16_000) <= 1
        assert likeness(Heard(sound.samples, rate), resampled(Heard(TONE, 16_000), rate)) > 0.99


def test_without_a_rate_it_keeps_its_own() -> None:
    assert read_sound(WAV).rate == 16_000
    assert read_sound((TONE, 22_050)).rate == 22_050


def test_a_file_that_lies_about_its_end_is_still_bounded() -> None:
    """The last page says that it ends after one second; there are ten."""
    with pytest.raises(ValueError, match=r"audio: has 4\.02 seconds or more, the limit is 4"):
        read_sound(opus_file(10, last_granule=48_000), 16_000, MediaLimits(seconds=4))


def test_a_file_that_tells_is_refused_before_it_is_decoded() -> None:
    """Its only packet is no Opus, which nobody notices."""
    with pytest.raises(ValueError, match="seconds or more, the limit is 1800"):
        read_sound(opus_file(1, last_granule=2**62), 16_000)


@pytest.mark.parametrize(
    ("item", "why"),
    [
        (b"", "is empty"),
        (b"RIFF....WAVE", "cannot be decoded as sound"),
        (b"#EXTM3U\n/etc/passwd", "no file of a known format"),
        (film_file(greys(2)), "has no sound in it"),
        (WAV, "has 0.5 seconds or more, the limit is 0.25"),
        ((TONE, 16_000), "limit is 0.25"),
        ((TONE, 0), "a sample rate of 0"),
        ((TONE, 10**7), "must be 1000 to 192000"),
        ((TONE, True), "a sample rate of True"),
        (np.zeros(0, np.float32), "shape (0,)"),
        (np.zeros((2, 2, 2), np.float32), "expected [n], [n, channels]"),
        (np.zeros((40, 50), np.float32), "40 channels, the limit is 32"),
        (np.full(5, np.inf, np.float32), "not finite"),
        (np.zeros(5, np.uint8), "expected floats, int16 or int32"),
        (wav_header(16_000), "holds no samples"),
    ],
)
def test_what_is_refused(item: SoundItem, why: str) -> None:
    with pytest.raises(ValueError, match=r"^audio\[1\]: ") as refused:
        read_sound(item, 16_000, SHORT, name="audio[1]")
    assert why in str(refused.value)


def test_files_of_floats_that_are_none() -> None:
    broken = bytearray(sound_file(TONE[None], 16_000, "wav", "pcm_f32le"))
    broken[-4:] = np.float32(np.nan).tobytes()
    with pytest.raises(ValueError, match="audio: has samples that are not finite"):
        read_sound(bytes(broken))


def test_an_array_needs_a_rate() -> None:
    with pytest.raises(ValueError, match=r"give Sound\(samples, rate\)"):
        read_sound(TONE)
    with pytest.raises(ValueError, match="a sample rate of 5"):
        read_sound(WAV, 5)
