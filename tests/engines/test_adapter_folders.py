"""Which folders of peft's are read, how their settings are, and what is refused by name."""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import IA3Config, LoraConfig, PrefixTuningConfig, PromptTuningConfig
from safetensors.torch import load_file, save_file

from max_engines.config import EngineConfig
from max_engines.engine import Engine
from max_engines.loading import LoadedModel, load_model
from max_interfaces.errors import AdapterRefused
from max_interfaces.lora import LoRAStatus
from tests.engines.tiny_adapters import adapted, greedy, save, save_lora, save_soft_prompt, theirs
from tests.engines.tiny_models import generate, load, prompts

SETTINGS, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
Q0 = "base_model.model.model.layers.0.self_attn.q_proj"


@pytest.fixture(scope="module")
def engine(llama: LoadedModel) -> Engine:
    return Engine(llama, EngineConfig(max_adapter_rank=16))


@pytest.fixture(scope="module")
def base(checkpoint: Callable[[str], Path]) -> Path:
    return checkpoint("llama")


@pytest.fixture
def lora(base: Path, tmp_path: Path) -> Path:
    return save_lora(tmp_path / "lora", base, targets=("q_proj", "down_proj"))


def rewrite(folder: Path, change: dict[str, Any]) -> None:
    """Change some of the settings."""
    settings = json.loads((folder / SETTINGS).read_text())
    (folder / SETTINGS).write_text(json.dumps(settings | change))


def reweigh(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    """Change some of the weights."""
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS)


def refusal(engine: Engine, folder: Path, status: LoRAStatus = LoRAStatus.LOAD_INVALID_ADAPTER) -> str:
    """Why it is not loaded."""
    with pytest.raises(AdapterRefused) as caught:
        engine.adapters.load("it", str(folder))
    assert caught.value.status is status
    assert list(engine.adapters.names) == []
    return str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"use_rslora": True},
        {"rank_pattern": {"q_proj": 3}, "alpha_pattern": {"q_proj": 1, "up_proj": 40}},
        {"rank_pattern": {"^model.layers.1.mlp.down_proj": 2}, "use_rslora": True},
        {"alpha_pattern": {r"layers\.[01]\.self_attn.*": 3, "q_proj": 50}, "rank_pattern": {".*[kv]_proj": 5}},
        {"layers_to_transform": [1]},
        {"init_lora_weights": "gaussian", "lora_dropout": 0.5},
        {"lora_alpha": 0.5},
        {"target_modules": "all-linear"},
    ],
    ids=str,
)
def test_what_peft_saves_says_what_peft_merges(
    options: dict[str, Any], engine: Engine, base: Path, tmp_path: Path
) -> None:
    folder = save_lora(tmp_path / "lora", base, **options)
    engine.adapters.load("it", str(folder))
    texts = prompts(3)
    said = generate(engine, [adapted(text, "it") for text in texts])
    engine.adapters.unload("it")
    module = theirs(base, folder)
    assert said == [greedy(module, text) for text in texts]


def test_weights_may_be_in_half_precision(engine: Engine, base: Path, lora: Path) -> None:
    reweigh(lora, lambda tensors: tensors.update({name: tensor.half() for name, tensor in tensors.items()}))
    engine.adapters.load("it", str(lora))
    text = prompts(1)[0]
    said = generate(engine, [adapted(text, "it")])
    engine.adapters.unload("it")
    assert said == [greedy(theirs(base, lora), text)]


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (
            IA3Config(target_modules=["k_proj"], feedforward_modules=[]),
            "'IA3': must be one of LORA, PROMPT_TUNING, P_TUNING",
        ),
        (PrefixTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM"), "peft_type = 'PREFIX_TUNING'"),
        (LoraConfig(use_dora=True), "use_dora = True: is not supported"),
        (LoraConfig(bias="all"), "bias = 'all': is not supported"),
        (LoraConfig(lora_bias=True), "lora_bias = True"),
        (LoraConfig(modules_to_save=["lm_head"]), r"modules_to_save = \['lm_head'\]"),
        (LoraConfig(trainable_token_indices=[3]), r"trainable_token_indices = \[3\]"),
        (LoraConfig(alora_invocation_tokens=[3], task_type="CAUSAL_LM"), r"alora_invocation_tokens = \[3\]"),
        (LoraConfig(layer_replication=[(0, 2), (1, 2)]), "layer_replication"),
        (LoraConfig(init_lora_weights="pissa"), "init_lora_weights = 'pissa': is for other weights"),
        (
            LoraConfig(target_modules=["q_proj", "lm_head"]),
            "lm_head.base_layer.weight: only lora_A and lora_B of linear layers",
        ),
        (
            LoraConfig(target_modules=["embed_tokens"]),
            "embed_tokens.base_layer.weight: only lora_A",
        ),
        (LoraConfig(r=17), "rank 17 of .*: at most 16"),
        (LoraConfig(rank_pattern={"q_proj": 17}), "rank 17 of .*q_proj: at most 16"),
        (LoraConfig(alpha_pattern={"(q|k)_proj": 3}), r"the pattern '\(q\|k\)_proj' is too involved"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_another_kind_is_refused_by_name(config: Any, said: str, engine: Engine, base: Path, tmp_path: Path) -> None:
    if getattr(config, "target_modules", "") is None:
        config.target_modules = {"q_proj", "v_proj"}
    with warnings.catch_warnings(action="ignore"):
        folder = save(tmp_path / "other", base, config)
    assert re.search(said, refusal(engine, folder))


def spoil(name: str, value: float) -> Callable[[dict[str, torch.Tensor]], object]:
    return lambda tensors: tensors[name].view(-1)[:1].fill_(value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (spoil(f"{Q0}.lora_A.weight", float("nan")), "q_proj.lora_A.weight holds NaN or infinite numbers"),
        (spoil(f"{Q0}.lora_B.weight", float("-inf")), "q_proj.lora_B.weight holds NaN or infinite numbers"),
        (spoil(f"{Q0}.lora_B.weight", 3e38), "lora_B times its scale is beyond torch.float32"),
        (lambda tensors: tensors.pop(f"{Q0}.lora_A.weight"), "q_proj.lora_B.weight is alone"),
        (lambda tensors: tensors.clear(), "has no weights"),
        (lambda tensors: tensors.update({"x": torch.zeros(1)}), "x: only lora_A and lora_B of linear layers"),
        (
            lambda tensors: tensors.update(
                {f"base_model.model.lm_head.lora_{x}.weight": torch.zeros(8, 8) for x in "AB"}
            ),
            "no linear layer 'lm_head' that an adapter can change",
        ),
        (
            lambda tensors: tensors.update({f"{Q0}.lora_A.weight": torch.zeros(8, 63)}),
            r"self_attn.q_proj has \(8, 63\) where \(8, 64\) is needed",
        ),
        (lambda tensors: tensors.update({f"{Q0}.lora_B.weight": torch.zeros(64)}), r"q_proj has \(64,\) where \(64, 8"),
        (
            lambda tensors: tensors.update({f"{Q0}.lora_A.weight": torch.zeros(8, 64, dtype=torch.int8)}),
            "holds torch.int8, and not floating-point numbers",
        ),
        (lambda tensors: tensors.update({"x": torch.zeros(2**22)}), "has more than .* bytes"),
    ],
)
def test_weights_that_do_not_fit_are_refused(change: Any, said: str, engine: Engine, lora: Path) -> None:
    reweigh(lora, change)
    with pytest.raises(AdapterRefused, match=said) as caught:
        engine.adapters.load("it", str(lora))
    assert caught.value.status is LoRAStatus.LOAD_INVALID_ADAPTER


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"r": 0}, "r"),
        ({"lora_alpha": "many"}, "lora_alpha"),
        ({"r": 4}, r"has \(8, (64|96)\) where \(4, (64|96)\) is needed"),
        ({"rank_pattern": {"[": 4}}, "the pattern '\\['"),
        ({"from_the_future": {"on": True}}, "from_the_future = .*: is not supported; leave it off"),
        ({"peft_type": None}, "peft_type = None"),
    ],
)
def test_settings_that_are_wrong_are_refused(change: dict[str, Any], said: str, engine: Engine, lora: Path) -> None:
    rewrite(lora, change)
    with pytest.raises(AdapterRefused, match=said):
        engine.adapters.load("it", str(lora))


@pytest.mark.parametrize("data", [b"", b"\xff", b"[1]", b"[" * 100_000, b'{"r": ' + b" " * 2**20 + b"1}"])
def test_settings_that_are_no_json_are_refused(data: bytes, engine: Engine, lora: Path) -> None:
    (lora / SETTINGS).write_bytes(data)
    assert SETTINGS in refusal(engine, lora)


@pytest.mark.parametrize("size", [0, 7, 100, 1000])
def test_a_file_cut_short_is_refused(size: int, engine: Engine, lora: Path) -> None:
    (lora / WEIGHTS).write_bytes((lora / WEIGHTS).read_bytes()[:size])
    assert WEIGHTS in refusal(engine, lora)


def test_a_bound_beyond_all_memory_takes_none(llama: LoadedModel, lora: Path) -> None:
    engine = Engine(llama, EngineConfig(max_adapter_rank=2**40))
    engine.adapters.load("lora", str(lora))
    assert list(engine.adapters.names) == ["lora"]


def test_a_pickle_is_never_read(engine: Engine, lora: Path) -> None:
    (lora / WEIGHTS).rename(lora / "adapter_model.bin")
    assert "adapter_model.bin is a pickle" in refusal(engine, lora)


def test_a_folder_without_the_files_is_no_adapter(engine: Engine, lora: Path, tmp_path: Path) -> None:
    status = LoRAStatus.LOAD_INVALID_PATH
    assert "there is no adapter_config.json" in refusal(engine, tmp_path / "nowhere", status)
    (lora / WEIGHTS).unlink()
    assert "there is no adapter_model.safetensors" in refusal(engine, lora, status)
    os.mkfifo(lora / WEIGHTS)  # reading it would wait for ever
    assert "there is no adapter_model.safetensors" in refusal(engine, lora, status)


@pytest.mark.parametrize(
    ("change", "settings", "said"),
    [
        (lambda t: t.update(prompt_embeddings=torch.zeros(5, 63)), {}, r"is \(5, 63\), where \(1 to \d+, 64\)"),
        (lambda t: t.update(prompt_embeddings=torch.zeros(0, 64)), {}, r"is \(0, 64\)"),
        (lambda t: t.update(x=torch.zeros(1)), {}, "a soft prompt is prompt_embeddings alone"),
        (lambda t: t.clear(), {}, "a soft prompt is prompt_embeddings alone"),
        (lambda t: t, {"num_virtual_tokens": 6}, "num_virtual_tokens is not 5"),
        (lambda t: t, {"num_transformer_submodules": 2}, "num_transformer_submodules"),
        (lambda t: t, {"modules_to_save": ["x"]}, "modules_to_save"),
    ],
)
def test_soft_prompts_that_do_not_fit_are_refused(
    change: Any, settings: dict[str, Any], said: str, engine: Engine, base: Path, tmp_path: Path
) -> None:
    folder = save_soft_prompt(tmp_path / "soft", base)
    reweigh(folder, change)
    rewrite(folder, settings)
    with pytest.raises(AdapterRefused, match=said):
        engine.adapters.load("it", str(folder))


def test_numbers_that_the_models_type_cannot_hold_are_refused(
    checkpoint: Callable[[str], Path], base: Path, tmp_path: Path
) -> None:
    engine = Engine(load_model(base, dtype="float16"), EngineConfig())
    folder = save(tmp_path / "soft", base, PromptTuningConfig(num_virtual_tokens=2, task_type="CAUSAL_LM"))
    reweigh(folder, spoil("prompt_embeddings", 1e6))
    assert "prompt_embeddings is beyond torch.float16" in refusal(engine, folder)


def test_two_engines_over_one_model_have_adapters_of_their_own(base: Path, lora: Path) -> None:
    model = load(base)
    first, second = Engine(model), Engine(model)
    first.adapters.load("it", str(lora))
    assert list(second.adapters.names) == []
    text = prompts(1)[0]
    with_it, bare = generate(first, [adapted(text, "it")]), generate(second, [adapted(text, None)])
    assert [with_it, bare] == [[greedy(theirs(base, lora), text)], [greedy(theirs(base), text)]]


@pytest.mark.parametrize("name", ["max_adapters", "max_adapter_rank"])
def test_limits_are_at_least_one(name: str) -> None:
    with pytest.raises(ValueError, match=rf"EngineConfig\.{name} = 0: must be at least 1"):
        EngineConfig(**{name: 0})  # type: ignore[arg-type]
