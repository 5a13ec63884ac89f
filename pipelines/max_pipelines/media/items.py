"""The forms in which callers give media, and what is made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels: TypeAlias = NDArray[np.uint8]
Samples: TypeAlias = NDArray[np.float32]
Array: TypeAlias = NDArray[Any]  # its type and shape are looked at before it is used


class Readable(Protocol):
    """A file that is open for reading bytes."""

    def read(self, size: int, /) -> bytes:
        """At most so many bytes; none at the end."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Sound:
    """Samples, and how many of them make a second.

    As a result: float32 [n], mono. As an item: floats or signed integers, [n], [n, channels] or [channels, n].
    """

    samples: Array
    rate: int


@dataclass(frozen=True, slots=True, eq=False)
class Film:
    """Frames of a film, uint8 [n, height, width, 3], and where they come from.

    indices: which of the film's frames they are.
    total: how many frames the film has.
    fps: how many of them make a second; None where nothing tells (arrays).
    sound: its sound track, mono; None if there is none, or none was asked for.
    """

    frames: Pixels
    indices: tuple[int, ...]
    total: int
    fps: float | None
    sound: Sound | None = None


FileItem: TypeAlias = str | Path | bytes | bytearray | memoryview | Readable
"""A file: a str is a path, an http(s) URL, a data: URL or base64, as far as access allows."""

ImageItem: TypeAlias = FileItem | Array | Image.Image
"""A file of an image, an image of Pillow, or an array [height, width], or [height, width, 1, 3 or 4]: uint8, or floats
from 0 to 1."""

SoundItem: TypeAlias = FileItem | Array | Sound | tuple[Array, int]
"""A file of sound, or samples with their rate; an array alone has the rate that is wanted."""

Frames: TypeAlias = Array | Sequence[ImageItem]
"""Those of a film: one after the other, or an array uint8 [n, height, width, 3]."""

FilmItem: TypeAlias = FileItem | Frames | tuple[Frames, float]
"""A file of a film, or its frames, with how many make a second or without."""
