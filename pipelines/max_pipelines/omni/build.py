"""From YAML to a text pipeline whose texts can be spoken, or drawn."""

from __future__ import annotations

from dataclasses import replace

from max_interfaces import TextGenerationOutput, TextGenerationRequest

from ..config import Config, read_options
from ..engines import NoOptions, ServedGenerator, built, engine_limits, weight_options
from ..registry import ServedPipeline
from ..text.build import canary_of, serving
from .options import OmniOptions


def build(config: Config) -> ServedPipeline[TextGenerationRequest, TextGenerationOutput]:
    """Load everything. ConfigError for a model that neither speaks nor draws. The canary of one that speaks does so."""
    served = built(config, _engine)
    canary = canary_of(config.model)
    return serving(config, served, replace(canary, voice=served.voices[0]) if served.voices else canary)


def _engine(config: Config) -> ServedGenerator:
    from max_engines.drawing import draws

    if config.engine.kind != "torch":
        raise ValueError(f"engine.kind = {config.engine.kind!r}: pipeline.kind omni runs on torch alone; leave it out")
    draw = draws(config.model.location, config.model.revision)
    return _drawing(config) if draw else _speaking(config)


def _speaking(config: Config) -> ServedGenerator:
    from max_engines.omni import OmniEngine, load_omni
    from max_engines.omni.token2wav import SAMPLE_RATE

    options = read_options("pipeline.options", config.pipeline.options, OmniOptions)
    wanted = config.model
    model = load_omni(
        wanted.location,
        dtype=wanted.dtype,
        device=wanted.device,
        revision=wanted.revision,
        weights=weight_options(wanted),
    )
    engine = OmniEngine(model, engine_limits(config), options.settings)
    thinker, talker = engine.thinker, engine.talker
    return ServedGenerator(
        engine,
        model.thinker.vocab_size,
        engine.max_length,
        model.thinker.eos_token_ids,
        lambda: {
            "blocks": thinker.blocks,
            "free_blocks": thinker.free_blocks,
            "talker_blocks": talker.blocks,
            "free_talker_blocks": talker.free_blocks,
        },
        thinker.adapters,
        media=True,
        voices=tuple(model.speakers),
        sample_rate=SAMPLE_RATE,
        encoding=thinker.encoding,
        step_s=lambda: thinker.step_s() + talker.step_s(),
    )


def _drawing(config: Config) -> ServedGenerator:
    from max_engines.drawing import DrawingEngine, load_drawing

    read_options("pipeline.options", config.pipeline.options, NoOptions)
    limits, wanted = engine_limits(config), config.model
    model = load_drawing(
        wanted.location,
        dtype=wanted.dtype,
        device=wanted.device,
        revision=wanted.revision,
        weights=weight_options(wanted),
    )
    engine = DrawingEngine(model, limits)
    language = engine.language
    return ServedGenerator(
        engine,
        model.language.vocab_size,
        engine.max_length,
        model.language.eos_token_ids,
        lambda: {"blocks": language.blocks, "free_blocks": language.free_blocks},
        language.adapters,
        close=engine.close,
        media=True,
        draws=True,
        encoding=language.encoding,
        step_s=language.step_s,
    )
