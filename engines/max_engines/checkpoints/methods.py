"""From a checkpoint's `quantization_config` to how its weights are stored; what is not known is refused by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from .awq import AWQ
from .gptq import gptq_scheme
from .packed import PACKED
from .scaled import scaled_schemes
from .scheme import Scheme

Settings: TypeAlias = Mapping[str, object]
COMPRESSED = ("pack-quantized", "int-quantized", "naive-quantized", "float-quantized", "mixed-precision")


def quantization_config(config: Settings) -> Settings | None:
    """What a `config.json` says of quantised weights, also within the part about text; None if it says nothing."""
    for part in (config, config.get("text_config")):
        if isinstance(part, Mapping):
            for name in ("quantization_config", "compression_config"):
                found = part.get(name)
                if isinstance(found, Mapping):
                    return found
    return None


def schemes(settings: Settings) -> tuple[Scheme, ...]:
    """How a checkpoint with these settings stores weights. ValueError, with its name, for a way that is not known."""
    method = settings.get("quant_method")
    known = METHODS.get(method) if isinstance(method, str) else None
    if known is None:
        raise ValueError(
            f"its weights are quantised by {method!r}; read are {', '.join(METHODS)}: take a checkpoint in one of "
            "these, or the unquantised one with quantization: int8 or int4"
        )
    return known(settings)


def _awq(settings: Settings) -> tuple[Scheme, ...]:
    _allow(settings, "bits", 4, 4)
    _allow(settings, "version", "gemm", "gemm", "GEMM")
    return (AWQ,)


def _gptq(settings: Settings) -> tuple[Scheme, ...]:
    bits = _allow(settings, "bits", 4, 2, 4, 8)
    layout = "checkpoint_format" if "checkpoint_format" in settings else "format"
    version = _allow(settings, layout, "gptq", "gptq", "gptq_v2")
    return (gptq_scheme(int(bits), zeros_less_one=version == "gptq"),)


def _float8(settings: Settings) -> tuple[Scheme, ...]:
    _allow(settings, "fmt", "e4m3", "e4m3", "float8_e4m3fn")
    block = settings.get("weight_block_size")
    if block is None:
        return scaled_schemes(None)
    if not (isinstance(block, list) and len(block) == 2 and all(isinstance(size, int) and size > 0 for size in block)):
        raise ValueError(f"its quantization_config has weight_block_size = {block!r}: must be two positive numbers")
    return scaled_schemes((block[0], block[1]))


def _compressed(settings: Settings) -> tuple[Scheme, ...]:
    _allow(settings, "format", "naive-quantized", *COMPRESSED)
    for name in ("sparsity_config", "transform_config"):
        part = settings.get(name)
        if isinstance(part, Mapping) and part.get("format", "sparse") != "dense" and part:
            raise ValueError(f"its quantization_config has a {name}, which is not supported")
    return (PACKED, *scaled_schemes(None))


def _allow(settings: Settings, name: str, default: str | int, *allowed: str | int) -> str | int:
    value = settings.get(name, default)
    for choice in allowed:
        if value == choice:
            return choice
    raise ValueError(f"its quantization_config has {name} = {value!r}: must be one of {', '.join(map(str, allowed))}")


METHODS: Mapping[str, Callable[[Settings], tuple[Scheme, ...]]] = {
    "awq": _awq,
    "gptq": _gptq,
    "fp8": _float8,
    "fbgemm_fp8": _float8,
    "compressed-tensors": _compressed,
}
