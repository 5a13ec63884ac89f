"""Mimi, DAC and EnCodec of transformers with tiny random weights, loud enough to measure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import DacConfig, DacModel, EncodecConfig, EncodecModel, MimiConfig, MimiModel, PreTrainedModel

torch.set_num_threads(1)

CODES, LEVELS = 64, 3
Codec: TypeAlias = MimiModel | DacModel | EncodecModel
CodecT = TypeVar("CodecT", MimiModel, DacModel, EncodecModel)
WINDOW = 7  # of Mimi's attention, in rows


def tiny_mimi(**fields: Any) -> MimiModel:
    """8 kHz, 48 samples a frame; 4 query heads share 2 of keys and values. Codebook 0 is semantic."""
    wanted: dict[str, Any] = {
        "sampling_rate": 8000, "hidden_size": 32, "num_filters": 4, "upsampling_ratios": [4, 3, 2],
        "num_quantizers": LEVELS, "codebook_size": CODES, "codebook_dim": 16, "upsample_groups": 32,
        "vector_quantization_hidden_dimension": 16, "num_hidden_layers": 2, "intermediate_size": 48,
        "num_attention_heads": 4, "num_key_value_heads": 2, "sliding_window": WINDOW,
    }  # fmt: skip
    torch.manual_seed(3)
    return _loud(MimiModel(MimiConfig(**{**wanted, **fields})))


def tiny_dac(**fields: Any) -> DacModel:
    """16 kHz, 64 samples a frame."""
    wanted: dict[str, Any] = {
        "downsampling_ratios": [2, 4, 8], "encoder_hidden_size": 4, "decoder_hidden_size": 32,
        "n_codebooks": LEVELS, "codebook_size": CODES, "codebook_dim": 4,
    }  # fmt: skip
    torch.manual_seed(4)
    return _loud(DacModel(DacConfig(**{**wanted, **fields})))


def tiny_encodec(*, upsampling_ratios: Sequence[int] = (5, 4, 2), **fields: Any) -> EncodecModel:
    """8 kHz, 40 samples a frame."""
    rate = math.ceil(8000 / math.prod(upsampling_ratios))
    wanted: dict[str, Any] = {
        "sampling_rate": 8000, "hidden_size": 16, "num_filters": 4, "upsampling_ratios": list(upsampling_ratios),
        "codebook_size": CODES, "target_bandwidths": [(LEVELS + 0.5) * rate * 6 / 1000],  # 6 bits are a code
    }  # fmt: skip
    torch.manual_seed(5)
    return _loud(EncodecModel(EncodecConfig(**{**wanted, **fields})))


def whole(model: Codec, frames: NDArray[np.int64]) -> NDArray[np.float32]:
    """What transformers decodes of frames int64[n, levels] at once: the obvious twin."""
    codes = torch.from_numpy(frames.T.copy())[None]
    decoder: Any = model
    with torch.inference_mode():
        if isinstance(model, EncodecModel):
            sound = decoder.decode(codes[None], [None]).audio_values
        else:
            sound = decoder.decode(audio_codes=codes).audio_values
    samples: NDArray[np.float32] = sound.flatten().numpy()
    return samples


def random_codes(count: int, seed: int = 0, levels: int = LEVELS) -> NDArray[np.int64]:
    """Frames int64[count, levels]."""
    return np.random.default_rng(seed).integers(0, CODES, (count, levels))


def save_mimi(folder: Path) -> Path:
    return _saved(tiny_mimi(), folder)


def save_dac(folder: Path) -> Path:
    return _saved(tiny_dac(), folder)


def save_encodec(folder: Path) -> Path:
    return _saved(tiny_encodec(), folder)


def _saved(model: PreTrainedModel, folder: Path) -> Path:
    model.save_pretrained(folder)
    return folder


def _loud(model: CodecT) -> CodecT:
    """Weights that let every layer count, and an output whose peak is 1 (before DAC's tanh), as a codec's is."""
    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if "codebook" in name and tensor.dim() == 2:
                tensor.normal_()
            elif name.endswith(("alpha", "cluster_usage")):
                tensor.uniform_(0.5, 1.5)
            elif name.endswith("layer_scale.scale"):
                tensor.fill_(0.5)
            elif name.endswith("bias"):
                tensor.normal_(std=0.1)
            elif isinstance(model, DacModel) and "conv_t1" not in name:
                tensor.normal_(std=0.5 * (tensor.shape[1] * tensor.shape[2]) ** -0.5)
        last = _last(model)
        peak = _peak(model)
        for name, tensor in last.named_parameters():
            if not name.endswith("original1"):  # a direction, whatever its length
                tensor.div_(peak)
    model.train(False)
    return model


def _peak(model: Codec) -> float:
    """The loudest sample of some sound, before DAC's tanh."""
    seen: list[float] = []
    with _last(model).register_forward_hook(lambda _, __, output: seen.append(float(output.abs().max()))):
        whole(model, random_codes(60))
    return seen[0]


def _last(model: Codec) -> torch.nn.Module:
    """The convolution that ends the decoder."""
    decoder: Any = model.decoder
    if isinstance(model, DacModel):
        return cast(torch.nn.Module, decoder.conv2)
    layers = decoder.layers if isinstance(model, EncodecModel) else decoder.decoder_seanet.layers
    return cast(torch.nn.Module, layers[-1].conv)
