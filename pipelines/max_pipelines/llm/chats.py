"""What is asked of conversations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from max_interfaces import Json

from ..media import Access
from ..openai_chat import media_in
from .adapters import LoRARequest
from .asks import Ask, options_of
from .conversations import Conversations, conversations_of, tools_of
from .media import PromptMedia
from .prompts import each
from .sampling import SamplingParams

PUBLIC = Access(hosts=None)  # what a conversation names may be another's: no files of this machine


@dataclass(frozen=True)
class ChatForm:
    """How conversations become prompts. ValueError if a new message is to begin and the last one to go on."""

    chat_template: str | None = None
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    tools: Sequence[Mapping[str, Any]] | None = None
    mm_processor_kwargs: Mapping[str, Any] | None = None
    chat_template_kwargs: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.add_generation_prompt and self.continue_final_message:
            raise ValueError(
                "continue_final_message = True: excludes add_generation_prompt = True; one begins a new message, the "
                "other goes on with the last"
            )

    def asked(
        self,
        messages: Conversations,
        sampling_params: SamplingParams | Sequence[SamplingParams] | None,
        lora_request: LoRARequest | Sequence[LoRARequest | None] | None,
        deadline_s: float | None,
    ) -> tuple[list[Ask], bool]:
        """Each conversation with what is asked of it, and whether it was one that was no list."""
        given, single = conversations_of(messages)
        params = each(SamplingParams() if sampling_params is None else sampling_params, len(given), "sampling_params")
        loras = each(lora_request, len(given), "lora_request")
        options, fields = options_of(deadline_s, 0), self._fields()
        asks = [
            Ask(
                None,
                one,
                lora,
                options=options,
                fields={"messages": tuple(message.read() for message in conversation), **fields},
                media=PromptMedia(media_in(conversation), PUBLIC, self.mm_processor_kwargs or {}),
            )
            for conversation, one, lora in zip(given, params, loras, strict=True)
        ]
        return asks, single

    def _fields(self) -> dict[str, Any]:
        options = self.chat_template_kwargs
        return {
            "chat_template": self.chat_template,
            "add_generation_prompt": self.add_generation_prompt,
            "continue_final_message": self.continue_final_message,
            "tools": tools_of(self.tools),
            "chat_template_options": Json.of(dict(options), "chat_template_kwargs") if options else None,
        }
