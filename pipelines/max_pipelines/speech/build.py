"""From YAML to a speech pipeline that is warm."""

from __future__ import annotations

from max_interfaces import (
    AudioGenerationOutput,
    AudioGenerationRequest,
    PipelineTask,
    RequestID,
    SamplingParams,
)

from ..codecs import build_codec, speech_of
from ..config import Config
from ..engines import build_generator, build_tokenizer
from ..registry import ServedPipeline
from ..voices.folder import folder_of
from .pipeline import SpeechPipeline
from .prompting import SpeechPrompter
from .word_times import clock_of

WARM_UP_TOKENS = 64  # enough for phones, a few frames and a chunk of sound


def build(config: Config) -> ServedPipeline[AudioGenerationRequest, AudioGenerationOutput]:
    """Load everything. Its canary speaks a little, so that the first caller does not wait for first-time costs."""
    speech = speech_of(config)
    form = speech.spoken
    served = build_generator(config)
    tokenizer = build_tokenizer(config.model)
    codec = build_codec(config)
    added = folder_of(config) if form.layout.supports_reference else None
    prompter = SpeechPrompter(form, tokenizer, served.adapters, added)
    clock = clock_of(form.layout, codec, prompter.read)
    pipeline = SpeechPipeline(form, speech, prompter, served.generator, codec, served.vocab_size, clock)
    return ServedPipeline(
        pipeline,
        AudioGenerationRequest,
        PipelineTask.AUDIO_GENERATION,
        config.engine.max_batch,
        codec.sample_rate,
        form.layout.prompt.names,
        form.max_words,
        close=served.close,
        canary=_canary(config.model.name),
        gauges=served.gauges,
        step_s=served.step_s,
        adapters=served.adapters,
        normalizes=form.normalizes,
        spells=form.spell,
        pause_s=speech.pause_s,
        added_voices=None if added is None else lambda: prompter.added_voices,
    )


def _canary(model: str) -> AudioGenerationRequest:
    params = SamplingParams(max_new_tokens=WARM_UP_TOKENS)
    return AudioGenerationRequest(RequestID(), model, "hello", sampling_params=params)
