"""The YAML file that a server and its workers start from, as frozen types.

An unknown key or a bad value stops the start with the file, the path of the key and the nearest valid name.
`maxpipe config --schema` prints the JSON Schema of `Config`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

from max_codecs.format import SpeechFormat
from max_interfaces import ConfigError
from max_interfaces.bounds import Name
from max_interfaces.values import JsonValue
from max_voices import FOLDER, load_voice

from .address import parse_listen

Scalar: TypeAlias = (
    bool
    | Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
    | Annotated[float, Meta(ge=-1e308, le=1e308)]
    | Annotated[str, Meta(max_length=4096)]
    | None
)
OptionValue: TypeAlias = Scalar | Annotated[list[Scalar], Meta(max_length=4096)]
FrameCount: TypeAlias = Annotated[int, Meta(ge=1, le=4096)]
Names: TypeAlias = Annotated[tuple[Name, ...], Meta(max_length=1024)]
Path_: TypeAlias = Annotated[str, Meta(min_length=1, max_length=4096)]


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What every section shares."""


class ModelConfig(Section, frozen=True):
    """The token model: `name` is what requests call it, `path` a folder, a hub id, or `embedded`."""

    name: Name
    path: Path_ = "embedded"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: Annotated[str, Meta(pattern=r"^(cpu|cuda(:\d+)?)$", max_length=16)] = "cpu"

    @property
    def location(self) -> str | Path:
        """Where its files are: a folder or a hub id."""
        return FOLDER / "lm" if self.path == "embedded" else self.path


class PipelineConfig(Section, frozen=True):
    """`kind` is `speech`, `text`, or a name that a package registers under `maxpipe.pipelines`, with its options."""

    kind: Name
    options: Annotated[Mapping[Name, OptionValue], Meta(max_length=256)] = {}


class CodecConfig(Section, frozen=True):
    """The audio decoder: a folder, a hub id, or `embedded`. It may sit on another device than the model."""

    kind: Literal["snac"] = "snac"
    path: Path_ = "embedded"
    device: Annotated[str, Meta(pattern=r"^(cpu|cuda(:\d+)?)$", max_length=16)] = "cpu"

    @property
    def location(self) -> str | Path:
        """Where its files are: a folder or a hub id."""
        return FOLDER / "codec" if self.path == "embedded" else self.path


class SpeechConfig(Section, frozen=True):
    """How text becomes sound. `format` says which ids mean what, `embedded` for the embedded voice's own.

    A chunk is sent as soon as it holds the next number of `chunk_frames`, whose last entry repeats.
    """

    format: SpeechFormat | Literal["embedded"] = "embedded"
    chunk_frames: Annotated[tuple[FrameCount, ...], Meta(min_length=1, max_length=64)] = (1, 2, 4, 8)

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
    """The token engine. `kind` is `torch`, `reference`, or a name that a package registers under `maxpipe.engines`.

    `max_batch` sequences at once, `token_budget` tokens a step (without it, the engine decides), `block_size` tokens a
    block of the KV cache. `kv_memory` is that cache's memory: a fraction such as 0.5 of what the device has free once
    the model is loaded, or bytes; without it, room for `max_batch` whole contexts, at most 1 GiB. All but `kind` are
    for `torch`; `max_batch` is for any.
    """

    kind: Name = "torch"
    max_batch: Annotated[int, Meta(ge=1, le=4096)] = 16
    token_budget: Annotated[int, Meta(ge=1, le=2**20)] | None = None
    block_size: Annotated[int, Meta(ge=1, le=1024)] = 32
    kv_memory: Annotated[int, Meta(ge=2**16, le=2**50)] | Annotated[float, Meta(gt=0, le=1)] | None = None
    watermark: WatermarkConfig = WatermarkConfig()


class WorkersConfig(Section, frozen=True):
    """How many workers serve the model, and where they run: each in a process, or in a thread of the caller's.

    `standby` more are loaded and do nothing, until one of the others is lost: then its requests go on there within
    a moment, where they would else wait for a new worker to load. `threads` is the number of CPU threads of a worker;
    `start_timeout_s` how long loading may take.
    """

    count: Annotated[int, Meta(ge=1, le=256)] = 1
    standby: Annotated[int, Meta(ge=0, le=256)] = 0
    transport: Literal["process", "thread"] = "process"
    threads: Annotated[int, Meta(ge=1, le=256)] = 1
    start_timeout_s: Annotated[float, Meta(gt=0, le=86_400)] = 600.0


class Limits(Section, frozen=True):
    """Every bound of the dispatcher; times in seconds.

    `max_waiting` requests wait for a worker, more are refused as overloaded; so is what would make more than
    `max_requests` live ones, or more than `max_bytes` of them. A client that has not pinged for `lease_s` is gone; a
    worker silent for `silence_s` beyond what it announced is taken for hung. A request rests while its reader is
    `ahead_s` of sound or `ahead_outputs` outputs behind, and is cancelled if nothing of it is read for `stall_s`.
    `drain_s` is what running requests get when the server ends, `retire_s` what a worker then gets to end by itself
    before it is killed.
    """

    max_waiting: Annotated[int, Meta(ge=0, le=2**20)] = 1024
    max_requests: Annotated[int, Meta(ge=1, le=2**20)] = 4096
    max_bytes: Annotated[int, Meta(ge=1, le=2**40)] = 2**28
    lease_s: Annotated[float, Meta(gt=0, le=3600)] = 3.0
    silence_s: Annotated[float, Meta(gt=0, le=3600)] = 3.0
    ahead_s: Annotated[float, Meta(gt=0, le=3600)] = 10.0
    ahead_outputs: Annotated[int, Meta(ge=1, le=2**20)] = 2048
    stall_s: Annotated[float, Meta(gt=0, le=86_400)] = 30.0
    retire_s: Annotated[float, Meta(gt=0, le=3600)] = 0.7
    drain_s: Annotated[float, Meta(ge=0, le=3600)] = 10.0


class TcpConfig(Section, frozen=True):
    """Serving other hosts, encrypted and to allowed keys only: `listen` is tcp://HOST:PORT, or tcp://*:PORT.

    `keys` is the folder with the server's key and the list of those it lets in, by default that of `maxpipe keys`.
    """

    listen: Annotated[str, Meta(max_length=512)]
    keys: Path_ | None = None

    def __post_init__(self) -> None:
        parse_listen(self.listen)


class TextLimits(Section, frozen=True):
    """What one request over the text-generation API may ask for, and how long its answers are kept.

    Answers that are deterministic are kept in `cache_bytes` of memory, 0 for none, and for `cache_age_s`. Who asks to
    wait for a model that is loading waits for `wait_for_model_s` at most.
    """

    max_best_of: Annotated[int, Meta(ge=1, le=256)] = 8
    max_stop_sequences: Annotated[int, Meta(ge=0, le=64)] = 16
    max_top_n_tokens: Annotated[int, Meta(ge=0, le=1024)] = 20
    cache_bytes: Annotated[int, Meta(ge=0, le=2**40)] = 2**26
    cache_age_s: Annotated[float, Meta(gt=0, le=86_400)] = 3600.0
    wait_for_model_s: Annotated[float, Meta(ge=0, le=3600)] = 300.0


class HttpConfig(Section, frozen=True):
    """The HTTP face: where it listens, whom it serves, and within what limits.

    `keys` is a file with an API key a line; with it, nobody is served without one of them. Browsers on pages of
    `cors_origins` may ask, and none on others. A server that asks for no keys and listens on this host alone answers
    to this host's own names and to `hosts`, so that no other site's page can pass for it; given `hosts`, so does any.
    A body has at most `max_body_bytes` and comes within `body_timeout_s`; more than `max_connections` at once are
    refused. What a client names of `model_aliases` and `voice_aliases` means the one model that is served, and its
    first voice: so that clients of a hosted service need no other change. `log` is how standard error tells of each
    request; `traces` is the URL of an OpenTelemetry collector (OTLP over HTTP) that is sent a span of each.
    """

    host: Annotated[str, Meta(min_length=1, max_length=256)] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535)] = 8000
    keys: Path_ | None = None
    cors_origins: Names = ()
    hosts: Names = ()
    max_body_bytes: Annotated[int, Meta(ge=1, le=2**30)] = 2_000_000
    body_timeout_s: Annotated[float, Meta(gt=0, le=3600)] = 30.0
    max_connections: Annotated[int, Meta(ge=1, le=2**20)] = 1024
    log: Literal["text", "json", "none"] = "text"
    traces: Annotated[str, Meta(pattern=r"^https?://[^\s/?#@]+(/[^\s?#]*)?$", max_length=2048)] | None = None
    model_aliases: Names = ("tts-1", "tts-1-hd", "gpt-4o-mini-tts", "tgi", "dummy")
    voice_aliases: Names = (
        "alloy", "ash", "ballad", "coral", "echo", "fable", "nova", "onyx", "sage", "shimmer", "verse", "marin", "cedar"
    )  # fmt: skip
    text: TextLimits = TextLimits()


class WyomingConfig(Section, frozen=True):
    """Speech for Home Assistant, by the Wyoming protocol: where it listens, and within what limits. It knows no keys.

    `languages` are those that the voices are said to speak. A text, however many pieces it comes in, and whatever an
    event says, has at most `max_text_bytes`; an event that has begun is complete within `event_timeout_s`; more than
    `max_connections` at once are refused.
    """

    host: Annotated[str, Meta(min_length=1, max_length=256)] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535)] = 10_200
    languages: Annotated[tuple[Name, ...], Meta(min_length=1, max_length=64)] = ("en",)
    max_text_bytes: Annotated[int, Meta(ge=1024, le=2**24)] = 2**18
    event_timeout_s: Annotated[float, Meta(gt=0, le=3600)] = 10.0
    max_connections: Annotated[int, Meta(ge=1, le=2**16)] = 64


class Config(Section, frozen=True):
    """One server: one model, its pipeline, its workers. `address` is ipc://PATH; without one a private one is made.

    With `tcp` it serves other hosts as well, with `wyoming` Home Assistant; `http: null` leaves HTTP out.
    """

    model: ModelConfig
    pipeline: PipelineConfig
    codec: CodecConfig = CodecConfig()
    speech: SpeechConfig | None = None
    engine: EngineConfig = EngineConfig()
    workers: WorkersConfig = WorkersConfig()
    limits: Limits = Limits()
    address: Annotated[str, Meta(max_length=256)] | None = None
    tcp: TcpConfig | None = None
    http: HttpConfig | None = HttpConfig()
    wyoming: WyomingConfig | None = None

    def __post_init__(self) -> None:
        if self.pipeline.kind == "speech" and self.speech is None:
            raise ValueError("the section `speech` is missing: pipeline.kind `speech` needs its format")
        if self.pipeline.kind == "text" and self.wyoming is not None:
            raise ValueError("the section `wyoming` is for voices: pipeline.kind `text` has none; leave it out")


def load_config(path: str | Path) -> Config:
    """Read a YAML file. ConfigError names the file, the key's path and what is valid there."""
    file = Path(path)
    try:
        text = file.read_bytes()
    except OSError as problem:
        raise ConfigError(f"{file}: cannot be read ({problem.strerror})") from None
    return parse_config(text, str(file))


def parse_config(text: bytes | str, source: str = "config") -> Config:
    """Decode YAML text; `source` stands in errors where a file's name would."""
    try:
        return msgspec.yaml.decode(text, type=Config)
    except msgspec.ValidationError as problem:
        raise ConfigError(f"{source}: {_explain(str(problem))}") from None
    except (msgspec.DecodeError, ValueError) as problem:
        raise ConfigError(f"{source}: is no valid YAML: {' '.join(str(problem).split())}") from None


def config_schema() -> dict[str, JsonValue]:
    """The JSON Schema of a config file."""
    schema: dict[str, JsonValue] = msgspec.json.schema(Config)
    return schema


def _explain(problem: str) -> str:
    """msgspec's message with the key's path first and, for an unknown key, the nearest valid one."""
    what, _, where = problem.partition(" - at `$")
    path = where.rstrip("`").lstrip(".")
    unknown = re.fullmatch(r"Object contains unknown field `(.+)`", what)
    if not unknown:
        valid = f"; valid: {', '.join(_choices(path))}" if what.startswith("Invalid enum value") else ""
        return f"{path}: {what}{valid}" if path else what
    key = unknown.group(1)
    known = _keys_at(path)
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    hint = f"did you mean `{near[0]}`?" if near else f"valid keys: {', '.join(known)}"
    return f"{path + '.' if path else ''}{key}: unknown key; {hint}"


def _keys_at(path: str) -> list[str]:
    """The valid keys at a path such as `speech.layout`."""
    return [field.name for field in msgspec.structs.fields(_struct(_annotation(path)))]


def _choices(path: str) -> list[str]:
    """The valid words at a path such as `workers.transport`."""
    info = msgspec.inspect.type_info(_annotation(path))
    candidates = info.types if isinstance(info, msgspec.inspect.UnionType) else (info,)
    return [
        str(value)
        for candidate in candidates
        if isinstance(candidate, msgspec.inspect.LiteralType)
        for value in candidate.values
    ]


def _annotation(path: str) -> object:
    """What stands behind the colon of the key at a path."""
    kind: object = Config
    for part in [part for part in re.sub(r"\[.*?\]", "", path).split(".") if part]:
        fields = {field.name: field.type for field in msgspec.structs.fields(_struct(kind))}
        kind = fields.get(part, Config)
    return kind


def _struct(kind: object) -> type[msgspec.Struct]:
    """The Struct in an annotation such as `SpeechConfig | None`."""
    info = msgspec.inspect.type_info(kind)
    candidates = info.types if isinstance(info, msgspec.inspect.UnionType) else (info,)
    for candidate in candidates:
        if isinstance(candidate, msgspec.inspect.StructType):
            return candidate.cls
    return Config
