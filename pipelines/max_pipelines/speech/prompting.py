"""From a request for speech to the token ids that the model reads, and how they are to be sampled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from max_codecs.format import SamplingDefaults, SpeechFormat
from max_codecs.prompt import Reference
from max_interfaces import Adapters, AudioGenerationRequest, SamplingParams, Tokenizer

from ..adapters import check_adapter

UNTOUCHED = SamplingParams()


class SpeechPrompter:
    """Builds prompts for one model. `spell` writes a text out in the characters that the model knows."""

    def __init__(
        self,
        form: SpeechFormat,
        tokenizer: Tokenizer,
        spell: Callable[[str], str],
        adapters: Adapters | None = None,
    ) -> None:
        self._layout = form.layout
        self._max_words = form.max_words
        self._tokenizer = tokenizer
        self._spell = spell
        self._adapters = adapters

    def prompt(self, request: AudioGenerationRequest) -> tuple[int, ...]:
        """The ids for a request. ValueError for what this model cannot do: nothing is silently ignored."""
        self._refuse_unsupported(request)
        form = self._layout.prompt
        form.voice(request.voice)  # an unknown name is refused also beside a ready-made prompt
        if request.prompt is not None:
            return self._raw(request.prompt)
        text = self._text(request.input or "", request.normalize)
        ids = self._tokenizer.encode(form.render(text, request.voice), add_special_tokens=False)
        prompt = form.build(ids, voice=request.voice, reference=self._reference(request))
        if request._assistant_message_override is not None:
            prompt = prompt.with_speech(self._raw(request._assistant_message_override))
        return prompt.ids

    def _refuse_unsupported(self, request: AudioGenerationRequest) -> None:
        if request.speed != 1.0:
            raise ValueError(f"speed = {request.speed}: this model speaks at one speed, 1.0")
        check_adapter("adapter_id", request.adapter_id, self._adapters)

    def _text(self, text: str, normalize: bool) -> str:
        spoken = self._spell(text) if normalize else text
        words = len(spoken.split())
        if not words:
            raise ValueError(f"input = {text!r}: has nothing that can be spoken")
        if self._max_words and words > self._max_words:
            raise ValueError(f"input: has {words} words when written out, this voice takes {self._max_words} at most")
        return spoken

    def _reference(self, request: AudioGenerationRequest) -> Reference | None:
        tokens, words = request.audio_prompt_tokens, request.audio_prompt_transcription
        if not tokens and not words:
            return None
        if not self._layout.supports_reference:
            raise ValueError("audio_prompt_tokens, audio_prompt_transcription: this model can take no reference voice")
        if not (tokens and words):
            missing = "audio_prompt_transcription" if tokens else "audio_prompt_tokens"
            raise ValueError(f"{missing}: a reference voice needs both its speech tokens and its words")
        said = self._layout.prompt.render_reference(words, request.voice)
        ids = self._tokenizer.encode(said, add_special_tokens=False)
        return self._layout.reference(ids, np.array(tokens, np.int64))

    def _raw(self, prompt: Sequence[int] | str) -> tuple[int, ...]:
        """Ids as they are, or a string in which special tokens written out are themselves."""
        if isinstance(prompt, str):
            return tuple(self._tokenizer.encode(prompt, add_special_tokens=False, parse_special_tokens=True))
        return tuple(prompt)


def tuned(params: SamplingParams, defaults: SamplingDefaults) -> SamplingParams:
    """The request's sampling; where it leaves the choice of tokens as it is, what the voice was tuned for.

    A request that sets any of temperature, top_k, top_p, min_p, typical_p or the repetition penalty is taken at its
    word in all of them. ValueError for a beam search, whose sound could not begin before its end.
    """
    if params.beam_width is not None:
        raise ValueError(f"SamplingParams.beam_width = {params.beam_width}: speech is not searched for; leave it None")
    chosen = ("temperature", "top_k", "top_p", "min_p", "typical_p", "repetition_penalty")
    limit = defaults.max_new_tokens if params.max_new_tokens is None else params.max_new_tokens
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
