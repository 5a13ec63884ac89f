"""Images and sounds as mlx-vlm's callers give them: paths, URLs and images of Pillow, and all else that can be read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

from ..media import IN_PROCESS, read_image
from ..media.encoded import SENT, encoded_image, encoded_sound, png

Size: TypeAlias = tuple[int, int]


@dataclass(frozen=True, slots=True, eq=False)
class PromptMedia:
    """What stands beside one prompt, as a request has it; `size` (height, width) of its first image as it was."""

    images: tuple[bytes, ...] = ()
    audios: tuple[bytes, ...] = ()
    size: Size | None = None


TEXT_ALONE = PromptMedia()


def read_media(images: Sequence[Any], audios: Sequence[Any], shape: Size | None, *, sized: bool = False) -> PromptMedia:
    """Read or fetch all, which may take long; images are made (height, width) `shape`, if there is one.

    Whether the first image's size is looked at, `sized` says. ValueError, naming which, for one that cannot be read.
    """
    files: list[bytes] = []
    sizes: list[Size] = []
    for at, item in enumerate(images):
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
    sounds = [encoded_sound(item, IN_PROCESS, name=f"audio[{at}]") for at, item in enumerate(audios)]
    return PromptMedia(tuple(files), tuple(sounds), sizes[0] if sizes else None)


def listed(given: object) -> list[Any]:
    """None, one, or a list of them."""
    if given is None:
        return []
    return list(given) if isinstance(given, list) else [given]


def one_each(name: str, given: object, count: int) -> list[list[Any]]:
    """What belongs to each of `count` prompts: one for each, or None. ValueError for another number."""
    items = listed(given)
    if items and len(items) != count:
        raise ValueError(f"{name}: {len(items)} of them for {count} prompts; give one, or None, for each")
    return [listed(item) for item in items] or [[] for _ in range(count)]
