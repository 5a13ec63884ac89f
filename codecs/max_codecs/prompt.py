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
    """A voice by name. `ids` stand for it before the text; none where the text template names it.

    `gain_db` makes its sound as loud as other voices: see `max_codecs.sound.loudness`.
    """

    name: Annotated[str, Meta(min_length=1, max_length=64)]
    ids: Ids = ()
    gain_db: Annotated[float, Meta(ge=-40, le=40)] = 0.0


@dataclass(frozen=True, slots=True)
class Reference:
    """A reference voice: the ids of what it says (`PromptFormat.render_reference`) and of its sound."""

    text_ids: tuple[int, ...]
    audio_ids: tuple[int, ...]


class ReferenceFormat(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A turn of speech before the one to speak, whose voice is taken on: ids around its words and its sound.

    `words` is a template with {text}, what the turn says, and perhaps {voice}, who says it.
    Where no voice is named beside it, `voice` ids stand in the place of a voice's own, and `text` in that of the
    prompt's template, so that nothing says who is to speak but the turn. Without `text` the template stays, with the
    default voice in it. The sound may have `max_frames`: what the model was trained to go on from; None if any.
    """

    before_text: Ids
    after_text: Ids
    before_audio: Ids
    after_audio: Ids
    voice: Ids = ()
    text: Template | None = None
    words: Template = "{text}"
    max_frames: Annotated[int, Meta(ge=1, le=2**16)] | None = None

    def __post_init__(self) -> None:
        if self.text is not None and (self.text.count("{text}") != 1 or "{voice}" in self.text):
            raise ValueError(f"reference.text={self.text!r}: must hold {{text}} once, and no {{voice}}")

    def turn(self, reference: Reference) -> tuple[int, ...]:
        """The ids of the turn."""
        words = (*self.before_text, *reference.text_ids, *self.after_text)
        return (*words, *self.before_audio, *reference.audio_ids, *self.after_audio)


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
        for text in (self.text, *([self.reference.words] if self.reference else ())):
            if text.count("{text}") != 1:
                raise ValueError(f"text={text!r}: must hold {{text}} once")
            if "{voice}" in text and not self.voices:
                raise ValueError(f"text={text!r}: names a voice, but voices is empty")
        if len(set(self.names)) != len(self.names):
            raise ValueError(f"voices: a name stands twice in {list(self.names)}")

    def voice(self, name: str | None) -> Voice | None:
        """The voice of that name, or the default for None. ValueError names those that there are."""
        if name is None:
            return self.voices[0] if self.voices else None
        for voice in self.voices:
            if voice.name == name:
                return voice
        raise unknown_voice(name, self.names)

    def gain_db(self, name: str | None) -> float:
        """Of the voice of that name; of one that was added the default's, by which its sample was made softer."""
        return next((voice.gain_db for voice in self.voices if voice.name == name), self.default_gain_db)

    @property
    def default_gain_db(self) -> float:
        """That of the default voice; 0 if there is none."""
        return self.voices[0].gain_db if self.voices else 0.0

    @property
    def names_either(self) -> bool:
        """Whether the prompt tells of a voice or of a reference: there is one place for the ids of both."""
        return self.reference is not None and bool(self.reference.voice)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the voices, the default first."""
        return tuple(voice.name for voice in self.voices)

    def render(self, text: str, voice: str | None = None, *, referenced: bool = False) -> str:
        """The string to tokenise for `text`, beside a reference if `referenced`; braces in it are plain characters."""
        template = self.text
        if referenced and voice is None and self.reference is not None and self.reference.text is not None:
            template = self.reference.text
        return self._rendered(template, text, voice)

    def render_reference(self, words: str, voice: str | None = None) -> str:
        """The same for the words of a reference voice."""
        return words if self.reference is None else self._rendered(self.reference.words, words, voice)

    def build(
        self, text_ids: Sequence[int], *, voice: str | None = None, reference: Reference | None = None
    ) -> SpeechPrompt:
        """The prompt for text ids made from `render`. ValueError for an unknown voice or a reference it cannot take."""
        chosen = self.voice(voice)
        voice_ids = chosen.ids if chosen is not None else ()
        turn: tuple[int, ...] = ()
        if reference is not None:
            form = self._reference_format()
            turn = form.turn(reference)
            voice_ids = form.voice if voice is None else voice_ids
        return SpeechPrompt(turn, (*self.before_text, *voice_ids, *text_ids, *self.after_text), self.speech)

    def _rendered(self, template: str, text: str, voice: str | None) -> str:
        chosen = self.voice(voice)
        before, after = template.split("{text}")
        name = chosen.name if chosen is not None else ""
        return before.replace("{voice}", name) + text + after.replace("{voice}", name)

    def _reference_format(self) -> ReferenceFormat:
        if self.reference is None:
            raise ValueError("audio_prompt_tokens: this model can take no reference voice")
        return self.reference


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


def unknown_voice(name: str, known: Sequence[str]) -> ValueError:
    """What to raise for a voice that there is not."""
    there_are = ", ".join(known) or "none, the model has but one"
    return ValueError(f"voice={name[:256]!r}: there is no such voice; there are: {there_are}")
