"""Random adapters for the tiny checkpoints, made, saved and merged by peft itself."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftConfig, PeftModel, PromptTuningConfig, get_peft_model
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from max_engines.engine import Engine
from max_interfaces.protocols import SequenceStart
from tests.engines.tiny_models import start

EVERYTHING = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def save_lora(
    folder: Path,
    checkpoint: Path,
    *,
    seed: int = 1,
    rank: int = 8,
    targets: Collection[str] = EVERYTHING,
    **options: Any,
) -> Path:
    """A LoRA adapter with random weights, large enough to change what is said."""
    chosen: dict[str, Any] = {"lora_alpha": 2 * rank, "target_modules": list(targets), "task_type": "CAUSAL_LM"}
    return save(folder, checkpoint, LoraConfig(r=rank, **{**chosen, **options}), seed)


def save_soft_prompt(folder: Path, checkpoint: Path, *, seed: int = 1, length: int = 5) -> Path:
    """A soft prompt with random states."""
    return save(folder, checkpoint, PromptTuningConfig(num_virtual_tokens=length, task_type="CAUSAL_LM"), seed)


def save(folder: Path, checkpoint: Path, config: PeftConfig, seed: int = 1) -> Path:
    """Any adapter of peft's, with random weights."""
    with warnings.catch_warnings(action="ignore"):  # peft's own, about this version of transformers
        module = get_peft_model(plain(checkpoint), config)
        source = torch.Generator().manual_seed(seed)
        for name, weight in module.named_parameters():
            if "lora_" in name or "prompt_encoder" in name:
                weight.data.copy_(torch.randn(weight.shape, generator=source) * 0.2)
        module.save_pretrained(str(folder))
    return folder


def plain(checkpoint: Path) -> PreTrainedModel:
    """The model as transformers runs it."""
    module: PreTrainedModel = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    module.generation_config.eos_token_id = None
    module.train(False)
    return module


def theirs(checkpoint: Path, adapter: Path | None = None, prompt: Path | None = None) -> PreTrainedModel:
    """What peft makes of the model: one with LoRA merged in, or one that puts the soft prompt first, or both."""
    module = plain(checkpoint)
    with warnings.catch_warnings(action="ignore"):
        if adapter is not None:
            module = PeftModel.from_pretrained(module, str(adapter)).merge_and_unload()
        if prompt is not None:
            module = PeftModel.from_pretrained(module, str(prompt))  # type: ignore[assignment]
    module.train(False)
    return module


@torch.inference_mode()
def greedy(module: PreTrainedModel, prompt: Sequence[int], count: int = 20) -> tuple[int, ...]:
    """What `generate` says, greedily and past any end."""
    ids = torch.tensor([list(prompt)])
    options = {"attention_mask": torch.ones_like(ids), "do_sample": False, "max_new_tokens": count}
    with warnings.catch_warnings(action="ignore"):
        output: Tensor = module.generate(input_ids=ids, **options)  # type: ignore[operator]
    return tuple(output[0, len(prompt) :].tolist())


@torch.inference_mode()
def log_probabilities(module: PreTrainedModel, prompt: Sequence[int]) -> Tensor:
    """Those `[vocabulary]` of what follows."""
    scores: Tensor = module(input_ids=torch.tensor([list(prompt)]), use_cache=False).logits[0, -1]
    return scores.log_softmax(-1)


def adapted(prompt: Sequence[int], adapter: str | None, soft: str | None = None, **params: Any) -> SequenceStart:
    """A sequence with a fresh id that runs with adapters; greedy and of 20 tokens unless `params` say otherwise."""
    return replace(start(prompt, **params), adapter=adapter, prompt_adapter=soft)


def load_all(engine: Engine, folders: dict[str, Path]) -> None:
    """Load each by its name."""
    for name, folder in folders.items():
        engine.adapters.load(name, str(folder))
