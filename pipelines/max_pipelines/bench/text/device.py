"""The device's memory: how much of it is used, and how fast it can be copied."""

from __future__ import annotations

import time

import torch

COPY_BYTES = 2**30  # far more than any cache holds
COPIES = 20


def used_memory(device: str) -> int:
    """Bytes in use on a CUDA device, by whomever; 0 for the CPU, whose memory the parent reads."""
    if not device.startswith("cuda"):
        return 0
    free, total = torch.cuda.mem_get_info(device)
    return int(total - free)


def copy_bandwidth(device: str, size: int = COPY_BYTES) -> float:
    """Bytes a second, read and written, of the fastest of some copies of `size` bytes."""
    source = torch.ones(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    best = float("inf")
    for _ in range(COPIES):
        _wait(device)
        begin = time.perf_counter()
        target.copy_(source)
        _wait(device)
        best = min(best, time.perf_counter() - begin)
    return 2 * size / best


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
