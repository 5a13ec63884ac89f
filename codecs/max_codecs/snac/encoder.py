"""Encoders for samples of a voice, the whole sound at once: SNAC's own, named as in the package, or a `MelEncoder`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from max_interfaces.errors import ConfigError
from max_interfaces.protocols import SpeechEncoder

from ..samples import padded
from ..slots import Slot, frames_of
from .codebooks import of_shape
from .config import SnacConfig, StackConfig
from .decoder import DILATIONS, KERNEL, Conv1d, ResidualUnit, Snake1d
from .files import CONFIG, ENCODER
from .mel_encoder import MelEncoder
from .model import fill, order_of, read_model, usable_device, without_norm
from .weights import State, folded, part, read_weights


class EncoderBlock(nn.Module):
    """Three residual units, snake, downsampling by `stride` to twice the channels."""

    def __init__(self, channels: int, stride: int, groups: int) -> None:
        super().__init__()
        units = [ResidualUnit(channels, dilation, causal=False, groups=groups) for dilation in DILATIONS]
        down = nn.Conv1d(channels, 2 * channels, 2 * stride, stride, padding=math.ceil(stride / 2))
        self.block = nn.Sequential(*units, Snake1d(channels), down)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.block(x)
        return y


class Encoder(nn.Module):
    """Samples float[batch, T * hop] to latents float[batch, latent, T]; its layers are symmetric."""

    def __init__(self, config: SnacConfig) -> None:
        super().__init__()
        width = config.encoder_dim
        layers: list[nn.Module] = [Conv1d(1, width, KERNEL, causal=False)]
        for stride in config.encoder_rates:
            layers.append(EncoderBlock(width, stride, width if config.depthwise else 1))
            width *= 2
        layers.append(Conv1d(width, width, KERNEL, causal=False, groups=width if config.depthwise else 1))
        self.block = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.block(x[:, None])
        return y


class Level:
    """One codebook: the code of least angle to a projected latent, averaged over `stride` steps."""

    def __init__(self, state: State, level: int, config: SnacConfig) -> None:
        stem, latent, width = f"quantizers.{level}", config.latent, config.codebook_dim
        self.stride = config.vq_strides[level]
        self._codebook = of_shape(state, f"{stem}.codebook.weight", (config.codebook_size, width))
        self._inwards = (
            of_shape(state, f"{stem}.in_proj.weight", (width, latent, 1)),
            of_shape(state, f"{stem}.in_proj.bias", (width,)),
        )
        self._outwards = (
            of_shape(state, f"{stem}.out_proj.weight", (latent, width, 1)),
            of_shape(state, f"{stem}.out_proj.bias", (latent,)),
        )

    def codes(self, latents: Tensor) -> Tensor:
        """Latents float[1, latent, T] to codes int64[T / stride]."""
        pooled = functional.avg_pool1d(latents, self.stride, self.stride)
        points = functional.conv1d(pooled, *self._inwards)[0].t()
        return (functional.normalize(points) @ functional.normalize(self._codebook).t()).argmax(1)

    def latents(self, codes: Tensor) -> Tensor:
        """Codes int64[T / stride] to what they stand for, float[1, latent, T]."""
        vectors = functional.embedding(codes, self._codebook).t()[None]
        return functional.conv1d(vectors, *self._outwards).repeat_interleave(self.stride, dim=-1)


class Quantizer:
    """Latents to codes, coarse to fine: each level codes what those before it left over."""

    def __init__(self, state: State, config: SnacConfig) -> None:
        self._levels = [Level(state, level, config) for level in range(len(config.vq_strides))]

    def codes(self, latents: Tensor) -> list[Tensor]:
        """Latents float[1, latent, T] to the codes of each level."""
        found: list[Tensor] = []
        for level in self._levels:
            found.append(level.codes(latents))
            latents = latents - level.latents(found[-1])
        return found


class SnacEncoder:
    """A `SpeechEncoder`: an `encoder` of samples float[1, T * hop] to latents float[1, latent, T], then the quantizer.

    `quantizer` holds its parameters, folded; ValueError for those that do not fit. Both are on `device`.
    """

    def __init__(
        self,
        config: SnacConfig,
        encoder: nn.Module,
        quantizer: State,
        device: torch.device,
        slots: Sequence[Slot] | None = None,
    ) -> None:
        self._config = config
        self._slots = order_of(config, slots)
        self._device = device
        self._encoder = encoder.requires_grad_(False).eval()
        self._quantizer = Quantizer(quantizer, config)

    @property
    def sample_rate(self) -> int:
        return self._config.sampling_rate

    @property
    def codes_per_frame(self) -> int:
        return self._config.codes_per_frame

    @torch.inference_mode()
    def encode(self, samples: NDArray[np.float32]) -> NDArray[np.int64]:
        """See `SpeechEncoder.encode`."""
        whole = padded(samples, self._config.hop * self._config.latents_per_frame)
        latents = self._encoder(torch.from_numpy(whole).to(self._device)[None])
        return frames_of([codes.cpu().numpy() for codes in self._quantizer.codes(latents)], self._slots)


def build_encoder(
    config: SnacConfig, state: State, *, device: str = "cpu", slots: Sequence[Slot] | None = None
) -> SnacEncoder:
    """SNAC's own encoder, of parameters named as in `snac.SNAC`. ValueError for those that do not fit."""
    wide = config.encoder_dim * 2 ** len(config.encoder_rates)
    if wide != config.latent:
        raise ValueError(f"latent_dim={config.latent}: the encoder's latents have {wide} channels")
    place = usable_device(device)
    plain = {name: tensor.to(place) for name, tensor in folded(state).items()}
    encoder = without_norm(Encoder(config))
    fill(encoder, part(plain, "encoder."), "encoder")
    return SnacEncoder(config, encoder, part(plain, "quantizer."), place, slots)


def load_encoder(source: str | Path, *, device: str = "cpu", slots: Sequence[Slot] | None = None) -> SpeechEncoder:
    """The encoder that lies beside the decoder in a folder or of a hub id; `slots` is the order of a frame's codes.

    ConfigError as `load_model` has it, and for weights without an encoder.
    """
    files, config, state = read_model(source)
    if config.mel_encoder is None and not part(state, "encoder."):
        raise ConfigError(f"{files.weights}: has no encoder, so this voice can take no samples")
    try:
        if config.mel_encoder is None:
            return build_encoder(config, state, device=device, slots=slots)
        place = usable_device(device)
        encoder = _mel_encoder(files.beside(ENCODER), config, config.mel_encoder, place)
        quantizer = {name: tensor.to(place) for name, tensor in folded(state).items()}
        return SnacEncoder(config, encoder, part(quantizer, "quantizer."), place, slots)
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"{files.weights}: does not fit {files.config.name}: {error}") from error


def _mel_encoder(path: Path, config: SnacConfig, size: StackConfig, device: torch.device) -> MelEncoder:
    """The encoder in a file, in float32. ConfigError, with the path, if the file is missing or does not fit."""
    state = {name: tensor.to(device, torch.float32) for name, tensor in read_weights(path).items()}
    try:
        encoder = MelEncoder(config.sampling_rate, config.hop, config.latent, size.width, size.depth).to(device)
        fill(encoder, state, "encoder")
    except ValueError as error:
        raise ConfigError(f"{path}: does not fit {CONFIG}: {error}") from error
    return encoder
