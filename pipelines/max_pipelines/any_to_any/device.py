"""Where a model runs."""

from __future__ import annotations

import torch

from ..devices import default_device


def infer_device() -> str:
    """`cuda` where there is a GPU, else `cpu`, as transformers' function of this name says it."""
    return default_device().partition(":")[0]


def device_name(device: str | int | torch.device | None) -> str:
    """As the road has it: `cpu`, or `cuda:0`. ValueError for anything else."""
    if device is None or device == "auto":
        return default_device()
    if isinstance(device, int):
        return "cpu" if device < 0 else f"cuda:{device}"
    try:
        named = torch.device(device)
    except RuntimeError as problem:
        raise ValueError(f"device = {device!r}: must be cpu, cuda or cuda:N") from problem
    if named.type not in ("cpu", "cuda"):
        raise ValueError(f"device = {device!r}: must be cpu, cuda or cuda:N")
    return str(named)
