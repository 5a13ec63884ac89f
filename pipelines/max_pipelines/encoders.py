"""From `codec.kind` in YAML to the encoder of the same codec, which samples of voices need.

That of a third party's codec is registered under the entry point group `maxpipe.encoders`, by the codec's kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol

from max_codecs.slots import Slot
from max_interfaces import ConfigError, SpeechEncoder

from .codecs import speech_of
from .config import Config
from .plugins import Factory, find_factory

ENTRY_POINTS = "maxpipe.encoders"
BUILT_IN = {kind: f"{__name__}:{kind}" for kind in ("snac", "mimi", "dac", "encodec")}


class Loader(Protocol):
    """How our own are loaded, as their codecs are."""

    def __call__(self, source: str | Path, *, device: str, slots: Sequence[Slot]) -> SpeechEncoder: ...


def build_encoder(config: Config) -> SpeechEncoder:
    """Load the encoder of `codec.kind`. ConfigError if the model can take no samples, or the encoder does not fit."""
    kind, layout = config.codec.kind, speech_of(config).spoken.layout
    if not layout.supports_reference:
        raise ConfigError(f"model {config.model.name}: has no format for a reference voice: it can take no samples")
    if kind not in BUILT_IN and not entry_points(group=ENTRY_POINTS, name=kind):
        raise ConfigError(f"codec.kind {kind}: no encoder is installed for it, so its voices can take no samples")
    factory: Factory[SpeechEncoder] = find_factory("codec.kind", kind, BUILT_IN, ENTRY_POINTS)
    try:
        encoder = factory(config)
    except ConfigError:
        raise
    except ValueError as problem:
        raise ConfigError(f"codec.kind {kind}: {problem}") from problem
    if encoder.codes_per_frame != layout.codes_per_frame:
        raise ConfigError(
            f"speech.format.layout.slots: there are {layout.codes_per_frame}; the encoder of codec.kind {kind} has"
            f" {encoder.codes_per_frame} codes in a frame"
        )
    return encoder


def snac(config: Config) -> SpeechEncoder:
    """SNAC's own, or the embedded voice's."""
    from max_codecs.snac.encoder import load_encoder

    return _loaded(config, load_encoder)


def mimi(config: Config) -> SpeechEncoder:
    """Mimi's, as transformers has it."""
    from max_codecs.pretrained.encoders import load_mimi

    return _loaded(config, load_mimi)


def dac(config: Config) -> SpeechEncoder:
    """DAC's."""
    from max_codecs.pretrained.encoders import load_dac

    return _loaded(config, load_dac)


def encodec(config: Config) -> SpeechEncoder:
    """EnCodec's."""
    from max_codecs.pretrained.encoders import load_encodec

    return _loaded(config, load_encodec)


def _loaded(config: Config, load: Loader) -> SpeechEncoder:
    return load(config.codec.location, device=config.codec.device, slots=speech_of(config).spoken.layout.slots)
