"""A model's linear layers quantised when it is loaded, weights alone: torchao chooses the integers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Literal, TypeAlias

import torch
from torch import nn
from transformers import PreTrainedModel

from .quantized_linear import QuantizedLinear, QuantizedWeight

Quantization: TypeAlias = Literal["none", "int8", "int4"]
BITS = {"int8": 8, "int4": 4}
GROUP_SIZES = (32, 64, 128, 256)  # that tinygemm, the product on CUDA, takes
SMALLEST_GROUP = 32
MISSING = "needs torchao, which is not installed: pip install 'maxpipe[quantized]', or leave quantization out"


def quantize(module: PreTrainedModel, quantization: Quantization, group_size: int, device: torch.device) -> None:
    """Replace the weights of all linear layers but the head, in place and one by one; the module ends on `device`.

    int8 has a scale for each output; int4 a scale and a zero for each `group_size` inputs of one, fewer where a layer's
    inputs are no multiple of it. On a CPU a layer becomes a `QuantizedLinear`; on CUDA its weight becomes torchao's
    own tensor. Layers whose inputs are no multiple of 32, embeddings, convolutions, stacked experts stay as they are.
    ValueError for a wrong name or group size, without torchao, for a model without linear layers, and for int4 on CUDA
    in another type than bfloat16.
    """
    check(quantization, group_size)
    layers = list(_linear_layers(module))
    if not layers:
        raise ValueError(f"quantization = {quantization!r}: a {type(module).__name__} has no linear layers to quantise")
    if device.type == "cpu":
        for parent, name, layer in layers:
            parent.set_submodule(name, _quantized(layer, BITS[quantization], group_size))
    else:
        _quantize_for_cuda(module, [layer for _, _, layer in layers], quantization, group_size, device)


def check(quantization: Quantization, group_size: int) -> None:
    """ValueError for a name or a size that is none, and without torchao."""
    if quantization != "none" and quantization not in BITS:
        raise ValueError(f"quantization = {quantization!r}: must be none, {' or '.join(BITS)}")
    if group_size not in GROUP_SIZES:
        raise ValueError(f"quantization_group_size = {group_size}: must be one of {', '.join(map(str, GROUP_SIZES))}")
    if quantization != "none" and find_spec("torchao") is None:
        raise ValueError(f"quantization = {quantization!r}: {MISSING}")


def _linear_layers(module: PreTrainedModel) -> Iterator[tuple[nn.Module, str, nn.Linear]]:
    """Each layer that is to be quantised, with its parent and its name there."""
    head = module.get_output_embeddings()  # type: ignore[no-untyped-call]
    for parent in list(module.modules()):
        for name, layer in list(parent.named_children()):
            if type(layer) is nn.Linear and layer is not head and layer.in_features % SMALLEST_GROUP == 0:
                yield parent, name, layer


def _quantized(layer: nn.Linear, bits: int, group_size: int) -> QuantizedLinear:
    from torchao.quantization import IntxWeightOnlyConfig, MappingType, PerAxis, PerGroup, quantize_

    if bits == 8:
        config = IntxWeightOnlyConfig(torch.int8, PerAxis(0))
    else:
        four: torch.dtype = torch.int4  # type: ignore[attr-defined]
        config = IntxWeightOnlyConfig(four, PerGroup(_group(layer, group_size)), MappingType.ASYMMETRIC)
    layer.weight = nn.Parameter(layer.weight.detach().float().contiguous(), requires_grad=False)
    quantize_(layer, config)
    levels, scales, zeros = (getattr(layer.weight, part) for part in ("qdata", "scale", "zero_point"))
    packed = QuantizedWeight.packed(levels, scales, zeros, bits)
    return QuantizedLinear(packed, None if layer.bias is None else layer.bias.detach())


def _quantize_for_cuda(
    module: PreTrainedModel, layers: list[nn.Linear], quantization: Quantization, group_size: int, device: torch.device
) -> None:
    from torchao.quantization import Int4WeightOnlyConfig, Int8WeightOnlyConfig, quantize_

    if quantization == "int8":
        quantize_(module, Int8WeightOnlyConfig(set_inductor_config=False), lambda layer, _: layer in layers, device)
        return
    if module.dtype != torch.bfloat16:
        raise ValueError(f"quantization = 'int4': on CUDA dtype must be bfloat16, not {module.dtype}")
    for layer in layers:
        size = _group(layer, group_size)
        config = Int4WeightOnlyConfig(size, set_inductor_config=False, int4_packing_format="tile_packed_to_4d")
        quantize_(layer, config, device=device)
    nn.Module.to(module, device)


def _group(layer: nn.Linear, group_size: int) -> int:
    return math.gcd(layer.in_features, group_size)
