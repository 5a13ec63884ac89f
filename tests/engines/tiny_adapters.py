"""Random adapters for the tiny checkpoints, made and merged by peft itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from peft import LoraConfig, PeftConfig, PeftModel, PromptTuningConfig, get_peft_model
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
EVERYTHING = (*ATTENTION, "gate_proj", "up_proj", "down_proj")


def save_lora(
    folder: Path, checkpoint: Path, *, seed: int, targets: Sequence[str] = EVERYTHING, rank: int = 8, **options: object
) -> Path:
    """A LoRA adapter with random weights, large enough to change what is said."""
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=list(targets), task_type="CAUSAL_LM", **options)  # type: ignore[arg-type]
    return _save(folder, checkpoint, config, seed)


def save_soft_prompt(
    folder: Path, checkpoint: Path, *, seed: int, length: int = 5, config: PeftConfig | None = None
) -> Path:
    """A soft prompt with random states."""
    chosen = PromptTuningConfig(num_virtual_tokens=length, task_type="CAUSAL_LM") if config is None else config
    return _save(folder, checkpoint, chosen, seed)


def merged(checkpoint: Path, adapter: Path) -> PreTrainedModel:
    """The model that peft makes of both: with LoRA one of plain transformers, else peft's own."""
    module = PeftModel.from_pretrained(plain(checkpoint), adapter).eval()
    return module.merge_and_unload() if module.peft_config["default"].peft_type == "LORA" else module  # type: ignore[no-any-return, operator]


def plain(checkpoint: Path) -> PreTrainedModel:
    """The model as transformers runs it."""
    module: PreTrainedModel = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    module.generation_config.eos_token_id = None
    return module.eval()


@torch.inference_mode()
def greedy(module: PreTrainedModel, prompt: Sequence[int], count: int) -> tuple[int, ...]:
    """What `generate` says, greedily and past any end."""
    ids = torch.tensor([list(prompt)])
    options = {"attention_mask": torch.ones_like(ids), "do_sample": False, "max_new_tokens": count}
    output: Tensor = module.generate(input_ids=ids, **options)  # type: ignore[operator]
    return tuple(output[0, len(prompt) :].tolist())


@torch.inference_mode()
def logits_after(module: PreTrainedModel, prompt: Sequence[int]) -> Tensor:
    """The scores `[vocabulary]` of what follows."""
    scores: Tensor = module(input_ids=torch.tensor([list(prompt)]), use_cache=False).logits[0, -1]
    return scores


def _save(folder: Path, checkpoint: Path, config: PeftConfig, seed: int) -> Path:
    module = get_peft_model(plain(checkpoint), config)
    source = torch.Generator().manual_seed(seed)
    for name, weight in module.named_parameters():
        if "lora_" in name or "prompt_encoder" in name:
            weight.data.copy_(torch.randn(weight.shape, generator=source) * 0.2)
    module.save_pretrained(folder)
    return folder
