"""Models whose linear layers are quantised when they are loaded."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from torch import nn

from max_engines.engine import Engine
from max_engines.loading import DType, LoadedModel, load_model
from max_engines.quantized_linear import QuantizedLinear
from max_engines.reference import ReferenceEngine
from max_engines.weights import WeightOptions
from tests.engines.tiny_models import again, generate, load, prompts, save_checkpoint, save_model, start

Wanted = Literal["int8", "int4"]
WANTED: tuple[Wanted, ...] = ("int8", "int4")
needs_torchao = pytest.mark.skipif(find_spec("torchao") is None, reason="torchao is not installed")


def quantized(folder: Path, wanted: Wanted, dtype: DType = "float32", group_size: int = 32) -> LoadedModel:
    return load_model(folder, dtype=dtype, weights=WeightOptions(wanted, group_size))


def layers(model: LoadedModel) -> dict[str, QuantizedLinear]:
    return {name: layer for name, layer in model.module.named_modules() if isinstance(layer, QuantizedLinear)}


@needs_torchao
@pytest.mark.parametrize("wanted", WANTED)
@pytest.mark.parametrize(
    "architecture", ["llama", "qwen2", "qwen3", "llama-multi-query", "gemma", "mixtral", "gpt-neox"]
)
def test_tokens_are_those_of_the_same_weights_as_floats(
    checkpoint: Callable[[str], Path], architecture: str, wanted: Wanted
) -> None:
    """Alone, together, and through transformers' own layers."""
    model, plain = quantized(checkpoint(architecture), wanted), load(checkpoint(architecture))
    assert layers(model)
    for name, layer in layers(model).items():
        plain.module.get_parameter(f"{name}.weight").data.copy_(layer.weight)
    starts = [start(text) for text in prompts(4)]
    expected = generate(ReferenceEngine(plain), starts)
    engine = Engine(model)
    assert generate(engine, [again(one) for one in starts]) == expected
    assert [generate(engine, [again(one)])[0] for one in starts] == expected


@needs_torchao
@pytest.mark.parametrize("wanted", WANTED)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_runs(checkpoint: Callable[[str], Path], wanted: Wanted, dtype: DType) -> None:
    model = quantized(checkpoint("llama"), wanted, dtype)
    assert model.dtype == getattr(torch, dtype)
    outputs = generate(Engine(model), [start(text, max_new_tokens=6) for text in prompts(3)])
    assert [len(tokens) for tokens in outputs] == [6] * 3


@needs_torchao
def test_an_encoder_decoder_runs_by_the_reference(tmp_path: Path) -> None:
    options = {"vocab_size": 150, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 1, "num_heads": 4}
    model = quantized(save_model(tmp_path, "T5Config", {**options, "decoder_start_token_id": 0}), "int8")
    assert layers(model)
    assert len(generate(ReferenceEngine(model), [start([5, 6, 7], max_new_tokens=4)])[0]) == 4


@needs_torchao
def test_int8_rounds_to_a_grid_for_each_output(checkpoint: Callable[[str], Path]) -> None:
    model, plain = quantized(checkpoint("llama"), "int8"), load(checkpoint("llama"))
    for name, layer in layers(model).items():
        weight = plain.module.get_parameter(f"{name}.weight").numpy()
        step = np.abs(weight).max(1, keepdims=True) / 127.5
        assert np.abs(layer.weight.numpy() - weight).max() <= step.max()  # clipped at one end, else half of it
        assert np.mean(np.abs(layer.weight.numpy() - weight) <= 0.5001 * step) > 0.99


@needs_torchao
@pytest.mark.parametrize(("group_size", "groups"), [(32, 3), (64, 3), (256, 3)])
def test_int4_has_sixteen_steps_a_group(checkpoint: Callable[[str], Path], group_size: int, groups: int) -> None:
    """A layer of 96 inputs has groups of 32, of which it is a multiple."""
    model, plain = quantized(checkpoint("llama"), "int4", group_size=group_size), load(checkpoint("llama"))
    name = "model.layers.1.mlp.down_proj"
    layer, weight = layers(model)[name], plain.module.get_parameter(f"{name}.weight").numpy()
    assert layer.quantized.scales.shape[1] == groups
    grouped = weight.reshape(len(weight), groups, -1)
    low, high = np.minimum(grouped.min(-1), 0), np.maximum(grouped.max(-1), 0)
    step = np.repeat((high - low) / 15, 96 // groups, 1)
    assert np.all(np.abs(layer.weight.numpy() - weight) <= 1.001 * step)
    assert np.mean(np.abs(layer.weight.numpy() - weight) <= 0.5001 * step) > 0.95


@needs_torchao
def test_the_head_the_embeddings_and_odd_layers_stay_and_the_floats_of_others_go(tmp_path: Path) -> None:
    model = quantized(save_checkpoint(tmp_path, "llama", intermediate_size=100), "int4")
    assert not any("down_proj" in name for name in layers(model))  # of 100 inputs
    assert len(layers(model)) == 2 * 6
    assert type(model.module.get_output_embeddings()) is nn.Linear  # type: ignore[no-untyped-call]
    names = [name for name, _ in model.module.named_parameters()]
    assert [name for name in names if "q_proj" in name or "gate_proj" in name] == []
    generate(Engine(model), [start([5, 6, 7])])


@needs_torchao
def test_a_model_without_linear_layers_is_refused(checkpoint: Callable[[str], Path]) -> None:
    with pytest.raises(ValueError, match="a GPT2LMHeadModel has no linear layers to quantise"):
        quantized(checkpoint("gpt2"), "int8")


def test_wrong_names_and_sizes_are_told(checkpoint: Callable[[str], Path]) -> None:
    with pytest.raises(ValueError, match="quantization = 'fp4': must be none, int8 or int4"):
        load_model(checkpoint("llama"), weights=WeightOptions("fp4"))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="quantization_group_size = 48: must be one of 32, 64, 128, 256"):
        load_model(checkpoint("llama"), weights=WeightOptions(quantization_group_size=48))


def test_without_torchao_it_is_said_what_to_install(
    checkpoint: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torchao", None)
    with pytest.raises(ValueError, match=r"'int8': needs torchao, .*: pip install 'maxpipe\[quantized\]'"):
        quantized(checkpoint("llama"), "int8")
    load(checkpoint("llama"))
