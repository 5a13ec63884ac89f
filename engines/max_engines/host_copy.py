"""Results on their way from the device to the host, without a halt of the device."""

from __future__ import annotations

import torch
from torch import Tensor


class HostCopy:
    """Copies of tensors that the device is still computing.

    The copy is queued behind that work at once, so that what is launched afterwards does not delay it.
    """

    def __init__(self, *tensors: Tensor) -> None:
        self._copies = tuple(tensor.to("cpu", non_blocking=True) for tensor in tensors)
        self._done: torch.cuda.Event | None = None
        if tensors[0].is_cuda:
            self._done = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._done.record()

    def read(self) -> tuple[Tensor, ...]:
        """The copies on the CPU, in the order given; waits until they are there."""
        if self._done is not None:
            self._done.synchronize()
        return self._copies
