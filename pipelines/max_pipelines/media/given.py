"""What a caller shows and plays to a model beside one prompt."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from max_interfaces.text import MediaKind

from .access import Access
from .encoded import encoded_film, encoded_image, encoded_sound
from .items import FilmItem, ImageItem, SoundItem

MAX_BYTES = 2**28  # as many as a server has room for by default


@dataclass(frozen=True, slots=True, eq=False)
class EncodedMedia:
    """The same as a request has them: files, none of which has been decoded."""

    images: tuple[bytes, ...] = ()
    audios: tuple[bytes, ...] = ()
    videos: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class GivenMedia:
    """Images, sounds and films, each in any of its forms, in the order of their places in the prompt."""

    images: tuple[ImageItem, ...] = ()
    audios: tuple[SoundItem, ...] = ()
    videos: tuple[FilmItem, ...] = ()

    @property
    def counts(self) -> dict[MediaKind, int]:
        """How many there are of each kind that there is."""
        found = {MediaKind.IMAGE: self.images, MediaKind.AUDIO: self.audios, MediaKind.VIDEO: self.videos}
        counts = {kind: len(items) for kind, items in found.items()}
        return {kind: count for kind, count in counts.items() if count}

    def encoded(self, access: Access) -> EncodedMedia:
        """Read or fetch all of them, which may take long.

        ValueError, naming which, for one that cannot be had, or with which all are more than `MAX_BYTES`.
        """
        images, audios, videos = enumerate(self.images), enumerate(self.audios), enumerate(self.videos)
        readers: list[tuple[str, Callable[[], bytes]]] = [
            *((f"images[{at}]", partial(encoded_image, one, access, name=f"images[{at}]")) for at, one in images),
            *((f"audios[{at}]", partial(encoded_sound, one, access, name=f"audios[{at}]")) for at, one in audios),
            *((f"videos[{at}]", partial(encoded_film, one, access, name=f"videos[{at}]")) for at, one in videos),
        ]
        files: list[bytes] = []
        left = MAX_BYTES
        for name, read in readers:
            files.append(read())
            left -= len(files[-1])
            if left < 0:
                raise ValueError(
                    f"{name}: all media of a request have {MAX_BYTES} bytes at most, and with it have more"
                )
        heard, seen = len(self.images), len(self.images) + len(self.audios)
        return EncodedMedia(tuple(files[:heard]), tuple(files[heard:seen]), tuple(files[seen:]))


NO_MEDIA = GivenMedia()


def listed(given: object) -> tuple[Any, ...]:
    """Images or sounds as callers give them: none, one, or a list."""
    if given is None:
        return ()
    return tuple(given) if isinstance(given, list) else (given,)


def films_listed(given: object) -> tuple[Any, ...]:
    """The same of films, one of which may be a list of its frames."""
    alone = isinstance(given, list) and any(isinstance(one, Image.Image) or _is_frame(one) for one in given)
    return (given,) if alone else listed(given)


def _is_frame(given: object) -> bool:
    return isinstance(given, np.ndarray) and given.ndim < 4


def what_is_taken(kinds: Collection[str]) -> str:
    """What to tell who gives a model media of another kind than `kinds`."""
    return f"this model takes text and {' and '.join(kinds)}" if kinds else "this model reads text only"
