"""The masks of a speech layout: made once, read-only, and the same array for the same choice of ids."""

from __future__ import annotations

from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray

from .layout import SpeechLayout

Mask = NDArray[np.bool_]


class SpeechMasks:
    """Masks bool[vocab_size] over the ids of `layout`. ValueError if the vocabulary does not hold them all."""

    def __init__(self, layout: SpeechLayout, vocab_size: int) -> None:
        phones = layout.phones
        largest = max(layout.audio_stop - 1, *layout.end_ids, *(phones.special_ids if phones else ()))
        if phones:
            largest = max(largest, *(last for _, last in phones.phones))
        if vocab_size <= largest:
            raise ValueError(f"vocab_size={vocab_size}: the speech layout has ids up to {largest}")
        self._layout = layout
        self._vocab_size = vocab_size
        self.slots = tuple(self._slot(k) for k in range(layout.codes_per_frame))
        self.filler = cache(self._filler)
        self.first = cache(self._first)
        self.border = cache(self._border)
        self.phone = cache(self._phone)

    def _slot(self, slot: int) -> Mask:
        mask = np.zeros(self._vocab_size, np.bool_)
        start = self._layout.audio_base + self._layout.offsets[slot]
        mask[start : start + self._layout.codebook_size] = True
        return _read_only(mask)

    def _filler(self, slot: int, code: int) -> Mask:
        """What stands in the place of a code, alone."""
        mask = np.zeros(self._vocab_size, np.bool_)
        mask[self._layout.audio_base + self._layout.offsets[slot] + code] = True
        return _read_only(mask)

    def _first(self, more: bool, end: bool) -> Mask:
        """Where codebooks come late, the first slot: whether another frame, the end of the frames may follow."""
        if not (end and self._layout.delays):
            return self.slots[0]
        ends = self.filler(0, self._layout.delays.first_after)
        return _read_only(self.slots[0] | ends) if more else ends

    def _border(self, more: bool, clause: bool, end: bool) -> Mask:
        """Between frames: whether another frame, another clause, the end may follow."""
        if not (clause or end):
            return self.slots[0]
        mask = self.slots[0].copy() if more else np.zeros(self._vocab_size, np.bool_)
        if clause and self._layout.phones is not None and self._layout.phones.next_clause is not None:
            mask[self._layout.phones.next_clause] = True
        if end:
            mask[list(self._layout.end_ids)] = True
        return _read_only(mask)

    def _phone(self, more: bool, border: bool, frames: bool) -> Mask:
        """Among phones: whether another phone, a border between words, or the frames may follow."""
        mask = np.zeros(self._vocab_size, np.bool_)
        phones = self._layout.phones
        if phones is not None:
            for first, last in phones.phones if more else ():
                mask[first : last + 1] = True
            mask[phones.start_of_frames] |= frames
            if phones.word_border is not None:
                mask[phones.word_border] |= border
        return _read_only(mask)


@lru_cache(maxsize=16)
def speech_masks(layout: SpeechLayout, vocab_size: int) -> SpeechMasks:
    """The masks of a layout, shared by all requests, so that a device keeps one copy of each."""
    return SpeechMasks(layout, vocab_size)


def _read_only(mask: Mask) -> Mask:
    mask.flags.writeable = False
    return mask
