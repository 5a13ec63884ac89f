"""What is served: the model, its pipeline, its codec, its engine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from max_codecs.format import SpeechFormat
from max_interfaces.bounds import Name
from max_voices import FOLDER, load_voice

from .section import FrameCount, OptionValue, Path_, Section

Revision = Annotated[str, Meta(min_length=1, max_length=256)]


class ModelConfig(Section, frozen=True):
    """The token model: `name` is what requests call it, `path` a folder, a hub id, or `embedded`.

    `tokenizer` is another folder or hub id, or `none`: prompts are ids then, and so are answers. `slow` takes the one
    in Python where there are two. A `revision` is a branch, a tag or a commit on the hub.

    `quantization` makes the weights of linear layers integers when they are loaded: `int8`, or `int4` with a scale for
    each `quantization_group_size` of them. `cpu_offload_gb` GiB of layers stay in main memory and are streamed to a
    CUDA device. See docs/weights.md.
    """

    name: Name
    path: Path_ = "embedded"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: Annotated[str, Meta(pattern=r"^(cpu|cuda(:\d+)?)$", max_length=16)] = "cpu"
    revision: Revision | None = None
    tokenizer: Path_ | None = None
    tokenizer_revision: Revision | None = None
    tokenizer_mode: Literal["auto", "slow"] = "auto"
    quantization: Literal["none", "int8", "int4"] = "none"
    quantization_group_size: Literal[32, 64, 128, 256] = 64
    cpu_offload_gb: Annotated[float, Meta(ge=0, le=4096)] = 0.0

    @property
    def location(self) -> str | Path:
        """Where its files are: a folder or a hub id."""
        return FOLDER / "lm" if self.path == "embedded" else self.path


class PipelineConfig(Section, frozen=True):
    """`kind` is `speech`, `text`, `omni`, `embeddings`, or a name that a package registers under `maxpipe.pipelines`.

    `options` are that kind's own: `embeddings` has `pooling` (mean, last, cls) and `normalize`, `omni` those of
    `max_pipelines.omni.options.OmniOptions`.
    """

    kind: Name
    options: Annotated[Mapping[Name, OptionValue], Meta(max_length=256)] = {}


class MediaConfig(Section, frozen=True):
    """How large images and sounds of requests may be, before they are decoded: pixels of an image, seconds of a sound.

    With `processor_options` requests may say how the model's processor works: whoever may, can make it take any memory.
    How much of a film is seen, which has its limits, they may say in any case.
    """

    max_pixels: Annotated[int, Meta(ge=1, le=89_478_485)] = 50_000_000
    max_seconds: Annotated[float, Meta(gt=0, le=86_400)] = 1800.0
    processor_options: bool = False


class CodecConfig(Section, frozen=True):
    """The audio decoder: a folder, a hub id, or `embedded`. It may sit on another device than the model.

    `kind` is `snac`, `mimi`, `dac`, `encodec`, or a name that a package registers under `maxpipe.codecs`, with the
    `options` that it has. See docs/codecs.md.
    """

    kind: Name = "snac"
    path: Path_ = "embedded"
    device: Annotated[str, Meta(pattern=r"^(cpu|cuda(:\d+)?)$", max_length=16)] = "cpu"
    options: Annotated[Mapping[Name, OptionValue], Meta(max_length=256)] = {}

    @property
    def location(self) -> str | Path:
        """Where its files are: a folder or a hub id."""
        return FOLDER / "codec" if self.path == "embedded" else self.path


PauseSeconds = Annotated[float, Meta(ge=0, le=10)]


class VoicesConfig(Section, frozen=True):
    """The voices that are added as samples: in which `folder` (without one: the user's own), and how long a sample may
    be, in seconds, without the silence around it. See docs/voices.md.
    """

    folder: Path_ | None = None
    min_sample_s: Annotated[float, Meta(gt=0, le=3600)] = 1.0
    max_sample_s: Annotated[float, Meta(gt=0, le=3600)] = 30.0

    def __post_init__(self) -> None:
        if self.min_sample_s > self.max_sample_s:
            raise ValueError(f"min_sample_s = {self.min_sample_s}: must be at most max_sample_s, {self.max_sample_s}")


class SpeechConfig(Section, frozen=True):
    """How text becomes sound. `format` says which ids mean what, `embedded` for the embedded voice's own.

    A chunk is sent as soon as it holds the next number of `chunk_frames`, whose last entry repeats. Of the silence
    that a sound begins with, up to `trim_silence_s` is left out; 0 leaves it in. Between two sentences of a text it is
    silent for `pause_s`, at least and at most. `voices` says where those lie that are added to the format's.
    """

    format: SpeechFormat | Literal["embedded"] = "embedded"
    chunk_frames: Annotated[tuple[FrameCount, ...], Meta(min_length=1, max_length=64)] = (1, 2, 4, 8)
    trim_silence_s: Annotated[float, Meta(ge=0, le=10)] = 0.5
    pause_s: tuple[PauseSeconds, PauseSeconds] = (0.4, 0.6)
    voices: VoicesConfig = VoicesConfig()

    def __post_init__(self) -> None:
        least, most = self.pause_s
        if most < least:
            raise ValueError(f"pause_s: [{least}, {most}]: the shortest pause comes first")

    @property
    def spoken(self) -> SpeechFormat:
        """The format itself."""
        return load_voice() if isinstance(self.format, str) else self.format


class WatermarkConfig(Section, frozen=True):
    """What `watermark: true` in a request means on this server: Kirchenbauer et al.'s green list.

    `gamma` is the share of the vocabulary that is favoured at each position, `delta` what its scores are raised by;
    who knows `key` can tell a marked text. Defaults are TGI's. Source: https://arxiv.org/abs/2301.10226.
    """

    gamma: Annotated[float, Meta(gt=0, lt=1)] = 0.5
    delta: Annotated[float, Meta(gt=0, le=100)] = 2.0
    key: Annotated[int, Meta(ge=1, le=2**63 - 1)] = 15485863


class EngineConfig(Section, frozen=True):
    """The token engine: `kind` is `torch`, `csm`, `reference`, `vllm`, or a name that a package registers under
    `maxpipe.engines`, with the `options` that it has.

    `max_batch` sequences at once, `token_budget` tokens a step (without it, the engine decides), `block_size` tokens a
    block of the KV cache. `kv_memory` is that cache's memory: a fraction such as 0.5 of what the device has free once
    the model is loaded, or bytes; without it, room for `max_batch` whole contexts, at most 1 GiB. Instead of it, on a
    GPU, `memory_utilization` is the share of all its memory that weights, activations and cache may take together.

    `max_length` bounds a prompt and its answer below what the model could read. `prefix_caching` finds prompts that
    begin alike. On a GPU, `eager` does without CUDA graphs, `eager_above` for sequences longer than that, and `overlap:
    false` reads each step before the next is launched.

    `adapters` are loaded at the start, each by the name that requests call it from a folder as peft saves it: LoRA of
    up to `max_adapter_rank`, or soft prompts; with those loaded later there can be `max_adapters`. What lies in
    `adapter_folder` can be loaded while the server runs; without it, nothing.

    `max_batch`, `adapters` and `options`, which only the kind itself can read, are for any kind. All but `block_size`,
    `watermark`, `eager_above` and what is said of adapters are for `vllm` too, `kv_memory` in bytes; the rest is for
    `torch`, and for `csm`, which takes no adapters.
    """

    kind: Name = "torch"
    max_batch: Annotated[int, Meta(ge=1, le=4096)] = 16
    token_budget: Annotated[int, Meta(ge=1, le=2**20)] | None = None
    block_size: Annotated[int, Meta(ge=1, le=1024)] = 32
    kv_memory: Annotated[int, Meta(ge=2**16, le=2**50)] | Annotated[float, Meta(gt=0, le=1)] | None = None
    watermark: WatermarkConfig = WatermarkConfig()
    memory_utilization: Annotated[float, Meta(gt=0, le=1)] | None = None
    max_length: Annotated[int, Meta(ge=2, le=2**24)] | None = None
    prefix_caching: bool = True
    eager: bool = False
    eager_above: Annotated[int, Meta(ge=1, le=2**24)] | None = None
    overlap: bool | None = None
    adapters: Annotated[Mapping[Name, Path_], Meta(max_length=1024)] = {}
    max_adapters: Annotated[int, Meta(ge=1, le=1024)] = 8
    max_adapter_rank: Annotated[int, Meta(ge=1, le=4096)] = 64
    adapter_folder: Path_ | None = None
    options: Annotated[Mapping[Name, OptionValue], Meta(max_length=256)] = {}
