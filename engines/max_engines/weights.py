"""What becomes of a model's weights once they are read: integers, or guests of the device for a moment."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from . import quantizing, streaming
from .quantizing import Quantization


@dataclass(frozen=True, slots=True)
class WeightOptions:
    """`quantization` is of linear layers, see `quantizing`; `cpu_offload_gb` GiB of layers come as `streaming` says."""

    quantization: Quantization = "none"
    quantization_group_size: int = 64
    cpu_offload_gb: float = 0.0

    def check(self, device: torch.device) -> None:
        """ValueError, with what to do, for what cannot be had on `device` or at once."""
        quantizing.check(self.quantization, self.quantization_group_size)
        streaming.check(self.cpu_offload_gb, device, self.quantization != "none")

    def apply(self, module: PreTrainedModel, device: torch.device) -> None:
        """Change a module on the CPU that is about to go to `device`. ValueError if it is none for it."""
        if self.quantization != "none":
            quantizing.quantize(module, self.quantization, self.quantization_group_size, device)
        if self.cpu_offload_gb:
            link = streaming.CudaLink(device)
            streaming.stream_layers(module, int(self.cpu_offload_gb * streaming.GIB), link)


PLAIN = WeightOptions()
