"""Images, decoded."""

from __future__ import annotations

from .access import NOTHING, Access
from .items import ImageItem, Pixels
from .limits import DEFAULT_LIMITS, MediaLimits


def read_image(
    item: ImageItem, limits: MediaLimits = DEFAULT_LIMITS, access: Access = NOTHING, *, name: str = "image"
) -> Pixels:
    """An image as RGB, uint8 [height, width, 3]: upright as its EXIF data say, over white where it is transparent, the
    first frame if it moves.

    Files are PNG, JPEG, WebP, GIF or BMP. ValueError, beginning with `name` ("images[2]"), says what is wrong with it.
    """
    raise NotImplementedError
