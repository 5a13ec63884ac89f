"""What films come to, and which of their frames are kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from max_pipelines.media import (
    NOTHING,
    Choice,
    Film,
    FilmItem,
    MediaLimits,
    at_fps,
    encoded,
    evenly,
    every_frame,
    read_film,
)
from max_pipelines.media.encoded import encoded_film
from tests.pipelines.media.making import film_file, greys, image_file, many_frames, promising, tone

GREYS = greys(20)
FILM = film_file(GREYS)  # 2 seconds


def shown(film: Film) -> list[int]:
    """Which of the greys its frames are."""
    return [round((float(frame.mean()) - 20) / 5) for frame in film.frames]


@pytest.mark.parametrize(
    ("form", "codec"),
    [("mp4", "mpeg4"), ("mp4", "libx264"), ("matroska", "mpeg4"), ("avi", "mjpeg"), ("webm", "libvpx-vp9")],
)
def test_formats(form: str, codec: str) -> None:
    film = read_film(film_file(GREYS, form=form, codec=codec))
    assert (film.frames.shape, str(film.frames.dtype)) == ((20, 32, 48, 3), "uint8")
    assert (shown(film), film.indices, film.total, film.fps) == ([*range(20)], (*range(20),), 20, 10.0)


def test_frames_by_number_and_by_rate() -> None:
    for choose, indices in (
        (evenly(1), [0]),
        (evenly(3), [0, 6, 13]),
        (evenly(20), range(20)),
        (at_fps(2), [0, 5, 10, 15]),
        (at_fps(0.01), [0]),
        (at_fps(10), range(20)),
        (lambda total, fps: [total - 1], [19]),
    ):
        film = read_film(FILM, choose=choose)
        assert (shown(film), film.indices) == ([*indices], (*indices,))


@given(st.integers(1, 500), st.integers(1, 500), st.floats(0.01, 30), st.floats(0.5, 60))
def test_choices_rise_and_stay_within(total: int, num_frames: int, fps: float, film_fps: float) -> None:
    if num_frames <= total:
        chosen = evenly(num_frames)(total, None)
        assert len(chosen) == num_frames
        assert chosen[0] == 0
        assert chosen == sorted(set(chosen))
        assert chosen[-1] < total
    if fps <= film_fps:
        assert len(at_fps(fps)(total, film_fps)) == min(total, max(1, int(total / film_fps * fps)))


def fixed(indices: list[int]) -> Choice:
    """The same, whatever the film."""
    return lambda total, fps: indices


def test_choices_that_cannot_be() -> None:
    for wrong in (0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="fps = "):
            at_fps(wrong)
    with pytest.raises(ValueError, match="num_frames = 0"):
        evenly(0)
    with pytest.raises(ValueError, match="video: num_frames = 21: the film has 20 frames"):
        read_film(FILM, choose=evenly(21))
    with pytest.raises(ValueError, match="fps = 11: the film has 10"):
        read_film(FILM, choose=at_fps(11))
    with pytest.raises(ValueError, match="set num_frames"):
        read_film(np.stack(GREYS), choose=at_fps(1))
    for indices in ([], [3, 2], [1, 1], [-1], [20]):
        with pytest.raises(ValueError, match="some of 0 to 19, rising"):
            read_film(FILM, choose=fixed(indices))


def test_frames_that_are_decoded_already() -> None:
    lossless = [image_file(frame) for frame in GREYS]
    items: list[FilmItem] = [np.stack(GREYS), GREYS, tuple(map(Image.fromarray, GREYS)), lossless]
    for item in items:
        film = read_film(item, choose=evenly(4))
        assert (shown(film), film.indices, film.total, film.fps) == ([0, 5, 10, 15], (0, 5, 10, 15), 20, None)
    assert shown(read_film(np.stack(GREYS), choose=every_frame)) == [*range(20)]


def test_the_sound_track() -> None:
    with_sound = film_file(GREYS, sound=tone(2.0))
    assert read_film(with_sound).sound is None
    sound = read_film(with_sound, choose=evenly(2), sound_rate=8000).sound
    assert sound is not None
    assert sound.rate == 8000
    assert sound.samples.size == pytest.approx(16_000, abs=1100)  # AAC has whole frames only
    assert np.abs(sound.samples).max() == pytest.approx(0.5, abs=0.1)
    assert read_film(FILM, sound_rate=8000).sound is None


@pytest.mark.parametrize(("turns", "matrix"), [(1, (0, -1, 1, 0)), (2, (-1, 0, 0, -1)), (3, (0, 1, -1, 0))])
def test_films_are_upright(turns: int, matrix: tuple[int, int, int, int]) -> None:
    """As a phone notes how it was held: a matrix in the track's header."""
    left_half = np.zeros((32, 48, 3), np.uint8)
    left_half[:, :24] = 255
    film = bytearray(film_file([left_half]))
    a, b, c, d = ((value * 0x10000).to_bytes(4, "big", signed=True) for value in matrix)
    at = film.index(b"tkhd") + 4 + 40  # past version, times, id, duration, layer and volume
    film[at : at + 8], film[at + 12 : at + 20] = a + b, c + d
    read = read_film(bytes(film)).frames[0]
    wanted = np.rot90(left_half, turns)
    assert read.shape == wanted.shape
    assert np.abs(read.astype(int) - wanted.astype(int)).mean() < 30


def test_frames_after_the_last_that_is_kept_are_not_decoded() -> None:
    broken = bytearray(FILM)
    end = FILM.index(b"moov") - 4  # of the samples
    broken[end - 40 : end] = bytes(40)
    assert shown(read_film(bytes(broken), choose=at_fps(1))) == [0, 10]
    with pytest.raises(ValueError, match="cannot be decoded as a film"):
        read_film(bytes(broken))


def test_a_film_that_does_not_tell_how_long_it_is() -> None:
    duration = b"\x44\x89\x88"
    film = film_file(GREYS, form="matroska")
    assert film.count(duration) == 1
    untold = film.replace(duration, b"\x44\x80\x88")  # an element that nobody knows
    assert shown(read_film(untold)) == [*range(20)]
    with pytest.raises(ValueError, match=r"has 1\.6 seconds or more, the limit is 1\.5"):
        read_film(untold, MediaLimits(seconds=1.5))


def table(name: bytes) -> bytes:
    """One that promises all that a table can."""
    return b"\0\0\0\x14" + name + b"\xff" * 12


def test_words_that_look_like_tables() -> None:
    """Samples may be any bytes, and a title any words."""
    in_samples = b"\0\0\0\x20mdat" + table(b"stsz") + bytes(4)
    in_many_samples = b"\0\0\0\1mdat" + (36).to_bytes(8, "big") + table(b"trun")
    title = b"\0\0\0\x18free" + b"a tree trunk,stsz"[:16]
    for film in (FILM + in_samples, FILM + in_many_samples, FILM + title):
        assert shown(read_film(film)) == [*range(20)]
    for name in (b"stsz", b"trun"):
        with pytest.raises(ValueError, match="video: promises 4294967"):
            read_film(FILM + b"\0\0\0\x1cfree" + table(name))


def test_edits_that_show_the_same_again() -> None:
    film = bytearray(promising(FILM, 100_000))
    at = film.index(b"elst") + 8
    film[at : at + 4] = (100).to_bytes(4, "big")
    with pytest.raises(ValueError, match="promises 100000 samples in 100 edits, the limit is 5000000"):
        read_film(bytes(film))


def test_films_in_fragments() -> None:
    options = {"movflags": "frag_keyframe+empty_moov+dash"}
    assert shown(read_film(film_file(GREYS, options=options))) == [*range(20)]


@pytest.mark.parametrize(
    ("item", "limits", "why"),
    [
        (FILM, {"frames": 19}, "20 frames, the limit is 19; set fps or num_frames"),
        (FILM, {"film_frames": 19}, "20 frames or more, the limit is 19"),
        (many_frames(50), {"film_frames": 49}, "50 frames or more, the limit is 49"),
        (FILM, {"seconds": 1.5}, "2 seconds or more, the limit is 1.5"),
        (FILM, {"pixels": 1000}, "has 48 × 32 pixels, the limit is 1000"),
        (FILM, {"film_pixels": 20 * 32 * 48 - 1}, "20 frames of 48 × 32 pixels"),
        (FILM, {"bytes": 1000}, "bytes or more, the limit is 1000"),
        (np.stack(GREYS), {"film_frames": 19}, "20 frames or more"),
        (np.stack(GREYS), {"frames": 19}, "set fps or num_frames"),
        (GREYS, {"film_pixels": 1000}, "20 frames of 48 × 32 pixels"),
        (FILM, {"decoded_pixels": 20 * 32 * 48 - 1}, "has 30720 pixels or more in the frames up to the last"),
        (GREYS, {"pixels": 1000}, "frame 0: has 48 × 32 pixels"),
        ([GREYS[0], GREYS[0][:-1]], {}, "frames of more than one size"),
        ([], {}, "has no frames"),
        (np.zeros((2, 8, 8, 4), np.uint8), {}, "expected uint8 [n, height, width, 3]"),
        (Image.new("RGB", (8, 8)), {}, "a film is given as a list"),
        (b"#EXTM3U\nhttp://127.0.0.1/", {}, "no file of a known format"),
        (b"RIFF....WAVE", {}, "cannot be decoded as a film"),
        (promising(FILM, 10**9), {}, "promises 1000000000 samples, the limit is 5000000"),
        (FILM[: len(FILM) // 2], {}, "has no pictures in it"),
    ],
)
def test_what_is_refused(item: FilmItem, limits: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=r"^videos\[3\]: ") as refused:
        read_film(item, MediaLimits(**limits), name="videos[3]")
    assert why in str(refused.value)


def test_every_limit_is_met_exactly() -> None:
    all_pixels = 20 * 32 * 48
    just = MediaLimits(
        frames=20,
        film_frames=20,
        seconds=2,
        pixels=32 * 48,
        film_pixels=all_pixels,
        decoded_pixels=all_pixels,
        bytes=len(FILM),
    )
    items: Sequence[bytes | list[NDArray[np.uint8]]] = (FILM, GREYS)
    for item in items:
        assert shown(read_film(item, just)) == [*range(20)]


@given(st.sampled_from([1.0, 2.5, 12.0, 23.976, 24.0, 29.97, 59.94, 1000.0]), st.integers(1, 5), st.integers(0, 99))
@settings(max_examples=12)
def test_frames_become_a_file_without_loss(fps: float, count: int, seed: int) -> None:
    source = np.random.default_rng(seed)
    height, width = (int(side) for side in source.integers(1, 40, 2))
    frames = source.integers(0, 256, (count, height, width, 3), dtype=np.uint8)
    film = read_film(encoded_film((frames, fps), NOTHING))
    assert np.array_equal(film.frames, frames)
    assert film.fps == pytest.approx(fps, rel=1e-4)
    usual = read_film(encoded_film([*frames], NOTHING))
    assert (usual.fps, usual.total) == (24.0, count)
    assert np.array_equal(usual.frames, frames)


def test_frames_that_no_request_has_room_for_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoded, "SENT", MediaLimits(bytes=1000))
    with pytest.raises(ValueError, match=r"videos\[1\]: has \d+ bytes or more, the limit is 1000"):
        encoded_film(GREYS, NOTHING, name="videos[1]")


def test_frames_with_a_rate() -> None:
    frames = np.stack(GREYS)
    film = read_film((frames, 10), choose=at_fps(2))
    assert (shown(film), film.fps) == ([0, 5, 10, 15], 10.0)
    assert shown(read_film((GREYS, 10.0), choose=at_fps(2))) == shown(film)
    for fps in (0, -1, float("nan"), 1001):
        with pytest.raises(ValueError, match=r"video: .* frames a second: must be more than 0 and at most 1000"):
            read_film((frames, fps))
