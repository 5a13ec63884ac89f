"""vLLM's `quantization`: a word for what a checkpoint is, or for what becomes of its weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

from ..config import ModelConfig

WhenLoaded: TypeAlias = Literal["none", "int8", "int4"]
OF_CHECKPOINTS = ("awq", "gptq", "fp8", "fbgemm_fp8", "compressed-tensors")
WHEN_LOADED: Mapping[str, WhenLoaded] = {"torchao": "int8", "int8": "int8", "int4": "int4"}


def when_loaded(name: str | None) -> WhenLoaded:
    """What becomes of the weights when they are loaded. ValueError for a name that nobody knows, with all others."""
    if name is not None and name not in (*OF_CHECKPOINTS, *WHEN_LOADED):
        known = f"{', '.join(OF_CHECKPOINTS)} (a checkpoint's own), {', '.join(WHEN_LOADED)} (made when it is loaded)"
        raise ValueError(f"quantization = {name!r}: must be None or one of {known}")
    return WHEN_LOADED.get(name or "", "none")


def see_that_checkpoint_has(name: str, model: ModelConfig) -> None:
    """ValueError if a checkpoint is not quantised in this way. Imports torch, and reads or downloads its config."""
    from max_engines.checkpoints import own_quantization

    try:
        own = own_quantization(str(model.location), model.revision)
    except OSError:
        return  # there is no model: whoever loads it says so, and what there should be
    found = None if own is None else own.get("quant_method")
    if found != name:
        what = "is not quantised; for int8 or int4 weights give that" if own is None else f"is quantised by {found!r}"
        raise ValueError(f"quantization = {name!r}: the checkpoint {model.path!r} {what}")
