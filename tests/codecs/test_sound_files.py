"""Chunk schedules, 16-bit samples, WAV streams and files."""

from __future__ import annotations

import io
import os
import re
import struct
import wave
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from max_codecs.chunks import ChunkSchedule
from max_codecs.pcm import from_s16, to_s16
from max_codecs.wav import WavFile, WavStream, wav_header

SINE = np.sin(np.arange(1000) / 7).astype(np.float32)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(0, 60))
def test_a_schedule_covers_every_frame_once(sizes: list[int], frames: int) -> None:
    schedule = ChunkSchedule(tuple(sizes))
    slices = list(schedule.slices(frames))
    assert [k for part in slices for k in range(frames)[part]] == list(range(frames))
    assert all(one.stop == other.start for one, other in pairwise(slices))
    for chunk, part in enumerate(slices[:-1]):
        assert part.stop - part.start == schedule.size(chunk) == sizes[min(chunk, len(sizes) - 1)]


@pytest.mark.parametrize("sizes", [(), (0,), (1, -1), (5000,)])
def test_a_bad_schedule_is_refused(sizes: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="chunk_frames="):
        ChunkSchedule(sizes)


def test_samples_are_rounded_and_clipped() -> None:
    samples = np.array([0, 1, -1, 2, -3, np.nan, np.inf, -np.inf, 0.6 / 32767, -0.6 / 32767], np.float32)
    assert to_s16(samples).tolist() == [0, 32767, -32767, 32767, -32767, 0, 32767, -32767, 1, -1]
    assert to_s16(SINE).dtype == np.dtype("<i2")
    np.testing.assert_allclose(from_s16(to_s16(SINE)), SINE, atol=0.51 / 32767)


def test_a_stream_has_one_header_of_unknown_size() -> None:
    out = io.BytesIO()
    stream = WavStream(out, 16000)
    assert out.getvalue() == wav_header(16000)
    stream.write(SINE[:300])
    stream.write(SINE[300:])
    data = out.getvalue()
    assert data[4:8] == data[40:44] == b"\xff" * 4
    assert data[44:] == to_s16(SINE).tobytes()
    samples, rate = pytest.importorskip("soundfile").read(io.BytesIO(data), dtype="int16")
    assert rate == 16000
    np.testing.assert_array_equal(samples, to_s16(SINE))


def test_a_file_is_a_plain_wav(tmp_path: Path) -> None:
    path = tmp_path / "hello.wav"
    with WavFile(path, 24000) as file:
        file.write(SINE[:10])
        file.write(SINE[10:])
        assert not path.exists()
    with wave.open(str(path)) as read:
        assert (read.getframerate(), read.getnchannels(), read.getsampwidth()) == (24000, 1, 2)
        assert read.readframes(5000) == to_s16(SINE).tobytes()
    assert os.listdir(tmp_path) == ["hello.wav"]
    assert struct.unpack("<I", path.read_bytes()[4:8])[0] == path.stat().st_size - 8


def test_an_interrupted_file_never_appears(tmp_path: Path) -> None:
    path = tmp_path / "hello.wav"
    path.write_bytes(b"before")

    def interrupted() -> None:
        with WavFile(path, 24000) as file:
            file.write(SINE)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert os.listdir(tmp_path) == ["hello.wav"]
    assert path.read_bytes() == b"before"


def test_a_target_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "no" / "x.wav", Path("/dev/null")):
        with pytest.raises(OSError, match=re.escape(str(path))) as caught, WavFile(path, 24000):
            pass
        assert caught.value.filename == str(path)
    assert os.listdir(tmp_path) == []


def test_a_sound_too_long_for_wav_is_refused() -> None:
    with pytest.raises(ValueError, match="4294967251 at most"):
        wav_header(16000, 2**32)
    with pytest.raises(ValueError, match="sample_rate=0"):
        wav_header(0)
