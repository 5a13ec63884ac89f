"""Files that are cut short or changed anywhere: each is read or refused, within the limits; nothing else happens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from max_pipelines.media import MediaLimits, at_fps, read_film, read_image, read_sound
from tests.pipelines.media.making import film_file, greys, image_file, opus_file, picture, sound_file, tone

Read = TypeVar("Read")
NAME = "items[7]"
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
    "WAV of floats": sound_file(tone(0.1)[None], 16_000, "wav", "pcm_f32le"),
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


def read_or_refused(read: Callable[[], Read]) -> Read | None:
    """What is read; None if it is refused as it should be."""
    try:
        return read()
    except ValueError as problem:
        refused = str(problem)
    assert refused.startswith(f"{NAME}: ")
    return None


@pytest.mark.parametrize("form", IMAGES)
@settings(deadline=None)
@given(changes=CHANGES)
def test_images(form: str, changes: list[Change]) -> None:
    pixels = read_or_refused(lambda: read_image(changed(IMAGES[form], changes), LIMITS, name=NAME))
    if pixels is None:
        return
    assert (pixels.ndim, pixels.shape[2], str(pixels.dtype)) == (3, 3, "uint8")
    assert 0 < pixels.shape[0] * pixels.shape[1] <= LIMITS.pixels


@pytest.mark.parametrize("form", SOUNDS)
@settings(deadline=None)
@given(changes=CHANGES)
def test_sounds(form: str, changes: list[Change]) -> None:
    sound = read_or_refused(lambda: read_sound(changed(SOUNDS[form], changes), 16_000, LIMITS, name=NAME))
    if sound is None:
        return
    assert np.isfinite(sound.samples).all()
    assert (sound.samples.ndim, str(sound.samples.dtype), sound.rate) == (1, "float32", 16_000)
    assert sound.samples.size <= (LIMITS.seconds + 1) * 16_000


@pytest.mark.parametrize("form", FILMS)
@settings(deadline=None)
@given(changes=CHANGES)
def test_films(form: str, changes: list[Change]) -> None:
    data = changed(FILMS[form], changes)
    film = read_or_refused(lambda: read_film(data, LIMITS, choose=at_fps(2), sound_rate=8000, name=NAME))
    if film is None:
        return
    assert 0 < len(film.frames) == len(film.indices) <= LIMITS.frames
    assert film.frames[..., 0].size <= LIMITS.film_pixels
    assert film.total <= LIMITS.film_frames
