"""Codecs with random weights: small ones, and the configurations that are served."""

from __future__ import annotations

import torch
from torch import Tensor

from max_codecs.snac.config import SnacConfig
from max_codecs.snac.decoder import Decoder
from max_codecs.snac.encoder import Encoder
from max_codecs.snac.model import SnacModel, build_model

torch.set_num_threads(1)

SMALL = SnacConfig(
    sampling_rate=8000,
    encoder_dim=4,
    encoder_rates=(4, 3, 2),
    latent_dim=24,
    decoder_dim=32,
    decoder_rates=(4, 3, 2),
    attn_window_size=None,
    codebook_size=64,
    codebook_dim=8,
    vq_strides=(4, 2, 1),
    noise=True,
)

SNAC_24KHZ = SnacConfig(  # hubertsiuzdak/snac_24khz
    sampling_rate=24000,
    encoder_dim=48,
    encoder_rates=(2, 4, 8, 8),
    decoder_dim=1024,
    decoder_rates=(8, 8, 4, 2),
    attn_window_size=None,
    codebook_size=4096,
    codebook_dim=8,
    vq_strides=(4, 2, 1),
    noise=True,
    depthwise=True,
)

EMBEDDED = SnacConfig(  # the embedded voice's
    sampling_rate=16000,
    encoder_dim=8,
    encoder_rates=(8, 4, 4, 2, 2),
    decoder_dim=512,
    decoder_rates=(2, 2, 4, 4, 8),
    attn_window_size=None,
    codebook_size=1024,
    codebook_dim=8,
    vq_strides=(4, 2, 1),
    noise=False,
    depthwise=True,
    causal=True,
)


def random_state(config: SnacConfig, seed: int = 0) -> dict[str, Tensor]:
    """Parameters of `config`, named as the snac package names them, encoder left out; loud enough to measure."""
    torch.manual_seed(seed)
    decoder = Decoder(config.latent, config.decoder_dim, config.decoder_rates, config.noise, config.depthwise)
    state = {f"decoder.{name}": tensor.detach() for name, tensor in decoder.state_dict().items()}
    for name, tensor in state.items():
        if name.endswith("alpha"):
            state[name] = torch.rand_like(tensor) + 0.5
    for level in range(len(config.vq_strides)):
        stem = f"quantizer.quantizers.{level}"
        state[f"{stem}.codebook.weight"] = torch.randn(config.codebook_size, config.codebook_dim)
        state[f"{stem}.out_proj.bias"] = 0.1 * torch.randn(config.latent)
        state[f"{stem}.out_proj.parametrizations.weight.original0"] = torch.ones(config.latent, 1, 1)
        state[f"{stem}.out_proj.parametrizations.weight.original1"] = torch.randn(config.latent, config.codebook_dim, 1)
    return state


def random_encoder_state(config: SnacConfig, seed: int = 0) -> dict[str, Tensor]:
    """What `random_state` leaves out, for whose codes the sound is what counts. `latent_dim` must be None."""
    torch.manual_seed(seed)
    state = {f"encoder.{name}": tensor.detach() for name, tensor in Encoder(config).state_dict().items()}
    for name, tensor in state.items():
        state[name] = torch.zeros_like(tensor) if name.endswith("bias") else tensor
    for level in range(len(config.vq_strides)):
        stem = f"quantizer.quantizers.{level}.in_proj"
        state[f"{stem}.weight"] = torch.randn(config.codebook_dim, config.latent, 1)
        state[f"{stem}.bias"] = torch.zeros(config.codebook_dim)
    return state


def random_model(config: SnacConfig) -> SnacModel:
    return build_model(config, random_state(config))
