"""Where an adapter can change what a model computes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from ..fused_decoder import fused_decoder
from ..linear import Change
from ..quantized_linear import QuantizedLinear


class Place(Protocol):
    """A linear layer, several that are joined, or the embedding."""

    def attach(self, change: Change) -> None:
        """Have each result changed in place: `change` is told what the layer has read, and what it gives."""
        ...

    def detach(self) -> None:
        """Let results be what they are."""
        ...


class HookedModule:
    """A `Place` in a model that transformers runs."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._handle: RemovableHandle | None = None

    def attach(self, change: Change) -> None:
        """See `Place`."""

        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            change(inputs[0], output)

        self._handle = self._module.register_forward_hook(hook)

    def detach(self) -> None:
        """See `Place`."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """A linear layer `[outputs, inputs]`: columns `first` to `first + outputs` of the `width` that its place gives."""

    place: Place
    inputs: int
    outputs: int
    first: int
    width: int


def targets_of(module: PreTrainedModel) -> Mapping[str, Target]:
    """The linear layers of a model by the names that peft knows them by; its head, which reads few rows, is none."""
    decoder = fused_decoder(module)
    targets: dict[str, Target] = {}
    if decoder is not None:
        for names, projection in decoder.projections():
            width, first = sum(projection.outputs), 0
            for name, outputs in zip(names, projection.outputs, strict=True):
                targets[name] = Target(projection, projection.inputs, outputs, first, width)
                first += outputs
        return targets
    head = module.get_output_embeddings()  # type: ignore[no-untyped-call]
    for name, layer in module.named_modules():
        if layer is head:
            continue
        if isinstance(layer, nn.Linear | QuantizedLinear):
            targets[name] = Target(HookedModule(layer), layer.in_features, layer.out_features, 0, layer.out_features)
        elif isinstance(layer, Conv1D):  # GPT-2's
            targets[name] = Target(HookedModule(layer), layer.nx, layer.nf, 0, layer.nf)
    return targets


def layer_of(module: PreTrainedModel, index: int) -> Place:
    """What a layer of the decoder gives, which the next one reads."""
    decoder = fused_decoder(module)
    if decoder is not None:
        return decoder.layers[index]
    layers = module.get_decoder().get_submodule("layers")  # type: ignore[no-untyped-call]
    return HookedModule(layers.get_submodule(str(index)))


def embedding_of(module: PreTrainedModel) -> Place:
    """The lookup of ids, whose results are hidden states."""
    decoder = fused_decoder(module)
    return HookedModule(module.get_input_embeddings()) if decoder is None else decoder.embedding
