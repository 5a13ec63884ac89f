"""Small files that would become large: refused, with a reason, and without the memory that they are after."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.pipelines.media.making import (
    film_file,
    greys,
    image_file,
    many_frames,
    opus_file,
    picture,
    png_bomb,
    promising,
    sound_file,
    tone,
)

MOST_MB = 64  # beside the file itself
MEASURED = """
import json, resource, sys
from pathlib import Path
from max_pipelines.media import IN_PROCESS, MediaLimits, at_fps, read_film, read_image, read_sound

def read(kind, name):
    if kind == "image":
        read_image(Path(name), access=IN_PROCESS)
    elif kind == "sound":
        read_sound(Path(name), 16_000, access=IN_PROCESS)
    elif kind == "short sound":
        read_sound(Path(name), 16_000, MediaLimits(seconds=100), IN_PROCESS)
    else:
        read_film(Path(name), access=IN_PROCESS, choose=at_fps(1))

kind, harmless, bomb = sys.argv[1:]
read(kind, harmless)  # so that what libraries need for themselves is there already
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    read(kind, bomb)
    reason = ""
except ValueError as problem:
    reason = str(problem)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([reason, (after - before) / 1024]))
"""
HARMLESS: dict[str, Callable[[], bytes]] = {
    "image": lambda: image_file(picture()),
    "sound": lambda: sound_file(tone()[None], 16_000),
    "short sound": lambda: sound_file(tone()[None], 16_000),
    "film": lambda: film_file(greys(3)),
}


def box(name: bytes, content: bytes) -> bytes:
    """One of an MP4's."""
    return struct.pack(">I4s", 8 + len(content), name) + content


def heif(table: bytes) -> bytes:
    """A HEIF image of a thousand million items, in some 150 bytes."""
    version, sizes = (2, b"\x44\x40") if table == b"iloc" else (1, b"")
    items = box(table, bytes([version, 0, 0, 0]) + sizes + struct.pack(">I", 10**9) + bytes(64))
    handler = box(b"hdlr", bytes(8) + b"pict" + bytes(13))
    return box(b"ftyp", b"heic\0\0\0\0mif1heic") + box(b"meta", bytes(4) + handler + box(b"pitm", bytes(6)) + items)


def fragments(count: int) -> bytes:
    """An MP4 in fragments, whose only one promises so many samples."""
    film = film_file(greys(2))
    header = film[film.index(b"moov") - 4 :]
    run = box(b"trun", struct.pack(">II", 0, count))
    fragment = box(b"moof", box(b"traf", box(b"tfhd", struct.pack(">III", 0x020000, 1, 0)) + run))
    extends = box(b"mvex", box(b"trex", struct.pack(">IIIIII", 0, 1, 1, 512, 0, 0)))
    moov = box(b"moov", header[8 : int.from_bytes(header[:4], "big")] + extends)
    return box(b"ftyp", b"iso5\0\0\0\0iso5") + moov + fragment


def webp_bomb() -> bytes:
    """Two frames of 8 × 8, on a canvas that says it is 16,384 wide and high."""
    frame = Image.new("RGB", (8, 8), "red")
    data = bytearray(image_file(frame, "WEBP", save_all=True, append_images=[Image.new("RGB", (8, 8), "blue")]))
    at = data.index(b"VP8X") + 12
    data[at : at + 6] = (16_383).to_bytes(3, "little") * 2
    return bytes(data)


BOMBS: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "a PNG of 30,000 × 30,000": ("image", png_bomb, "the limit"),
    "a PNG of 10,000 × 8,000": ("image", lambda: png_bomb(10_000, 8_000), "10000 × 8000 pixels, the limit is 50000000"),
    "a WebP of 16,384 × 16,384": ("image", webp_bomb, "the limit"),
    "a PNG of 7,000 × 7,000 that ends": ("image", lambda: png_bomb(7000, 7000), "cannot be decoded"),
    "Opus of three hours": ("sound", lambda: opus_file(3 * 3600), "has 10800 seconds or more"),
    "Opus of ages": ("sound", lambda: opus_file(2, 2**62), "seconds or more, the limit is 1800"),
    "Opus of an hour that says a second": (
        "short sound",
        lambda: opus_file(3600, 48_000),
        "has 100.02 seconds or more",
    ),
    "Matroska of a million frames": ("film", lambda: many_frames(10**6), "120001 frames or more"),
    "MP4 of a million frames": ("film", lambda: promising(film_file(greys(3)), 10**6), "1000000 frames or more"),
    "MP4 of 4 thousand million": ("film", lambda: promising(film_file(greys(3)), 2**32 - 1), "promises 4294967295"),
    "MP4 of fragments": ("film", lambda: fragments(10**9), "promises 1000000002 samples"),
    "HEIF of places": ("film", lambda: heif(b"iloc"), "cannot be decoded"),
    "HEIF of items": ("film", lambda: heif(b"iinf"), "cannot be decoded"),
    "a playlist": ("film", lambda: b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", "no file of a known format"),
}
ALLOWED_MB = {
    "a PNG of 7,000 × 7,000 that ends": 7000 * 7000 * 4 / 2**20 + MOST_MB
}  # within the limit, and no bomb yet


@pytest.mark.parametrize("bomb", BOMBS)
def test_bombs(bomb: str, tmp_path: Path) -> None:
    kind, make, why = BOMBS[bomb]
    (tmp_path / "harmless").write_bytes(HARMLESS[kind]())
    data = make()
    (tmp_path / "bomb").write_bytes(data)
    names = [str(tmp_path / "harmless"), str(tmp_path / "bomb")]
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, kind, *names], capture_output=True, text=True, timeout=60, check=True
    )
    reason, grown_mb = json.loads(done.stdout)
    assert why in reason
    assert grown_mb < ALLOWED_MB.get(bomb, MOST_MB) + 2 * len(data) / 2**20
