"""Layers whose weights arrive one ahead of their use, over a link that is as late and as early as it may be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from max_engines.engine import Engine
from max_engines.fused_decoder import fused_decoder
from max_engines.loading import LoadedModel, load_model
from max_engines.reference import ReferenceEngine
from max_engines.streaming import GIB, Wait, stream_layers, weight_bytes
from max_engines.weights import WeightOptions
from tests.engines.tiny_models import again, generate, load, prompts, save_checkpoint, start


class LateLink:
    """A device's stand-in: a buffer is spoilt when it is sent to, and holds what was sent only once it is waited for.

    So whoever reads a buffer too early, or one that the next layer is on its way to, reads NaN.
    """

    def __init__(self) -> None:
        self.sent: list[int] = []  # bytes
        self.buffers: list[Tensor] = []
        self.broken = False

    def host(self, size: int) -> Tensor:
        return torch.zeros(size, dtype=torch.uint8)

    def buffer(self, size: int) -> Tensor:
        self.buffers.append(torch.full((size,), 255, dtype=torch.uint8))  # NaN, as any float
        return self.buffers[-1]

    def send(self, source: Tensor, target: Tensor) -> Wait:
        if self.broken:
            raise RuntimeError("the link is broken")
        self.sent.append(len(source))
        target.fill_(255)

        def wait() -> None:
            target.copy_(source)

        return wait


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_checkpoint(tmp_path, "llama", num_hidden_layers=6)


def layer_bytes(model: LoadedModel) -> int:
    return weight_bytes(model.module.get_submodule("model.layers.0"))


def streamed(folder: Path, count: int) -> tuple[LoadedModel, LateLink]:
    """A model of whose layers the device is relieved of `count`."""
    model, link = load(folder), LateLink()
    stream_layers(model.module, count * layer_bytes(model), link)
    return model, link


@pytest.mark.parametrize("count", [1, 2, 3, 4])  # 3 to 6 layers on their way: odd and even, and none that stays
def test_tokens_are_the_same(folder: Path, count: int) -> None:
    starts = [start(text) for text in prompts(4)]
    expected = generate(ReferenceEngine(load(folder)), starts)
    model, _ = streamed(folder, count)
    engine = Engine(model)
    assert fused_decoder(model.module) is None
    assert generate(engine, [again(one) for one in starts]) == expected
    assert [generate(engine, [again(one)])[0] for one in starts] == expected


@pytest.mark.parametrize("architecture", ["gemma2", "qwen3-moe", "gpt2", "mistral-window"])
def test_other_architectures(tmp_path: Path, architecture: str) -> None:
    layers = {"num_hidden_layers": 4} if architecture != "gpt2" else {"num_hidden_layers": 4, "n_layer": 4}
    folder = save_checkpoint(tmp_path, architecture, **layers)
    starts = [start(text, max_new_tokens=8) for text in prompts(2)]
    expected = generate(ReferenceEngine(load(folder)), starts)
    model = load(folder)
    stream_layers(model.module, 1, LateLink())
    assert generate(Engine(model), [again(one) for one in starts]) == expected


def test_each_layer_is_sent_once_a_step_and_one_ahead(folder: Path) -> None:
    model, link = streamed(folder, 2)
    ids = torch.tensor([[5, 6, 7]])
    size, before = layer_bytes(model), 0
    with torch.inference_mode():
        for step in range(3):
            model.module(input_ids=ids, use_cache=False)
            # Two that nobody expected in the first step; else 4, which are on their way before they are asked for.
            assert len(link.sent) - before == (6 if step == 0 else 4)
            before = len(link.sent)
    assert set(link.sent) == {size}


def test_the_device_holds_two_layers_in_the_place_of_those_that_are_streamed(folder: Path) -> None:
    model, link = streamed(folder, 3)
    buffers = {buffer.untyped_storage().data_ptr() for buffer in link.buffers}
    assert [len(buffer) for buffer in link.buffers] == [layer_bytes(model)] * 2
    for index in range(6):
        layer = model.module.get_submodule(f"model.layers.{index}")
        on_their_way = {weight.untyped_storage().data_ptr() in buffers for weight in layer.parameters()}
        assert on_their_way == {index < 5}


def test_a_step_that_failed_amid_the_layers_can_be_repeated(folder: Path) -> None:
    starts = [start(text, max_new_tokens=6) for text in prompts(2)]
    expected = generate(ReferenceEngine(load(folder)), starts)
    model, link = streamed(folder, 3)
    engine = Engine(model)
    broken = model.module.get_submodule("model.layers.3")
    handle = broken.register_forward_pre_hook(lambda *_: fail())
    for one in starts:
        engine.add(one)
    active = [one.request_id for one in starts]
    with pytest.raises(RuntimeError, match="amid the layers"):
        engine.step(active)
    handle.remove()
    link.broken = True
    with pytest.raises(RuntimeError, match="link is broken"):
        engine.step(active)
    link.broken = False
    for one in starts:
        engine.release(one.request_id)
    assert generate(engine, [again(one) for one in starts]) == expected


def fail() -> None:
    raise RuntimeError("amid the layers")


def test_more_than_there_is_is_refused(folder: Path) -> None:
    model = load(folder)
    with pytest.raises(ValueError, match=r"cpu_offload_gb = 1: all layers but the two on their way are .* GiB"):
        stream_layers(model.module, GIB, LateLink())
    with pytest.raises(ValueError, match="ask for less"):
        stream_layers(model.module, 4 * layer_bytes(model) + 1, LateLink())
    assert generate(Engine(model), [start([5, 6, 7])])  # and nothing has happened to it


def test_layers_that_share_weights_are_refused(folder: Path) -> None:
    model = load(folder)
    first, second = (model.module.get_submodule(f"model.layers.{index}.mlp.up_proj") for index in (0, 1))
    second.weight = first.weight
    with pytest.raises(ValueError, match="the layers of a LlamaForCausalLM share weights"):
        stream_layers(model.module, 1, LateLink())


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (1.0, "is for CUDA; on a CPU all weights are in main memory"),
        (-1.0, "must be from 0 to 4096"),
        (5000.0, "must be from 0 to 4096"),
        (float("nan"), "must be from 0 to 4096"),
    ],
)
def test_what_cannot_be_offloaded_is_told(checkpoint: Callable[[str], Path], size: float, words: str) -> None:
    with pytest.raises(ValueError, match=f"cpu_offload_gb = {size}: {words}"):
        load_model(checkpoint("llama"), weights=WeightOptions(cpu_offload_gb=size))
