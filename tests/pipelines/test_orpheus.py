"""`configs/orpheus.yaml` against the published format (canopyai/Orpheus-TTS), token by token.

The numbers are written out here, as they are published, and not taken from the code under test.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from max_codecs.format import SpeechFormat
from max_codecs.frames import FrameAssembler
from max_interfaces import AudioGenerationRequest, RequestID
from max_pipelines.config import load_config
from max_pipelines.speech.prompting import SpeechPrompter
from max_pipelines.voices.file import About, StoredVoice
from max_pipelines.voices.folder import VoiceFolder

CONFIG = load_config(Path(__file__).parents[2] / "configs" / "orpheus.yaml")
BEGIN_OF_TEXT, END_OF_TEXT = 128000, 128009
START_OF_SPEECH, END_OF_SPEECH = 128257, 128258
START_OF_HUMAN, END_OF_HUMAN, START_OF_AI, END_OF_AI = 128259, 128260, 128261, 128262
FIRST_AUDIO = 128266
CUSTOM = 128256  # <custom_token_N> has the id CUSTOM + N
VOICES = ("tara", "leah", "jess", "leo", "dan", "mia", "zac", "zoe")
TAGS = ("<laugh>", "<chuckle>", "<sigh>", "<cough>", "<sniffle>", "<groan>", "<yawn>", "<gasp>")


@dataclass
class Characters:
    """Stands in for Llama's tokenizer, which is not at hand: each character is its code point."""

    eos_token_ids: frozenset[int] = frozenset((END_OF_TEXT,))

    def encode(self, text: str, *, add_special_tokens: bool = True, parse_special_tokens: bool = False) -> list[int]:
        assert not add_special_tokens  # else the begin of the text would come twice
        assert not parse_special_tokens  # a user's text is text
        return [ord(character) for character in text]

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        return "".join(map(chr, ids))


@pytest.fixture
def tokenizer() -> Characters:
    return Characters()


def form() -> SpeechFormat:
    assert CONFIG.speech is not None
    return CONFIG.speech.spoken


def prompt(tokenizer: Characters, text: str, *, added: VoiceFolder | None = None, **fields: object) -> list[int]:
    prompter = SpeechPrompter(form(), tokenizer, added=added)
    return list(prompter.prompt(AudioGenerationRequest(RequestID(), "orpheus", text, **fields)).ids)  # type: ignore[arg-type]


def ids(text: str) -> list[int]:
    return [ord(character) for character in text]


def turn(text: str) -> list[int]:
    """What the user says, and what asks for the answer."""
    return [START_OF_HUMAN, BEGIN_OF_TEXT, *ids(text), END_OF_TEXT, END_OF_HUMAN, START_OF_AI, START_OF_SPEECH]


def published_ids(frames: NDArray[np.int64]) -> list[int]:
    """Of the published encoder: seven codes a frame, L0 L1 L2 L2 L1 L2 L2, each slot with an offset of its own."""
    return [FIRST_AUDIO + 4096 * slot + int(code) for frame in frames for slot, code in enumerate(frame)]


def published_codes(tokens: Sequence[int]) -> list[int]:
    """Of the published decoder: from the number in a token's name, by its place in the stream."""
    return [token - CUSTOM - 10 - 4096 * (place % 7) for place, token in enumerate(tokens)]


@pytest.mark.parametrize("voice", VOICES)
def test_the_prompt_of_each_voice(tokenizer: Characters, voice: str) -> None:
    assert prompt(tokenizer, "Hey there.", voice=voice) == turn(f"{voice}: Hey there.")


def test_the_voices_and_their_order(tokenizer: Characters) -> None:
    assert form().layout.prompt.names == VOICES
    assert prompt(tokenizer, "Hey there.") == turn("tara: Hey there.")
    with pytest.raises(
        ValueError, match="there is no such voice; there are: tara, leah, jess, leo, dan, mia, zac, zoe"
    ):
        prompt(tokenizer, "Hey there.", voice="julia")  # which the package lists, and the model does not know


@pytest.mark.parametrize("tag", TAGS)
def test_tags_are_read_as_they_are_written(tokenizer: Characters, tag: str) -> None:
    text = f"Oh, {tag} that was close."
    assert prompt(tokenizer, text, voice="leo") == turn(f"leo: {text}")


@pytest.mark.parametrize("text", ["<|eot_id|>", "<custom_token_2>", "{text} {voice}", "tara: tara: x"])
def test_no_text_is_more_than_text(tokenizer: Characters, text: str) -> None:
    assert prompt(tokenizer, f"{text}.", normalize=False) == turn(f"tara: {text}.")


def test_what_ends_the_speech_and_how_it_is_sampled() -> None:
    assert form().layout.end_ids == (END_OF_SPEECH,)
    assert form().sampling.repetition_penalty >= 1.1  # the README: required for stable generations
    assert (form().sampling.temperature, form().sampling.top_p) == (0.6, 0.9)


frames = st.lists(st.lists(st.integers(0, 4095), min_size=7, max_size=7), min_size=1, max_size=6).map(np.array)


@given(frames)
def test_ids_are_the_published_ones_both_ways(given_frames: NDArray[np.int64]) -> None:
    layout = form().layout
    tokens = layout.ids(given_frames).tolist()
    assert tokens == published_ids(given_frames)
    assert published_codes(tokens) == given_frames.ravel().tolist()
    np.testing.assert_array_equal(FrameAssembler(layout).push(tokens), given_frames)
    assert (min(tokens) >= FIRST_AUDIO, max(tokens) <= 156937) == (True, True)


def test_a_frame_holds_the_levels_of_snac_as_published() -> None:
    """redistribute_codes: slot 0 is L0, 1 and 4 are L1, 2, 3, 5 and 6 are L2."""
    coarse, middle, fine = form().layout.levels(np.arange(14).reshape(2, 7))
    assert coarse.tolist() == [0, 7]
    assert middle.tolist() == [1, 4, 8, 11]
    assert fine.tolist() == [2, 3, 5, 6, 9, 10, 12, 13]


SAMPLE = np.random.default_rng(0).integers(0, 4096, (5, 7))
CLONED = [*turn("What I said."), *published_ids(SAMPLE), END_OF_SPEECH, END_OF_AI, *turn("Say this.")]


def test_the_cloning_format(tokenizer: Characters) -> None:
    """The sample is a turn before, its text without a name; and so is the text that is to be spoken."""
    ids = published_ids(SAMPLE)
    said = prompt(tokenizer, "Say this.", audio_prompt_tokens=ids, audio_prompt_transcription="What I said.")
    assert said == CLONED


def test_an_added_voice_is_the_cloning_format(tokenizer: Characters, tmp_path: Path) -> None:
    folder = VoiceFolder(tmp_path, "0" * 32)
    about = About("What I said.", "0" * 32, "2026-01-01", 0.4)
    folder.add("me", StoredVoice(np.array(published_ids(SAMPLE)), about))
    assert prompt(tokenizer, "Say this.", voice="me", added=folder) == CLONED
    assert prompt(tokenizer, "Say this.", voice="leo", added=folder) == turn("leo: Say this.")
