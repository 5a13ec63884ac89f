"""Checkpoints that are quantised already, against the formulas of their formats."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from max_engines.engine import Engine
from max_engines.loading import load_model
from tests.engines.quantized_files import Store, awq, float8, gptq, int8, pack, packed, quantize_checkpoint
from tests.engines.tiny_models import again, generate, load, prompts, save_checkpoint, start

GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 32, "sym": False, "desc_act": False}
COMPRESSED = {"quant_method": "compressed-tensors", "quantization_status": "compressed"}
FORMATS: dict[str, tuple[dict[str, object], Store]] = {
    "awq": ({"quant_method": "awq", "bits": 4, "group_size": 32, "version": "gemm", "zero_point": True}, awq()),
    "gptq": (GPTQ, gptq(4, 32)),
    "gptq-symmetric": ({**GPTQ, "sym": True}, gptq(4, 32, symmetric=True)),
    "gptq-8-bits": ({**GPTQ, "bits": 8}, gptq(8, 16)),
    "gptq-2-bits": ({**GPTQ, "bits": 2}, gptq(2, 16)),
    "gptq-desc-act": ({**GPTQ, "desc_act": True}, gptq(4, 32, shuffled=True)),
    "gptq-v2": ({**GPTQ, "checkpoint_format": "gptq_v2"}, gptq(4, 32, version=2)),
    "gptq-dynamic": ({**GPTQ, "dynamic": {"-:lm_head": {}}}, gptq(8, 32, shuffled=True)),
    "fp8": ({"quant_method": "fp8", "activation_scheme": "static"}, float8("tensor")),
    "fp8-channels": ({"quant_method": "fbgemm_fp8"}, float8("channel")),
    "fp8-blocks": ({"quant_method": "fp8", "weight_block_size": [32, 32], "fmt": "e4m3"}, float8("block")),
    "fp8-uneven-blocks": ({"quant_method": "fp8", "weight_block_size": [40, 40]}, float8("block", 40)),
    "compressed-4-bits": ({**COMPRESSED, "format": "pack-quantized"}, packed(4, 32)),
    "compressed-8-bits": ({**COMPRESSED, "format": "pack-quantized"}, packed(8, 16, zeros=True)),
    "compressed-act-order": ({**COMPRESSED, "format": "pack-quantized"}, packed(4, 32, zeros=True, shuffled=True)),
    "compressed-int8": ({**COMPRESSED, "format": "int-quantized"}, int8(zeros=True)),
    "compressed-int8-groups": ({**COMPRESSED, "format": "int-quantized"}, int8(32)),
    "compressed-fp8": ({**COMPRESSED, "format": "float-quantized"}, float8("channel")),
}


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    return save_checkpoint(tmp_path / "plain", "llama")


@pytest.mark.parametrize("name", FORMATS)
def test_weights_are_what_the_formula_says(name: str, plain: Path, tmp_path: Path) -> None:
    settings, store = FORMATS[name]
    expected = quantize_checkpoint(plain, tmp_path / "quantised", settings, store)
    model = load(tmp_path / "quantised")
    assert len(expected) == 14
    for weight, floats in expected.items():
        assert torch.equal(model.module.get_parameter(weight), torch.from_numpy(floats)), weight
    starts = [start(text, max_new_tokens=8) for text in prompts(2)]
    said = generate(Engine(load(plain)), starts)
    assert generate(Engine(model), [again(one) for one in starts]) == said


def test_they_are_read_in_the_type_that_is_asked_for_or_that_of_the_configuration(plain: Path, tmp_path: Path) -> None:
    settings, store = FORMATS["awq"]
    quantize_checkpoint(plain, tmp_path / "quantised", settings, store)
    change(tmp_path / "quantised", dtype="float16")
    assert load_model(tmp_path / "quantised").dtype == torch.float16
    assert load_model(tmp_path / "quantised", dtype="bfloat16").dtype == torch.bfloat16


def test_experts_are_quantised_one_by_one_and_joined(tmp_path: Path) -> None:
    plain = save_checkpoint(tmp_path / "plain", "qwen3-moe")
    settings, store = FORMATS["fp8-blocks"]
    expected = quantize_checkpoint(plain, tmp_path / "quantised", settings, store)
    assert any("experts.3.down_proj" in name for name in expected)
    starts = [start(text, max_new_tokens=8) for text in prompts(2)]
    said = generate(Engine(load(plain)), starts)
    assert generate(Engine(load(tmp_path / "quantised")), [again(one) for one in starts]) == said


def test_several_files_and_a_generation_config(plain: Path, tmp_path: Path) -> None:
    settings, store = FORMATS["gptq"]
    expected = quantize_checkpoint(plain, folder := tmp_path / "quantised", settings, store)
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(weights)  # a weight's parts are in different files
    files = {name: f"model-{index % 2}.safetensors" for index, name in enumerate(names)}
    for file in set(files.values()):
        save_file({name: weights[name] for name in names if files[name] == file}, folder / file, {"format": "pt"})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [7, 9]}))
    model = load(folder)
    assert model.eos_token_ids == {2, 7, 9}
    name, floats = expected.popitem()
    assert torch.equal(model.module.get_parameter(name), torch.from_numpy(floats))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"quant_method": "bitsandbytes"}, "quantised by 'bitsandbytes'; read are awq, gptq, fp8, .*unquantised one"),
        ({"quant_method": "hqq"}, "quantised by 'hqq'"),
        ({"quant_method": ["gptq"]}, "quantised by .'gptq'."),
        ({}, "quantised by None"),
        ({"quant_method": "awq", "bits": 4, "version": "gemv"}, "version = 'gemv': must be one of gemm"),
        ({"quant_method": "gptq", "bits": 3}, "bits = 3: must be one of 2, 4, 8"),
        ({"quant_method": "gptq", "bits": 4, "checkpoint_format": "marlin"}, "checkpoint_format = 'marlin'"),
        ({"quant_method": "fp8", "fmt": "e5m2"}, "fmt = 'e5m2'"),
        ({"quant_method": "fp8", "weight_block_size": [0, 128]}, "weight_block_size = .0, 128."),
        ({**COMPRESSED, "format": "nvfp4-pack-quantized"}, "format = 'nvfp4-pack-quantized'"),
        ({**COMPRESSED, "sparsity_config": {"format": "sparse-24-bitmask"}}, "has a sparsity_config"),
        ({**COMPRESSED, "transform_config": {"config_groups": {"a": {}}}}, "has a transform_config"),
    ],
)
def test_what_is_not_known_is_refused_by_name(settings: dict[str, object], words: str, plain: Path) -> None:
    change(plain, quantization_config=settings)
    with pytest.raises(ValueError, match=f"cannot load the model .*{words}") as caught:
        load_model(plain)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "spoil", "words"),
    [
        ("fp8", lambda parts: parts.pop("_scale"), "is F8_E4M3, and its scales or zeros are missing"),
        ("compressed-int8", lambda parts: parts.pop("_scale"), "is I8, and its scales or zeros are missing"),
        ("fp8-blocks", lambda parts: parts.update({"_scale_inv": torch.ones(1, 2)}), "a scale .1, 2. does not fit"),
    ],
)
def test_a_part_that_is_missing_or_does_not_fit_is_told(
    name: str, spoil: Callable[[dict[str, torch.Tensor]], object], words: str, plain: Path, tmp_path: Path
) -> None:
    settings, store = FORMATS[name]
    quantize_checkpoint(plain, folder := tmp_path / "quantised", settings, store)
    spoil_parts(folder, "model.layers.1.self_attn.q_proj.weight", spoil)
    with pytest.raises(ValueError, match=words):
        load_model(folder)


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (".qweight", r"lacks 1 weights, such as model\.layers\.1\.self_attn\.q_proj\.weight"),
        (".qzeros", r"q_proj\.qweight is I32, and its scales or zeros are missing"),
        (".scales", r"q_proj\.qweight is I32, and its scales or zeros are missing"),
    ],
)
def test_a_weight_without_one_of_its_parts_is_told(part: str, words: str, plain: Path, tmp_path: Path) -> None:
    settings, store = FORMATS["gptq"]
    quantize_checkpoint(plain, folder := tmp_path / "quantised", settings, store)
    spoil_parts(folder, "model.layers.1.self_attn.q_proj", lambda parts: parts.pop(part))
    with pytest.raises(ValueError, match=words):
        load_model(folder)


def test_parts_of_other_sizes_are_told_with_the_weight(plain: Path, tmp_path: Path) -> None:
    settings, store = FORMATS["gptq"]
    quantize_checkpoint(plain, folder := tmp_path / "quantised", settings, store)
    wrong = pack(torch.zeros(2, 40, dtype=torch.int64).numpy(), 4)
    spoil_parts(folder, "model.layers.1.self_attn.q_proj", lambda parts: parts.update({".qzeros": wrong}))
    with pytest.raises(
        ValueError, match=r"quantised weight model\.layers\.1\.self_attn\.q_proj\.weight cannot be read"
    ):
        load_model(folder)


def spoil_parts(folder: Path, stem: str, spoil: Callable[[dict[str, torch.Tensor]], object]) -> None:
    """Have `spoil` alter the tensors whose names begin with `stem`, by the rest of their names."""
    weights = load_file(folder / "model.safetensors")
    parts = {name.removeprefix(stem): weights.pop(name) for name in list(weights) if name.startswith(stem)}
    spoil(parts)
    save_file({**weights, **{stem + end: part for end, part in parts.items()}}, folder / "model.safetensors")


def change(folder: Path, **changes: object) -> None:
    """Write other values into a checkpoint's config.json."""
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
