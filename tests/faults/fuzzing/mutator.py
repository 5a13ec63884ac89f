"""Damage to frames, blind and with knowledge of msgpack. A seed gives the same damage each time."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from tests.faults.fuzzing.elements import Element, elements
from tests.faults.fuzzing.troubles import LIARS, MANY, NUMBERS, OPENINGS, TEXTS, Frames

EDGES = bytes([0, 1, 0x7F, 0x80, 0x81, 0x90, 0x91, 0xA0, 0xC0, 0xC1, 0xC6, 0xCB, 0xDB, 0xDD, 0xDF, 0xFF])
LONGEST = 2**16  # bytes of a frame: what does harm does it sooner
MOST_CHANGES = 4
WIDTHS = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4, 0xDC: 2, 0xDD: 4, 0xDE: 2, 0xDF: 4}  # of a length
LENGTHS = (0, 1, 2, 15, 16, 31, 32, 255, 256, 2**16 - 1, 2**16, 2**20, 2**20 + 1, 2**31, 2**32 - 1)
NASTY = (
    *NUMBERS.values(),
    *TEXTS.values(),
    *(tag + MANY for tag in LIARS.values()),
    *(opening * 1200 for opening in OPENINGS.values()),
    b"\x80",
    b"\x90",
    b"\xa0",
    b"\xc4\x00",
    b"\xc2",
    b"\x01",
    b"\xcb" + bytes(8),
    b"\xd9\xff" + b"a" * 255,
    b"\xda\x10\x01" + b"a" * 4097,
    b"\xdc\x01\x00" + b"\x80" * 256,
    b"\xdc\x10\x01" + b"\x01" * 4097,
    b"\xda\x01\x00" + b"[" * 256,
)

Change = Callable[[bytes, list[Element], int], bytes]  # (frame, its elements, the number of one) -> the frame


class Mutator:
    """Makes damaged messages of `seeds`. What lies before `skip` in a first frame, its version, mostly stays whole."""

    def __init__(self, seeds: Sequence[Frames], chance: random.Random, skip: int = 0) -> None:
        self._seeds = seeds
        self._chance = chance
        self._skip = skip
        firsts = [frames[0] for frames in seeds if frames]
        self._parts = [(frame, parts) for frame in firsts if (parts := elements(frame, skip))]
        self._known = dict(self._parts)

    def message(self) -> Frames:
        """One more. Now and then one is whole, or frames are missing, or there are too many."""
        chance = self._chance
        frames = list(chance.choice(self._seeds)) or [b""]
        at = 0 if chance.random() < 0.8 else chance.randrange(len(frames))
        for _ in range(chance.randrange(MOST_CHANGES + 1)):
            kept = self._skip if at == 0 and chance.random() < 0.98 else 0
            frames[at] = (frames[at][:kept] + self._changed(frames[at], kept))[:LONGEST]
        draw = chance.random()
        if draw < 0.01:
            frames.append(chance.choice(frames))
        elif draw < 0.02:
            del frames[chance.randrange(len(frames)) :]
        return frames

    def _changed(self, frame: bytes, kept: int) -> bytes:
        """What is to stand behind the first `kept` bytes."""
        parts = self._known.get(frame) or elements(frame, kept)
        body = frame[kept:]
        if not parts or self._chance.random() < 0.35:
            return self._chance.choice(BLIND)(body, self._chance)
        resized: tuple[Change, ...] = (self._lengthen, self._double, self._remove)
        moved: tuple[Change, ...] = (self._splice, self._swap, self._wrap)
        change = self._chance.choice((*resized, *moved, self._retag, self._replace, self._replace))
        return change(frame, parts, self._chance.randrange(len(parts)))[kept:]

    # -- with knowledge of msgpack: each gives the whole frame -----------------------------------------------------

    def _foreign(self) -> bytes:
        """An element of any seed."""
        frame, parts = self._chance.choice(self._parts)
        part = self._chance.choice(parts)
        return frame[part.start : part.stop]

    def _splice(self, frame: bytes, parts: list[Element], number: int) -> bytes:
        """The beginning of this one, the end of another, joined where an element begins."""
        tail, places = self._chance.choice(self._parts)
        return frame[: parts[number].start] + tail[self._chance.choice(places).start :]

    def _retag(self, frame: bytes, parts: list[Element], number: int) -> bytes:
        """Another type, or another short length."""
        start = parts[number].start
        tag = self._chance.choice((self._chance.randrange(256), frame[start] ^ 1, (frame[start] + 1) % 256))
        return frame[:start] + bytes([tag]) + frame[start + 1 :]

    def _lengthen(self, frame: bytes, parts: list[Element], number: int) -> bytes:
        """Another length than there is, in any of the forms that one can have."""
        part, length = parts[number], self._chance.choice(LENGTHS)
        tag = self._chance.choice(list(WIDTHS))
        width = WIDTHS[tag]
        head = bytes([tag]) + (length % (1 << 8 * width)).to_bytes(width, "big")
        return frame[: part.start] + head + frame[part.body :]

    def _replace(self, frame: bytes, parts: list[Element], number: int) -> bytes:
        """Something nasty, or something that is right elsewhere."""
        part = parts[number]
        instead = self._chance.choice(NASTY) if self._chance.random() < 0.5 else self._foreign()
        return frame[: part.start] + instead + frame[part.stop :]

    def _swap(self, frame: bytes, parts: list[Element], number: int) -> bytes:
        """Two elements that stand apart, in each other's place."""
        first, second = sorted((parts[number], self._chance.choice(parts)), key=lambda part: part.start)
        if second.start < first.stop:
            return self._replace(frame, parts, number)
        middle = frame[first.stop : second.start]
        return (
            frame[: first.start]
            + frame[second.start : second.stop]
            + middle
            + frame[first.start : first.stop]
            + frame[second.stop :]
        )

    def _wrap(self, frame: bytes, parts: list[Element], number: int) -> bytes:
        """A few levels deeper."""
        part = parts[number]
        opening = self._chance.choice(list(OPENINGS.values())) * self._chance.choice((1, 2, 40))
        return frame[: part.start] + opening + frame[part.start :]

    def _double(self, frame: bytes, parts: list[Element], number: int) -> bytes:
        """An element, or an entry of a map, once more; what holds it says so, if that is easily done."""
        return self._grown(frame, parts, number, 1)

    def _remove(self, frame: bytes, parts: list[Element], number: int) -> bytes:
        """An element, or an entry of a map, less."""
        return self._grown(frame, parts, number, -1)

    def _grown(self, frame: bytes, parts: list[Element], number: int, by: int) -> bytes:
        part = parts[number]
        first = last = part
        if part.parent >= 0 and 0x80 <= frame[parts[part.parent].start] <= 0x8F:
            siblings = [each for each in parts if each.parent == part.parent]
            at = siblings.index(part) // 2 * 2
            first, last = siblings[at], siblings[min(at + 1, len(siblings) - 1)]
        piece = frame[first.start : last.stop]
        changed = frame[: first.start] + piece * (1 + by) + frame[last.stop :]
        if part.parent >= 0:
            holder = parts[part.parent].start
            tag = changed[holder]
            if 0x80 <= tag <= 0x9F and 0 <= (tag & 15) + by <= 15:
                changed = changed[:holder] + bytes([tag + by]) + changed[holder + 1 :]
        return changed


# -- blind: each gives what is to stand instead --------------------------------------------------------------------


def _flip(body: bytes, chance: random.Random) -> bytes:
    """Some bits."""
    changed = bytearray(body)
    for _ in range(chance.randrange(1, 5)):
        if changed:
            changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _edge(body: bytes, chance: random.Random) -> bytes:
    """A byte at the edge of something."""
    at = chance.randrange(len(body) + 1)
    return body[:at] + bytes([chance.choice(EDGES)]) + body[at + 1 :]


def _cut(body: bytes, chance: random.Random) -> bytes:
    """The end is missing."""
    return body[: chance.randrange(len(body) + 1)]


def _drop(body: bytes, chance: random.Random) -> bytes:
    """A piece is missing."""
    at = chance.randrange(len(body) + 1)
    return body[:at] + body[at + chance.randrange(1, 9) :]


def _insert(body: bytes, chance: random.Random) -> bytes:
    """A piece too much."""
    at = chance.randrange(len(body) + 1)
    return body[:at] + chance.randbytes(chance.randrange(1, 9)) + body[at:]


def _repeat(body: bytes, chance: random.Random) -> bytes:
    """A piece, many times."""
    at = chance.randrange(len(body) + 1)
    stop = at + chance.randrange(1, 33)
    return body[:at] + body[at:stop] * chance.choice((2, 3, 300)) + body[stop:]


BLIND = (_flip, _edge, _cut, _drop, _insert, _repeat)
