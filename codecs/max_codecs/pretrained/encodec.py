"""EnCodec (24 kHz, and MusicGen's 32 kHz) as an `AudioCodec`: LSTM state and convolution states."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from transformers import EncodecModel
from transformers.models.encodec.modeling_encodec import EncodecVectorQuantization

from max_interfaces.errors import ConfigError

from ..slots import Slot
from ..streaming.codec import CodecShape, StreamingCodec
from ..streaming.decoder import StreamingDecoder
from .codebooks import Group, ResidualCodebooks, used
from .loading import load_pretrained, members
from .seanet import stages_of


def load_codec(source: str | Path, *, device: str = "cpu", slots: Sequence[Slot] | None = None) -> StreamingCodec:
    """The codec in a folder or of a hub id; `slots` is the order of a frame's codes, by default coarse to fine.

    Its LSTM looks back to the beginning of a sound: rebuilding a stream takes all its frames. ConfigError if it cannot
    be loaded, or not be streamed: the 48 kHz model is stereo, and has a norm over each of its overlapping seconds.
    """
    model = load_pretrained(EncodecModel, "encodec", source, device)
    try:
        return encodec_codec(model, slots)
    except ValueError as problem:
        raise ConfigError(f"{source}: {problem}") from problem


def encodec_codec(model: EncodecModel, slots: Sequence[Slot] | None = None) -> StreamingCodec:
    """The codec of a loaded model. ValueError for settings or slots that cannot be."""
    config = model.config
    if config.audio_channels != 1:
        raise ValueError(f"audio_channels={config.audio_channels}: must be 1, speech is mono")
    if config.chunk_length_s is not None:
        raise ValueError(f"chunk_length_s={config.chunk_length_s}: overlapping chunks cannot be streamed exactly")
    if config.normalize:
        raise ValueError("normalize=true: the loudness of each chunk is no code, so no language model can say it")
    tables = [layer.codebook.embed for layer in members(model.quantizer.layers, EncodecVectorQuantization)]
    order = used(slots, len(tables))
    shape = CodecShape(config.sampling_rate, math.prod(config.upsampling_ratios), len(order), config.codebook_size)
    quantizer = ResidualCodebooks([Group(tables[: len(order)])], order)
    return StreamingCodec(shape, quantizer, StreamingDecoder(stages_of(model.decoder.layers)), model.device)
