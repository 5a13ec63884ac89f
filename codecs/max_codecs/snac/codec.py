"""SNAC as an `AudioCodec`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from max_interfaces.protocols import StreamStart

from ..slots import Slot
from ..spoken_words import PhoneHead
from ..streaming.codec import CodecShape, StreamingCodec
from ..streaming.decoder import StreamingDecoder
from ..streaming.stage import NoiseSource
from .model import DType, SnacModel, load_model
from .noise import CounterNoise
from .stages import stages_of


class SnacCodec(StreamingCodec):
    """`noise=False` leaves out the noise blocks, if the model has any."""

    def __init__(self, model: SnacModel, *, noise: bool = True) -> None:
        config = model.config
        shape = CodecShape(
            config.sampling_rate,
            config.hop * config.latents_per_frame,
            config.codes_per_frame,
            config.codebook_size,
            config.latents_per_frame,
        )
        device = next(model.decoder.parameters()).device
        super().__init__(shape, model.codebooks, StreamingDecoder(stages_of(model.decoder.model)), device)
        self._noise = noise and config.noise
        self.phone_head: PhoneHead | None = model.phones

    def noise(self, start: StreamStart) -> NoiseSource | None:
        return CounterNoise(start.seed) if self._noise else None


def load_codec(
    source: str | Path,
    *,
    device: str = "cpu",
    dtype: DType = "float32",
    slots: Sequence[Slot] | None = None,
    noise: bool = True,
) -> SnacCodec:
    """The codec in a folder or of a hub id; arguments and errors as for `load_model`."""
    return SnacCodec(load_model(source, device=device, dtype=dtype, slots=slots), noise=noise)
