"""What images come to, in whatever form they are given."""

from __future__ import annotations

import base64
import io
import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from max_pipelines.media import IN_PROCESS, ImageItem, MediaLimits, read_image
from tests.pipelines.media.making import image_file, picture

PICTURE = picture()
PNG = image_file(PICTURE)
SMALL = MediaLimits(bytes=100, pixels=100)


def forms(tmp_path: Path) -> dict[str, ImageItem]:
    """One image in each form that it may be given in."""
    path = tmp_path / "picture.png"
    path.write_bytes(PNG)
    text = base64.b64encode(PNG).decode()
    return {
        "path": path,
        "path as text": str(path),
        "bytes": PNG,
        "bytearray": bytearray(PNG),
        "file": io.BytesIO(PNG),
        "data: URL": f"data:image/png;base64,{text}",
        "data: URL in percents": "DATA:," + "".join(f"%{byte:02X}" for byte in PNG),
        "base64": text,
        "base64 in lines": "\n".join(text[at : at + 76] for at in range(0, len(text), 76)),
        "array": PICTURE,
        "floats": PICTURE / np.float32(255),
        "Pillow": Image.fromarray(PICTURE),
        "Pillow, not yet decoded": Image.open(io.BytesIO(PNG)),
        "with alpha": np.concatenate([PICTURE, np.full((*PICTURE.shape[:2], 1), 255, np.uint8)], axis=-1),
    }


def test_every_form_gives_the_same_image(tmp_path: Path) -> None:
    for form, item in forms(tmp_path).items():
        read = read_image(item, access=IN_PROCESS)
        assert read.dtype == np.uint8, form
        np.testing.assert_array_equal(read, PICTURE, err_msg=form)


def test_what_is_read_is_a_copy() -> None:
    read = read_image(PICTURE)
    read[:] = 0
    assert PICTURE.any()


@pytest.mark.parametrize(
    ("form", "options"), [("JPEG", {"quality": 98, "subsampling": 0}), ("WEBP", {"lossless": True}), ("BMP", {})]
)
def test_formats(form: str, options: dict[str, object]) -> None:
    read = read_image(image_file(PICTURE, form, **options))
    np.testing.assert_allclose(read.astype(int), PICTURE.astype(int), atol=8)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_upright(orientation: int) -> None:
    """As the eight orientations of EXIF have it: what is stored is turned back."""
    turned: dict[int, NDArray[np.uint8]] = {
        1: PICTURE,
        2: PICTURE[:, ::-1],
        3: PICTURE[::-1, ::-1],
        4: PICTURE[::-1],
        5: PICTURE.transpose(1, 0, 2),
        6: np.rot90(PICTURE, 1),
        7: PICTURE[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(PICTURE, -1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = image_file(np.ascontiguousarray(turned[orientation]), exif=exif)
    np.testing.assert_array_equal(read_image(stored), PICTURE)


def test_what_is_transparent_is_white() -> None:
    alpha = np.array([[0, 255, 51]], np.uint8)
    grey = np.full((1, 3), 100, np.uint8)
    wanted = [255, 100, 224]  # 0.2 * 100 + 0.8 * 255
    with_alpha = np.dstack([grey, grey, grey, alpha])
    for item in (
        with_alpha,
        with_alpha / 255.0,
        Image.fromarray(with_alpha),
        image_file(Image.fromarray(np.dstack([grey, alpha]), "LA")),
    ):
        np.testing.assert_array_equal(read_image(item)[0, :, 1], wanted)


def test_palettes_and_their_transparent_colour() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putdata([0, 1])
    np.testing.assert_array_equal(read_image(image_file(image))[0], [[255, 0, 0], [0, 0, 255]])
    clear = image_file(image, transparency=1)
    np.testing.assert_array_equal(read_image(clear)[0], [[255, 0, 0], [255, 255, 255]])


def test_sixteen_bits() -> None:
    values = np.array([[0, 257, 32896, 65535]], np.uint16)
    np.testing.assert_array_equal(read_image(image_file(Image.fromarray(values)))[0, :, 0], [0, 1, 128, 255])
    clear = Image.fromarray(values)
    clear.info["transparency"] = 257
    np.testing.assert_array_equal(read_image(clear)[0, :, 0], [0, 255, 128, 255])


@pytest.mark.parametrize("mode", ["1", "L", "CMYK", "YCbCr", "I", "F"])
def test_other_modes(mode: str) -> None:
    white = Image.new(mode, (3, 2), 65535 if mode == "I" else 255 if mode in "1LF" else (0, 0, 0, 0)[: len(mode)])
    if mode == "YCbCr":
        white = Image.new("RGB", (3, 2), "white").convert(mode)
    np.testing.assert_array_equal(read_image(white), np.full((2, 3, 3), 255))


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP"])
def test_the_first_frame_of_what_moves(form: str) -> None:
    first, second = (Image.new("RGB", (8, 8), colour) for colour in ("red", "blue"))
    options = {"lossless": True} if form == "WEBP" else {}
    moving = image_file(first, form, save_all=True, append_images=[second], **options)
    np.testing.assert_array_equal(read_image(moving)[0, 0], [255, 0, 0])


def test_grey_arrays() -> None:
    grey = PICTURE[..., 0]
    for item in (grey, grey[..., None]):
        np.testing.assert_array_equal(read_image(item), np.repeat(grey[..., None], 3, axis=-1))


@pytest.mark.parametrize(
    ("item", "why"),
    [
        (b"", "is empty"),
        (b"nothing known", "no image of a known format"),
        (image_file(PICTURE[:8, :8])[:60], "cannot be decoded as an image"),
        (PNG, "the limit is 100"),
        (np.zeros((11, 11, 3), np.uint8), "11 × 11 pixels, the limit is 100"),
        (Image.new("L", (200, 300)), "200 × 300 pixels, the limit is 100"),
        (io.BytesIO(PNG), "bytes or more, the limit is 100"),
        (io.StringIO("text"), "mode 'rb'"),
        ("data:image/png;base64", "no comma"),
        ("data:image/png;base64,§", "cannot be read"),
        ("data:," + "a" * 400, "bytes or more"),
        ("data:," + "a" * 200, "200 bytes or more"),
        (base64.b64encode(bytes(200)).decode(), "bytes or more"),
        ("nowhere.png", "no URL, data: URL or base64"),
        (Path("nowhere.png"), "not read by their names here"),
        (42, "int is no path, bytes, file, URL or array"),
        (np.zeros((0, 3, 3), np.uint8), "3 × 0 pixels"),
        (np.zeros((3, 2, 2), np.uint8), "expected [height, width]"),
        (np.zeros((3, 4), np.int64), "expected uint8, or floats"),
        (np.full((3, 3), 2.0), "from 2 to 2; expected 0 to 1"),
        (np.full((3, 3), np.nan), "expected 0 to 1"),
    ],
)
def test_what_is_refused(item: ImageItem, why: str) -> None:
    with pytest.raises(ValueError, match=r"^images\[2\]: ") as refused:
        read_image(item, SMALL, name="images[2]")
    assert why in str(refused.value)


@pytest.mark.parametrize("form", ["TIFF", "EPS", "PPM"])
def test_formats_that_are_not_read(form: str) -> None:
    with pytest.raises(ValueError, match="is no image of a known format"):
        read_image(image_file(PICTURE, form))


def test_files_that_are_none(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, why in (
        (tmp_path / "pipe", "no regular file"),
        (tmp_path / "missing", "cannot be read (No such file"),
        (tmp_path, "cannot be read (Is a directory)"),
        (Path("/dev/zero"), "no regular file"),
    ):
        with pytest.raises(ValueError, match="image: ") as refused:
            read_image(path, access=IN_PROCESS)
        assert why in str(refused.value)
    for text in ("missing.png", "zero\0byte", "§" * 5000):
        with pytest.raises(ValueError, match="base64 or existing file"):
            read_image(text, access=IN_PROCESS)


def test_names_of_files_are_not_even_looked_for(tmp_path: Path) -> None:
    """What a server says of a path must not tell whether there is such a file."""
    path, said = tmp_path / "there.png", []
    for _ in range(2):
        with pytest.raises(ValueError, match="no URL, data: URL or base64") as refused:
            read_image(str(path))
        said.append(str(refused.value))
        path.write_bytes(PNG)
    assert said[0] == said[1]


@pytest.mark.parametrize("limit", ["bytes", "pixels", "frames", "film_frames", "film_pixels", "seconds"])
def test_limits_have_bounds(limit: str) -> None:
    for value in (0, -1, float("nan"), float("inf"), 2**40):
        with pytest.raises(ValueError, match=f"{limit} = "):
            MediaLimits(**{limit: value})  # type: ignore[arg-type]
