"""Loading and unloading of adapters; names as in MAX."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from msgspec import Meta

from .bounds import Bounded, Name, ShortText


class LoRAOperation(StrEnum):
    """What to do with an adapter."""

    LOAD = "load"
    UNLOAD = "unload"


class LoRAStatus(StrEnum):
    """What came of it."""

    SUCCESS = "success"
    LOAD_NAME_EXISTS = "load_name_exists"
    UNLOAD_NAME_NONEXISTENT = "unload_name_nonexistent"
    LOAD_ERROR = "load_error"
    UNLOAD_ERROR = "unload_error"
    LOAD_INVALID_PATH = "load_invalid_path"
    LOAD_INVALID_ADAPTER = "load_invalid_adapter"
    UNSPECIFIED_ERROR = "unspecified_error"


@dataclass(frozen=True, slots=True)
class LoRARequest(Bounded):
    """Load the adapter at `lora_path` under `lora_name`, or unload it."""

    operation: LoRAOperation
    lora_name: Name
    lora_path: Annotated[str, Meta(max_length=4096)] | None = None

    def check_rules(self) -> None:
        """What is to be loaded lies somewhere."""
        if self.operation is LoRAOperation.LOAD and not self.lora_path:
            raise ValueError("LoRARequest.lora_path = None: loading needs the adapter's folder")


@dataclass(frozen=True, slots=True)
class LoRAResponse(Bounded):
    """The outcome of a LoRARequest."""

    status: LoRAStatus
    message: ShortText = ""
