"""Media as a request has them: encoded files."""

from __future__ import annotations

import io

import numpy as np
import soundfile
from PIL import Image

from max_interfaces.text import MAX_MEDIA_BYTES

from .access import Access
from .errors import named
from .image import read_image
from .items import FileItem, ImageItem, Pixels, Sound, SoundItem
from .limits import MediaLimits
from .sound import read_sound
from .source import read_file

SENT = MediaLimits(bytes=MAX_MEDIA_BYTES)  # what a request can have
LEAST_EFFORT = 1  # of compression: a picture goes to the next process


def encoded_image(item: ImageItem, access: Access, *, name: str = "image") -> bytes:
    """A file as it is, whatever is in it; an image that is decoded as PNG. ValueError as `read_image`."""
    if isinstance(item, np.ndarray | Image.Image):
        return png(read_image(item, SENT, access, name=name))
    with named(name):
        return read_file(item, SENT, access)


def encoded_sound(item: SoundItem, access: Access, *, name: str = "audio") -> bytes:
    """A file as it is, whatever is in it; samples as WAV of floats, in one channel. ValueError as `read_sound`."""
    if isinstance(item, np.ndarray | Sound | tuple):
        return wav(read_sound(item, None, SENT, access, name=name))
    with named(name):
        return read_file(item, SENT, access)


def encoded_film(item: FileItem, access: Access, *, name: str = "video") -> bytes:
    """A file as it is, whatever is in it. ValueError as `read_film`."""
    with named(name):
        return read_file(item, SENT, access)


def png(pixels: Pixels) -> bytes:
    """An image as a file, without loss."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=LEAST_EFFORT)
    return file.getvalue()


def wav(sound: Sound) -> bytes:
    """A sound as a file, without loss."""
    file = io.BytesIO()
    soundfile.write(file, sound.samples, sound.rate, "FLOAT", format="WAV")
    return file.getvalue()
