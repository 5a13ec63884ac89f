"""When to decode: how many frames each chunk of a stream gathers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

MAX_CHUNK_FRAMES = 4096  # minutes of sound in one chunk: more is a slip of the pen


@dataclass(frozen=True, slots=True)
class ChunkSchedule:
    """Chunk i gathers `chunk_frames[i]` frames, the last value repeating: (1, 2, 4, 8) is soon heard, then cheap.

    ValueError for an empty schedule or a number out of range.
    """

    chunk_frames: tuple[int, ...] = (1, 2, 4, 8)

    def __post_init__(self) -> None:
        object.__setattr__(self, "chunk_frames", tuple(self.chunk_frames))
        if not self.chunk_frames or any(not 1 <= frames <= MAX_CHUNK_FRAMES for frames in self.chunk_frames):
            raise ValueError(f"chunk_frames={list(self.chunk_frames)}: wants numbers from 1 to {MAX_CHUNK_FRAMES}")

    def size(self, chunk: int) -> int:
        """How many frames to gather before chunk number `chunk`, counted from 0, is decoded."""
        return self.chunk_frames[min(chunk, len(self.chunk_frames) - 1)]

    def slices(self, frames: int) -> Iterator[slice]:
        """The chunks of a sound of so many frames, the last as short as it must be."""
        start = 0
        for chunk in count():
            if start >= frames:
                return
            stop = min(start + self.size(chunk), frames)
            yield slice(start, stop)
            start = stop
