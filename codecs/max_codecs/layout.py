"""How speech is written as token ids: which id is which code of which frame, and what else the model writes.

All of it is data, so that one code serves Orpheus (`ORPHEUS`), the embedded voice, and what a YAML file describes. A
slot is found from the id itself, never from a running counter: so code 0 is legal, and a stray id costs one frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from .delays import DelayFormat, delayed
from .prompt import PromptFormat, Reference, TokenId
from .slots import Slot, check_slots, columns, depth_first, frames_of, level_counts


class PhoneFormat(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """For a model that writes phones before their sound: phones, `start_of_frames`, frames, and so on by clause.

    `phones` are ranges of ids [first, last]; `start_of_frames` ends the phones of a clause; `next_clause`, if there
    is one, ends its frames and begins the next one's phones. `word_border`, if there is one, stands between the
    phones of two words, and is no phone itself.
    """

    phones: Annotated[tuple[tuple[TokenId, TokenId], ...], Meta(min_length=1, max_length=64)]
    start_of_frames: TokenId
    next_clause: TokenId | None = None
    word_border: TokenId | None = None

    def __post_init__(self) -> None:
        for first, last in self.phones:
            if last < first:
                raise ValueError(f"phones: the range [{first}, {last}] is empty")

    @property
    def special_ids(self) -> tuple[int, ...]:
        given = (self.start_of_frames, self.next_clause, self.word_border)
        return tuple(token for token in given if token is not None)

    def is_phone(self, token: int) -> bool:
        return any(first <= token <= last for first, last in self.phones)


class SpeechLayout(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """The speech tokens of one model.

    The code c of slot k has the id `audio_base + offsets[k] + c`, 0 <= c < `codebook_size`; `slots` gives each slot's
    (level, index within the frame); `slot_offsets`, multiples of `ids_per_slot`, are k * ids_per_slot if left out; that
    is `codebook_size` if left out. With `delays` the codebooks come late, and slots need ids for what stands in the
    place of a code; frames, here as everywhere, are without delay. `end_ids` end the speech. The constructor checks
    everything; ValueError says what is wrong.
    """

    audio_base: TokenId
    codebook_size: Annotated[int, Meta(ge=1, le=2**20)]
    end_ids: Annotated[tuple[TokenId, ...], Meta(min_length=1, max_length=16)]
    prompt: PromptFormat
    slots: Annotated[tuple[Slot, ...], Meta(min_length=1, max_length=64)] = depth_first((4, 2, 1))
    slot_offsets: Annotated[tuple[TokenId, ...], Meta(max_length=64)] = ()
    phones: PhoneFormat | None = None
    delays: DelayFormat | None = None
    ids_per_slot: Annotated[int, Meta(ge=1, le=2**21)] | None = None

    def __post_init__(self) -> None:
        check_slots(self.slots)
        self._check_delays()
        if self.slot_offsets and len(self.slot_offsets) != len(self.slots):
            raise ValueError(f"slot_offsets={list(self.slot_offsets)}: wants one for each of {len(self.slots)} slots")
        if len(set(self.offsets)) != len(self.offsets) or any(offset % self.band for offset in self.offsets):
            raise ValueError(f"slot_offsets={list(self.offsets)}: must be different multiples of {self.band}")
        self._check_special()

    def _check_delays(self) -> None:
        if self.band < self.codebook_size:
            raise ValueError(f"ids_per_slot={self.band}: must hold the codebook_size={self.codebook_size} codes")
        if self.delays is None:
            return
        if self.phones:
            raise ValueError("delays: a model that writes phones before their sound writes no codebook late")
        if len(self.delays.steps) != len(level_counts(self.slots)):
            raise ValueError(f"delays.steps={list(self.delays.steps)}: wants one for each of the levels of slots")
        if self.slot_delays[0]:
            raise ValueError(f"delays.steps={list(self.delays.steps)}: the first slot's level must have no delay")
        if not all(self.codebook_size <= code < self.band for code in self.delays.fillers):
            raise ValueError(
                f"delays: before, end and after must be from {self.codebook_size}, the codebook_size, to"
                f" {self.band - 1}, below ids_per_slot"
            )

    def _check_special(self) -> None:
        phones = self.phones
        special = [*self.end_ids, *(phones.special_ids if phones else ())]
        if len(set(special)) != len(special) or (phones and any(phones.is_phone(token) for token in special)):
            raise ValueError(f"end_ids and the ids around phones are {special}: must differ, and be no phones")
        for token in special:
            if self.slot_of(token) is not None:
                raise ValueError(f"the id {token} is an audio id, and a special one as well")
        for first, last in phones.phones if phones else ():
            if first < self.audio_stop and last >= self.audio_base:
                raise ValueError(f"phones [{first}, {last}] reach into the audio ids")

    @property
    def codes_per_frame(self) -> int:
        return len(self.slots)

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """What is added to `audio_base` + code, for each slot."""
        return self.slot_offsets or tuple(k * self.band for k in range(len(self.slots)))

    @cached_property
    def band(self) -> int:
        """How many ids each slot has: its codes, and what may stand in the place of one."""
        return self.ids_per_slot or self.codebook_size

    @cached_property
    def slot_delays(self) -> tuple[int, ...]:
        """How many steps late each slot is written."""
        return tuple(self.delays.steps[level] if self.delays else 0 for level, _ in self.slots)

    @cached_property
    def slot_of_band(self) -> tuple[int | None, ...]:
        """The slot of each run of `band` ids from `audio_base` on; None where none is used."""
        bands = [offset // self.band for offset in self.offsets]
        return tuple(bands.index(band) if band in bands else None for band in range(max(bands) + 1))

    @cached_property
    def audio_stop(self) -> int:
        """One more than the last audio id."""
        return self.audio_base + len(self.slot_of_band) * self.band

    @property
    def supports_reference(self) -> bool:
        """Whether a request may bring a reference voice (`audio_prompt_tokens`)."""
        return self.prompt.reference is not None

    def slot_of(self, token: int) -> int | None:
        """The slot of an audio id, also of one that stands in the place of a code; None for any other id."""
        if not self.audio_base <= token < self.audio_stop:
            return None
        band, code = divmod(token - self.audio_base, self.band)
        if code >= self.codebook_size and not (self.delays and code in self.delays.fillers):
            return None
        return self.slot_of_band[band]

    def code_of(self, token: int) -> int:
        """The code of an audio id; from `codebook_size` on it only stands in the place of one."""
        return (token - self.audio_base) % self.band

    def ids(self, frames: NDArray[np.int64]) -> NDArray[np.int64]:
        """Frames int64[n, codes_per_frame] to ids int64[n * codes_per_frame]. ValueError for codes out of range."""
        if frames.ndim != 2 or frames.shape[1] != self.codes_per_frame:
            raise ValueError(f"frames have shape {list(frames.shape)}: must be [n, {self.codes_per_frame}]")
        if frames.size and not 0 <= int(frames.min()) <= int(frames.max()) < self.codebook_size:
            raise ValueError(f"codes from {frames.min()} to {frames.max()}: must be 0 to {self.codebook_size - 1}")
        return (frames.astype(np.int64) + self._bases).ravel()

    def frames(self, ids: NDArray[np.integer]) -> NDArray[np.int64]:
        """Ids [n * codes_per_frame] to frames int64[n, codes_per_frame].

        Strict: ValueError for anything but whole frames of audio ids in order. `FrameAssembler` takes what comes.
        """
        if ids.ndim != 1 or ids.dtype.kind not in "iu":
            raise ValueError(f"speech tokens are {ids.dtype}{list(ids.shape)}: must be integers in one dimension")
        if ids.size % self.codes_per_frame:
            raise ValueError(f"{ids.size} speech tokens: must be whole frames of {self.codes_per_frame}")
        codes = ids.astype(np.int64).reshape(-1, self.codes_per_frame) - self._bases
        wrong = np.flatnonzero((codes < 0) | (codes >= self.codebook_size))
        if wrong.size:
            at = int(wrong[0])
            raise ValueError(f"speech token {at} is {int(ids[at])}: no code of slot {at % self.codes_per_frame}")
        return codes

    def reference(self, text_ids: Sequence[int], speech_tokens: NDArray[np.integer]) -> Reference:
        """A reference voice from the ids of its words and of its sound: whole frames, not too many; else ValueError."""
        form = self.prompt.reference
        if form is None:
            raise ValueError("audio_prompt_tokens: this model can take no reference voice")
        frames = self.frames(speech_tokens)
        if form.max_frames is not None and len(frames) > form.max_frames:
            what = f"this model goes on from {form.max_frames} at most"
            raise ValueError(f"audio_prompt_tokens: holds {len(frames)} frames of sound; {what}")
        written = delayed(frames, self.slot_delays, self.delays) + self._bases if self.delays else speech_tokens
        return Reference(tuple(text_ids), tuple(written.ravel().tolist()))

    def levels(self, frames: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Frames int64[n, codes_per_frame] to the codes of each level int64[n * codes], as SNAC's `decode` wants."""
        return [np.ascontiguousarray(frames[:, places]).reshape(-1) for places in columns(self.slots)]

    def from_levels(self, levels: list[NDArray[np.int64]]) -> NDArray[np.int64]:
        """The inverse of `levels`, from what SNAC's `encode` gives. ValueError if the lengths do not fit."""
        return frames_of(levels, self.slots)

    @cached_property
    def _bases(self) -> NDArray[np.int64]:
        return np.array(self.offsets, np.int64) + self.audio_base
