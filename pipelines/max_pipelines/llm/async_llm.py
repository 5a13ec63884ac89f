"""`AsyncLLM`: the same calls for asyncio programs, and what `LLM` is a thin run of."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from ..client import AsyncClient
from ..many import WINDOW, Bar
from .adapters import LoRARequest, LoRAs, PromptAdapterRequest, SoftPrompts
from .answering import Answering
from .arguments import Arguments
from .asks import Ask, options_of
from .async_pooling import AsyncPooling
from .beams import BeamSearchOutput, BeamSearchParams, found
from .chats import ChatForm
from .conversations import Conversations
from .guided import GuidedDecodingParams, guided
from .loaded_adapters import LoadedAdapters
from .outputs import RequestOutput
from .pooling import Pooling
from .prompts import Ids, Prompts, each
from .quantization import see_that_checkpoint_has
from .sampling import SamplingParams
from .tokenizer import LazyTokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Params = SamplingParams | Sequence[SamplingParams] | None


class AsyncLLM(AsyncPooling):
    """vLLM's `LLM` with `await`: `async with AsyncLLM(model) as llm`. Its arguments are `LLM`'s.

    Any number of tasks may call it at once, and each gets its own results. A call that is cancelled leaves nothing
    behind. In a list of prompts, one that cannot be served fails alone: its output has the `error`, and a warning says
    so; one prompt by itself raises it. What a model on the hub is for is seen from two small files, which are
    fetched at once unless they are in the cache or `task` says it.
    """

    def __init__(self, model: str, **arguments: Any) -> None:
        self._arguments = Arguments.of(model, arguments)
        self._config = config = self._arguments.config()
        self._client = AsyncClient.embedded(config)
        self._generating = Answering(
            self._client,
            config.model.name,
            self._arguments.seed,
            LoadedAdapters(self._client, config.model.name, self._arguments.adapters),
            shared=config.workers.transport == "thread",
            kv_bits=self._arguments.kv_bits,
            media=self._arguments.media,
        )
        self._pooling = Pooling(self._client, config.model.name) if self._arguments.pools else None
        self._tokenizer = LazyTokenizer(config.model)

    async def __aenter__(self) -> Self:
        own = self._arguments.own_quantization
        if own is not None:
            await asyncio.to_thread(see_that_checkpoint_has, own, self._config.model)
        await self._client.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End all that runs, and the model's processes. Safe to call twice."""
        await self._client.close()

    async def generate(
        self,
        prompts: Prompts | None = None,
        sampling_params: Params = None,
        prompt_token_ids: Ids = None,
        use_tqdm: Bar = True,
        lora_request: LoRAs = None,
        prompt_adapter_request: SoftPrompts = None,
        guided_options_request: GuidedDecodingParams | Mapping[str, Any] | None = None,
        priority: Sequence[int] | None = None,
        *,
        inputs: Prompts | None = None,
        deadline_s: float | None = None,
    ) -> list[RequestOutput]:
        """Complete each prompt; the results are in their order. A lower `priority` goes first, as in vLLM.

        Prompts are strings, lists of ids, `TextPrompt`s, `TokensPrompt`s, one or a list of them; `prompt_token_ids`
        and `inputs` are older and newer ways to give them. `lora_request` and `prompt_adapter_request` are one for all
        or one for each; an adapter is loaded when it is first used. `deadline_s` bounds each request's time, once its
        adapters are loaded.
        """
        given, single = self._given(prompts, prompt_token_ids, inputs)
        params = each(SamplingParams() if sampling_params is None else sampling_params, len(given), "sampling_params")
        loras, urgency = (
            each(lora_request, len(given), "lora_request"),
            each(0 if priority is None else priority, len(given), "priority"),
        )
        soft_prompts = each(prompt_adapter_request, len(given), "prompt_adapter_request")
        form = guided(guided_options_request)
        asks = [
            Ask(prompt, _formed(one, form), lora, soft, options_of(deadline_s, first))
            for prompt, one, lora, soft, first in zip(given, params, loras, soft_prompts, urgency, strict=True)
        ]
        return await self._answering.whole(asks, single, use_tqdm)

    async def chat(
        self,
        messages: Conversations,
        sampling_params: Params = None,
        use_tqdm: Bar = True,
        lora_request: LoRAs = None,
        chat_template: str | None = None,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        tools: Sequence[Mapping[str, Any]] | None = None,
        mm_processor_kwargs: Mapping[str, Any] | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        *,
        deadline_s: float | None = None,
    ) -> list[RequestOutput]:
        """Answer one conversation, or each of a list, through the model's chat template or the one that is given.

        ValueError if a new message is to begin and the last one to go on: only one of both can be.
        """
        form = ChatForm(
            chat_template, add_generation_prompt, continue_final_message, tools, mm_processor_kwargs,
            chat_template_kwargs,
        )  # fmt: skip
        asks, single = form.asked(messages, sampling_params, lora_request, deadline_s)
        answers = await self._answering.whole(asks, single, use_tqdm)
        await self._spell(*answers)
        return answers

    async def beam_search(
        self,
        prompts: Prompts,
        params: BeamSearchParams,
        lora_request: LoRAs = None,
        use_tqdm: Bar = False,
        concurrency_limit: int | None = None,
        *,
        deadline_s: float | None = None,
    ) -> list[BeamSearchOutput]:
        """The `beam_width` best texts after each prompt, by vLLM's rule; the results are in the prompts' order.

        Prompts as in `generate`. All searches run in one batch, as far as the memory goes, or `concurrency_limit` at
        once. Only whole texts come, and all together.
        """
        if concurrency_limit is not None and concurrency_limit < 1:
            raise ValueError(f"concurrency_limit = {concurrency_limit}: must be at least 1, or None")
        given, single = self._given(prompts)
        searching = params.searching()
        asks = [
            Ask(prompt, searching, lora, options=options_of(deadline_s, 0))
            for prompt, lora in zip(given, each(lora_request, len(given), "lora_request"), strict=True)
        ]
        answers = await self._answering.whole(asks, single, use_tqdm, min(concurrency_limit or WINDOW, WINDOW))
        tokenizer = None if self._arguments.skip_tokenizer_init else await asyncio.to_thread(self.get_tokenizer)
        return [found(answer, tokenizer, skip_special=params.skip_special_tokens) for answer in answers]

    async def stream(
        self,
        prompt: Prompts,
        sampling_params: SamplingParams | None = None,
        *,
        lora_request: LoRARequest | None = None,
        prompt_adapter_request: PromptAdapterRequest | None = None,
        deadline_s: float | None = None,
    ) -> AsyncGenerator[RequestOutput, None]:
        """One prompt's outputs while they are made: all so far, or what is new, as `output_kind` says.

        Raises what `generate` raises for one prompt. Leaving early cancels it.
        """
        (given, *more), _ = self._given(prompt)
        if more:
            raise ValueError(f"stream: {1 + len(more)} prompts; give one, and stream each by itself")
        params = sampling_params or SamplingParams()
        ask = Ask(given, params, lora_request, prompt_adapter_request, options_of(deadline_s, 0))
        async with aclosing(self._answering.stream(ask)) as outputs:
            async for output in outputs:
                yield output

    async def stream_chat(
        self,
        messages: Conversations,
        sampling_params: SamplingParams | None = None,
        *,
        lora_request: LoRARequest | None = None,
        chat_template: str | None = None,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        tools: Sequence[Mapping[str, Any]] | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        deadline_s: float | None = None,
    ) -> AsyncGenerator[RequestOutput, None]:
        """One conversation's answer while it is made. See `stream` and `chat`."""
        form = ChatForm(chat_template, add_generation_prompt, continue_final_message, tools, None, chat_template_kwargs)
        asks, single = form.asked(messages, sampling_params, lora_request, deadline_s)
        if not single:
            raise ValueError("stream_chat: several conversations; give one, and stream each by itself")
        async with aclosing(self._answering.stream(asks[0])) as outputs:
            async for output in outputs:
                await self._spell(output)
                yield output

    def cancel(self, request_id: str) -> None:
        """End a request now; what it has so far is its result, with the finish reason `abort`. A vector is none yet."""
        (self._pooling or self._generating).cancel(request_id)

    def get_tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer of transformers. ValueError for an LLM without one."""
        return self._tokenizer.inner

    @property
    def _answering(self) -> Answering:
        """ValueError for a model that makes vectors."""
        if self._pooling is not None:
            raise ValueError(
                "this LLM is for pooling: encode, embed and score are what it does; to generate and to chat take a "
                'model that generates, or LLM(…, task="generate")'
            )
        return self._generating

    async def _spell(self, *answers: RequestOutput) -> None:
        """The text that a conversation's template made of it. To load a tokenizer takes seconds, so a thread does."""
        if self._arguments.skip_tokenizer_init:
            return
        tokenizer = await asyncio.to_thread(self.get_tokenizer)
        for answer in answers:
            if answer.prompt_token_ids:
                answer.prompt = str(tokenizer.decode(list(answer.prompt_token_ids)))


def _formed(params: SamplingParams, form: GuidedDecodingParams | None) -> SamplingParams:
    """With the form of `guided_options_request`. ValueError if the parameters have one of their own."""
    if form is None:
        return params
    if params.guided_decoding is not None:
        raise ValueError("guided_options_request: the sampling parameters have guided_decoding; leave one out")
    return replace(params, guided_decoding=form)
