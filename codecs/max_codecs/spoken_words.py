"""When the words are heard that a model has written in phones: clause by clause, from its tokens alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from .alignment import Borders, Unit, align
from .frames import FrameAssembler
from .layout import PhoneFormat, SpeechLayout


class PhoneHead(Protocol):
    """Tells from a codec's codes which phone sounds. The phone with the id `first_phone` + c has the column c."""

    @property
    def first_phone(self) -> int: ...

    @property
    def phones(self) -> int:
        """How many columns there are."""
        ...

    @property
    def pause(self) -> int:
        """The column of silence."""
        ...

    @property
    def steps_per_frame(self) -> int: ...

    @property
    def context_frames(self) -> int:
        """Frames before a frame that its scores depend on."""
        ...

    def scores(self, frames: NDArray[np.int64], skip: int) -> NDArray[np.float32]:
        """Log-probabilities [steps, phones] of frames int64[n, codes], the first `skip` of which are context alone."""
        ...


@runtime_checkable
class HearsPhones(Protocol):
    """A codec that may have such a head; None for one that was trained without."""

    @property
    def phone_head(self) -> PhoneHead | None: ...


@dataclass(frozen=True, slots=True)
class SpokenWord:
    """Word `number`, from 0, sounds from step `start` up to step `end`; known once so many `frames` were there."""

    number: int
    start: int
    end: int
    frames: int


@dataclass(frozen=True, slots=True)
class _Sounding:
    """A phone of word number `word`, or a pause without one. One that has `begun` may have no steps any more."""

    column: int
    word: int | None
    begun: bool = False

    @property
    def unit(self) -> Unit:
        return Unit(self.column, optional=self.begun or self.word is None)


class SpokenWords:
    """The words of one sound. What it tells is a function of its tokens, however they come.

    Phones stand before their frames, yet the last few of a clause may sound in the first frame of the next one. So a
    clause's last word is known at the end of the next clause, and the others at its own.
    """

    def __init__(self, layout: SpeechLayout, head: PhoneHead, history: NDArray[np.int64]) -> None:
        """`history` are the frames that were heard before, int64[n, codes]: context. ValueError as `phones_of`."""
        self._phones = phones_of(layout, head)
        self._head = head
        self._assembler = FrameAssembler(layout)
        self._context = history[max(0, len(history) - head.context_frames) :]
        self._audio: list[int] = []  # ids of the clause's frames
        self._pause = _Sounding(head.pause, None)
        self._written = [self._pause]  # what is still to sound
        self._words = -1  # the number of the last one that was written
        self._new_word = True  # the next phone begins one
        self._spans: dict[int, tuple[int, int]] = {}  # steps of words that are not whole yet
        self._ended = 0  # frames of the clauses before

    def push(self, tokens: Iterable[int]) -> list[SpokenWord]:
        """The next tokens; the words that they make known."""
        known: list[SpokenWord] = []
        for token in tokens:
            if self._phones.is_phone(token):
                self._write(token - self._head.first_phone)
            elif token == self._phones.word_border:
                self._new_word = True
            elif token == self._phones.next_clause:
                known += self._end_clause(self._head.steps_per_frame)
                self._new_word = True
            else:
                self._audio.append(token)
        return known

    def finish(self, *, cut_off: bool = False) -> list[SpokenWord]:
        """The rest, at the end. Of a sound that was `cut_off` words may be missing, and the last not be whole."""
        known = self._end_clause(len(self._written) if cut_off else 0, is_last=not cut_off)
        return known + [self._word(number) for number in sorted(self._spans)]

    def _write(self, column: int) -> None:
        if column == self._head.pause:
            self._write_pause()
            return
        self._words += self._new_word
        self._new_word = False
        self._written.append(_Sounding(column, self._words))

    def _write_pause(self) -> None:
        if not self._written or self._written[-1].word is not None:
            self._written.append(self._pause)

    def _end_clause(self, loose: int, *, is_last: bool = False) -> list[SpokenWord]:
        """Align what was written with the clause's frames; up to `loose` phones may be left for the next clause's."""
        self._write_pause()
        frames = np.concatenate([self._context, self._assembler.push(self._audio)])
        borders = align(self._head.scores(frames, len(self._context)), [one.unit for one in self._written], loose)
        sounded = len(self._written) if is_last else _sounded(borders)
        first = self._ended * self._head.steps_per_frame
        for phone, span in zip(self._written[:sounded], pairwise(borders), strict=False):
            if phone.word is not None:
                start, end = (first + step for step in span)
                self._spans[phone.word] = self._spans.get(phone.word, (start, end))[0], end
        self._ended += len(frames) - len(self._context)
        self._context = frames[max(0, len(frames) - self._head.context_frames) :]
        self._audio = []
        last = [] if is_last else [replace(one, begun=True) for one in self._written[sounded - 1 : sounded]]
        self._written = last + self._written[sounded:]
        waiting = {phone.word for phone in self._written}
        return [self._word(number) for number in sorted(self._spans) if number not in waiting]

    def _word(self, number: int) -> SpokenWord:
        return SpokenWord(number, *self._spans.pop(number), self._ended)


def _sounded(borders: Borders) -> int:
    """How many units have begun: the last of them sounds in the last step, and may go on."""
    steps = borders[-1]
    return next((number for number, end in enumerate(borders) if end == steps and steps), 0)


def phones_of(layout: SpeechLayout, head: PhoneHead) -> PhoneFormat:
    """How a layout's phones are written. ValueError for a model that writes none, or others than `head` can tell."""
    phones = layout.phones
    if phones is None:
        raise ValueError("the model writes no phones, so nothing tells which words are to be found in its sound")
    first, last = head.first_phone, head.first_phone + head.phones - 1
    if any(not first <= low <= high <= last for low, high in phones.phones):
        raise ValueError(
            f"the model writes the phones {list(phones.phones)}, the aligner tells those of {first} to {last}"
        )
    return phones
