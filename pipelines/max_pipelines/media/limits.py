"""How large media may be."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Self

from .errors import refuse
from .shared import Shared

MAX_BYTES = 2**31 - 1
MAX_PIXELS = 89_478_485  # above it Pillow warns of a bomb by itself
MAX_FRAMES = 2**20
MAX_DECODED = 2**44  # pixels
MAX_SECONDS = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class MediaLimits:
    """What one item may take; more is refused before it is decoded wherever its header tells, else while it is.

    bytes: of a file, as it is read or fetched, before it is decoded.
    pixels: of an image, and of each frame of a film. Decoding takes up to 12 bytes each, the result 3.
    frames: of a film, those that are kept.
    film_frames: of a film, also those that are passed over: each of them has to be decoded.
    film_pixels: of all kept frames together; the result takes 3 bytes each.
    decoded_pixels: of a film, those of the frames that are passed over, too: each of them takes its time.
    seconds: of a sound or a film.
    fetch_seconds: for a URL, from the look-up of its name to its last byte, redirects included.
    request_pixels, request_seconds: of all images and kept frames, and of all sounds, of one request together.
    shared: what is left of these two to a request; None for an item that is read by itself.
    """

    bytes: int = 100 * 2**20
    pixels: int = 50_000_000  # what the cameras of phones give
    frames: int = 768
    film_frames: int = 120_000  # half an hour at 60 a second
    film_pixels: int = 300_000_000  # 144 frames of 1920 × 1080
    decoded_pixels: int = 250_000_000_000  # half an hour of 1920 × 1080 at 60 a second
    seconds: float = 1800.0
    fetch_seconds: float = 30.0
    request_pixels: int = 400_000_000  # the largest film, and some images
    request_seconds: float = 3600.0
    shared: Shared | None = None

    def __post_init__(self) -> None:
        """ValueError for a limit that is none."""
        most = {
            "bytes": MAX_BYTES,
            "pixels": MAX_PIXELS,
            "frames": MAX_FRAMES,
            "film_frames": MAX_FRAMES,
            "film_pixels": MAX_BYTES,
            "decoded_pixels": MAX_DECODED,
            "seconds": MAX_SECONDS,
            "fetch_seconds": MAX_SECONDS,
            "request_pixels": MAX_BYTES,
            "request_seconds": MAX_SECONDS,
        }
        for name, bound in most.items():
            value = getattr(self, name)
            if not (math.isfinite(value) and 0 < value <= bound):
                raise ValueError(f"{name} = {value}: must be more than 0 and at most {bound}")

    def for_request(self) -> tuple[Self, Shared]:
        """The same for the items of one request, and what they share."""
        shared = Shared(self.request_pixels, self.request_seconds)
        return replace(self, shared=shared), shared

    def take_pixels(self, count: int) -> None:
        """Count what is about to be kept. ValueError if all of a request would have too many."""
        if self.shared is not None:
            self.shared.take_pixels(count)

    def take_seconds(self, seconds: float) -> None:
        """The same of sound."""
        if self.shared is not None:
            self.shared.take_seconds(seconds)

    def go_on(self) -> None:
        """To be called now and then by what takes long. ValueError if nobody waits any more."""
        if self.shared is not None:
            self.shared.go_on()

    def check_bytes(self, size: int) -> None:
        """ValueError if a file is too large."""
        if size > self.bytes:
            raise refuse(f"has {size} bytes or more, the limit is {self.bytes}")

    def check_pixels(self, width: int, height: int) -> None:
        """ValueError if an image or a frame is too large, or nothing."""
        if not width or not height:
            raise refuse(f"is {width} × {height} pixels")
        if width * height > self.pixels:
            raise refuse(f"has {width} × {height} pixels, the limit is {self.pixels}")

    def check_seconds(self, seconds: float) -> None:
        """ValueError if a sound or a film is too long."""
        if seconds > self.seconds:
            raise refuse(f"has {seconds:g} seconds or more, the limit is {self.seconds:g}")

    def check_film_frames(self, count: int) -> None:
        """ValueError if a film has too many frames to look through."""
        if count > self.film_frames:
            raise refuse(f"has {count} frames or more, the limit is {self.film_frames}")

    def check_decoded(self, pixels: int) -> None:
        """ValueError if a film takes too long to decode."""
        if pixels > self.decoded_pixels:
            raise refuse(
                f"has {pixels} pixels or more in the frames up to the last that is kept, the limit is "
                f"{self.decoded_pixels}; give a shorter or smaller film"
            )


DEFAULT_LIMITS = MediaLimits()
