"""Which speech tokens may follow: `TokenConstraint`s over a layout.

Both read the state off the last ids, so one object serves any number of requests, and a request rebuilt from its
tokens goes on as it was. Inside a frame one look at the last id is enough; at a frame's border a look at every
seventh id back to the clause's start.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from .layout import SpeechLayout
from .masks import Mask, speech_masks

Count = Annotated[int, Meta(ge=0, le=2**20)]
LONGEST_LOOP = 8  # frames: longer ones are not met
PerPhone = Annotated[float, Meta(ge=0, le=1e6)]


class FrameBounds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long a sound may be, in frames. `max_frames` None: no bound.

    One whose last `max_repeated` frames are one to eight frames again and again says nothing any more, and is ended.
    Where codebooks come late, these are the last ones of each, as they are written.
    """

    min_frames: Count = 1
    max_frames: Annotated[int, Meta(ge=1, le=2**20)] | None = None
    max_repeated: Annotated[int, Meta(ge=2, le=1024)] | None = None

    def __post_init__(self) -> None:
        if self.max_frames is not None and self.max_frames < self.min_frames:
            raise ValueError(f"min_frames={self.min_frames}: must not be above max_frames={self.max_frames}")


class SlotOrder:
    """Frames only: slot k, then k + 1; at a border slot 0 or an end id, within the bounds."""

    def __init__(self, layout: SpeechLayout, vocab_size: int, bounds: FrameBounds | None = None) -> None:
        self._layout = layout
        self._bounds = bounds if bounds is not None else FrameBounds()
        self._masks = speech_masks(layout, vocab_size)

    def allowed(self, tokens: Sequence[int]) -> Mask:
        """See `TokenConstraint.allowed`. After an end id: as at a border."""
        layout, width = self._layout, self._layout.codes_per_frame
        slot = None
        for token in reversed(tokens):  # the last one, unless something else stands among the audio ids
            slot = layout.slot_of(token)
            if slot is not None:
                break
        if slot is not None and slot + 1 < width:
            return self._masks.slots[slot + 1]
        frames = len(tokens) // width
        end = frames >= self._bounds.min_frames
        more = self._bounds.max_frames is None or frames < self._bounds.max_frames
        more = more and not repeats(tokens, width, self._bounds.max_repeated)
        return self._masks.border(more or not end, False, end)


def repeats(tokens: Sequence[int], width: int, frames: int | None) -> bool:
    """Whether the last so many frames are a few frames again and again; no number is no bound."""
    if frames is None or len(tokens) < frames * width:
        return False
    last = tokens[len(tokens) - frames * width :]
    longest = min(LONGEST_LOOP, frames // 2)
    return any(last[period * width :] == last[: -period * width] for period in range(1, longest + 1))


class PhaseBounds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long a clause's sound may be for its phones, in frames, and how much there may be in all.

    A clause of p phones has ceil(min_frames + min_frames_per_phone * p) frames at least, and floor(max_frames +
    max_frames_per_phone * p) at most, but one at least and no fewer than the least. None: no bound.
    `min_clauses`: the end is not allowed before. With `hold_words` the phones of each word of the text are written
    once: the end comes behind the last word and not before, so nothing is left out and nothing is said again.
    """

    min_frames: Annotated[float, Meta(ge=-1e6, le=1e6)] = 1.0
    min_frames_per_phone: PerPhone = 0.0
    max_frames: Annotated[float, Meta(ge=-1e6, le=1e6)] = 0.0
    max_frames_per_phone: PerPhone | None = None
    max_phones: Annotated[int, Meta(ge=1, le=2**20)] | None = None
    min_clauses: Count = 0
    max_clauses: Annotated[int, Meta(ge=1, le=2**20)] | None = None
    hold_words: bool = False

    def __post_init__(self) -> None:
        if self.max_clauses is not None and self.max_clauses < self.min_clauses:
            raise ValueError(f"min_clauses={self.min_clauses}: must not be above max_clauses={self.max_clauses}")

    def frames(self, phones: int) -> tuple[int, int | None]:
        """The least and the most frames of a clause of so many phones."""
        least = max(1, math.ceil(self.min_frames + self.min_frames_per_phone * phones))
        if self.max_frames_per_phone is None:
            return least, None
        return least, max(least, math.floor(self.max_frames + self.max_frames_per_phone * phones))


class SpeechPhases:
    """Phones, then their frames, clause by clause: the order in which a model with a `PhoneFormat` writes.

    Among phones: a phone, or after a phone `word_border` or `start_of_frames`. Among frames: the slots in order; at a
    border slot 0, `next_clause` or an end id. All within the bounds. After an end id: end ids. With `words` it is
    these that are counted, by word borders and clauses, and the end comes behind the last of them.
    """

    def __init__(
        self, layout: SpeechLayout, vocab_size: int, bounds: PhaseBounds | None = None, words: int | None = None
    ) -> None:
        if layout.phones is None:
            raise ValueError("layout.phones is not set: this model writes no phones; SlotOrder is the one for it")
        self._layout = layout
        self._phones = layout.phones
        self._phone_ids = frozenset(
            token for first, last in layout.phones.phones for token in range(first, min(last + 1, vocab_size))
        )
        self._bounds = bounds if bounds is not None else PhaseBounds()
        self._masks = speech_masks(layout, vocab_size)
        self._ends = frozenset(layout.end_ids)
        self._words = words

    def allowed(self, tokens: Sequence[int]) -> Mask:
        """See `TokenConstraint.allowed`."""
        if not tokens or tokens[-1] == self._phones.next_clause:
            return self._masks.phone(True, False, False)
        last = tokens[-1]
        slot = self._layout.slot_of(last)
        if slot is not None:
            if slot + 1 < self._layout.codes_per_frame:
                return self._masks.slots[slot + 1]
            return self._at_border(tokens)
        if last == self._phones.start_of_frames:
            return self._masks.slots[0]
        if last in self._ends:
            return self._masks.border(False, False, True)
        return self._after_phone(tokens)

    def _after_phone(self, tokens: Sequence[int]) -> Mask:
        if tokens[-1] not in self._phone_ids:  # a word's first phone; also behind an id of no speech at all
            return self._masks.phone(True, False, False)
        limit = self._bounds.max_phones
        more = limit is None or self._count_phones(tokens, len(tokens)) < limit
        return self._masks.phone(more, more and self._words_left(tokens) != 0, True)

    def _at_border(self, tokens: Sequence[int]) -> Mask:
        frames, start = self._count_frames(tokens)
        least, most = self._bounds.frames(self._count_phones(tokens, start))
        if frames < least:
            return self._masks.slots[0]
        clauses = 1 + self._clauses_before(tokens)
        another = self._phones.next_clause is not None
        left = self._words_left(tokens)
        room = another and (self._bounds.max_clauses is None or clauses < self._bounds.max_clauses)
        enough = clauses >= self._bounds.min_clauses or left == 0  # no word is left for another clause
        end = (enough and not (left and room)) or not another
        return self._masks.border(most is None or frames < most, room and left != 0, end)

    def _count_frames(self, tokens: Sequence[int]) -> tuple[int, int]:
        """The complete frames at the end of `tokens`, and where `start_of_frames` stands before them."""
        width, slot_of = self._layout.codes_per_frame, self._layout.slot_of
        frames, first = 0, len(tokens) - width
        while first >= 0 and slot_of(tokens[first]) == 0:
            frames += 1
            first -= width
        return frames, first + width - 1

    def _count_phones(self, tokens: Sequence[int], stop: int) -> int:
        """The phones that end before `stop`; borders between words do not count."""
        start, borders, phone_ids, border = stop, 0, self._phone_ids, self._phones.word_border
        while start > 0 and (tokens[start - 1] in phone_ids or tokens[start - 1] == border):
            start -= 1
            borders += tokens[start] == border
        return stop - start - borders

    def _words_left(self, tokens: Sequence[int]) -> int | None:
        """How many words have not been begun; None where they are not counted."""
        phones = self._phones
        if self._words is None or phones.word_border is None:
            return None
        begun = 1 + tokens.count(phones.word_border)
        if phones.next_clause is not None:
            begun += tokens.count(phones.next_clause)
        return max(0, self._words - begun)

    def _clauses_before(self, tokens: Sequence[int]) -> int:
        """Clauses complete before the last one; 0 when no bound asks."""
        if self._phones.next_clause is None or (self._bounds.max_clauses is None and not self._bounds.min_clauses):
            return 0
        return tokens.count(self._phones.next_clause)
