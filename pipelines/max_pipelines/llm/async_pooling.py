"""`AsyncLLM`'s calls for models that make vectors: `encode`, `embed`, `score`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..many import Bar
from .adapters import LoRAs, SoftPrompts
from .arguments import Arguments
from .asks import options_of
from .pooling import Pooling
from .pooling_outputs import EmbeddingRequestOutput, ScoringRequestOutput
from .pooling_params import PoolingParams
from .prompts import Ids, Prompt, Prompts, each, prompts_of

Params = PoolingParams | Sequence[PoolingParams] | None


class AsyncPooling:
    """What `AsyncLLM` does with `_pooling`, which one that generates has not."""

    _arguments: Arguments
    _pooling: Pooling | None

    async def encode(
        self,
        prompts: Prompts | None = None,
        pooling_params: Params = None,
        prompt_token_ids: Ids = None,
        use_tqdm: Bar = True,
        lora_request: LoRAs = None,
        prompt_adapter_request: SoftPrompts = None,
        *,
        inputs: Prompts | None = None,
        deadline_s: float | None = None,
    ) -> list[EmbeddingRequestOutput]:
        """The vector of each prompt; the results are in their order. Prompts are given as to `generate`.

        One set of `pooling_params` is for all, a list has one for each. `lora_request` and `prompt_adapter_request`
        are refused: models that make vectors take no adapters. ValueError for an LLM that generates, too.
        """
        pooling = self._vectors("encode")
        _refuse_adapters(lora_request, prompt_adapter_request)
        given, single = self._given(prompts, prompt_token_ids, inputs)
        params = each(PoolingParams() if pooling_params is None else pooling_params, len(given), "pooling_params")
        return await pooling.embeddings(given, params, options_of(deadline_s, 0), single, use_tqdm)

    async def embed(
        self,
        prompts: Prompts,
        /,
        *,
        truncate_prompt_tokens: int | None = None,
        use_tqdm: Bar = True,
        pooling_params: Params = None,
        lora_request: LoRAs = None,
        prompt_adapter_request: SoftPrompts = None,
        deadline_s: float | None = None,
    ) -> list[EmbeddingRequestOutput]:
        """What `encode` gives, under its later name. `truncate_prompt_tokens` is as in the parameters, for all."""
        self._vectors("embed")
        given = PoolingParams() if pooling_params is None else pooling_params
        params = [given] if isinstance(given, PoolingParams) else given
        cut = [_truncated(one, truncate_prompt_tokens) for one in params]
        return await self.encode(
            prompts,
            cut[0] if isinstance(given, PoolingParams) else cut,
            use_tqdm=use_tqdm,
            lora_request=lora_request,
            prompt_adapter_request=prompt_adapter_request,
            deadline_s=deadline_s,
        )

    async def score(
        self,
        text_1: Prompts,
        text_2: Prompts,
        /,
        *,
        truncate_prompt_tokens: int | None = None,
        use_tqdm: Bar = True,
        pooling_params: PoolingParams | None = None,
        lora_request: LoRAs = None,
        prompt_adapter_request: SoftPrompts = None,
        deadline_s: float | None = None,
    ) -> list[ScoringRequestOutput]:
        """How like two texts are, by the cosine of their vectors: one against any number, or pair by pair.

        ValueError for other numbers of texts, and as `encode`. Cross-encoders, which read both at once, cannot be had.
        """
        pooling = self._vectors("score")
        _refuse_adapters(lora_request, prompt_adapter_request)
        (first, _), (second, _) = self._given(text_1), self._given(text_2)
        params = _truncated(pooling_params or PoolingParams(), truncate_prompt_tokens)
        return await pooling.scores(first, second, params, options_of(deadline_s, 0), use_tqdm)

    def _vectors(self, name: str) -> Pooling:
        if self._pooling is None:
            raise ValueError(
                f'LLM.{name}() is only supported for pooling models, and this one generates; give LLM(…, task="embed")'
            )
        return self._pooling

    def _given(
        self, prompts: Prompts | None, ids: Ids = None, inputs: Prompts | None = None
    ) -> tuple[list[Prompt], bool]:
        given, single = prompts_of(prompts, ids, inputs, skip_tokenizer=self._arguments.skip_tokenizer_init)
        if self._pooling is not None and any(prompt.media.is_there for prompt in given):
            raise ValueError("multi_modal_data, mm_processor_kwargs: this model reads text only")
        return given, single


def _truncated(params: PoolingParams, tokens: int | None) -> PoolingParams:
    return params if tokens is None else replace(params, truncate_prompt_tokens=tokens)


def _refuse_adapters(lora: LoRAs, prompt_adapter: SoftPrompts) -> None:
    for name, given in (("lora_request", lora), ("prompt_adapter_request", prompt_adapter)):
        if any(one is not None for one in (given if isinstance(given, Sequence) else [given])):
            raise ValueError(f"{name}: adapters of embedding models are not supported; leave it out")
