"""Adapters as vLLM's callers name them."""

from __future__ import annotations

import os.path
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias


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

    @property
    def name(self) -> str:
        """What requests call it."""
        return self.lora_name

    @property
    def folder(self) -> str:
        """Where it lies: one path for each folder."""
        return _real(self.lora_path)


@dataclass(frozen=True)
class PromptAdapterRequest:
    """A soft prompt of peft's: its name, a number of its own, the folder, and how many virtual tokens it has.

    As with `LoRARequest`, two adapters may not have one name, whatever their kinds.
    """

    prompt_adapter_name: str
    prompt_adapter_id: int
    prompt_adapter_local_path: str
    prompt_adapter_num_virtual_tokens: int

    def __post_init__(self) -> None:
        if self.prompt_adapter_id < 1:
            raise ValueError(f"PromptAdapterRequest.prompt_adapter_id = {self.prompt_adapter_id}: must be at least 1")
        if not self.prompt_adapter_local_path:
            raise ValueError("PromptAdapterRequest.prompt_adapter_local_path: must be the soft prompt's folder")

    @property
    def name(self) -> str:
        """What requests call it."""
        return self.prompt_adapter_name

    @property
    def folder(self) -> str:
        """Where it lies: one path for each folder."""
        return _real(self.prompt_adapter_local_path)


AnyAdapter: TypeAlias = LoRARequest | PromptAdapterRequest
LoRAs: TypeAlias = LoRARequest | Sequence[LoRARequest | None] | None
SoftPrompts: TypeAlias = PromptAdapterRequest | Sequence[PromptAdapterRequest | None] | None


def _real(path: str) -> str:
    """The worker may have another working folder, and a folder has one path however it is written."""
    try:
        return os.path.realpath(Path(path).expanduser())
    except (RuntimeError, ValueError) as problem:  # nobody's home; no file's name
        raise ValueError(f"the adapter's folder {path!r}: {problem}") from None
