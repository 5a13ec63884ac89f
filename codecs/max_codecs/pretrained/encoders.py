"""The encoders of Mimi, DAC and EnCodec, for samples of a voice: transformers' own, the whole sound at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import DacModel, EncodecModel, MimiModel

from max_interfaces.errors import ConfigError

from ..samples import padded
from ..slots import Slot, frames_of
from .codebooks import used
from .dac import dac_codec
from .encodec import encodec_codec
from .loading import ModelT, load_pretrained
from .mimi import mimi_codec

NEEDED = ("decoder", "quantizer", "encoder", "downsample")
EncoderOf = Callable[[ModelT, Sequence[Slot] | None], "PretrainedEncoder"]


class PretrainedEncoder:
    """A `SpeechEncoder`. `quantize` takes float[1, 1, n] to codes int[1, codebooks, frames], of which the first count.

    `slots` say how many, and in which order they stand in a frame.
    """

    def __init__(
        self,
        quantize: Callable[[Tensor], Tensor],
        sample_rate: int,
        frame_samples: int,
        slots: Sequence[Slot],
        device: torch.device,
    ) -> None:
        self._quantize = quantize
        self._rate = sample_rate
        self._frame = frame_samples
        self._slots = slots
        self._device = device

    @property
    def sample_rate(self) -> int:
        return self._rate

    @property
    def codes_per_frame(self) -> int:
        return len(self._slots)

    @torch.inference_mode()
    def encode(self, samples: NDArray[np.float32]) -> NDArray[np.int64]:
        """See `SpeechEncoder.encode`."""
        whole = torch.from_numpy(padded(samples, self._frame)).to(self._device)
        codes: NDArray[np.int64] = self._quantize(whole[None, None])[0].cpu().numpy()
        return frames_of(list(codes[: len(self._slots)]), self._slots)


def mimi_encoder(model: MimiModel, slots: Sequence[Slot] | None = None) -> PretrainedEncoder:
    """The encoder of a loaded model. ValueError for settings or slots that cannot be."""
    shape = mimi_codec(model, slots).shape
    order = used(slots, model.config.num_quantizers)
    return PretrainedEncoder(
        lambda sound: model.encode(sound).audio_codes, shape.sample_rate, shape.frame_samples, order, model.device
    )


def dac_encoder(model: DacModel, slots: Sequence[Slot] | None = None) -> PretrainedEncoder:
    """The same of DAC."""
    shape = dac_codec(model, slots).shape
    order = used(slots, model.config.n_codebooks)
    return PretrainedEncoder(
        lambda sound: model.encode(sound).audio_codes, shape.sample_rate, shape.frame_samples, order, model.device
    )


def encodec_encoder(model: EncodecModel, slots: Sequence[Slot] | None = None) -> PretrainedEncoder:
    """The same of EnCodec: all its codebooks, whatever bandwidths it names."""
    shape = encodec_codec(model, slots).shape
    order = used(slots, model.config.num_quantizers)

    def quantize(sound: Tensor) -> Tensor:
        codes: Tensor = model.quantizer.encode(model.encoder(sound))
        return codes.transpose(0, 1)

    return PretrainedEncoder(quantize, shape.sample_rate, shape.frame_samples, order, model.device)


def load_mimi(source: str | Path, *, device: str = "cpu", slots: Sequence[Slot] | None = None) -> PretrainedEncoder:
    """The encoder in a folder or of a hub id, `slots` as for its codec. ConfigError if it cannot be loaded."""
    return _loaded(MimiModel, "mimi", mimi_encoder, source, device, slots)


def load_dac(source: str | Path, *, device: str = "cpu", slots: Sequence[Slot] | None = None) -> PretrainedEncoder:
    """The same of DAC."""
    return _loaded(DacModel, "dac", dac_encoder, source, device, slots)


def load_encodec(source: str | Path, *, device: str = "cpu", slots: Sequence[Slot] | None = None) -> PretrainedEncoder:
    """The same of EnCodec."""
    return _loaded(EncodecModel, "encodec", encodec_encoder, source, device, slots)


def _loaded(
    kind: type[ModelT],
    model_type: str,
    encoder_of: EncoderOf[ModelT],
    source: str | Path,
    device: str,
    slots: Sequence[Slot] | None,
) -> PretrainedEncoder:
    model = load_pretrained(kind, model_type, source, device, NEEDED)
    try:
        return encoder_of(model, slots)
    except ValueError as problem:
        raise ConfigError(f"{source}: {problem}") from problem
