"""Prompts, id by id."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from max_codecs.layout import SpeechLayout
from max_codecs.orpheus import ORPHEUS
from max_codecs.prompt import PromptFormat, Reference, ReferenceFormat, Voice

EMBEDDED = PromptFormat(before_text=(1,), after_text=(2,), speech=(3,), voices=(Voice("slt", (6,)), Voice("rms", (7,))))


def test_orpheus_prompt() -> None:
    assert ORPHEUS.prompt.render("Hello {text} there", "leo") == "leo: Hello {text} there"
    assert ORPHEUS.prompt.render("Hello") == "tara: Hello"
    prompt = ORPHEUS.prompt.build([11, 12])
    assert prompt.ids == (128259, 128000, 11, 12, 128009, 128260, 128261, 128257)


def test_orpheus_prompt_with_a_reference_voice() -> None:
    sound = ORPHEUS.ids(np.arange(14).reshape(2, 7))
    reference = ORPHEUS.reference([21, 22], sound)
    prompt = ORPHEUS.prompt.build([11], reference=reference)
    first = (128259, 128000, 21, 22, 128009, 128260, 128261, 128257, *sound.tolist(), 128258, 128262)
    assert prompt.ids == (*first, 128259, 128000, 11, 128009, 128260, 128261, 128257)
    assert ORPHEUS.prompt.render("Hello", referenced=True) == "Hello"
    assert ORPHEUS.prompt.render("Hello", "leo", referenced=True) == "leo: Hello"


def test_a_reference_may_be_bounded() -> None:
    bounded = ReferenceFormat((8,), (), (), (9,), max_frames=2)
    layout = msgspec.structs.replace(ORPHEUS, prompt=msgspec.structs.replace(ORPHEUS.prompt, reference=bounded))
    frames = np.zeros((3, 7), np.int64)
    layout.reference([21], layout.ids(frames[:2]))
    with pytest.raises(ValueError, match="holds 3 frames of sound; this model goes on from 2 at most"):
        layout.reference([21], layout.ids(frames))


def test_a_reference_stands_in_the_place_of_a_voice() -> None:
    form = msgspec.structs.replace(EMBEDDED, reference=ReferenceFormat((8,), (), (), (9,), voice=(5, 5)))
    reference = Reference((1,), (2,))
    assert form.build([40], reference=reference).ids == (8, 1, 2, 9, 1, 5, 5, 40, 2, 3)
    assert form.build([40], voice="rms", reference=reference).ids == (8, 1, 2, 9, 1, 7, 40, 2, 3)
    assert form.build([40]).ids == (1, 6, 40, 2, 3)
    assert form.render("x", referenced=True) == "x"


@pytest.mark.parametrize("text", ["", "{voice}: {text}", "{text}{text}"])
def test_a_bad_reference_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"reference\.text="):
        ReferenceFormat((), (), (), (), text=text)


def test_the_words_of_a_reference_voice_may_name_who_says_them() -> None:
    turn = ReferenceFormat((1,), (2,), (), (3,), words="[{voice}]{text}")
    form = PromptFormat((1,), (2,), (), "[{voice}]{text}", (Voice("0"), Voice("1")), turn)
    assert form.render_reference("so {text}", "1") == "[1]so {text}"
    assert form.render_reference("so") == "[0]so"
    assert ORPHEUS.prompt.render_reference("so") == "so"
    assert EMBEDDED.render_reference("so") == "so"
    with pytest.raises(ValueError, match=r"text='\[0\]': must hold \{text\} once"):
        PromptFormat((), (), (), reference=ReferenceFormat((), (), (), (), words="[0]"))
    with pytest.raises(ValueError, match="voices is empty"):
        PromptFormat((), (), (), reference=turn)


def test_reference_tokens_must_be_whole_frames() -> None:
    with pytest.raises(ValueError, match="whole frames"):
        ORPHEUS.reference([1], np.array([128266]))


def test_embedded_prompt_names_the_voice_by_id() -> None:
    assert EMBEDDED.render("hello", "rms") == "hello"
    assert EMBEDDED.build([40, 41]).ids == (1, 6, 40, 41, 2, 3)
    assert EMBEDDED.build([40], voice="rms").ids == (1, 7, 40, 2, 3)


def test_override_replaces_the_speech_part_alone() -> None:
    prompt = ORPHEUS.prompt.build([11])
    changed = prompt.with_speech([5, 6])
    assert (changed.reference, changed.text, changed.speech) == (prompt.reference, prompt.text, (5, 6))
    assert changed.ids == (128259, 128000, 11, 128009, 128260, 5, 6)


def test_unknown_voice_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="voice='tom': there is no such voice; there are: slt, rms"):
        EMBEDDED.build([1], voice="tom")
    with pytest.raises(ValueError, match="there are: none"):
        PromptFormat(before_text=(), after_text=(), speech=()).render("x", "tom")


def test_a_model_without_voices_has_one_prompt() -> None:
    plain = PromptFormat(before_text=(1,), after_text=(), speech=())
    assert plain.render("x") == "x"
    assert plain.build([9]).ids == (1, 9)


def test_reference_is_refused_where_there_is_no_format() -> None:
    layout = SpeechLayout(audio_base=20, codebook_size=5, end_ids=(4,), prompt=EMBEDDED)
    assert not layout.supports_reference
    assert ORPHEUS.supports_reference
    with pytest.raises(ValueError, match="no reference voice"):
        layout.reference([1], np.zeros(0, np.int64))
    with pytest.raises(ValueError, match="no reference voice"):
        EMBEDDED.build([1], reference=Reference((1,), (2,)))


@pytest.mark.parametrize(
    ("text", "voices", "message"),
    [
        ("{voice}", (Voice("a"),), "must hold {text} once"),
        ("{text}{text}", (), "must hold {text} once"),
        ("{voice}: {text}", (), "voices is empty"),
        ("{text}", (Voice("a"), Voice("a")), "stands twice"),
    ],
)
def test_a_bad_format_is_refused(text: str, voices: tuple[Voice, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PromptFormat(before_text=(), after_text=(), speech=(), text=text, voices=voices)
