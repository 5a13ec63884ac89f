"""The whole config of a server."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from .faces import HttpConfig, WyomingConfig
from .running import Limits, TcpConfig, WorkersConfig
from .section import Section
from .serving import CodecConfig, EngineConfig, MediaConfig, ModelConfig, PipelineConfig, SpeechConfig


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
    media: MediaConfig = MediaConfig()

    def __post_init__(self) -> None:
        if self.pipeline.kind == "speech" and self.speech is None:
            raise ValueError("the section `speech` is missing: pipeline.kind `speech` needs its format")
        if self.pipeline.kind in ("text", "embeddings") and self.wyoming is not None:
            kind = self.pipeline.kind
            raise ValueError(f"the section `wyoming` is for voices: pipeline.kind `{kind}` has none; leave it out")
