"""What an exception of torch means: that memory is short, or that the device is gone."""

from __future__ import annotations

import torch

# What torch's allocators, cuBLAS and C++ say where torch has no type for it.
_SHORT = ("out of memory", "can't allocate memory", "not enough memory", "ALLOC_FAILED", "bad_alloc")


def out_of_memory(problem: Exception) -> bool:
    """True if it failed for want of memory, so that less of it may go."""
    if isinstance(problem, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(problem, RuntimeError) and any(words in str(problem) for words in _SHORT)


def device_lost(problem: Exception, device: torch.device) -> bool:
    """True if no call on the device will succeed any more, as after an illegal access of its memory.

    An error of CUDA does not say whether it is of that kind, and libraries have errors of their own for it, so a GPU is
    asked whether it still answers.
    """
    if not isinstance(problem, RuntimeError):
        return False
    if device.type != "cuda":
        reported = isinstance(problem, torch.AcceleratorError) or str(problem).startswith("CUDA error")
        return reported and not out_of_memory(problem)
    try:
        torch.cuda.synchronize(device)
    except RuntimeError:
        return True
    return False
