"""Linear layers laid out once for the kernel that will multiply with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from .kernels import multiplies_quantized, panelled_weight, tiled_weight
from .quantized_linear import QuantizedLinear

Multiply: TypeAlias = Callable[[Tensor], Tensor]
Change: TypeAlias = Callable[[Tensor, Tensor], None]


class Projection:
    """Several linear layers that read the same input, as one: `[rows, in]` to `[rows, sum of outs]`.

    On a CPU, in float32, and in bfloat16 with tile registers, weights are laid out for compiled products: a row's
    result then depends on that row alone, and `row_by_row` is true. Else, in bfloat16 and float16, oneDNN's layout of a
    weight is made here, once: otherwise each product would make it anew, and a step of a small model take 1.5 times as
    long. What is left keeps the layout of the first, see `loading.store_input_major`. Quantised layers keep theirs.
    """

    def __init__(self, *layers: nn.Linear | QuantizedLinear) -> None:
        self.inputs: int = layers[0].in_features
        self.outputs: tuple[int, ...] = tuple(layer.out_features for layer in layers)
        self._change: Change | None = None
        self._multiply, self.row_by_row = _laid_out(layers)

    def __call__(self, values: Tensor) -> Tensor:
        result = self._multiply(values)
        if self._change is not None:
            self._change(values, result)
        return result

    def attach(self, change: Change) -> None:
        """Have each result changed in place, by a function of what was read and the result: see `adapters.places`."""
        self._change = change

    def detach(self) -> None:
        """Let results be what they are."""
        self._change = None


def _laid_out(layers: Sequence[nn.Linear | QuantizedLinear]) -> tuple[Multiply, bool]:
    """The product, and whether a row's result depends on that row alone."""
    quantized = [layer for layer in layers if isinstance(layer, QuantizedLinear)]
    if quantized:
        joined = QuantizedLinear.joined(quantized) or _apart(quantized)
        return joined, multiplies_quantized(torch.float32, torch.device("cpu"))
    weights: list[Tensor] = [layer.weight.detach() for layer in layers]
    if type(weights[0]) is not Tensor:  # torchao's, on CUDA
        return _apart(layers), False
    biases = [layer.bias.detach() for layer in layers if layer.bias is not None]
    if len(biases) not in (0, len(layers)):
        raise TypeError("a bias on some of several joined layers")
    bias = torch.cat(biases) if biases else None
    compiled = tiled_weight(weights, bias) or panelled_weight(weights, bias)
    if compiled is not None:
        return compiled.multiply, True
    return _packed(weights, bias) or _plain(weights, bias), False


def _apart(layers: Sequence[nn.Module]) -> Multiply:
    if len(layers) == 1:
        return layers[0]
    return lambda values: torch.cat([layer(values) for layer in layers], -1)


def _plain(weights: Sequence[Tensor], bias: Tensor | None) -> Multiply:
    if len(weights) == 1:
        weight = weights[0]
    elif weights[0].is_contiguous():
        weight = torch.cat(list(weights))
    else:
        weight = torch.cat([part.t() for part in weights], 1).t()
    return lambda values: linear(values, weight, bias)


def _packed(weights: Sequence[Tensor], bias: Tensor | None) -> Multiply | None:
    """The product with oneDNN's own layout; None where there is no such kernel.

    These are the operations that torch's inductor puts in the place of frozen linear layers on a CPU.
    """
    first = weights[0]
    operations = torch.ops.mkldnn
    if first.device.type != "cpu" or first.dtype not in (torch.bfloat16, torch.float16):
        return None
    if not hasattr(operations, "_reorder_linear_weight") or not hasattr(operations, "_linear_pointwise"):
        return None
    multiply = operations._linear_pointwise.default
    try:
        packed = operations._reorder_linear_weight(torch.cat(list(weights)))
        multiply(first.new_zeros(1, first.shape[1]), packed, bias, "none", [], "")
    except RuntimeError:  # a processor without instructions for this type
        return None

    def product(values: Tensor) -> Tensor:
        result: Tensor = multiply(values, packed, bias, "none", [], "")
        return result

    return product
