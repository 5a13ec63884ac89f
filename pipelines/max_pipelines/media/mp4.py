"""The tables of an MP4 or QuickTime file, looked at before FFmpeg believes them.

Its demuxer makes room for what a table promises, and promises need no bytes: 30 million samples of one constant size
took 1.1 GB of memory for a file of 1 KB, 100 million items of a HEIF image 0.8 GB for 200 bytes.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from .errors import refuse

MOST_SAMPLES = 5_000_000  # 180 MB of index; half an hour of film has 250,000, of plain PCM at 44.1 kHz far more
COUNT_AT = {b"stsz": 8, b"stz2": 8, b"trun": 4, b"elst": 4}  # bytes from the end of the name: past version and flags
# Never needed to read a film from its beginning to its end: a header within zlib, indices that lead FFmpeg to look for
# boxes anywhere, and the items of HEIF images.
NEEDLESS = (b"cmov", b"sidx", b"mfra", b"tfra", b"iloc", b"iinf")
NAMES = re.compile(b"|".join((*COUNT_AT, *NEEDLESS)))
HEADER = 8  # size and name
HIDDEN = b"free"  # what demuxers pass over


def checked_mp4(data: bytes) -> bytes:
    """The file, with what is never needed made unreadable. ValueError if its tables promise more samples than may be.

    Whatever looks like a table counts as one, since FFmpeg finds them at nearly any place; so what looks like one but
    does not fit into the file, as a word in a title might, is made unreadable, too.
    """
    samples = edits = 0
    hidden: list[int] = []
    for start, end in _outside_samples(data):
        for found in NAMES.finditer(data, start, end):
            name, at = found[0], found.start()
            if name in NEEDLESS or not HEADER < int.from_bytes(data[at - 4 : at], "big") <= len(data) - at + 4:
                hidden.append(at)
                continue
            count_at = found.end() + COUNT_AT[name]
            count = int.from_bytes(data[count_at : count_at + 4], "big")
            samples, edits = (samples, edits + count) if name == b"elst" else (samples + count, edits)
    if samples * max(1, edits) > MOST_SAMPLES:  # each edit may show all of them again
        shown = f"{samples} samples" + (f" in {edits} edits" if edits > 1 else "")
        raise refuse(f"promises {shown}, the limit is {MOST_SAMPLES}")
    return _without(data, hidden) if hidden else data


def _outside_samples(data: bytes) -> Iterator[tuple[int, int]]:
    """The first byte and the end of each box, but for those of the samples themselves, which may be any bytes."""
    start = 0
    while start + HEADER <= len(data):
        size, name = struct.unpack_from(">I4s", data, start)
        if size == 1 and start + 16 <= len(data):
            (size,) = struct.unpack_from(">Q", data, start + HEADER)
        end = min(start + size, len(data)) if size else len(data)  # the last may be cut short
        if end - start < HEADER:
            raise refuse("has a box that is smaller than its header")
        if name != b"mdat":
            yield start, end
        start = end


def _without(data: bytes, places: list[int]) -> bytes:
    changed = bytearray(data)
    for at in places:
        changed[at : at + len(HIDDEN)] = HIDDEN
    return bytes(changed)
