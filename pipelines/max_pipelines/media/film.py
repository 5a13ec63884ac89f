"""Films, decoded."""

from __future__ import annotations

from .access import NOTHING, Access
from .choosing import Choice, every_frame
from .items import Film, FilmItem
from .limits import DEFAULT_LIMITS, MediaLimits


def read_film(
    item: FilmItem,
    limits: MediaLimits = DEFAULT_LIMITS,
    access: Access = NOTHING,
    *,
    choose: Choice = every_frame,
    sound_rate: int | None = None,
    name: str = "video",
) -> Film:
    """The frames of a film that `choose` keeps: `at_fps(2)`, `evenly(8)`, or all; with `sound_rate` also its sound.

    ValueError, beginning with `name` ("videos[2]"), says what is wrong with it.
    """
    raise NotImplementedError
