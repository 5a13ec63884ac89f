"""Adapters as vLLM's callers name them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LoRARequest:
    """A LoRA adapter: its name, a number of its own, and the folder that it lies in.

    It is loaded when it is first used. ValueError for a number below 1 or no path. The number means nothing to us; two
    adapters may not have one name.
    """

    lora_name: str
    lora_int_id: int
    lora_path: str = ""
    long_lora_max_len: int | None = None
    base_model_name: str | None = None

    def __post_init__(self) -> None:
        if self.lora_int_id < 1:
            raise ValueError(f"LoRARequest.lora_int_id = {self.lora_int_id}: must be at least 1")
        if not self.lora_path:
            raise ValueError("LoRARequest.lora_path: must be the adapter's folder")


@dataclass(frozen=True)
class PromptAdapterRequest:
    """A soft prompt of peft's: its name, a number of its own, the folder, and how many virtual tokens it has."""

    prompt_adapter_name: str
    prompt_adapter_id: int
    prompt_adapter_local_path: str
    prompt_adapter_num_virtual_tokens: int

    def __post_init__(self) -> None:
        if self.prompt_adapter_id < 1:
            raise ValueError(f"PromptAdapterRequest.prompt_adapter_id = {self.prompt_adapter_id}: must be at least 1")
