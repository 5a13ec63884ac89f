"""Whatever is to be spoken: a clear refusal, or parts that the worker takes as the client has counted them."""

from __future__ import annotations

import threading
from unittest.mock import patch

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from max_codecs.format import SpeechFormat
from max_interfaces import AudioGenerationRequest, InvalidRequest, RequestID, RequestOptions, SamplingParams
from max_interfaces.messages import ModelInfo
from max_pipelines.client.speaking import Manner, parts_of, plan, reading, request_of, speakable
from max_pipelines.speech.prompting import SpeechPrompter
from max_pipelines.speech.splitting import split_text
from max_voices.text import ALPHABET
from tests.fakes import SMALL_LAYOUT, CharTokenizer

WORDS = 12
TAGS = ("<laugh>", "<sigh>")
FORMS = {
    "plain": SpeechFormat(SMALL_LAYOUT),
    "short": SpeechFormat(SMALL_LAYOUT, max_words=WORDS, full_stop=True),
    "normalized": SpeechFormat(SMALL_LAYOUT, normalize=True, max_words=WORDS, full_stop=True, tags=TAGS),
    "spelled": SpeechFormat(SMALL_LAYOUT, spell=True, max_words=WORDS, full_stop=True),
}
PIECES = ["Well", "1942", "$5.20,", "😀", "<laugh>", "!", "...", "\n\n", "9" * 30, "مرحبا", "\u202eabc", "a.b"]
written = st.one_of(st.text(max_size=200), st.lists(st.sampled_from(PIECES), max_size=30).map(" ".join))


def info_of(form: SpeechFormat) -> ModelInfo:
    return ModelInfo(
        "m",
        "audio_generation",
        16_000,
        max_words=form.max_words,
        normalizes=form.normalizes,
        spells=form.spell,
    )


@settings(deadline=None)
@given(written, st.sampled_from(sorted(FORMS)), st.booleans())
@example("9" * 5000, "spelled", True)
@example("9" * 5000, "plain", True)
@example("a" * 5000, "normalized", False)
@example("\x00\x1b[31m", "spelled", True)
def test_any_text_is_refused_or_spoken(text: str, name: str, normalize: bool) -> None:
    form = FORMS[name]
    try:
        parts = list(plan(info_of(form), text, normalize))
    except InvalidRequest:
        return
    prompter = SpeechPrompter(form, CharTokenizer())
    for part in parts:
        said = prompter.prompt(AudioGenerationRequest(RequestID(), "m", part.text, normalize=normalize)).text
        assert said
        assert not form.max_words or len(said.split()) <= form.max_words
        if form.spell:
            assert set(said) <= ALPHABET
        elif form.normalize and normalize:
            assert all(character.isprintable() or character == "\n" for character in said)


@pytest.mark.parametrize("text", ["?!", "😀 👍🏽", "\u200b\u202e", "***", "— … –"])
@pytest.mark.parametrize("name", ["normalized", "spelled"])
def test_a_text_of_marks_and_pictures_is_refused(text: str, name: str) -> None:
    with pytest.raises(InvalidRequest, match="nothing to say that this voice can read; give some words"):
        next(plan(info_of(FORMS[name]), text))


@settings(deadline=None)
@given(written, st.sampled_from(sorted(FORMS)))
def test_the_parts_are_those_of_the_text_as_a_whole(text: str, name: str) -> None:
    info = info_of(FORMS[name])
    read = reading(info)
    try:
        parts = list(plan(info, text))
    except InvalidRequest:
        return
    assert parts == speakable(info, split_text(text, info.max_words, lambda part: len(read(part).split())), read)


async def test_a_long_text_is_read_as_it_is_spoken_and_never_where_others_wait() -> None:
    """No more of it than the sentence that is asked for; but a word that is too long is known before the first."""
    asked: list[str] = []
    threads: set[int] = set()

    def read(text: str, **options: bool) -> str:
        asked.append(text)
        threads.add(threading.get_ident())
        return text

    info = info_of(FORMS["normalized"])
    with patch("max_voices.text.read", read):
        parts = parts_of(info, "So it is. " * 2 + "It is so. " * 10_000, normalize=True)
        assert [(await anext(parts)).text for _ in range(3)] == ["So it is.", "So it is.", "It is so."]
        assert asked == ["So it is.", "It is so."]
        assert threading.get_ident() not in threads
    with pytest.raises(InvalidRequest, match="12 at most"):
        await anext(parts_of(info, "So it is. " * 1000 + "9" * 30, normalize=True))


def test_letters_that_no_text_can_have_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="text"):
        next(plan(info_of(FORMS["plain"]), "half a \ud800 pair"))


def test_what_is_not_to_be_written_out_is_not() -> None:
    info = info_of(FORMS["spelled"])
    (part,) = plan(info, "Room 42", normalize=False)
    manner = Manner(None, SamplingParams(), RequestOptions(), normalize=False)
    assert SpeechPrompter(FORMS["spelled"], CharTokenizer()).prompt(request_of(info, part, manner)).text == "room."
    with pytest.raises(InvalidRequest, match="nothing to say"):
        next(plan(info, "42", normalize=False))
