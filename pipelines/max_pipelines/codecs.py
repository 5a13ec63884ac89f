"""From `codec.kind` in YAML to an audio codec for the speech tokens of the same file.

`snac`, `mimi`, `dac` and `encodec` are ours. Any other kind is a third party's, registered under the entry point group
`maxpipe.codecs`: see `examples/tones`. torch and transformers are imported by the codecs that want them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from max_codecs.slots import Slot
from max_interfaces import AudioCodec, ConfigError

from .config import Config, Section, SpeechConfig, read_options
from .plugins import Factory, find_factory

ENTRY_POINTS = "maxpipe.codecs"
BUILT_IN = {kind: f"{__name__}:{kind}" for kind in ("snac", "mimi", "dac", "encodec")}


class NoOptions(Section, frozen=True):
    """What `codec.options` may say to a codec that has none."""


class SizedCodec(AudioCodec, Protocol):
    """A codec that tells how many codes there are to choose from."""

    @property
    def codebook_size(self) -> int: ...


class Loader(Protocol):
    """How our own are loaded: from a folder or a hub id; `slots` is the order of a frame's codes."""

    def __call__(self, source: str | Path, *, device: str, slots: Sequence[Slot]) -> SizedCodec: ...


def build_codec(config: Config) -> AudioCodec:
    """Load the codec that `codec.kind` names. ConfigError for a kind that nobody provides, or a codec that does not fit
    the layout of the speech tokens.
    """
    factory: Factory[AudioCodec] = find_factory("codec.kind", config.codec.kind, BUILT_IN, ENTRY_POINTS)
    try:
        codec = factory(config)
    except ConfigError:
        raise
    except ValueError as problem:
        raise ConfigError(f"codec.kind {config.codec.kind}: {problem}") from problem
    slots = speech_of(config).spoken.layout.codes_per_frame
    if codec.codes_per_frame != slots:
        raise ConfigError(
            f"speech.format.layout.slots: there are {slots}; codec.kind {config.codec.kind} has"
            f" {codec.codes_per_frame} codes in a frame"
        )
    return codec


def speech_of(config: Config) -> SpeechConfig:
    """The section `speech`. ConfigError if it is missing."""
    if config.speech is None:
        raise ConfigError("speech: the section is missing")
    return config.speech


def snac(config: Config) -> AudioCodec:
    """SNAC, published or the embedded voice's own."""
    from max_codecs.snac.codec import load_codec

    return _loaded(config, load_codec)


def mimi(config: Config) -> AudioCodec:
    """Mimi, as transformers has it."""
    from max_codecs.pretrained.mimi import load_codec

    return _loaded(config, load_codec, embedded=False)


def dac(config: Config) -> AudioCodec:
    """DAC, as transformers has it."""
    from max_codecs.pretrained.dac import load_codec

    return _loaded(config, load_codec, embedded=False)


def encodec(config: Config) -> AudioCodec:
    """EnCodec of one channel, as transformers has it."""
    from max_codecs.pretrained.encodec import load_codec

    return _loaded(config, load_codec, embedded=False)


def _loaded(config: Config, load: Loader, *, embedded: bool = True) -> AudioCodec:
    wanted, layout = config.codec, speech_of(config).spoken.layout
    read_options("codec.options", wanted.options, NoOptions)
    if wanted.path == "embedded" and not embedded:
        raise ConfigError(
            f"codec.path: the embedded codec is a SNAC; name a folder or hub id for codec.kind {wanted.kind}"
        )
    codec = load(wanted.location, device=wanted.device, slots=layout.slots)
    if layout.codebook_size > codec.codebook_size:
        raise ConfigError(
            f"speech.format.layout.codebook_size = {layout.codebook_size}: the codec at {wanted.location} has"
            f" {codec.codebook_size} codes"
        )
    return codec
