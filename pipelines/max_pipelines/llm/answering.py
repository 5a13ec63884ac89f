"""Runs what is asked, on one client."""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, ExitStack, aclosing
from functools import partial

from max_interfaces import GenerationStatus, RequestFailed, RequestID, TextGenerationOutput, TextGenerationRequest

from ..client import AsyncClient
from ..client.outputs import join_texts
from ..many import WINDOW, Bar, as_asked
from ..own_processors import registered
from .asks import Ask
from .loaded_adapters import LoadedAdapters
from .media import MediaRules
from .outputs import RequestOutput, failed
from .results import Growing, counted, result_of
from .sampling import SamplingParams, with_prompt
from .settled import settled
from .waiting import Waiting

SEED_STRIDE = 1_000_003  # so that neighbouring seeds do not give the same numbers, one request apart


class Answering:
    """`client` serves `model`; requests are numbered, which are their ids.

    One without a seed gets one from `seed` and its number, so that a run repeats, unless `seed` is None. `shared` says
    that the worker is a thread of this process, `kv_bits` how keys and values are kept. `adapters` has loaded what
    they name, `media` reads what stands beside them.
    """

    def __init__(
        self,
        client: AsyncClient,
        model: str,
        seed: int | None,
        adapters: LoadedAdapters,
        *,
        shared: bool,
        kv_bits: int | None = None,
        media: MediaRules,
    ) -> None:
        self._client = client
        self._model = model
        self._seed = seed
        self._adapters = adapters
        self._shared = shared
        self._kv_bits = kv_bits
        self._media = media
        self._numbers = itertools.count()
        self._waiting = Waiting()

    async def whole(self, asks: Sequence[Ask], single: bool, bar: Bar, window: int = WINDOW) -> list[RequestOutput]:
        """The results of all, in their order. A `single` one that fails raises; of several it has the `error`."""
        self._adapters.check(asks)
        with ExitStack() as stack:
            known = {id(ask.params): ask.params for ask in asks}
            names = {key: stack.enter_context(self._processors(params)) for key, params in known.items()}
            numbers = [next(self._numbers) for _ in asks]
            stack.enter_context(self._waiting.these(map(str, numbers)))
            jobs = [
                partial(self._one, ask, number, names[id(ask.params)])
                for ask, number in zip(asks, numbers, strict=True)
            ]
            results = await settled(jobs, single, bar, counted, window)
        return [
            _failed(ask, number, result) if isinstance(result, Exception) else result
            for ask, number, result in zip(asks, numbers, results, strict=True)
        ]

    async def stream(self, ask: Ask) -> AsyncGenerator[RequestOutput, None]:
        """One's outputs while they are made."""
        self._adapters.check([ask])
        number = next(self._numbers)
        with self._processors(ask.params) as processors, self._waiting.these([str(number)]):
            request = await self._made(ask, number, processors)
            growing = Growing(ask)
            async with aclosing(self._outputs(ask, request)) as outputs:
                try:
                    async for output in outputs:
                        for shown in growing.take(output):
                            yield shown
                except RequestFailed as problem:
                    raise as_asked(problem) from None

    def cancel(self, request_id: str) -> None:
        """End a request, also one that has still to be sent."""
        if not self._waiting.cancel(request_id):
            self._client.cancel(RequestID(request_id))

    async def _one(self, ask: Ask, number: int, processors: Sequence[str]) -> RequestOutput:
        request = await self._made(ask, number, processors)
        async with aclosing(self._outputs(ask, request)) as outputs:
            return result_of(ask, join_texts([output async for output in outputs]), finished=True)

    async def _outputs(self, ask: Ask, request: TextGenerationRequest) -> AsyncGenerator[TextGenerationOutput, None]:
        """The road's, once what it names is loaded; for one that was cancelled before, an end as the road has it."""
        async with AsyncExitStack() as stack:
            used = self._adapters.used(ask)
            if not await self._waiting.over(request.request_id.value, lambda: stack.enter_async_context(used)):
                yield TextGenerationOutput(request.request_id, (), GenerationStatus.CANCELLED)
                return
            async for output in await stack.enter_async_context(aclosing(self._client.stream(request, ask.options))):
                yield output

    def _processors(self, params: SamplingParams) -> AbstractContextManager[tuple[str, ...]]:
        return registered(params.logits_processors or (), with_prompt, shared=self._shared)

    async def _made(self, ask: Ask, number: int, processors: Sequence[str]) -> TextGenerationRequest:
        seed = None if self._seed is None else (self._seed * SEED_STRIDE + number) % 2**63
        served, media = self._client.models, {}
        if served and ask.shown.is_there:
            media = await self._media.fields(ask.shown, served[0].media)
        return ask.request(number, self._model, seed, processors, self._kv_bits, media)


def _failed(ask: Ask, number: int, problem: Exception) -> RequestOutput:
    text, ids = (None, None) if ask.prompt is None else (ask.prompt.text, ask.prompt.ids)
    return failed(str(number), text, ids, problem)
