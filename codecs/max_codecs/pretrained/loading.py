"""A codec's model, as transformers reads it from a folder or from the hub."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeVar, cast

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, PreTrainedModel

from max_interfaces.errors import ConfigError

ModelT = TypeVar("ModelT", bound=PreTrainedModel)
ModuleT = TypeVar("ModuleT", bound=nn.Module)
NEEDED = ("decoder", "quantizer")  # a checkpoint may lack the encoder


def load_pretrained(
    kind: type[ModelT], model_type: str, source: str | Path, device: str, needed: tuple[str, ...] = NEEDED
) -> ModelT:
    """The model, in float32, on its device. Safetensors only; `needed` are the parts that must have their weights.

    ConfigError, with the source, for what is no folder or hub id, for a checkpoint of another kind, for weights that
    are missing or do not fit, and for a device that is not there.
    """
    try:
        config = AutoConfig.from_pretrained(source)
        if config.model_type != model_type:
            raise ConfigError(
                f"{source}: is a model of type {config.model_type}; this kind of codec reads {model_type}"
            )
        loaded = kind.from_pretrained(
            source, config=config, dtype=torch.float32, use_safetensors=True, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as problem:
        if isinstance(problem, ConfigError):
            raise
        reason = str(problem).strip().splitlines() or [type(problem).__name__]
        raise ConfigError(f"{source}: cannot be read as a codec of type {model_type}: {reason[0]}") from problem
    model, report = cast(
        tuple[ModelT, Mapping[str, Iterable[str]]], loaded
    )  # from_pretrained is typed without a report
    missing = sorted(name for name in report["missing_keys"] if name.startswith(needed))
    if missing:
        raise ConfigError(f"{source}: the weights lack {missing[0]} and {len(missing) - 1} more")
    try:
        nn.Module.to(model.requires_grad_(False), device)
    except (RuntimeError, AssertionError) as problem:
        raise ConfigError(f"device={device!r}: not usable here: {str(problem).splitlines()[0]}") from problem
    return model


def members(modules: Iterable[nn.Module], kind: type[ModuleT]) -> list[ModuleT]:
    """The modules of a list, by their type."""
    return [module for module in modules if isinstance(module, kind)]
