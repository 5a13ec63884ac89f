"""What an `LLM` allows of adapters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from ..config import EngineConfig
from .adapters import LoRARequest, PromptAdapterRequest

MOST = 256  # of a kind: with both, and as many again on their way out, what a server can have
OURS = EngineConfig()
SWITCHES = {  # what turns them on
    "max_loras": "enable_lora",
    "max_lora_rank": "enable_lora",
    "max_prompt_adapters": "enable_prompt_adapter",
    "max_prompt_adapter_token": "enable_prompt_adapter",
}
NAMES = (*SWITCHES, "enable_lora", "enable_prompt_adapter")
ANYWHERE = "/"  # the server is its caller's own, who may read what it reads


@dataclass(frozen=True)
class AdapterLimits:
    """How many adapters of a kind are loaded at a time, 0 if it is off, and how large they may be."""

    loras: int = 0
    rank: int = OURS.max_adapter_rank
    soft_prompts: int = 0
    virtual_tokens: int | None = None

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Self:
        """From `LLM`'s arguments. ValueError, by their names, for what is out of its bounds."""
        loras = _number(given, "max_loras", OURS.max_adapters, MOST)
        rank = _number(given, "max_lora_rank", OURS.max_adapter_rank, 4096)
        soft_prompts = _number(given, "max_prompt_adapters", OURS.max_adapters, MOST)
        longest = given.get("max_prompt_adapter_token")
        return cls(
            loras if given.get("enable_lora") else 0,
            rank,
            soft_prompts if given.get("enable_prompt_adapter") else 0,
            None if longest is None else _number(given, "max_prompt_adapter_token", 1, 2**20),
        )

    @property
    def engine(self) -> dict[str, Any]:
        """The engine's own fields; none if both kinds are off."""
        most = self.loras + self.soft_prompts
        if not most:
            return {}
        # Twice as many: a sequence that was cancelled may hold what has been unloaded for a step more.
        return {"max_adapters": 2 * most, "max_adapter_rank": self.rank, "adapter_folder": ANYWHERE}

    def check(self, lora: LoRARequest | None, soft_prompt: PromptAdapterRequest | None) -> None:
        """ValueError for a kind that is off, or a soft prompt that is too long."""
        if lora is not None and not self.loras:
            raise ValueError(f"lora_request = {lora.name!r}: LoRA is off; give LLM(…, enable_lora=True)")
        if soft_prompt is None:
            return
        named = f"prompt_adapter_request = {soft_prompt.name!r}"
        if not self.soft_prompts:
            raise ValueError(f"{named}: soft prompts are off; give LLM(…, enable_prompt_adapter=True)")
        tokens, most = soft_prompt.prompt_adapter_num_virtual_tokens, self.virtual_tokens
        if most is not None and tokens > most:
            raise ValueError(f"{named}: has {tokens} virtual tokens, at most {most} (max_prompt_adapter_token)")


def _number(given: Mapping[str, Any], name: str, default: int, most: int) -> int:
    value = default if given.get(name) is None else given[name]
    if type(value) is not int or not 1 <= value <= most:
        raise ValueError(f"{name} = {value!r}: must be a whole number from 1 to {most}")
    return value
