"""From YAML to a text pipeline whose texts can be spoken."""

from __future__ import annotations

from dataclasses import replace

from max_interfaces import TextGenerationOutput, TextGenerationRequest

from ..config import Config, read_options
from ..engines import ServedGenerator, built, engine_limits, weight_options
from ..registry import ServedPipeline
from ..text.build import canary_of, serving
from .options import OmniOptions


def build(config: Config) -> ServedPipeline[TextGenerationRequest, TextGenerationOutput]:
    """Load everything. ConfigError for a model that does not speak. Its canary speaks."""
    served = built(config, _engine)
    return serving(config, served, replace(canary_of(config.model), voice=served.voices[0]))


def _engine(config: Config) -> ServedGenerator:
    from max_engines.omni import OmniEngine, load_omni
    from max_engines.omni.token2wav import SAMPLE_RATE

    if config.engine.kind != "torch":
        raise ValueError(f"engine.kind = {config.engine.kind!r}: pipeline.kind omni runs on torch alone; leave it out")
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
    )
