"""One prompt of a call with all that is asked of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from max_interfaces import RequestID, RequestOptions, TextGenerationRequest

from ..many import NO_DEADLINE
from .adapters import LoRARequest, PromptAdapterRequest
from .media import TEXT_ALONE, PromptMedia
from .prompts import Prompt
from .sampling import SamplingParams


@dataclass(frozen=True)
class Ask:
    """A prompt, or, in `fields`, a conversation with its `media`; and what is asked of it."""

    prompt: Prompt | None
    params: SamplingParams
    lora: LoRARequest | None = None
    soft_prompt: PromptAdapterRequest | None = None
    options: RequestOptions = NO_DEADLINE
    fields: Mapping[str, Any] = field(default_factory=dict)
    media: PromptMedia = TEXT_ALONE

    @property
    def shown(self) -> PromptMedia:
        """The media of its prompt or its conversation."""
        return self.media if self.prompt is None else self.prompt.media

    def request(
        self,
        number: int,
        model: str,
        seed: int | None,
        processors: Sequence[str],
        kv_bits: int | None,
        media: Mapping[str, Any],
    ) -> TextGenerationRequest:
        """As the road takes it, with the fields of its `media`. ValueError, by vLLM's names, for what it cannot ask."""
        spelled = self.params.logprobs is not None or self.params.prompt_logprobs is not None
        return TextGenerationRequest(
            RequestID(str(number)),
            model,
            None if self.prompt is None else self.prompt.read,
            sampling_params=self.params.translated(seed, processors, kv_bits),
            adapter_id=None if self.lora is None else self.lora.lora_name,
            token_texts=spelled and self.params.detokenize,
            return_prompt=True,
            prompt_adapter_id=None if self.soft_prompt is None else self.soft_prompt.prompt_adapter_name,
            **self.fields,
            **media,
        )


def options_of(deadline_s: float | None, priority: int) -> RequestOptions:
    """How long a request may take, and how urgent it is; as vLLM has it, the lower the `priority` the sooner."""
    return RequestOptions(NO_DEADLINE.deadline_s if deadline_s is None else deadline_s, -priority)
