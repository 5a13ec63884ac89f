"""Checkpoints of quantised weights, packed here in numpy from the formats' descriptions, and what they stand for."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

Floats: TypeAlias = NDArray[np.float32]
Integers: TypeAlias = NDArray[np.int64]
Parts: TypeAlias = dict[str, torch.Tensor]  # by what their names have in the place of ".weight"
Store: TypeAlias = Callable[[int, int, np.random.Generator], tuple[Parts, Floats]]  # of a weight [outputs, inputs]

AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)  # the column that each nibble of a word holds, lowest first


def pack(values: Integers, bits: int) -> torch.Tensor:
    """Along the last axis, the first value in the lowest bits; what the last word lacks is 0."""
    many = 32 // bits
    filled = np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, -values.shape[-1] % many)])
    words = np.zeros((*filled.shape[:-1], filled.shape[-1] // many), np.uint32)
    for index in range(many):
        words |= (filled[..., index::many].astype(np.uint32) & np.uint32(2**bits - 1)) << np.uint32(bits * index)
    return torch.from_numpy(words.view(np.int32))


def awq(group: int = 32) -> Store:
    """4 bits, outputs in AWQ's order within each word."""

    def store(outputs: int, inputs: int, source: np.random.Generator) -> tuple[Parts, Floats]:
        levels = source.integers(0, 16, (inputs, outputs))
        zeros = source.integers(0, 16, (inputs // group, outputs))
        scales = scale(source, inputs // group, outputs)
        parts = {".qweight": pack(_shuffled(levels), 4), ".qzeros": pack(_shuffled(zeros), 4), ".scales": half(scales)}
        weight = np.empty((outputs, inputs), np.float32)
        for i in range(inputs):
            weight[:, i] = (levels[i] - zeros[i // group]).astype(np.float32) * scales[i // group]
        return parts, weight

    return store


def _shuffled(columns: Integers) -> Integers:
    result = np.empty_like(columns)
    for place, column in enumerate(AWQ_ORDER):
        result[:, place::8] = columns[:, column::8]
    return result


def gptq(bits: int, group: int, *, symmetric: bool = False, shuffled: bool = False, version: int = 1) -> Store:
    """Packed along inputs; `shuffled` gives inputs to groups at random, as desc_act does."""

    def store(outputs: int, inputs: int, source: np.random.Generator) -> tuple[Parts, Floats]:
        levels = source.integers(0, 2**bits, (inputs, outputs))
        # Version 1 stores zeros less one, and so has none that are 0.
        zeros = source.integers(1, 2**bits, (inputs // group, outputs))
        if symmetric:
            zeros[:] = 2 ** (bits - 1)
        scales = scale(source, inputs // group, outputs)
        groups = np.arange(inputs) // group
        parts = {
            ".qweight": pack(np.ascontiguousarray(levels.T), bits).T.contiguous(),
            ".qzeros": pack(zeros - 1 if version == 1 else zeros, bits),
            ".scales": half(scales),
        }
        if shuffled:
            groups = source.permutation(groups)
            parts[".g_idx"] = torch.from_numpy(groups.astype(np.int32))
        weight = np.empty((outputs, inputs), np.float32)
        for i, number in enumerate(groups):
            weight[:, i] = (levels[i] - zeros[number]).astype(np.float32) * scales[number]
        return parts, weight

    return store


def float8(kind: str, block: int = 32) -> Store:
    """e4m3 with a scale for the `tensor`, each `channel`, or each `block` of both."""

    def store(outputs: int, inputs: int, source: np.random.Generator) -> tuple[Parts, Floats]:
        bits = source.integers(0, 256, (outputs, inputs)).astype(np.uint8)
        bits[bits & 0x7F == 0x7F] = 0  # these are NaN
        sign, exponent, mantissa = bits >> 7, (bits >> 3 & 15).astype(np.int32), bits & 7
        value = np.where(exponent == 0, mantissa / 8 * 2.0**-6, (1 + mantissa / 8) * 2.0 ** (exponent - 7.0))
        value = np.where(sign == 1, -value, value).astype(np.float32)
        if kind == "block":
            scales = scale(source, -(-outputs // block), -(-inputs // block)) / 100
            spread = np.repeat(np.repeat(scales, block, 0), block, 1)[:outputs, :inputs]
        else:
            scales = scale(source, *((outputs, 1) if kind == "channel" else (1, 1))) / 100
            spread = np.broadcast_to(scales, value.shape)
        stored = torch.from_numpy(bits).view(torch.float8_e4m3fn)
        name = ".weight_scale_inv" if kind == "block" else ".weight_scale"
        shaped = torch.from_numpy(scales if kind != "tensor" else scales.reshape(()))
        return {".weight": stored, name: shaped, ".input_scale": torch.tensor(3.0)}, (value * spread).astype(np.float32)

    return store


def packed(bits: int, group: int, *, zeros: bool = False, shuffled: bool = False) -> Store:
    """compressed-tensors' pack-quantized: signed integers, stored plus half their range."""

    def store(outputs: int, inputs: int, source: np.random.Generator) -> tuple[Parts, Floats]:
        middle, count = 2 ** (bits - 1), inputs // group
        levels = source.integers(-middle, middle, (outputs, inputs))
        zero = source.integers(-middle, middle, (outputs, count)) if zeros else np.zeros((outputs, count), np.int64)
        scales, groups = scale(source, outputs, count), np.arange(inputs) // group
        parts = {
            ".weight_packed": pack(levels + middle, bits),
            ".weight_scale": half(scales),
            ".weight_shape": torch.tensor([outputs, inputs]),
        }
        if zeros:
            parts[".weight_zero_point"] = pack(np.ascontiguousarray((zero + middle).T), bits).T.contiguous()
        if shuffled:
            groups = source.permutation(groups)
            parts[".weight_g_idx"] = torch.from_numpy(groups.astype(np.int32))
        weight = np.empty((outputs, inputs), np.float32)
        for i, number in enumerate(groups):
            weight[:, i] = (levels[:, i] - zero[:, number]).astype(np.float32) * scales[:, number]
        return parts, weight

    return store


def int8(group: int | None = None, *, zeros: bool = False) -> Store:
    """compressed-tensors' int-quantized: a scale for each output, or for each group of its inputs."""

    def store(outputs: int, inputs: int, source: np.random.Generator) -> tuple[Parts, Floats]:
        count = 1 if group is None else inputs // group
        levels = source.integers(-128, 128, (outputs, inputs))
        zero = source.integers(-20, 20, (outputs, count)) if zeros else np.zeros((outputs, count), np.int64)
        scales = scale(source, outputs, count, low=0.002)
        parts = {".weight": torch.from_numpy(levels.astype(np.int8)), ".weight_scale": half(scales)}
        if zeros:
            parts[".weight_zero_point"] = torch.from_numpy(zero.astype(np.int8))
        size = inputs // count
        weight = (levels - np.repeat(zero, size, 1)).astype(np.float32) * np.repeat(scales, size, 1)
        return parts, weight

    return store


def scale(source: np.random.Generator, *shape: int, low: float = 0.02) -> Floats:
    """Scales that float16 holds, from `low` to thrice that."""
    return source.uniform(low, 3 * low, shape).astype(np.float16).astype(np.float32)


def half(values: Floats) -> torch.Tensor:
    return torch.from_numpy(values.astype(np.float16))


def quantize_checkpoint(plain: Path, folder: Path, settings: Mapping[str, object], store: Store) -> dict[str, Floats]:
    """Write `plain`'s model to `folder` with layers' weights of `store`'s in their place, and change `plain` to them.

    Returns what each quantised weight is.
    """
    source = np.random.default_rng(0)
    floats = load_file(plain / "model.safetensors")
    quantised = dict(floats)
    expected: dict[str, Floats] = {}
    for name in [name for name in floats if name.endswith("_proj.weight")]:
        outputs, inputs = floats[name].shape
        parts, expected[name] = store(outputs, inputs, source)
        del quantised[name]
        quantised.update({name.removesuffix(".weight") + ending: part.clone() for ending, part in parts.items()})
        floats[name] = torch.from_numpy(expected[name])
    folder.mkdir()
    config = json.loads((plain / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": dict(settings)}))
    save_file(quantised, folder / "model.safetensors", {"format": "pt"})
    save_file(floats, plain / "model.safetensors", {"format": "pt"})
    return expected
