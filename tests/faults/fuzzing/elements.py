"""Where the elements of a msgpack frame lie, for who wants to damage them one by one."""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct

MOST = 150  # elements of a frame that are looked at: what nests a thousand deep has nothing new further in

_FIXED = {0xCA: 4, 0xCB: 8, **{0xCC + n: 2**n for n in range(4)}, **{0xD0 + n: 2**n for n in range(4)}}
_FIXED |= {0xD4 + n: 1 + 2**n for n in range(5)}
_U8, _U16, _U32 = Struct(">B"), Struct(">H"), Struct(">I")
_SIZED = {0xC4: _U8, 0xC5: _U16, 0xC6: _U32, 0xC7: _U8, 0xC8: _U16, 0xC9: _U32, 0xD9: _U8, 0xDA: _U16, 0xDB: _U32}
_CONTAINERS = {0xDC: (_U16, 1), 0xDD: (_U32, 1), 0xDE: (_U16, 2), 0xDF: (_U32, 2)}


@dataclass(slots=True)
class Element:
    """From `start` to `stop`; tag and length end at `body`. `parent` is the number of what holds it, -1 for none."""

    start: int
    body: int
    stop: int
    parent: int
    children: int


def elements(frame: bytes, start: int = 0) -> list[Element]:
    """The elements, outer ones before what they hold. Where the frame is broken the list ends, and so do they."""
    found: list[Element] = []
    open_: list[tuple[int, int]] = []  # number and how many are still to come
    at = start
    while at < len(frame) and len(found) < MOST:
        shape = _shape(frame, at)
        if shape is None:
            break
        head, size, children = shape
        parent = open_[-1][0] if open_ else -1
        found.append(Element(at, at + head, min(at + head + size, len(frame)), parent, children))
        at += head + size
        if children:
            open_.append((len(found) - 1, children))
            continue
        while open_:
            number, left = open_.pop()
            if left > 1:
                open_.append((number, left - 1))
                break
            found[number].stop = min(at, len(frame))
    for number, _ in open_:
        found[number].stop = len(frame)
    return found


def _shape(frame: bytes, at: int) -> tuple[int, int, int] | None:
    """Bytes of the tag and length, bytes of the content, and how many elements it holds."""
    tag = frame[at]
    if tag <= 0x7F or tag >= 0xE0 or tag in (0xC0, 0xC2, 0xC3):
        return 1, 0, 0
    if tag <= 0x8F:
        return 1, 0, 2 * (tag & 15)
    if tag <= 0x9F:
        return 1, 0, tag & 15
    if tag <= 0xBF:
        return 1, tag & 31, 0
    if tag in _FIXED:
        return 1, _FIXED[tag], 0
    length = _SIZED.get(tag) or _CONTAINERS.get(tag, (None, 0))[0]
    if length is None or at + 1 + length.size > len(frame):
        return None
    (count,) = length.unpack_from(frame, at + 1)
    if tag in _CONTAINERS:
        return 1 + length.size, 0, count * _CONTAINERS[tag][1]
    return 1 + length.size + (tag in (0xC7, 0xC8, 0xC9)), count, 0
