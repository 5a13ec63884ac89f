"""The text that the voice reads."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from max_voices.text import ALPHABET, spell


@given(st.text())
def test_only_letters_that_the_voice_knows(text: str) -> None:
    assert set(spell(text)) <= ALPHABET


@given(st.text(alphabet="0123456789.,:$€£%-/ apmst'", max_size=60))
def test_any_number_can_be_spelled(text: str) -> None:
    assert set(spell(text)) <= ALPHABET


@given(st.text())
def test_spelling_twice_changes_nothing(text: str) -> None:
    assert spell(spell(text)) == spell(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Hello, World!", "hello, world!"),
        ("It costs $3.50 & 20% off.", "it costs three dollars and fifty cents and twenty percent off."),
        ("May 3rd, 1942, 10:05 a.m.", "may third, nineteen forty two, ten oh five a m."),
        ("1,234 people in 2020", "one thousand two hundred and thirty four people in twenty twenty"),
        ("the 1990s", "the nineteen nineties"),
        ("3.14 and -5", "three point one four and minus five"),
        ("007", "zero zero seven"),
        ("$3.5 million", "three point five million dollars"),
        ("£1 and £2.02", "one pound and two pounds and two pence"),
        ("Dr. Smith's café", "doctor smith's cafe"),
        ("'quoted' don't", "quoted don't"),
        ("12:00 and 5pm", "twelve o'clock and five p m"),
        ("what?! really...", "what? really."),
        ("line\nline", "line. line"),
        ("你好 …", ""),
        ("", ""),
    ],
)
def test_spelled_out(text: str, words: str) -> None:
    assert spell(text) == words
