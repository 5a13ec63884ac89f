"""Images, decoded."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from .access import NOTHING, Access
from .errors import decoding, named, refuse
from .items import Array, ImageItem, Pixels
from .limits import DEFAULT_LIMITS, MediaLimits
from .source import read_file

# Those whose decoders take no more memory than the size in the header says: not TIFF, whose tiles may be larger than
# the image; nor AVIF, whose frames may. And none that runs a program (EPS).
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
TRANSPARENT = ("LA", "La", "PA", "RGBA", "RGBa")
SIXTEEN_BITS = ("I", "I;16", "I;16L", "I;16B", "I;16N")
BYTES_IN_16_BITS = 257  # 65535 / 255


def read_image(
    item: ImageItem, limits: MediaLimits = DEFAULT_LIMITS, access: Access = NOTHING, *, name: str = "image"
) -> Pixels:
    """An image as RGB, uint8 [height, width, 3]: upright as its EXIF data say, over white where it is transparent, the
    first frame if it moves.

    Files are PNG, JPEG, WebP, GIF or BMP. ValueError, beginning with `name` ("images[2]"), says what is wrong with it.
    """
    with named(name):
        if isinstance(item, np.ndarray):
            return _of_array(item, limits)
        if isinstance(item, Image.Image):
            with decoding("an image"):
                return _pixels(item, limits)
        data = read_file(item, limits, access)
        with decoding("an image"):
            return _decoded(data, limits)


def _decoded(data: bytes, limits: MediaLimits) -> Pixels:
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return _pixels(image, limits)
    except UnidentifiedImageError:
        raise refuse(f"is no image of a known format ({', '.join(FORMATS)})") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise refuse(f"has more than {limits.pixels} pixels, the limit") from None


def _pixels(image: Image.Image, limits: MediaLimits) -> Pixels:
    """Nothing is decoded before the size has been looked at."""
    limits.go_on()
    limits.check_pixels(image.width, image.height)
    limits.take_pixels(image.width * image.height)
    image.load()
    limits.check_pixels(image.width, image.height)
    return np.array(_rgb(ImageOps.exif_transpose(image)))


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode in SIXTEEN_BITS:
        return _of_sixteen_bits(image).convert("RGB")
    if image.mode == "F":
        return Image.fromarray(np.clip(np.rint(np.asarray(image)), 0, 255).astype(np.uint8)).convert("RGB")
    if image.mode in TRANSPARENT or "transparency" in image.info:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def _of_sixteen_bits(image: Image.Image) -> Image.Image:
    """Pillow itself would clip them at 255."""
    values = np.asarray(image)
    grey = (np.clip(values, 0, 65535) // BYTES_IN_16_BITS).astype(np.uint8)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey[values == transparent] = 255
    return Image.fromarray(grey)


def _of_array(array: Array, limits: MediaLimits) -> Pixels:
    """An image that a caller has decoded."""
    channels = array[..., None] if array.ndim == 2 else array
    if channels.ndim != 3 or channels.shape[2] not in (1, 3, 4):
        raise ValueError(f"an array of shape {array.shape}; expected [height, width] or [height, width, 1, 3 or 4]")
    limits.check_pixels(channels.shape[1], channels.shape[0])
    limits.take_pixels(channels.shape[0] * channels.shape[1])
    values = _bytes(channels)
    if values.shape[2] == 4:
        with_alpha = values.astype(np.uint16)
        alpha = with_alpha[..., 3:]
        values = ((with_alpha[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
    return np.array(np.broadcast_to(values, (*values.shape[:2], 3)))


def _bytes(array: Array) -> Pixels:
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind != "f":
        raise ValueError(f"an array of type {array.dtype}; expected uint8, or floats from 0 to 1")
    if not (array.min() >= 0 and array.max() <= 1):  # so that NaN is refused, too
        raise ValueError(f"an array of floats from {array.min():g} to {array.max():g}; expected 0 to 1")
    scaled: Pixels = np.rint(array * 255).astype(np.uint8)
    return scaled
