"""Token ids as they come, to complete frames."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from .delays import Aligner
from .layout import SpeechLayout


class FrameAssembler:
    """Gathers ids into frames; what it knows is a function of the ids so far, so it can be rebuilt from them.

    An id that does not follow in order breaks the frame: what was gathered of it is dropped, and so is everything up
    to the next slot 0; where codebooks come late, with the frames that it held codes of. Ids that are not audio ids are
    passed over, also inside a frame.
    """

    def __init__(self, layout: SpeechLayout) -> None:
        self._layout = layout
        self._codes: list[int] = []
        self._aligner = Aligner(layout.slot_delays, layout.codebook_size)
        self._in_order = True
        self.frames = 0  # complete ones
        self.dropped_tokens = 0  # audio ids that became part of no frame
        self.resyncs = 0  # how often the order broke
        self.other_tokens = 0  # ids that are no audio ids

    @property
    def pending_tokens(self) -> int:
        """Ids of the frame that is not complete yet."""
        return len(self._codes)

    def push(self, ids: Iterable[int]) -> NDArray[np.int64]:
        """The frames that `ids` complete, int64[n, codes_per_frame]; n may be 0."""
        layout, width = self._layout, self._layout.codes_per_frame
        complete: list[list[int]] = []
        for token in ids:
            slot = layout.slot_of(token)
            if slot is None:
                self.other_tokens += 1
                continue
            if slot != len(self._codes):
                self._break_off()
            if slot != len(self._codes):
                self.dropped_tokens += 1
                continue
            self._in_order = True
            self._codes.append(layout.code_of(token))
            if len(self._codes) == width:
                frame = self._aligner.push(self._codes)
                complete += [] if frame is None else [frame]
                self._codes = []
        self.frames += len(complete)
        return np.array(complete, np.int64).reshape(-1, width)

    def _break_off(self) -> None:
        """The order broke: drop the frame begun, and count one break however many ids are lost to it."""
        self.resyncs += self._in_order
        self._in_order = False
        self.dropped_tokens += len(self._codes) + self._aligner.reset()
        self._codes = []
