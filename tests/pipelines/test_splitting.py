"""Cutting texts into parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from max_pipelines.speech import splitting
from max_pipelines.speech.splitting import split_text
from max_voices.text import spell

words = st.lists(st.text("abcdefg", min_size=1, max_size=5), min_size=1, max_size=60)
ends = st.sampled_from(["", ",", ".", ";", "?", "!", "..."])


@given(words, st.lists(ends, min_size=60, max_size=60), st.integers(0, 12))
def test_nothing_is_lost_and_every_part_fits(parts: list[str], marks: list[str], max_words: int) -> None:
    text = " ".join(word + mark for word, mark in zip(parts, marks, strict=False))
    cut = split_text(text, max_words)
    assert " ".join(part.text for part in cut).split() == text.split()
    if max_words:
        assert all(len(part.text.split()) <= max_words for part in cut)


def test_sentences_are_parts() -> None:
    cut = split_text("It rains. Does it? Yes!", 10)
    assert [part.text for part in cut] == ["It rains.", "Does it?", "Yes!"]
    assert not any(part.joined for part in cut)


def test_abbreviations_and_initials_end_no_sentence() -> None:
    text = "Dr. Smith met J. Brown, e.g. at noon."
    assert [part.text for part in split_text(text, 0)] == [text]


@pytest.mark.parametrize(
    "text",
    [
        "The No. 1 song",
        "on Nov. 30, 2026 please",
        "9 a.m. on",
        "Mt. Everest",
        "U.S. troops met Gen. Lee",
        "pp. 3",
        "Acme Inc. reported",
        "Dr. Smith of 5 Elm St. near Fig. 3, vol. 2",
    ],
)
def test_what_the_words_are_read_with_is_not_cut_from_them(text: str) -> None:
    assert [part.text for part in split_text(text, 0)] == [text]


@pytest.mark.parametrize(
    "text",
    [
        "No. I can't.",
        "no. it is late.",
        "Come at 9 a.m. It is late.",
        "He works at Acme Inc. They know.",
        "See the U.S.\n\n5 things",
        "A fig. Then a nut.",
    ],
)
def test_an_abbreviation_may_end_a_sentence(text: str) -> None:
    assert len(split_text(text, 0)) == 2


def test_i_ends_a_sentence() -> None:
    assert len(split_text("So do I. Then we went.", 0)) == 2


def test_a_long_sentence_is_cut_at_clauses_first() -> None:
    cut = split_text("one two three, four five six, seven eight nine.", 6)
    assert [part.text for part in cut] == ["one two three, four five six,", "seven eight nine."]
    assert [(part.joined, part.followed) for part in cut] == [(True, True), (False, False)]


def test_words_may_be_counted_as_they_are_spoken() -> None:
    cut = split_text(
        "1942 was cold, very cold.", 4, lambda part: len(part.replace("1942", "nineteen forty two").split())
    )
    assert [part.text for part in cut] == ["1942 was", "cold,", "very cold."]


def test_a_single_word_above_the_limit_stays_whole() -> None:
    assert [part.text for part in split_text("incomprehensibilities", 1, lambda part: 5)] == ["incomprehensibilities"]


def test_nothing_gives_no_parts() -> None:
    assert split_text(" \n ", 5) == []


@pytest.mark.parametrize("run", [".", ",", "?!", ".'", "\n ", "…—"])
def test_a_long_run_of_marks_takes_no_longer_than_other_texts(run: str) -> None:
    """Were each mark of it a beginning, this would take hours."""
    assert len(split_text(run * 2**20 + "end", 0)) == 1


def spelled(text: str) -> int:
    return len(spell(text).split())


def gathered(pieces: Iterator[str], max_words: int, count: Callable[[str], int]) -> Iterator[str]:
    """The obvious way: all that is held is counted with each piece."""
    held = ""
    for piece in pieces:
        joined = f"{held} {piece}" if held else piece
        if held and count(joined) > max_words:
            yield held
            joined = piece
        held = joined
    if held:
        yield held


odd = st.sampled_from(
    [
        "one",
        "$5",
        "$5.00",
        "million",
        "12:00",
        "p.",
        "m",
        "%",
        "1942",
        "Mr.",
        "-",
        "'",
        "(",
        "…",
        ",",
        "two,",
        "six;",
        ".",
    ]
)
spaces = st.sampled_from([" ", "  ", "\n", "\t", ""])


@given(st.lists(st.tuples(odd, spaces).map("".join), max_size=60).map("".join), st.integers(1, 40))
def test_what_needs_no_counting_changes_no_border(text: str, max_words: int) -> None:
    cut = split_text(text, max_words, spelled)
    with patch.object(splitting, "_gather", gathered):
        assert cut == split_text(text, max_words, spelled)


@pytest.mark.parametrize("run", ["- ", "-, ", "—\n", "… ", "- " * 20 + "one "])
def test_counting_takes_as_long_as_the_text_is(run: str) -> None:
    """Twice the text is twice the characters counted, and not four times as many."""

    def counted(repeats: int) -> int:
        characters = 0

        def count(part: str) -> int:
            nonlocal characters
            characters += len(part)
            return sum(map(str.isalpha, part)) // 3

        split_text(run * repeats + "one " * 31, 30, count)
        return characters

    assert counted(2000) < 2.5 * counted(1000)


def test_words_are_counted_together_only_near_the_limit() -> None:
    """A text without a mark would else be counted some thirty times over, and each count writes its numbers out."""
    characters = 0

    def count(part: str) -> int:
        nonlocal characters
        characters += len(part)
        return len(part.split())

    text = "word " * 6000
    assert {len(part.text.split()) for part in split_text(text, 60, count)} == {60}
    assert characters < 20 * len(text)


def test_many_abbreviations_take_as_long_as_other_texts() -> None:
    """Were all of the sentence read at each of them, this would take minutes."""
    assert len(split_text("Mr. " * 2**18, 0)) == 1
