"""Media as a request has them: encoded files."""

from __future__ import annotations

import io
from dataclasses import replace
from fractions import Fraction
from typing import cast

import av
import numpy as np
import soundfile
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import Image

from max_interfaces.text import MAX_MEDIA_BYTES

from .access import Access
from .errors import named
from .film import read_film
from .image import read_image
from .items import FileItem, Film, FilmItem, ImageItem, Pixels, Sound, SoundItem
from .limits import MediaLimits
from .sound import read_sound
from .source import read_file

SENT = MediaLimits(bytes=MAX_MEDIA_BYTES)  # what a request can have
FRAMES_SENT = replace(SENT, frames=SENT.film_frames)  # which of them are seen is chosen where they are
USUAL_FPS = 24.0  # of frames that do not say how fast they are shown: transformers' own
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


def encoded_film(item: FilmItem, access: Access, *, name: str = "video") -> bytes:
    """A file as it is, whatever is in it; frames as Matroska of FFV1. ValueError as `read_film`."""
    if not isinstance(item, np.ndarray | list | tuple):
        with named(name):
            return read_file(cast(FileItem, item), SENT, access)
    film = read_film(item, FRAMES_SENT, access, name=name)
    with named(name):
        data = matroska(film)
        SENT.check_bytes(len(data))
        return data


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


def matroska(film: Film) -> bytes:
    """Frames as a file, without loss."""
    file = io.BytesIO()
    rate = Fraction(film.fps or USUAL_FPS).limit_denominator(1001)
    with av.open(file, "w", "matroska") as container:
        stream: VideoStream = container.add_stream("ffv1", rate=rate)
        stream.height, stream.width = film.frames.shape[1:3]
        stream.pix_fmt = "bgr0"
        stream.codec_context.options = {"level": "1"}  # later ones cannot do with a side of one pixel
        for frame in film.frames:
            container.mux(stream.encode(VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    return file.getvalue()
