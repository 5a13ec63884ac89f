"""The recipe's own rules, without training."""

from itertools import pairwise

import numpy as np
import pytest

from max_voices.recipe.corpus import LONGEST, everyday_sentences, plain
from max_voices.recipe.data import Record
from max_voices.recipe.flite import Phone
from max_voices.recipe.grammar import sentence
from max_voices.recipe.layout import (
    PHONES,
    TOKENS,
    VOCABULARY,
    Clause,
    clauses,
    cut,
    deinterleave,
    frames_of,
    interleave,
    prompt,
    sample,
    speech_layout,
)
from max_voices.recipe.rows import IGNORE, speech_row
from max_voices.text import ALPHABET, spell


def test_a_hundred_sentences_of_1_to_25_words() -> None:
    sentences = everyday_sentences()
    assert len(set(sentences)) == 100
    assert {len(plain(s).split()) <= 25 for s in sentences} == {True}
    assert min(len(plain(s).split()) for s in sentences) == 1


def test_interleaving_is_orpheus_and_reversible() -> None:
    coarse, middle, fine = np.array([1, 2]), np.array([3, 4, 5, 6]), np.arange(8)
    ids = interleave([coarse, middle, fine])
    assert list((ids - 160) % 1024) == [1, 3, 0, 1, 4, 2, 3, 2, 5, 4, 5, 6, 6, 7]
    for level, other in zip((coarse, middle, fine), deinterleave(ids), strict=True):
        assert list(level) == list(other)


def test_special_ids_are_distinct_and_below_audio() -> None:
    assert len(set(TOKENS.values())) == len(TOKENS) <= 160
    assert VOCABULARY == 160 + 7 * 1024
    assert prompt("a b")[0] == TOKENS["<soh>"]
    assert all(character in TOKENS for character in ALPHABET)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("yes, of course not.", ["yes,", "of course not."]),
        ("he has lived in the same small village", ["he has lived", "in the same small village"]),
        ("hello.", ["hello."]),
    ],
)
def test_clauses_are_cut_at_marks_and_phrases(text: str, parts: list[str]) -> None:
    words, ends = text.split(), [-1, *cut(text.split())]
    assert [" ".join(words[a + 1 : b + 1]) for a, b in pairwise(ends)] == parts


def test_phones_go_to_their_clause_and_outer_pauses_are_left_out() -> None:
    spoken = [
        Phone("pau", 0.1, -1),
        Phone("y", 0.2, 0),
        Phone("pau", 0.3, -1),
        Phone("n", 0.4, 1),
        Phone("pau", 0.5, -1),
    ]
    found = clauses("yes, no", spoken, lead=0.1)
    assert [c.phones for c in found] == [("y", "pau"), ("n",)]
    assert found[1].ends == pytest.approx((0.3,))


def test_every_clause_has_a_frame() -> None:
    two = [Clause(("y",), (0.05,)), Clause(("n",), (0.4,))]
    assert frames_of(two, 3) == [1, 2]
    with pytest.raises(ValueError, match="fewer frames"):
        frames_of(two, 1)


def test_the_grammar_writes_what_the_voice_reads() -> None:
    import random

    chance = random.Random(1)
    for _ in range(300):
        text = sentence(chance)
        assert text
        assert set(text) <= ALPHABET, text
        assert spell(text).split() == text.split(), text
    assert {"@" + phone for phone in PHONES} <= set(TOKENS)
    assert LONGEST == 30


def test_a_row_after_a_sample_learns_the_same_and_nothing_of_the_sample() -> None:
    record = Record(
        "yes, no", (Clause(("y", "eh1", "s"), (0.1, 0.15, 0.2)), Clause(("n", "ow1"), (0.3, 0.5))), (1, 3), 0
    )
    codes = [np.arange(4 << level) % 1024 for level in range(3)]
    before = sample("go on", interleave([np.zeros(2 << level, np.int64) for level in range(3)]).tolist())
    plain_row, after = speech_row(record, codes, "rms"), speech_row(record, codes, None, before)
    start = len(before)
    assert list(after.ids[:start]) == before
    assert set(after.target[:start].tolist()) == {IGNORE}
    np.testing.assert_array_equal(after.target[start:], plain_row.target)
    assert [TOKENS["<voice_rms>"], TOKENS["<voice_sample>"]] == [plain_row.ids[1], after.ids[start + 1]]
    for shown, moved in ((plain_row.low, after.low), (plain_row.high, after.high)):
        np.testing.assert_array_equal(np.where(shown < 0, shown, shown + start), moved[start:])


def test_a_sample_is_what_serving_writes_before_the_text() -> None:
    layout, audio = speech_layout(("slt",)), interleave([np.arange(2 << level) for level in range(3)])
    ids = [TOKENS[character] for character in "go on"]
    turn = layout.prompt.build(ids, voice=None, reference=layout.reference(ids, audio)).reference
    assert list(turn) == sample("go on", audio.tolist())
