"""Where in a frame each code belongs: its codebook level, and its place among that level's codes of the frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

SlotIndex = Annotated[int, Meta(ge=0, le=63)]
Slot = tuple[SlotIndex, SlotIndex]  # (level, index within the frame)


def depth_first(strides: Sequence[int]) -> tuple[Slot, ...]:
    """The slots of a frame in Orpheus's order: each coarse code followed by the finer ones that it spans.

    `strides` are the levels' steps, coarse to fine, each a multiple of the next. Strides 4, 2, 1 give
    L0[0] L1[0] L2[0] L2[1] L1[1] L2[2] L2[3].
    """

    def below(level: int, start: int) -> list[Slot]:
        if level == len(strides):
            return []
        slots: list[Slot] = []
        stop = start + (strides[level - 1] if level else strides[0])
        for step in range(start, stop, strides[level]):
            slots += [(level, step // strides[level]), *below(level + 1, step)]
        return slots

    return tuple(below(0, 0))


def check_slots(slots: Sequence[Slot]) -> None:
    """ValueError unless every level from 0 up has each of its indices once."""
    if len(set(slots)) != len(slots):
        raise ValueError(f"slots={list(slots)}: a slot stands twice")
    levels = sorted({level for level, _ in slots})
    if levels != list(range(len(levels))):
        raise ValueError(f"slots={list(slots)}: levels must count from 0 without gaps")
    for level in levels:
        indices = sorted(index for other, index in slots if other == level)
        if indices != list(range(len(indices))):
            raise ValueError(f"slots={list(slots)}: the indices of level {level} must count from 0 without gaps")


def level_counts(slots: Sequence[Slot]) -> tuple[int, ...]:
    """Codes per frame at each level: (1, 2, 4) for Orpheus."""
    return tuple(sum(level == other for other, _ in slots) for level in range(1 + max(level for level, _ in slots)))


def columns(slots: Sequence[Slot]) -> list[list[int]]:
    """For each level, where its codes stand in a frame, in the order of time."""
    return [[slots.index((level, index)) for index in range(count)] for level, count in enumerate(level_counts(slots))]


def frames_of(levels: Sequence[NDArray[np.int64]], slots: Sequence[Slot]) -> NDArray[np.int64]:
    """Each level's codes int64[n * those in a frame] as frames int64[n, slots]. ValueError if they do not fit."""
    counts = level_counts(slots)
    sizes = [codes.size for codes in levels]
    whole = sizes[0] // counts[0] if sizes else 0
    if sizes != [whole * codes for codes in counts]:
        raise ValueError(f"levels of {sizes} codes: must be in proportion {list(counts)}")
    frames = np.empty((whole, len(slots)), np.int64)
    for places, codes in zip(columns(slots), levels, strict=True):
        frames[:, places] = codes.reshape(-1, len(places))
    return frames
