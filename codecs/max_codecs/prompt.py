"""How a speech model wants its prompt: which ids stand around the text, the voice and a reference voice.

Text is tokenised elsewhere: `render` gives the string to tokenise, without special tokens, and `build` puts the ids
together. The parts stay apart, so that one can be replaced.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import msgspec
from msgspec import Meta

TokenId = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Ids = Annotated[tuple[TokenId, ...], Meta(max_length=256)]
Template = Annotated[str, Meta(max_length=1024)]


class Voice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A voice by name. `ids` stand for it before the text; none where the text template names it."""

    name: Annotated[str, Meta(min_length=1, max_length=64)]
    ids: Ids = ()


class ReferenceFormat(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A turn of speech before the one to speak, whose voice is taken on: ids around its words and its sound.

    `voice` stands before the text to speak, in place of a voice's own ids, where no voice is named.
    """

    before_text: Ids
    after_text: Ids
    before_audio: Ids
    after_audio: Ids
    voice: Ids = ()


class PromptFormat(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """before_text, the voice's ids, the tokenised `text`, after_text; then `speech`, the start of the answer.

    `text` is a template with {text} and perhaps {voice}. The first of `voices` is the default. `reference` is None
    for a model that can take no reference voice.
    """

    before_text: Ids
    after_text: Ids
    speech: Ids
    text: Template = "{text}"
    voices: Annotated[tuple[Voice, ...], Meta(max_length=1024)] = ()
    reference: ReferenceFormat | None = None

    def __post_init__(self) -> None:
        if self.text.count("{text}") != 1:
            raise ValueError(f"text={self.text!r}: must hold {{text}} once")
        if "{voice}" in self.text and not self.voices:
            raise ValueError(f"text={self.text!r}: names a voice, but voices is empty")
        names = [voice.name for voice in self.voices]
        if len(set(names)) != len(names):
            raise ValueError(f"voices: a name stands twice in {names}")

    def voice(self, name: str | None) -> Voice | None:
        """The voice of that name, or the default for None. ValueError names those that there are."""
        if name is None:
            return self.voices[0] if self.voices else None
        for voice in self.voices:
            if voice.name == name:
                return voice
        known = ", ".join(voice.name for voice in self.voices) or "none, the model has but one"
        raise ValueError(f"voice={name!r}: there is no such voice; there are: {known}")

    def render(self, text: str, voice: str | None = None) -> str:
        """The string to tokenise for `text`; braces in it are plain characters."""
        chosen = self.voice(voice)
        before, after = self.text.split("{text}")
        name = chosen.name if chosen is not None else ""
        return before.replace("{voice}", name) + text + after.replace("{voice}", name)

    def build(
        self, text_ids: Sequence[int], *, voice: str | None = None, reference: Reference | None = None
    ) -> SpeechPrompt:
        """The prompt for text ids made from `render`. ValueError for an unknown voice or a reference it cannot take."""
        chosen = self.voice(voice)
        voice_ids = chosen.ids if chosen is not None else ()
        return SpeechPrompt(
            reference=self._reference_turn(reference) if reference is not None else (),
            text=(*self.before_text, *voice_ids, *text_ids, *self.after_text),
            speech=self.speech,
        )

    def _reference_turn(self, reference: Reference) -> tuple[int, ...]:
        form = self.reference
        if form is None:
            raise ValueError("audio_prompt_tokens: this model can take no reference voice")
        words = (*form.before_text, *reference.text_ids, *form.after_text)
        return (*words, *form.before_audio, *reference.audio_ids, *form.after_audio)


@dataclass(frozen=True, slots=True)
class Reference:
    """A reference voice: the ids of what it says (the words alone, not rendered) and of its sound."""

    text_ids: tuple[int, ...]
    audio_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SpeechPrompt:
    """The ids of a prompt, in three parts: the reference's turn, the text's, and the start of the speech."""

    reference: tuple[int, ...]
    text: tuple[int, ...]
    speech: tuple[int, ...]

    @property
    def ids(self) -> tuple[int, ...]:
        return self.reference + self.text + self.speech

    def with_speech(self, ids: Sequence[int]) -> SpeechPrompt:
        """This prompt with another speech part, as `_assistant_message_override` asks."""
        return replace(self, speech=tuple(ids))
