"""What a caller shows and plays to a model beside one prompt."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from max_interfaces.text import MediaKind

from .access import Access
from .encoded import encoded_image, encoded_sound
from .items import ImageItem, SoundItem


@dataclass(frozen=True, slots=True, eq=False)
class EncodedMedia:
    """The same as a request has them: files, none of which has been decoded."""

    images: tuple[bytes, ...] = ()
    audios: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class GivenMedia:
    """Images and sounds, each in any of its forms, in the order of their places in the prompt."""

    images: tuple[ImageItem, ...] = ()
    audios: tuple[SoundItem, ...] = ()

    @property
    def counts(self) -> dict[MediaKind, int]:
        """How many there are of each kind that there is."""
        counts = {MediaKind.IMAGE: len(self.images), MediaKind.AUDIO: len(self.audios)}
        return {kind: count for kind, count in counts.items() if count}

    def encoded(self, access: Access) -> EncodedMedia:
        """Read or fetch all of them, which may take long. ValueError, naming which, for one that cannot be had."""
        return EncodedMedia(
            tuple(encoded_image(item, access, name=f"images[{at}]") for at, item in enumerate(self.images)),
            tuple(encoded_sound(item, access, name=f"audios[{at}]") for at, item in enumerate(self.audios)),
        )


NO_MEDIA = GivenMedia()


def what_is_taken(kinds: Collection[str]) -> str:
    """What to tell who gives a model media of another kind than `kinds`."""
    return f"this model takes text and {' and '.join(kinds)}" if kinds else "this model reads text only"
