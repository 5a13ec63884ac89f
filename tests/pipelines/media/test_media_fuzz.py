"""Files that are cut short or changed anywhere: each is read or refused, within the limits, and nothing else happens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from max_pipelines.media import MediaLimits, at_fps, read_film, read_image, read_sound
from tests.pipelines.media.making import film_file, greys, image_file, opus_file, picture, sound_file, tone

LIMITS = MediaLimits(bytes=2**20, pixels=10_000, frames=50, film_frames=200, film_pixels=200_000, seconds=5)
IMAGES = {
    "PNG": image_file(picture()),
    "JPEG": image_file(picture(), "JPEG"),
    "WebP": image_file(picture(), "WEBP"),
    "GIF": image_file(picture(), "GIF"),
    "BMP": image_file(picture(), "BMP"),
}
SOUNDS = {
    "WAV": sound_file(tone(0.1)[None], 16_000),
    "FLAC": sound_file(tone(0.1)[None], 16_000, "flac", "flac"),
    "MP3": sound_file(tone(0.1)[None], 16_000, "mp3", "libmp3lame"),
    "Ogg": sound_file(tone(0.1)[None], 16_000, "ogg", "libopus"),
    "Opus": opus_file(2),
    "MP4": sound_file(tone(0.1)[None], 16_000, "mp4", "aac"),
}
FILMS = {
    "MP4": film_file(greys(4, 16, 16), sound=tone(0.4)),
    "H.264": film_file(greys(4, 16, 16), codec="libx264"),
    "Matroska": film_file(greys(4, 16, 16), form="matroska"),
    "WebM": film_file(greys(4, 16, 16), form="webm", codec="libvpx-vp9"),
    "AVI": film_file(greys(4, 16, 16), form="avi", codec="mjpeg"),
}


@dataclass(frozen=True, slots=True)
class Change:
    """Something to do to a file, at a part of its length."""

    at: float
    size: int
    new: bytes

    def done(self, data: bytes) -> bytes:
        """The file, with some bytes exchanged for others."""
        place = int(self.at * len(data))
        return data[:place] + self.new + data[place + self.size :]


PLACES = st.one_of(st.floats(0, 1), st.floats(0, 0.1))  # headers are at the beginning
OVERWRITES = st.binary(min_size=1, max_size=8).flatmap(
    lambda new: PLACES.map(lambda at: Change(at, len(new), new))  # nothing moves
)
ENDS = PLACES.map(lambda at: Change(at, 2**20, b""))
MOVES = st.builds(Change, PLACES, st.integers(0, 64), st.binary(max_size=64))
CHANGES = st.lists(st.one_of(OVERWRITES, OVERWRITES, MOVES, ENDS), min_size=1, max_size=4)


def changed(data: bytes, changes: list[Change]) -> bytes:
    """One change after the other."""
    for change in changes:
        data = change.done(data)
    return data


@pytest.mark.parametrize("form", IMAGES)
@settings(deadline=None)
@given(changes=CHANGES)
def test_images(form: str, changes: list[Change]) -> None:
    try:
        pixels = read_image(changed(IMAGES[form], changes), LIMITS)
    except ValueError as problem:
        assert str(problem).startswith("image: ")
        return
    assert (pixels.ndim, pixels.shape[2], pixels.dtype) == (3, 3, np.uint8)
    assert 0 < pixels.shape[0] * pixels.shape[1] <= LIMITS.pixels


@pytest.mark.parametrize("form", SOUNDS)
@settings(deadline=None)
@given(changes=CHANGES)
def test_sounds(form: str, changes: list[Change]) -> None:
    try:
        sound = read_sound(changed(SOUNDS[form], changes), 16_000, LIMITS)
    except ValueError as problem:
        assert str(problem).startswith("audio: ")
        return
    assert (sound.samples.ndim, sound.samples.dtype, sound.rate) == (1, np.float32, 16_000)
    assert sound.samples.size <= (LIMITS.seconds + 1) * 16_000


@pytest.mark.parametrize("form", FILMS)
@settings(deadline=None)
@given(changes=CHANGES)
def test_films(form: str, changes: list[Change]) -> None:
    try:
        film = read_film(changed(FILMS[form], changes), LIMITS, choose=at_fps(2), sound_rate=8000)
    except ValueError as problem:
        assert str(problem).startswith("video: ")
        return
    assert 0 < len(film.frames) == len(film.indices) <= LIMITS.frames
    assert film.frames[..., 0].size <= LIMITS.film_pixels
    assert film.total <= LIMITS.film_frames
