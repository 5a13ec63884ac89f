"""Which frames of a film are kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

Choice: TypeAlias = Callable[[int, float | None], Sequence[int]]
"""From the number of a film's frames, and of frames a second (None where nothing tells), the indices of those to keep,
rising. ValueError if it cannot be satisfied."""


def every_frame(total: int, fps: float | None) -> Sequence[int]:
    """All of them."""
    return range(total)


def evenly(num_frames: int) -> Choice:
    """So many, at equal distances; the film must have as many."""
    if num_frames < 1:
        raise ValueError(f"num_frames = {num_frames}: must be 1 or more")

    def choose(total: int, fps: float | None) -> Sequence[int]:
        if num_frames > total:
            raise ValueError(f"num_frames = {num_frames}: the film has {total} frames")
        return [index * total // num_frames for index in range(num_frames)]

    return choose


def at_fps(fps: float) -> Choice:
    """So many a second, at equal distances, one at least; the film must have as many a second."""
    if not (math.isfinite(fps) and fps > 0):
        raise ValueError(f"fps = {fps}: must be more than 0")

    def choose(total: int, film_fps: float | None) -> Sequence[int]:
        if film_fps is None:
            raise ValueError(f"fps = {fps}: nothing tells how fast these frames are shown; set num_frames")
        if fps > film_fps:
            raise ValueError(f"fps = {fps}: the film has {film_fps:g}")
        return evenly(min(total, max(1, int(total / film_fps * fps))))(total, film_fps)

    return choose
