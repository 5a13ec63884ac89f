"""Reading and folding a codec's weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from max_interfaces.errors import ConfigError

from .convert import read_published

State = dict[str, Tensor]

# Magnitude and direction of a weight under weight norm, as today's torch names them and as it did before 2.0.
_NORM_NAMES = (
    (".parametrizations.weight.original0", ".parametrizations.weight.original1"),
    (".weight_g", ".weight_v"),
)


def read_weights(path: Path) -> State:
    """The tensors of a safetensors file, or of a published `.bin`. ConfigError names the file."""
    try:
        return read_published(path) if path.suffix == ".bin" else load_file(path)
    except (OSError, SafetensorError, ValueError) as error:
        raise ConfigError(f"{path}: cannot read the codec's weights: {error}") from error


def folded(state: Mapping[str, Tensor]) -> State:
    """The same parameters in float32 with weight norm multiplied out; tensors without one stay as they are."""
    plain: State = {}
    for name, tensor in state.items():
        for magnitude, direction in _NORM_NAMES:
            if name.endswith(direction):
                stem = name.removesuffix(direction)
                plain[f"{stem}.weight"] = torch._weight_norm(tensor.float(), state[stem + magnitude].float(), 0)
                break
            if name.endswith(magnitude):
                break
        else:
            plain[name] = tensor.float()
    return plain


def part(state: Mapping[str, Tensor], prefix: str) -> State:
    """The tensors under `prefix`, which is taken off their names."""
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
