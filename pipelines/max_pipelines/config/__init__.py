"""The YAML file that a server and its workers start from, as frozen types.

An unknown key or a bad value stops the start with the file, the path of the key and the nearest valid name.
`maxpipe config --schema` prints the JSON Schema of `Config`.
"""

from __future__ import annotations

from .faces import HttpConfig, TextLimits, WyomingConfig
from .reading import config_schema, load_config, parse_config, read_options
from .root import Config
from .running import Limits, TcpConfig, WorkersConfig
from .section import Section
from .serving import (
    CodecConfig,
    EngineConfig,
    MediaConfig,
    ModelConfig,
    PipelineConfig,
    SpeechConfig,
    VoicesConfig,
    WatermarkConfig,
)

__all__ = [
    "CodecConfig",
    "Config",
    "EngineConfig",
    "HttpConfig",
    "Limits",
    "MediaConfig",
    "ModelConfig",
    "PipelineConfig",
    "Section",
    "SpeechConfig",
    "TcpConfig",
    "TextLimits",
    "VoicesConfig",
    "WatermarkConfig",
    "WorkersConfig",
    "WyomingConfig",
    "config_schema",
    "load_config",
    "parse_config",
    "read_options",
]
