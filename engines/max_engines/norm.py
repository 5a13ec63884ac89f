"""Root mean square norms, with the sum before them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .kernels import kernels_for

FEW_ROWS = 32


class Norm:
    """The norm of what a layer has added to the hidden states.

    torch makes a dozen operations of it on a CPU, each of which costs more than the arithmetic of a few rows. But the
    layer norm of (x, -x), whose mean is 0, has the same values in one operation; where nothing is compiled, few rows
    in bfloat16 go that way (one row of 256 on cold caches: 26 µs for 40).
    """

    def __init__(self, norm: nn.Module) -> None:
        self.weight: Tensor = norm.get_parameter("weight").detach()
        self.epsilon: float = norm.variance_epsilon  # type: ignore[assignment]
        self._width = self.weight.shape[0]
        self._kernels = kernels_for(self.weight.dtype, self.weight.device, self._width)
        self._twice = torch.cat((self.weight, self.weight))
        reduced = self.weight.device.type == "cpu" and self.weight.dtype != torch.float32
        self._few_rows = FEW_ROWS if reduced else 0

    def __call__(self, hidden: Tensor, update: Tensor | None = None) -> Tensor:
        """Adds `update` to `hidden` in place, and returns its norm. Both are `[rows, width]`, or of more dimensions."""
        if self._kernels is not None and hidden.dim() == 2 and hidden.dtype == self.weight.dtype:
            return self._kernels.add_norm(hidden, update, self.weight, self.epsilon)
        if update is not None:
            hidden.add_(update)
        if hidden.dim() != 2 or hidden.shape[0] > self._few_rows:
            return torch.rms_norm(hidden, (self._width,), self.weight, self.epsilon)
        both = torch.cat((hidden, -hidden), 1)
        return torch.layer_norm(both, (2 * self._width,), self._twice, None, self.epsilon).narrow(1, 0, self._width)
