"""A SNAC model as far as decoding goes: loading it, and the obvious way to decode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.utils.parametrize import is_parametrized, remove_parametrizations

from max_interfaces.errors import ConfigError

from ..slots import Slot, depth_first
from ..streaming.stage import NoiseSource
from .codebooks import Codebooks
from .config import SnacConfig, read_config
from .decoder import Decoder
from .files import CodecFiles, locate
from .phone_head import SnacPhones, load_phones
from .weights import State, folded, part, read_weights

ModuleT = TypeVar("ModuleT", bound=nn.Module)
DType = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True, slots=True, eq=False)
class SnacModel:
    """Quantizer and decoder, weight norm folded. `slots` says where each code of a frame belongs. `phones` tells which
    phone sounds, if the codec was trained for it.
    """

    config: SnacConfig
    slots: tuple[Slot, ...]
    codebooks: Codebooks
    decoder: Decoder
    phones: SnacPhones | None = None

    @torch.inference_mode()
    def decode(self, frames: NDArray[np.int64], noise: NoiseSource | None = None) -> NDArray[np.float32]:
        """The whole sound at once, frames int64[n, codes] to samples float32[n * frame_samples].

        The slow twin of `SnacCodec`, kept as the reference that it is tested against.
        """
        latents = self.codebooks.latents(torch.from_numpy(np.array(frames, np.int64, order="C")))
        samples: NDArray[np.float32] = self.decoder(latents.t()[None], noise).flatten().float().cpu().numpy()
        return samples


def load_model(
    source: str | Path,
    *,
    device: str = "cpu",
    dtype: DType = "float32",
    slots: Sequence[Slot] | None = None,
    offline: bool = False,
) -> SnacModel:
    """The model in a folder (`config.json` and safetensors), or of a hub id; the encoder may be missing.

    `slots` is the order of a frame's codes, Orpheus's by default. ConfigError, with the path, for files that are
    missing or do not fit one another, for a model with attention, and for a device that is not there.
    """
    files, config, state = read_model(source, offline=offline)
    try:
        model = build_model(config, state, device=device, dtype=dtype, slots=slots)
        return replace(model, phones=load_phones(files, config, model.codebooks))
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"{files.weights}: does not fit {files.config.name}: {error}") from error


def read_model(source: str | Path, *, offline: bool = False) -> tuple[CodecFiles, SnacConfig, State]:
    """What lies in a folder, or is to be had of a hub id. ConfigError as `load_model`."""
    files = locate(source, offline=offline)
    config = read_config(files.config)
    if config.attn_window_size is not None:
        raise ConfigError(
            f"{files.config}: attn_window_size={config.attn_window_size}: attention over blocks cannot be streamed;"
            " only pure convolution models can, such as hubertsiuzdak/snac_24khz"
        )
    return files, config, read_weights(files.weights)


def build_model(
    config: SnacConfig,
    state: State,
    *,
    device: str = "cpu",
    dtype: DType = "float32",
    slots: Sequence[Slot] | None = None,
) -> SnacModel:
    """The model from parameters named as in `snac.SNAC`, with weight norm or folded, of any float type.

    ValueError for parameters that do not fit the configuration.
    """
    order = order_of(config, slots)
    place, kind = usable_device(device), getattr(torch, dtype)
    plain = {name: tensor.to(place, kind) for name, tensor in folded(state).items()}
    decoder = Decoder(
        config.latent,
        config.decoder_dim,
        config.decoder_rates,
        config.noise,
        config.depthwise,
        config.attn_window_size,
        causal=config.causal,
    )
    fill(without_norm(decoder), part(plain, "decoder."), "decoder")
    decoder.requires_grad_(False).eval()
    return SnacModel(config, order, Codebooks(part(plain, "quantizer."), config, order), decoder)


def order_of(config: SnacConfig, slots: Sequence[Slot] | None) -> tuple[Slot, ...]:
    """The order of a frame's codes, Orpheus's by default. ValueError for one that is not of this configuration."""
    order = tuple(slots) if slots is not None else depth_first(config.vq_strides)
    if sorted(order) != sorted(depth_first(config.vq_strides)):
        raise ValueError(f"slots={list(order)}: not the codes of a frame with vq_strides={list(config.vq_strides)}")
    return order


def without_norm(module: ModuleT) -> ModuleT:
    """The module itself, ready for folded weights."""
    for layer in module.modules():
        if is_parametrized(layer):
            remove_parametrizations(layer, "weight")
    return module


def fill(module: nn.Module, state: State, name: str) -> None:
    """Load the folded parameters; ValueError names the first that is missing, unknown or of the wrong shape."""
    try:
        module.load_state_dict(state, assign=True)
    except RuntimeError as error:
        problems = str(error).splitlines()[1:] or [str(error)]
        raise ValueError(f"{name}: {problems[0].strip()}") from error


def usable_device(name: str) -> torch.device:
    """The device, tried out; ConfigError if it is not there."""
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device={name!r}: not usable here: {str(error).splitlines()[0]}") from error
    return device
