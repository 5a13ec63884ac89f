"""Images, sounds and films: what callers give, decoded under limits. Nothing here needs torch."""

from .access import IN_PROCESS, NOTHING, Access
from .choosing import Choice, at_fps, evenly, every_frame
from .film import read_film
from .image import read_image
from .items import Film, FilmItem, ImageItem, Sound, SoundItem
from .limits import MediaLimits
from .sound import read_sound

__all__ = [
    "IN_PROCESS",
    "NOTHING",
    "Access",
    "Choice",
    "Film",
    "FilmItem",
    "ImageItem",
    "MediaLimits",
    "Sound",
    "SoundItem",
    "at_fps",
    "evenly",
    "every_frame",
    "read_film",
    "read_image",
    "read_sound",
]
