"""What all media of one request have together."""

from __future__ import annotations

from threading import Event

from .errors import refuse


class Shared:
    """What is left to all images, sounds and films of a request, lowered as each is read; and whether to go on.

    For the thread that reads them; `stop` is safe in any.
    """

    def __init__(self, pixels: int, seconds: float) -> None:
        self._pixels, self._most_pixels = pixels, pixels
        self._seconds, self._most_seconds = seconds, seconds
        self._stopped = Event()

    def take_pixels(self, count: int) -> None:
        """So many are kept. ValueError if they are more than are left."""
        if count > self._pixels:
            raise refuse(
                f"all images and films of a request have {self._most_pixels} pixels at most, and with it have more; "
                "show fewer or smaller ones, or of films fewer frames: set fps or num_frames"
            )
        self._pixels -= count

    def take_seconds(self, seconds: float) -> None:
        """So much sound is kept. ValueError if it is more than is left."""
        if seconds > self._seconds:
            raise refuse(
                f"all sounds of a request, those of films too, have {self._most_seconds:g} seconds at most, "
                "and with it have more"
            )
        self._seconds -= seconds

    def stop(self) -> None:
        """Nobody waits for them any more."""
        self._stopped.set()

    def go_on(self) -> None:
        """ValueError if nobody waits any more."""
        if self._stopped.is_set():
            raise refuse("is read no further, since nobody waits for it")
