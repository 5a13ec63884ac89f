"""Codebooks that are written late: the delay pattern of MusicGen, Dia and Moshi.

A step of the model writes one code of each slot, but not all of the same frame: the finer a codebook, the later it
comes, so that a frame's fine codes are chosen after its coarse one. Step t holds, of a codebook with a delay of d
steps, the code of frame t - d; a sound of n frames takes n + (the longest delay) steps.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

Steps = Annotated[int, Meta(ge=0, le=1024)]
Code = Annotated[int, Meta(ge=0, le=2**20)]


class DelayFormat(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`steps` is the delay of each level. `before` stands in a slot until its codebook begins; when it has ended, `end`
    once, if there is one, and then `after`. All three are codes that the codec does not have.

    The first slot has no delay, and its `end` says that the sound has no more frames. ValueError if it has one.
    """

    steps: Annotated[tuple[Steps, ...], Meta(min_length=1, max_length=64)]
    before: Code
    after: Code
    end: Code | None = None

    def __post_init__(self) -> None:
        if not any(self.steps):
            raise ValueError(f"delays.steps={list(self.steps)}: no level comes late; leave `delays` out")

    @property
    def first_after(self) -> int:
        """What stands in a slot first when its codebook has ended."""
        return self.after if self.end is None else self.end

    @property
    def fillers(self) -> frozenset[int]:
        """The codes that are none of the codec's."""
        return frozenset((self.before, self.first_after, self.after))


def delayed(frames: NDArray[np.int64], delays: Sequence[int], form: DelayFormat) -> NDArray[np.int64]:
    """Frames int64[n, slots] as the model writes them, int64[n + longest delay, slots]. `delays`: of each slot."""
    count, longest = len(frames), max(delays)
    steps = np.full((count + longest, len(delays)), form.after, np.int64)
    for slot, delay in enumerate(delays):
        steps[:delay, slot] = form.before
        steps[delay : delay + count, slot] = frames[:, slot]
        steps[delay + count : delay + count + 1, slot] = form.first_after
    return steps


class Aligner:
    """Steps in, frames out: the inverse of `delayed`, one step at a time. `codes`: how many the codec has."""

    def __init__(self, delays: Sequence[int], codes: int) -> None:
        self._delays = delays
        self._longest = max(delays)
        self._codes = codes
        self._steps: deque[list[int]] = deque(maxlen=self._longest + 1)

    def push(self, step: list[int]) -> list[int] | None:
        """The frame that a step completes, if any: none at first, and none that the model has left codes out of."""
        self._steps.append(step)
        if len(self._steps) <= self._longest:
            return None
        frame = [self._steps[delay][slot] for slot, delay in enumerate(self._delays)]
        return frame if max(frame) < self._codes else None

    def reset(self) -> int:
        """Begin anew, as after steps that were lost. Returns how many codes have become part of no frame."""
        taken = len(self._steps) - 1 - self._longest  # the last step whose frame, as the first slot counts, is complete
        lost = sum(
            number - delay > taken and step[slot] < self._codes
            for number, step in enumerate(self._steps)
            for slot, delay in enumerate(self._delays)
        )
        self._steps.clear()
        return lost
