"""A SNAC codec's configuration file: the keys of the snac package, and `causal`."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from max_interfaces.errors import ConfigError

from ..prompt import TokenId

Width = Annotated[int, Meta(ge=1, le=2**16)]
Rate = Annotated[int, Meta(ge=1, le=64)]
Rates = Annotated[tuple[Rate, ...], Meta(min_length=1, max_length=8)]


class StackConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The size of a `mel_encoder.Stack`."""

    width: Width
    depth: Annotated[int, Meta(ge=1, le=64)]


class AlignerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The stack that tells phones from latents: its output k stands for the phone id `first_phone` + k. `pause` is
    that of silence.
    """

    stack: StackConfig
    first_phone: TokenId
    phones: Annotated[int, Meta(ge=1, le=4096)]
    pause: TokenId

    def __post_init__(self) -> None:
        if not self.first_phone <= self.pause < self.first_phone + self.phones:
            raise ValueError(
                f"aligner.pause={self.pause}: is none of the {self.phones} phones from {self.first_phone} on"
            )


class SnacConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Defaults are the package's. `causal`: every layer of the decoder is, see `CausalDecoder`.

    `mel_encoder`: the encoder is a `MelEncoder`, in `encoder.safetensors`; `aligner`: `aligner.safetensors` is there.
    """

    sampling_rate: Annotated[int, Meta(ge=1, le=768_000)] = 44100
    encoder_dim: Width = 64
    encoder_rates: Rates = (3, 3, 7, 7)
    latent_dim: Width | None = None
    decoder_dim: Width = 1536
    decoder_rates: Rates = (7, 7, 3, 3)
    attn_window_size: Annotated[int, Meta(ge=1, le=2**16)] | None = 32
    codebook_size: Annotated[int, Meta(ge=1, le=2**20)] = 4096
    codebook_dim: Width = 8
    vq_strides: Rates = (8, 4, 2, 1)
    noise: bool = True
    depthwise: bool = True
    causal: bool = False
    mel_encoder: StackConfig | None = None
    aligner: AlignerConfig | None = None

    def __post_init__(self) -> None:
        if math.prod(self.encoder_rates) != math.prod(self.decoder_rates):
            raise ValueError(f"decoder_rates={self.decoder_rates} must multiply to what encoder_rates do: {self.hop}")
        if self.decoder_dim % 2 ** len(self.decoder_rates):
            raise ValueError(f"decoder_dim={self.decoder_dim} must halve once for each of {self.decoder_rates}")
        if any(coarse % fine for coarse, fine in pairwise(self.vq_strides)):
            raise ValueError(f"vq_strides={self.vq_strides}: each must be a multiple of the next")

    @property
    def latent(self) -> int:
        """Channels of the latent."""
        return self.latent_dim or self.encoder_dim * 2 ** len(self.encoder_rates)

    @property
    def hop(self) -> int:
        """Samples for one latent step."""
        return math.prod(self.decoder_rates)

    @property
    def latents_per_frame(self) -> int:
        return self.vq_strides[0]

    @property
    def codes_per_frame(self) -> int:
        return sum(self.vq_strides[0] // stride for stride in self.vq_strides)


def read_config(path: Path) -> SnacConfig:
    """The configuration in a `config.json`. ConfigError names the file, the key and what is wrong with it."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=SnacConfig)
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the codec's configuration: {error.strerror}") from error
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: {error}") from error
