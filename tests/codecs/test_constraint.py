"""Constraints: what may follow, checked against an automaton that is written the plain way."""

from __future__ import annotations

import random as chances
from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from max_codecs.constraint import FrameBounds, PhaseBounds, SlotOrder, SpeechPhases
from max_codecs.format import SpeechFormat
from max_codecs.frames import FrameAssembler
from max_codecs.layout import PhoneFormat, SpeechLayout
from max_codecs.orpheus import ORPHEUS
from max_codecs.prompt import PromptFormat
from max_interfaces.protocols import TokenConstraint

VOCAB = 64
END, FRAMES, NEXT, WORD = 4, 5, 9, 10
LAYOUT = SpeechLayout(
    audio_base=20,
    codebook_size=5,
    end_ids=(END,),
    prompt=PromptFormat(before_text=(1,), after_text=(2,), speech=(3,)),
    phones=PhoneFormat(phones=((6, 8), (12, 12)), start_of_frames=FRAMES, next_clause=NEXT, word_border=WORD),
)
PHONES = {6, 7, 8, 12}


def ids(constraint: TokenConstraint, tokens: Sequence[int]) -> set[int]:
    mask = constraint.allowed(tokens)
    assert mask is not None
    assert mask is constraint.allowed(list(tokens))  # the same array for the same state
    assert not mask.flags.writeable
    assert mask.any()
    return {int(token) for token in np.flatnonzero(mask)}


def slot(k: int) -> set[int]:
    return set(range(20 + 5 * k, 25 + 5 * k))


def frame(code: int = 0) -> list[int]:
    return [20 + 5 * k + code for k in range(7)]


class Automaton:
    """The obvious twin of `SpeechPhases`: one token at a time, with a state that it keeps."""

    def __init__(self, bounds: PhaseBounds, words: int | None = None) -> None:
        self.bounds = bounds
        self.words = words
        self.begun = 1
        self.phones = self.frames = self.slot = 0
        self.clause = 1
        self.phase = "phones"
        self.in_word = False

    def allowed(self) -> set[int]:
        if self.phase == "end":
            return {END}
        if self.phase == "phones":
            more = self.bounds.max_phones is None or self.phones < self.bounds.max_phones
            if not self.in_word:
                return PHONES
            another = {WORD} if self.words is None or self.begun < self.words else set[int]()
            return (PHONES | another if more else set()) | {FRAMES}
        if self.slot or not self.frames:
            return slot(self.slot)
        least, most = self.bounds.frames(self.phones)
        if self.frames < least:
            return slot(0)
        allowed = slot(0) if most is None or self.frames < most else set()
        room = self.bounds.max_clauses is None or self.clause < self.bounds.max_clauses
        unsaid = self.words is not None and self.begun < self.words
        if room and (self.words is None or unsaid):
            allowed = allowed | {NEXT}
        enough = self.clause >= self.bounds.min_clauses or self.words == self.begun
        return allowed | ({END} if enough and not (unsaid and room) else set())

    def take(self, token: int) -> None:
        if token == END:
            self.phase = "end"
        elif token == WORD:
            self.in_word = False
            self.begun += 1
        elif token == NEXT:
            self.in_word = False
            self.begun += 1
            self.phase, self.phones, self.clause = "phones", 0, self.clause + 1
        elif token == FRAMES:
            self.phase, self.frames, self.slot = "frames", 0, 0
        elif token in PHONES:
            self.phones += 1
            self.in_word = True
        else:
            self.slot = (self.slot + 1) % 7
            self.frames += self.slot == 0


phase_bounds = st.builds(
    PhaseBounds,
    min_frames=st.sampled_from([-1.0, 1.0, 2.5]),
    min_frames_per_phone=st.sampled_from([0.0, 0.5]),
    max_frames=st.sampled_from([0.0, 1.0]),
    max_frames_per_phone=st.sampled_from([None, 0.5, 1.0]),
    max_phones=st.sampled_from([None, 1, 4]),
    min_clauses=st.integers(0, 2),
    max_clauses=st.sampled_from([None, 2, 3]),
)


@given(phase_bounds, st.sampled_from([None, 1, 2, 5]), st.randoms(use_true_random=False))
@example(PhaseBounds(max_frames=0.0, max_frames_per_phone=0.5, min_clauses=2), 1, chances.Random(3))
def test_phases_follow_the_automaton(bounds: PhaseBounds, words: int | None, random: chances.Random) -> None:
    constraint, automaton = SpeechPhases(LAYOUT, VOCAB, bounds, words), Automaton(bounds, words)
    tokens: list[int] = []
    for _ in range(70):
        allowed = ids(constraint, tokens)
        assert allowed == automaton.allowed(), tokens
        rare = sorted(allowed & {FRAMES, NEXT, END}) or sorted(allowed)
        tokens.append(random.choice(rare if random.random() < 0.4 else sorted(allowed)))
        automaton.take(tokens[-1])
    assembler = FrameAssembler(LAYOUT)
    assembler.push(tokens)
    assert (assembler.dropped_tokens, assembler.resyncs) == (0, 0)


def test_phases_step_by_step() -> None:
    constraint = SpeechPhases(LAYOUT, VOCAB)
    assert ids(constraint, []) == PHONES
    assert ids(constraint, [6]) == PHONES | {FRAMES, WORD}
    assert ids(constraint, [6, WORD]) == PHONES
    assert ids(constraint, [6, FRAMES]) == slot(0)
    assert ids(constraint, [6, FRAMES, 20]) == slot(1)
    spoken = [6, FRAMES, *frame()]
    assert ids(constraint, spoken) == slot(0) | {NEXT, END}
    assert ids(constraint, [*spoken, NEXT]) == PHONES
    assert ids(constraint, [*spoken, END]) == {END}


def test_frames_are_bounded_by_the_phones_of_their_clause() -> None:
    bounds = PhaseBounds(min_frames=0, min_frames_per_phone=1, max_frames=1, max_frames_per_phone=1)
    constraint = SpeechPhases(LAYOUT, VOCAB, bounds)
    before = [6, 6, 6, FRAMES, *frame(), *frame(), *frame(), NEXT]
    start = [*before, 6, 7, FRAMES]
    assert ids(constraint, [*start, *frame()]) == slot(0)
    assert ids(constraint, [*start, *frame(), *frame()]) == slot(0) | {NEXT, END}
    assert ids(constraint, [*start, *frame(), *frame(), *frame()]) == {NEXT, END}


def test_every_word_is_said_once() -> None:
    constraint = SpeechPhases(LAYOUT, VOCAB, words=3)
    one = [6, FRAMES, *frame()]
    assert ids(constraint, one) == slot(0) | {NEXT}
    two = [*one, NEXT, 6, WORD, 7]
    assert ids(constraint, two) == PHONES | {FRAMES}
    assert ids(constraint, [*two, FRAMES, *frame()]) == slot(0) | {END}
    assert ids(constraint, [*one, NEXT, 6, FRAMES, *frame()]) == slot(0) | {NEXT}


def test_where_no_clause_may_follow_words_may_be_missing() -> None:
    constraint = SpeechPhases(LAYOUT, VOCAB, PhaseBounds(max_clauses=1), words=3)
    assert ids(constraint, [6, FRAMES, *frame()]) == slot(0) | {END}


def test_words_are_counted_only_where_the_bounds_say_so() -> None:
    form = SpeechFormat(LAYOUT)
    held = SpeechFormat(LAYOUT, phases=PhaseBounds(hold_words=True))
    assert ids(form.constraint(VOCAB, 1), [6]) == ids(held.constraint(VOCAB), [6]) == PHONES | {WORD, FRAMES}
    assert ids(held.constraint(VOCAB, 1), [6]) == PHONES | {FRAMES}


@given(st.integers(1, 8), st.integers(2, 6), st.integers(0, 3))
def test_a_sound_that_repeats_itself_is_ended(period: int, rounds: int, before: int) -> None:
    loop = [token for k in range(period) for token in frame(min(k, 1))]
    last = period * rounds
    constraint = SlotOrder(LAYOUT, VOCAB, FrameBounds(max_repeated=last))
    start = frame(2) * before
    assert ids(constraint, [*start, *loop * rounds]) == {END}
    assert ids(constraint, [*start, *loop * rounds][7:] + frame(3)) == slot(0) | {END}


def test_a_loop_goes_on_until_the_sound_may_end() -> None:
    constraint = SlotOrder(LAYOUT, VOCAB, FrameBounds(min_frames=6, max_repeated=4))
    assert ids(constraint, frame() * 5) == slot(0)
    assert ids(constraint, frame() * 6) == {END}


def test_phones_of_a_foreign_prefix_begin_again() -> None:
    assert ids(SpeechPhases(LAYOUT, VOCAB), [40 + 22]) == PHONES


def test_a_voice_without_clauses_ends_at_a_border() -> None:
    phones = PhoneFormat(phones=((6, 8),), start_of_frames=FRAMES)
    layout = msgspec.structs.replace(LAYOUT, phones=phones)
    constraint = SpeechPhases(layout, VOCAB, PhaseBounds(min_clauses=3, max_clauses=3))
    assert ids(constraint, [6, FRAMES, *frame()]) == slot(0) | {END}


def test_slot_order() -> None:
    constraint = SlotOrder(LAYOUT, VOCAB)
    assert ids(constraint, []) == slot(0)
    for k in range(6):
        assert ids(constraint, frame()[: k + 1]) == slot(k + 1)
    assert ids(constraint, frame()) == slot(0) | {END}
    assert ids(constraint, [*frame(), END]) == slot(0) | {END}
    assert ids(constraint, [*frame(), 20, 1]) == slot(1)


def test_slot_order_of_orpheus() -> None:
    constraint = SlotOrder(ORPHEUS, 156940)
    assert ids(constraint, [128266]) == set(range(128266 + 4096, 128266 + 2 * 4096))
    sound = ORPHEUS.ids(np.full((1, 7), 4095)).tolist()
    assert ids(constraint, sound) == {128258, *range(128266, 128266 + 4096)}


def test_frame_bounds() -> None:
    constraint = SlotOrder(LAYOUT, VOCAB, FrameBounds(min_frames=2, max_frames=3))
    assert ids(constraint, frame()) == slot(0)
    assert ids(constraint, frame() * 2) == slot(0) | {END}
    assert ids(constraint, frame() * 3) == {END}


def test_masks_are_shared_by_requests() -> None:
    one, other = SlotOrder(LAYOUT, VOCAB), SlotOrder(LAYOUT, VOCAB, FrameBounds(min_frames=0))
    assert one.allowed([20]) is other.allowed([21])
    assert one.allowed([]) is SpeechPhases(LAYOUT, VOCAB).allowed([6, FRAMES])


@pytest.mark.parametrize("vocab_size", [10, 54])
def test_a_vocabulary_that_is_too_small_is_refused(vocab_size: int) -> None:
    with pytest.raises(ValueError, match="ids up to 54"):
        SlotOrder(LAYOUT, vocab_size)


def test_phases_want_a_phone_format() -> None:
    with pytest.raises(ValueError, match="SlotOrder is the one"):
        SpeechPhases(ORPHEUS, 156940)


def test_bad_bounds_are_refused() -> None:
    with pytest.raises(ValueError, match="must not be above max_frames=1"):
        FrameBounds(min_frames=2, max_frames=1)
    with pytest.raises(ValueError, match="must not be above max_clauses=1"):
        PhaseBounds(min_clauses=2, max_clauses=1)
    with pytest.raises(ValueError, match="unknown field"):
        msgspec.convert({"max_phone": 3}, PhaseBounds)
