"""Images, sounds and films as mlx-vlm's callers give them: paths, URLs, images of Pillow, all that can be read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

from ..media import IN_PROCESS, read_image
from ..media.encoded import SENT, encoded_film, encoded_image, encoded_sound, png
from ..media.given import GivenMedia, films_listed, listed

Size: TypeAlias = tuple[int, int]


@dataclass(frozen=True, slots=True, eq=False)
class PromptMedia:
    """What stands beside one prompt, as a request has it; `size` (height, width) of its first image as it was."""

    images: tuple[bytes, ...] = ()
    audios: tuple[bytes, ...] = ()
    videos: tuple[bytes, ...] = ()
    size: Size | None = None


TEXT_ALONE = PromptMedia()


def read_media(given: GivenMedia, shape: Size | None, *, sized: bool = False) -> PromptMedia:
    """Read or fetch all, which may take long; images are made (height, width) `shape`, if there is one.

    Whether the first image's size is looked at, `sized` says. ValueError, naming which, for one that cannot be read.
    """
    files: list[bytes] = []
    sizes: list[Size] = []
    for at, item in enumerate(given.images):
        name = f"image[{at}]"
        if shape is None and not (sized and at == 0):
            files.append(encoded_image(item, IN_PROCESS, name=name))
            continue
        pixels = read_image(item, SENT, IN_PROCESS, name=name)
        sizes.append(pixels.shape[:2])
        if shape is not None:
            height, width = shape
            pixels = np.asarray(Image.fromarray(pixels).resize((width, height)))
        files.append(png(pixels))
    sounds = [encoded_sound(item, IN_PROCESS, name=f"audio[{at}]") for at, item in enumerate(given.audios)]
    films = [encoded_film(item, IN_PROCESS, name=f"video[{at}]") for at, item in enumerate(given.videos)]
    return PromptMedia(tuple(files), tuple(sounds), tuple(films), sizes[0] if sizes else None)


def of_each(images: object, audios: object, videos: object, count: int) -> list[GivenMedia]:
    """What belongs to each of `count` prompts: one for each, or None. ValueError for another number."""
    kinds = {"images": images, "audios": audios, "videos": videos}
    rows = [_one_each(name, given, count) for name, given in kinds.items()]
    return [GivenMedia(listed(one), listed(two), films_listed(three)) for one, two, three in zip(*rows, strict=True)]


def _one_each(name: str, given: object, count: int) -> tuple[Any, ...]:
    items = listed(given)
    if items and len(items) != count:
        raise ValueError(f"{name}: {len(items)} of them for {count} prompts; give one, or None, for each")
    return items or (None,) * count
