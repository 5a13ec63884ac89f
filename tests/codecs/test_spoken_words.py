"""Words that a model has written in phones are found where they sound: with a head that reads phones off the codes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from max_codecs.layout import PhoneFormat
from max_codecs.spoken_words import SpokenWord, SpokenWords
from tests.fakes import END, SMALL_LAYOUT

PAUSE, PHONES = 0, 8
FIRST, BORDER, FRAMES, CLAUSE = 20, 30, 31, 32
STEPS = 4  # of a frame; the phone of each is a code of the finest level
LAYOUT = msgspec.structs.replace(
    SMALL_LAYOUT,
    phones=PhoneFormat(
        phones=((FIRST, FIRST + PHONES - 1),), start_of_frames=FRAMES, next_clause=CLAUSE, word_border=BORDER
    ),
)
FINE = [LAYOUT.slots.index((2, index)) for index in range(STEPS)]


class CodesHead:
    """Reads the phone of each step off its finest code; one step of context, which it wants to see."""

    first_phone, phones, pause, steps_per_frame, context_frames = FIRST, PHONES, PAUSE, STEPS, 1

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []

    def scores(self, frames: NDArray[np.int64], skip: int) -> NDArray[np.float32]:
        self.seen.append((len(frames), skip))
        columns = frames[skip:, FINE].reshape(-1)
        return np.where(np.arange(PHONES) == columns[:, None], 0, -5).astype(np.float32)


@dataclass
class Said:
    """A sound: the phone of each step, clauses of words of phones, and the frames of each clause."""

    steps: list[int]
    clauses: list[list[list[int]]]
    counts: list[int]
    words: list[tuple[int, int]]

    @property
    def tokens(self) -> list[int]:
        fine = np.array(self.steps).reshape(-1, STEPS)
        frames = np.zeros((len(fine), LAYOUT.codes_per_frame), np.int64)
        frames[:, FINE] = fine
        tokens: list[int] = []
        start = 0
        for clause, count in zip(self.clauses, self.counts, strict=True):
            for number, word in enumerate(clause):
                tokens += [BORDER] * (number > 0) + [FIRST + phone for phone in word]
            audio = LAYOUT.ids(frames[start : start + count])
            start += count
            tokens += [FRAMES, *audio.tolist(), CLAUSE if start < len(fine) else END]
        return tokens


def say(clauses: Sequence[Sequence[Sequence[tuple[int, int]]]], pauses: Sequence[int]) -> Said:
    """Words of (phone, steps), with so many steps of silence before each clause, and one frame more behind them all.

    A frame in which two clauses sound is the later one's.
    """
    steps: list[int] = []
    words: list[tuple[int, int]] = []
    borders = [0]
    for clause, pause in zip(clauses, pauses, strict=True):
        if len(steps) // STEPS > borders[-1]:
            borders.append(len(steps) // STEPS)
        elif steps:
            steps += [PAUSE] * ((borders[-1] + 1) * STEPS - len(steps))  # every clause has a frame
            borders.append(borders[-1] + 1)
        steps += [PAUSE] * pause
        for word in clause:
            words.append((len(steps), len(steps) + sum(count for _, count in word)))
            steps += [phone for phone, count in word for _ in range(count)]
    steps += [PAUSE] * (-len(steps) % STEPS + STEPS)
    borders.append(len(steps) // STEPS)
    written = [[[phone for phone, _ in word] for word in clause] for clause in clauses]
    return Said(steps, written, [late - early for early, late in pairwise(borders)], words)


@st.composite
def sounds(draw: st.DrawFn) -> Said:
    """No phone is like the one before it: nothing would tell where one ends."""
    phones = st.tuples(st.integers(1, PHONES - 2), st.integers(1, 6))
    clauses = draw(
        st.lists(st.lists(st.lists(phones, min_size=1, max_size=4), min_size=1, max_size=4), min_size=1, max_size=4)
    )
    last = 0
    for clause in clauses:
        for word in clause:
            for number, (phone, steps) in enumerate(word):
                last = phone if phone != last else phone + 1
                word[number] = last, steps
    return say(clauses, [draw(st.integers(0, 3)) for _ in clauses])


def spans(words: Sequence[SpokenWord]) -> list[tuple[int, int]]:
    assert [word.number for word in words] == list(range(len(words)))
    return [(word.start, word.end) for word in words]


@given(sounds(), st.data())
@settings(max_examples=150, deadline=None)
def test_words_are_found_however_tokens_come(said: Said, data: st.DataObject) -> None:
    tokens, history = said.tokens, np.zeros((3, LAYOUT.codes_per_frame), np.int64)
    head = CodesHead()
    words = SpokenWords(LAYOUT, head, history)
    found = words.push(tokens) + words.finish()
    assert spans(found) == said.words
    assert all(skip == 1 for _, skip in head.seen)
    cut = data.draw(st.integers(0, len(tokens)))
    words = SpokenWords(LAYOUT, CodesHead(), history)
    assert words.push(tokens[:cut]) + words.push(tokens[cut:]) + words.finish() == found


NOTHING = np.zeros((0, LAYOUT.codes_per_frame), np.int64)
TWO = say([[[(1, 4), (2, 3)], [(3, 3)]], [[(4, 4)], [(5, 6)]]], [2, 0])  # the first 12 steps, three frames, the rest


def test_words_are_known_at_their_clauses_end_but_the_last_a_clause_later() -> None:
    tokens = TWO.tokens
    words = SpokenWords(LAYOUT, CodesHead(), NOTHING)
    end = tokens.index(CLAUSE)
    assert words.push(tokens[:end]) == []
    assert words.push(tokens[end : end + 1]) == [SpokenWord(0, 2, 9, 3)]
    assert words.push(tokens[end + 1 :]) == []
    assert words.finish() == [SpokenWord(1, 9, 12, 7), SpokenWord(2, 12, 16, 7), SpokenWord(3, 16, 22, 7)]


def test_a_clauses_last_phones_may_sound_in_the_next_ones_first_frame() -> None:
    said = Said([1] * 7 + [2] + [3, 0, 4, 4] + [4, 4, 0, 0], [[[1, 2, 3]], [[4]]], [2, 2], [(0, 9), (10, 14)])
    words = SpokenWords(LAYOUT, CodesHead(), NOTHING)
    assert words.push(said.tokens) == []
    assert spans(words.finish()) == said.words


@pytest.mark.parametrize("steps", [0, 7, 8, 9, 30])
def test_of_a_sound_that_is_cut_off_only_words_that_have_begun_are_told(steps: int) -> None:
    tokens = TWO.tokens[: steps + 6]
    words = SpokenWords(LAYOUT, CodesHead(), NOTHING)
    found = words.push(tokens) + words.finish(cut_off=True)
    heard = STEPS * sum(LAYOUT.slot_of(token) == 6 for token in tokens)
    assert spans(found) == [(start, min(end, heard)) for start, end in TWO.words if start < heard]


def test_more_phones_than_steps_share_them() -> None:
    said = Said([1, 2, 3, 4], [[[1, 2, 3], [4, 5, 6]]], [1], [])
    words = SpokenWords(LAYOUT, CodesHead(), NOTHING)
    assert spans(words.push(said.tokens) + words.finish()) == [(0, 2), (2, 4)]


def test_a_model_whose_phones_the_head_does_not_know_is_refused() -> None:
    with pytest.raises(ValueError, match="writes no phones"):
        SpokenWords(SMALL_LAYOUT, CodesHead(), NOTHING)
    phones = PhoneFormat(phones=((FIRST, FIRST + PHONES),), start_of_frames=FRAMES)
    with pytest.raises(ValueError, match=r"writes the phones \[\(20, 28\)\], the aligner tells those of 20 to 27"):
        SpokenWords(msgspec.structs.replace(LAYOUT, phones=phones), CodesHead(), NOTHING)
