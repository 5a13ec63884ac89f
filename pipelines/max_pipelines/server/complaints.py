"""What a server complains of on its standard error, without being made to fill a disk."""

from __future__ import annotations

from ..problems import complain

EVERY_S = 1.0


class Complaints:
    """A line at once, then at most one every second, which says how many were left out."""

    def __init__(self) -> None:
        self._next_at = 0.0
        self._left_out = 0

    def say(self, text: str, now: float) -> None:
        """Print a line, unless one has just been printed. `now` is in seconds on a steady clock."""
        if now < self._next_at:
            self._left_out += 1
            return
        more = f" (and {self._left_out} others since the last such line)" if self._left_out else ""
        complain(f"{text}{more}")
        self._next_at, self._left_out = now + EVERY_S, 0
