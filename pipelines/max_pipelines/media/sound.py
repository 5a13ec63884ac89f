"""Sounds, decoded."""

from __future__ import annotations

from .access import NOTHING, Access
from .items import Sound, SoundItem
from .limits import DEFAULT_LIMITS, MediaLimits


def read_sound(
    item: SoundItem,
    rate: int | None = None,
    limits: MediaLimits = DEFAULT_LIMITS,
    access: Access = NOTHING,
    *,
    name: str = "audio",
) -> Sound:
    """A sound as float32 [samples] at `rate` (without one: its own), all channels mixed into one by their mean.

    ValueError, beginning with `name` ("audio[2]"), says what is wrong with it.
    """
    raise NotImplementedError
