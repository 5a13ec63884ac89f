"""From a request for speech to the token ids that the model reads, and how they are to be sampled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from max_codecs.format import SamplingDefaults, SpeechFormat
from max_codecs.prompt import Reference, unknown_voice
from max_interfaces import Adapters, AudioGenerationRequest, SamplingParams, Tokenizer
from max_interfaces.problems import shown
from max_voices.text import read

from ..adapters import check_adapter
from ..voices.folder import VoiceFolder

UNTOUCHED = SamplingParams()


class WholePrompt(NamedTuple):
    """What the model reads, and what the request says as it is given to the model: None where its prompt is given.

    The first `shared` ids are a sample's, by which others begin, too; None where nobody knows.
    """

    ids: tuple[int, ...]
    text: str | None
    shared: int | None


class SpeechPrompter:
    """Builds prompts for one model."""

    def __init__(
        self,
        form: SpeechFormat,
        tokenizer: Tokenizer,
        adapters: Adapters | None = None,
        added: VoiceFolder | None = None,
    ) -> None:
        self._form = form
        self._layout = form.layout
        self._tokenizer = tokenizer
        self._adapters = adapters
        self._added = added

    @property
    def added_voices(self) -> tuple[str, ...]:
        """The names of the voices that were added to the model's own, as of now."""
        return () if self._added is None else tuple(set(self._added.names) - set(self._layout.prompt.names))

    def read(self, text: str, normalize: bool) -> str:
        """A text as the model reads it."""
        form = self._form
        return read(text, normalized=form.normalizes and normalize, spelled=form.spell, tags=form.tags)

    def prompt(self, request: AudioGenerationRequest) -> WholePrompt:
        """The prompt of a request. ValueError for what this model cannot do: nothing is silently ignored."""
        self._refuse_unsupported(request)
        form = self._layout.prompt
        voice, reference = self._voice(request)  # an unknown name is refused also beside a ready-made prompt
        if request.prompt is not None:
            return WholePrompt(self._raw(request.prompt), None, None)
        text = self._text(request)
        rendered = form.render(text, voice, referenced=reference is not None)
        ids = self._tokenizer.encode(rendered, add_special_tokens=False)
        prompt = form.build(ids, voice=voice, reference=reference)
        if request._assistant_message_override is not None:
            begun = prompt.with_speech(self._raw(request._assistant_message_override))
            return WholePrompt(begun.ids, None, len(begun.reference))
        return WholePrompt(prompt.ids, text, len(prompt.reference))

    def _refuse_unsupported(self, request: AudioGenerationRequest) -> None:
        if request.speed != 1.0:
            raise ValueError(f"speed = {request.speed}: this model speaks at one speed, 1.0")
        check_adapter("adapter_id", request.adapter_id, self._adapters)

    def _text(self, request: AudioGenerationRequest) -> str:
        form = self._form
        spoken = self.read(request.input or "", request.normalize)
        if not any(map(str.isalnum, spoken)):
            raise ValueError(f"input = {shown(request.input)}: has nothing that can be spoken; give some words")
        words = len(spoken.split())
        if form.max_words and words > form.max_words:
            raise ValueError(f"input: has {words} words when written out, this voice takes {form.max_words} at most")
        ends = form.full_stop and not request.to_be_continued and spoken[-1].isalnum()
        return f"{spoken}." if ends else spoken

    def _voice(self, request: AudioGenerationRequest) -> tuple[str | None, Reference | None]:
        """Which of the model's own voices is named, and the reference: the request's, or that of a voice added."""
        name, own = request.voice, self._layout.prompt.names
        if name is None or name in own:
            return name, self._given_reference(request)
        added = self._added.find(name) if self._added is not None else None
        if added is None:
            raise unknown_voice(name, (*own, *self.added_voices))
        if request.audio_prompt_tokens or request.audio_prompt_transcription:
            raise ValueError(f"audio_prompt_tokens: voice = {name!r} has a sample of its own; leave one of them out")
        return None, self._reference(added.about.transcript, added.tokens, None, request.normalize)

    def _given_reference(self, request: AudioGenerationRequest) -> Reference | None:
        tokens, words = request.audio_prompt_tokens, request.audio_prompt_transcription
        if not tokens and not words:
            return None
        if not self._layout.supports_reference:
            raise ValueError("audio_prompt_tokens, audio_prompt_transcription: this model can take no reference voice")
        if not (tokens and words):
            missing = "audio_prompt_transcription" if tokens else "audio_prompt_tokens"
            raise ValueError(f"{missing}: a reference voice needs both its speech tokens and its words")
        if request.voice is not None and self._layout.prompt.names_either:
            raise ValueError(f"audio_prompt_tokens: voice = {request.voice!r} is another; leave one of them out")
        return self._reference(words, np.array(tokens, np.int64), request.voice, request.normalize)

    def _reference(self, words: str, tokens: NDArray[np.int64], voice: str | None, normalize: bool) -> Reference:
        """Words that are written out as a text is, said by a `voice` where the format tells who, and their sound."""
        spoken = self.read(words, normalize)
        if not any(map(str.isalnum, spoken)):
            raise ValueError(f"audio_prompt_transcription = {shown(words)}: has nothing that can be spoken")
        said = self._layout.prompt.render_reference(spoken, voice)
        return self._layout.reference(self._tokenizer.encode(said, add_special_tokens=False), tokens)

    def _raw(self, prompt: Sequence[int] | str) -> tuple[int, ...]:
        """Ids as they are, or a string in which special tokens written out are themselves."""
        if isinstance(prompt, str):
            return tuple(self._tokenizer.encode(prompt, add_special_tokens=False, parse_special_tokens=True))
        return tuple(prompt)


def tuned(params: SamplingParams, defaults: SamplingDefaults, text: str | None = None) -> SamplingParams:
    """The request's sampling; where it leaves the choice of tokens as it is, what the voice was tuned for.

    How many there may be is the request's to say, or else depends on the text that is spoken.

    A request that sets any of temperature, top_k, top_p, min_p, typical_p or the repetition penalty is taken at its
    word in all of them. ValueError for a beam search, whose sound could not begin before its end.
    """
    if params.beam_width is not None:
        raise ValueError(f"SamplingParams.beam_width = {params.beam_width}: speech is not searched for; leave it None")
    chosen = ("temperature", "top_k", "top_p", "min_p", "typical_p", "repetition_penalty")
    limit = defaults.tokens_for(text) if params.max_new_tokens is None else params.max_new_tokens
    if any(getattr(params, name) != getattr(UNTOUCHED, name) for name in chosen):
        return replace(params, max_new_tokens=limit)
    return replace(
        params,
        temperature=defaults.temperature,
        top_k=defaults.top_k,
        top_p=defaults.top_p,
        repetition_penalty=defaults.repetition_penalty,
        max_new_tokens=limit,
    )
