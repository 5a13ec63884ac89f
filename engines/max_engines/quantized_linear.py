"""Linear layers whose weights are integers of 8 or 4 bits, with a scale and a zero for each group of inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, pad

from .kernels import PANEL, multiplies_quantized, multiply_quantized


@dataclass(frozen=True, slots=True, eq=False)
class QuantizedWeight:
    """A weight `[outputs, depth]` of `(level - zero) * scale`, in panels of 32 outputs, the last filled up with zeros.

    `words` are int32 `[panels, depth * bits / 32, 32]`: a word holds an output's levels of several successive inputs,
    with their signs, the first in its lowest `bits`, 4 or 8. `scales` and `zeros` are float32 `[panels, groups, 32]`.
    """

    words: Tensor
    scales: Tensor
    zeros: Tensor
    outputs: int
    bits: int

    @classmethod
    def packed(cls, levels: Tensor, scales: Tensor, zeros: Tensor, bits: int) -> QuantizedWeight:
        """Of levels int8 `[outputs, depth]` that fit in `bits`, with a sign; the others are `[outputs, groups]`."""
        many = 32 // bits
        panels = _panels(levels).to(torch.int32)
        fields = panels.view(len(panels), -1, many, PANEL) & (1 << bits) - 1
        words = fields[:, :, 0].clone()
        for index in range(1, many):
            words |= fields[:, :, index] << bits * index
        return cls(words, _panels(scales.float()), _panels(zeros.float()), levels.shape[0], bits)

    @classmethod
    def joined(cls, weights: Sequence[QuantizedWeight]) -> QuantizedWeight | None:
        """Several that read the same input as one; None if they do not fill their panels, or differ in groups."""
        first = weights[0]
        alike = all(w.scales.shape[1] == first.scales.shape[1] and w.bits == first.bits for w in weights)
        if not alike or any(weight.outputs % PANEL for weight in weights[:-1]):
            return None
        words, scales, zeros = (
            torch.cat([getattr(weight, part) for weight in weights]) for part in ("words", "scales", "zeros")
        )
        return cls(words, scales, zeros, sum(weight.outputs for weight in weights), first.bits)

    @property
    def depth(self) -> int:
        """How many inputs there are."""
        return self.words.shape[1] * 32 // self.bits

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return self.words.nbytes + self.scales.nbytes + self.zeros.nbytes

    def floats(self, dtype: torch.dtype) -> Tensor:
        """The weight `[outputs, depth]` itself, input-major in memory."""
        many, depth = 32 // self.bits, self.depth
        shifts = 32 - self.bits * torch.arange(1, many + 1, dtype=torch.int32)
        levels = (self.words[:, :, None] << shifts[:, None]) >> 32 - self.bits
        grouped = levels.reshape(len(levels), self.scales.shape[1], -1, PANEL)
        values = ((grouped - self.zeros[:, :, None]) * self.scales[:, :, None]).to(dtype)
        return values.view(-1, depth, PANEL).transpose(0, 1).reshape(depth, -1).t()[: self.outputs]


class QuantizedLinear(nn.Module):
    """Stands in for an `nn.Linear` on a CPU.

    Where the product is compiled, a row's results depend on that row alone, and are those of the product with the
    weight as floats, to the last bit. Elsewhere the weight is made floats for each product, which is slow.
    """

    def __init__(self, weight: QuantizedWeight, bias: Tensor | None) -> None:
        super().__init__()
        self.quantized = weight
        self.in_features, self.out_features = weight.depth, weight.outputs
        self.bias = bias
        self._padded_bias = None if bias is None else pad(bias.float(), (0, -self.out_features % PANEL))

    @property
    def weight(self) -> Tensor:
        """The weight as floats, made anew each time."""
        return self.quantized.floats(torch.float32)

    @classmethod
    def joined(cls, layers: Sequence[QuantizedLinear]) -> QuantizedLinear | None:
        """Several layers that read the same input as one; None where that cannot be."""
        weight = QuantizedWeight.joined([layer.quantized for layer in layers])
        biases = [layer.bias for layer in layers if layer.bias is not None]
        return None if weight is None else cls(weight, torch.cat(biases) if biases else None)

    def forward(self, values: Tensor) -> Tensor:
        """`[..., in]` to `[..., out]`."""
        weight = self.quantized
        if not multiplies_quantized(values.dtype, values.device):
            return linear(values, weight.floats(values.dtype), self.bias)
        rows = values.reshape(-1, self.in_features)
        result = multiply_quantized(
            rows, weight.words, weight.scales, weight.zeros, self._padded_bias, self.out_features
        )
        return result.view(*values.shape[:-1], self.out_features)


def _panels(rows: Tensor) -> Tensor:
    """`[outputs, columns]` as `[panels, columns, 32]`."""
    filled = pad(rows, (0, 0, 0, -rows.shape[0] % PANEL))
    return filled.view(-1, PANEL, rows.shape[1]).transpose(1, 2).contiguous()
