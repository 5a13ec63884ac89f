"""Layers whose weights stay in main memory, and come to the device one layer ahead of their use.

Two buffers on the device take turns: while a layer computes from one, the next arrives in the other. So a streamed
layer's parameters are views of a buffer, and right only while the layer runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias
from weakref import WeakSet

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

BUFFERS = 2
ALIGNMENT = 64  # bytes, of every tensor in a buffer; no kernel wants more
GIB = 2**30
MOST = 4096  # GiB
Wait: TypeAlias = Callable[[], None]
_STREAMED: WeakSet[nn.Module] = WeakSet()


def check(size: float, device: torch.device, quantized: bool) -> None:
    """ValueError, with what to do, where `cpu_offload_gb` of `size` cannot be had."""
    if not 0 <= size <= MOST:
        raise ValueError(f"cpu_offload_gb = {size}: must be from 0 to {MOST} (GiB)")
    if size and device.type == "cpu":
        raise ValueError(f"cpu_offload_gb = {size}: is for CUDA; on a CPU all weights are in main memory: leave it out")
    if size and quantized:
        raise ValueError(f"cpu_offload_gb = {size}: cannot be had with quantization: leave one of the two out")


class Link(Protocol):
    """How weights get to a device, beside what it computes."""

    def host(self, size: int) -> Tensor:
        """Main memory to send from: uint8 `[size]`."""
        ...

    def buffer(self, size: int) -> Tensor:
        """Memory of the device: uint8 `[size]`."""
        ...

    def send(self, source: Tensor, target: Tensor) -> Wait:
        """Begin to overwrite `target` as soon as the work that the device has by now is done.

        What it gets after a call of what is returned waits for the whole of `source` to be there.
        """
        ...


class CudaLink:
    """From pinned memory, on a stream of its own."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def host(self, size: int) -> Tensor:
        """Pinned: else the host would wait for each copy."""
        return torch.empty(size, dtype=torch.uint8, pin_memory=True)

    def buffer(self, size: int) -> Tensor:
        """Held for good, so that the allocator need not know of the second stream."""
        return torch.empty(size, dtype=torch.uint8, device=self._device)

    def send(self, source: Tensor, target: Tensor) -> Wait:
        """After the current stream's work; an event tells it when to go on."""
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            target.copy_(source, non_blocking=True)
            arrived = self._stream.record_event()
        return lambda: torch.cuda.current_stream(self._device).wait_event(arrived)


class StreamedLayers:
    """The weights of some layers, which run one after the other; they are copied to the link's host memory."""

    def __init__(self, layers: Sequence[nn.Module], link: Link) -> None:
        self._link = link
        sizes = [weight_bytes(layer) for layer in layers]
        self._hosts = [link.host(size) for size in sizes]
        self._buffers = [link.buffer(max(sizes)) for _ in range(BUFFERS)]
        self._arrivals: dict[int, tuple[int, Wait]] = {}  # by buffer: which layer it holds, or will
        for index, layer in enumerate(layers):
            self._move(layer, index)
            layer.register_forward_pre_hook(lambda *_, index=index: self._before(index))
            layer.register_forward_hook(lambda *_, index=index: self._after(index))

    def _move(self, layer: nn.Module, index: int) -> None:
        """Copy a layer's parameters to the host's memory, and leave views of its buffer in their place."""
        host, buffer, begin = self._hosts[index], self._buffers[index % BUFFERS], 0
        for weight in layer.parameters():
            end = begin + weight.nbytes
            host[begin:end].view(weight.dtype).view(weight.shape).copy_(weight.data)
            weight.data = buffer[begin:end].view(weight.dtype).view(weight.shape)
            begin += _aligned(weight)

    def _before(self, index: int) -> None:
        """The layer is about to run. It is on its way, but for the first time, or after a step that failed."""
        held, wait = self._arrivals.get(index % BUFFERS, (-1, None))
        if held != index or wait is None:
            wait = self._send(index)
        wait()

    def _after(self, index: int) -> None:
        """The layer has run: the next one that comes by its buffer, perhaps in the next step, may overwrite it."""
        following = index + BUFFERS
        self._send(following if following < len(self._hosts) else index % BUFFERS)

    def _send(self, index: int) -> Wait:
        place = index % BUFFERS
        self._arrivals.pop(place, None)  # whatever fails now, it holds nothing
        host = self._hosts[index]
        wait = self._link.send(host, self._buffers[place][: len(host)])
        self._arrivals[place] = index, wait
        return wait


def stream_layers(module: PreTrainedModel, wanted: int, link: Link) -> None:
    """Stream as many of a module's first layers as relieve the device of `wanted` bytes, the buffers counted.

    To be done before the module goes to the device. ValueError if all its layers are not enough, or share weights.
    """
    layers = _layers(module)
    weights = [weight.data_ptr() for layer in layers for weight in layer.parameters()]
    if len(set(weights)) < len(weights):
        raise ValueError(f"cpu_offload_gb: the layers of a {type(module).__name__} share weights")
    sizes = [weight_bytes(layer) for layer in layers]
    relieved = [sum(sizes[:count]) - BUFFERS * max(sizes[:count]) for count in range(1, len(sizes) + 1)]
    count = next((count for count, size in enumerate(relieved, 1) if size >= wanted), None)
    if count is None:
        most = max(0, *relieved) / GIB
        raise ValueError(
            f"cpu_offload_gb = {wanted / GIB:.3g}: all layers but the two on their way are {most:.3g} GiB; ask for less"
        )
    StreamedLayers(layers[:count], link)
    _STREAMED.add(module)


def is_streamed(module: nn.Module) -> bool:
    """True if some of a module's weights are on the device for a moment only."""
    return module in _STREAMED


def weight_bytes(layer: nn.Module) -> int:
    """What a layer's parameters take in a buffer."""
    return sum(_aligned(weight) for weight in layer.parameters())


def _aligned(weight: Tensor) -> int:
    return -(-weight.nbytes // ALIGNMENT) * ALIGNMENT


def _layers(module: PreTrainedModel) -> list[nn.Module]:
    """The decoder's layers, in the order in which they run. ValueError for a module that has no such list."""
    count = module.config.get_text_config(decoder=True).num_hidden_layers
    for part in module.modules():
        if isinstance(part, nn.ModuleList) and len(part) == count and not module.config.is_encoder_decoder:
            return list(part)
    raise ValueError(f"cpu_offload_gb: a {type(module).__name__} has no list of decoder layers")
