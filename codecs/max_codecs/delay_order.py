"""Which speech tokens may follow where codebooks are written late: a `TokenConstraint` over a layout with delays."""

from __future__ import annotations

from collections.abc import Sequence

from .constraint import FrameBounds, repeats
from .delays import DelayFormat
from .layout import SpeechLayout
from .masks import Mask, speech_masks


class DelayOrder:
    """Slot k, then k + 1; in each what the delay pattern has there.

    The first slot chooses, within the bounds, between another frame and the end; from then on the other codebooks
    write what is left of theirs, and only then an end id may follow: no frame is lost. ValueError for a layout without
    delays.
    """

    def __init__(self, layout: SpeechLayout, vocab_size: int, bounds: FrameBounds | None = None) -> None:
        if layout.delays is None:
            raise ValueError("layout.delays is not set: SlotOrder is the one for it")
        self._layout = layout
        self._form: DelayFormat = layout.delays
        self._longest = max(layout.slot_delays)
        self._bounds = bounds if bounds is not None else FrameBounds()
        self._masks = speech_masks(layout, vocab_size)

    def allowed(self, tokens: Sequence[int]) -> Mask:
        """See `TokenConstraint.allowed`. After an end id: end ids."""
        step, slot = divmod(len(tokens), self._layout.codes_per_frame)
        ended = self._ended(tokens, step)
        if slot == 0 and ended is None:
            end = step >= self._bounds.min_frames
            more = self._bounds.max_frames is None or step < self._bounds.max_frames
            more = more and not self._repeats(tokens, step)
            return self._masks.first(more or not end, end)
        if ended is not None and step >= ended + self._longest:
            return self._masks.border(False, False, True)
        frame = step - self._layout.slot_delays[slot]
        if frame < 0:
            return self._masks.filler(slot, self._form.before)
        if ended is None or frame < ended:
            return self._masks.slots[slot]
        return self._masks.filler(slot, self._form.first_after if frame == ended else self._form.after)

    def _repeats(self, tokens: Sequence[int], step: int) -> bool:
        """Whether each codebook's last codes repeat themselves; what stands before its first does not count."""
        last = self._bounds.max_repeated
        if last is None or step < last + self._longest:
            return False
        return repeats(tokens, self._layout.codes_per_frame, last)

    def _ended(self, tokens: Sequence[int], step: int) -> int | None:
        """The step in which the first slot said that the sound has no more frames; None if it goes on."""
        width, layout = self._layout.codes_per_frame, self._layout
        ended = None
        for number in range(min(step, (len(tokens) - 1) // width), -1, -1):
            token = tokens[number * width]
            if layout.slot_of(token) == 0 and layout.code_of(token) < layout.codebook_size:
                break
            ended = number
        return ended
