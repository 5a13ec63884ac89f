"""All media of one request share what they may keep, and end when nobody waits for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from max_pipelines.media import MediaLimits, evenly, read_film, read_image, read_sound
from tests.pipelines.media.making import film_file, greys, image_file, many_frames, sound_file, tone

FRAME = 32 * 48
IMAGE, FILM = image_file(greys(1)[0]), film_file(greys(20), sound=tone(2.0))
SOUND = sound_file(tone(1.0)[None], 16_000)
PIXELS = rf"all images and films of a request have {6 * FRAME} pixels at most, and with it have more; .*num_frames"
SECONDS = "all sounds of a request, those of films too, have 3.5 seconds at most, and with it have more"


def test_pixels_of_images_and_films_count_together() -> None:
    limits, _ = MediaLimits(request_pixels=6 * FRAME).for_request()
    for _ in range(2):
        read_image(IMAGE, limits)
    read_film(FILM, limits, choose=evenly(3))
    with pytest.raises(ValueError, match=rf"^videos\[1\]: {PIXELS}"):
        read_film(FILM, limits, choose=evenly(2), name="videos[1]")
    read_image(greys(1)[0], limits)  # of the refused one nothing was kept
    for none_left in (IMAGE, greys(1)[0]):
        with pytest.raises(ValueError, match=rf"^images\[3\]: {PIXELS}"):
            read_image(none_left, limits, name="images[3]")


@pytest.mark.parametrize("frames", [greys(20), film_file(greys(20))])
def test_every_form_of_a_film_counts_once(frames: Any) -> None:
    limits, _ = MediaLimits(request_pixels=6 * FRAME).for_request()
    read_film(frames, limits, choose=evenly(6))
    with pytest.raises(ValueError, match="all images and films of a request"):
        read_film(frames, limits, choose=evenly(1))


def test_seconds_of_sounds_and_films_count_together() -> None:
    limits, _ = MediaLimits(request_seconds=3.5).for_request()
    read_film(FILM, limits)  # is not heard
    read_film(FILM, limits, sound_rate=16_000)
    read_sound(SOUND, 16_000, limits)
    with pytest.raises(ValueError, match=rf"^audios\[1\]: {SECONDS}"):
        read_sound(SOUND, 16_000, limits, name="audios[1]")


def test_another_request_has_its_own() -> None:
    limits = MediaLimits(request_pixels=FRAME)
    for _ in range(2):
        read_image(IMAGE, limits.for_request()[0])
    for _ in range(2):
        read_image(IMAGE, limits)  # an item by itself is of no request


READERS: dict[str, Callable[[MediaLimits], object]] = {
    "an image": lambda limits: read_image(IMAGE, limits),
    "a film": lambda limits: read_film(many_frames(1000), limits, choose=evenly(2)),
    "a sound": lambda limits: read_sound(sound_file(tone(60.0)[None], 16_000), 16_000, limits),
}


@pytest.mark.parametrize("kind", READERS)
def test_what_nobody_waits_for_is_not_read(kind: str) -> None:
    limits, shared = MediaLimits().for_request()
    shared.stop()
    with pytest.raises(ValueError, match="is read no further, since nobody waits for it"):
        READERS[kind](limits)


def test_a_film_ends_at_the_next_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    limits, shared = MediaLimits().for_request()
    seen: list[int] = []
    check = MediaLimits.check_decoded

    def counted(self: MediaLimits, pixels: int) -> None:
        seen.append(pixels)
        if len(seen) == 5:
            shared.stop()
        check(self, pixels)

    monkeypatch.setattr(MediaLimits, "check_decoded", counted)
    with pytest.raises(ValueError, match="is read no further"):
        read_film(FILM, limits)
    assert len(seen) == 5


def test_a_sound_ends_at_the_next_block(monkeypatch: pytest.MonkeyPatch) -> None:
    limits, shared = MediaLimits().for_request()
    monkeypatch.setattr(MediaLimits, "take_seconds", lambda *_: shared.stop())
    with pytest.raises(ValueError, match="is read no further"):
        read_sound(sound_file(tone(60.0)[None], 16_000), 16_000, limits)
