"""What the tables of an MP4 or QuickTime file claim, before FFmpeg believes them.

Its demuxer makes an index of 36 bytes for each sample that a table promises, and promises need no bytes: a file of 1 KB
took 1.1 GB for 30 million samples of one constant size. So the promises are counted first.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from .errors import refuse

MOST_SAMPLES = 5_000_000  # 180 MB; half an hour has a quarter of a million, or 113 seconds of plain PCM at 44.1 kHz
TABLES = re.compile(rb"stsz|stz2|trun|elst")
COMPRESSED = b"cmov"  # a header within zlib, which would have to be unpacked to be counted; not written since the 1990s
PLAIN = frozenset({b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"uuid", b"udta", b"meta"})
COUNT_AT = {b"stsz": 8, b"stz2": 8, b"trun": 4, b"elst": 4}  # bytes from the end of the tag: past version and flags
WIDE = 8  # more bytes, where the box gives its size in 64 bits


def check_tables(data: bytes) -> None:
    """ValueError if the tables of an MP4 promise more samples than an index may have. Other files are passed on."""
    if data[4:8] not in PLAIN:
        return
    samples = edits = 0
    for region in _outside_samples(data):
        if COMPRESSED in region:
            raise refuse("has a compressed header, which is not read")
        for found in TABLES.finditer(region):
            count = _count(region, found)
            if found[0] == b"elst":
                edits += count
            else:
                samples += count
    if samples * max(1, edits) > MOST_SAMPLES:  # each edit may show all of them again
        shown = f"{samples} samples" + (f" in {edits} edits" if edits > 1 else "")
        raise refuse(f"promises {shown}, the limit is {MOST_SAMPLES}")


def _outside_samples(data: bytes) -> Iterator[bytes]:
    """All of the file but the samples themselves, which may hold any bytes. Where a file is in fragments, or not as it
    should be, all of it: FFmpeg might look for tables anywhere."""
    boxes = list(_boxes(data))
    if sum(size for _, _, size in boxes) != len(data) or not {kind for kind, _, _ in boxes} <= PLAIN:
        yield data
        return
    for kind, start, size in boxes:
        if kind != b"mdat":
            yield data[start : start + size]


def _boxes(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Kind, first byte and size of each box, until one is wrong. The last may be cut short."""
    start = 0
    while start + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, start)
        if size == 1 and start + 16 <= len(data):
            size = struct.unpack_from(">Q", data, start + 8)[0]
        size = min(size or len(data), len(data) - start)
        if size < 8:
            return
        yield kind, start, size
        start += size


def _count(region: bytes, found: re.Match[bytes]) -> int:
    """What a table says it holds."""
    at = found.end() + COUNT_AT[found[0]]
    if region[max(0, found.start() - 4) : found.start()] == b"\0\0\0\1":
        at += WIDE
    return int.from_bytes(region[at : at + 4], "big") if at + 4 <= len(region) else 0
