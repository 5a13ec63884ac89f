"""The client for ordinary programs: a thin run of `AsyncClient` on a loop of its own."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, Coroutine, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from max_interfaces import (
    AudioGenerationOutput,
    AudioGenerationRequest,
    EmbeddingsGenerationOutput,
    EmbeddingsGenerationRequest,
    LoRAResponse,
    NotServing,
    RequestID,
    RequestOptions,
    SamplingParams,
    TextGenerationOutput,
    TextGenerationRequest,
)
from max_interfaces.messages import ModelInfo, Report
from max_interfaces.wire import AnyOutput, AnyRequest

from ..config import Config
from .async_client import NO_OPTIONS, NO_PARAMS, AsyncClient
from .loop_thread import LoopThread
from .stream import OutputStream

OutputT = TypeVar("OutputT", bound=AnyOutput)
ResultT = TypeVar("ResultT")


class Client:
    """`AsyncClient` without `await`. Any thread may use it; streams of several threads run side by side."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._thread: LoopThread | None = None
        self._closing = threading.Lock()

    @classmethod
    def connect(cls, address: str, keys: str | Path | None = None) -> Self:
        """A client of the server at `address`. See `AsyncClient.connect`."""
        return cls(AsyncClient.connect(address, keys))

    @classmethod
    def embedded(cls, config: Config | str | Path) -> Self:
        """A client with its own dispatcher and workers, which end with it."""
        return cls(AsyncClient.embedded(config))

    def __enter__(self) -> Self:
        self._thread = LoopThread("maxpipe-client")
        try:
            self._run(self._client.__aenter__())
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all requests, the connection and the embedded server. Safe to call twice."""
        with self._closing:
            if self._thread is not None and not self._thread.forked:
                self._run(self._client.close())
                self._stop()

    @overload
    def stream(
        self, request: AudioGenerationRequest, options: RequestOptions = ...
    ) -> Iterator[AudioGenerationOutput]: ...
    @overload
    def stream(
        self, request: TextGenerationRequest, options: RequestOptions = ...
    ) -> Iterator[TextGenerationOutput]: ...
    @overload
    def stream(
        self, request: EmbeddingsGenerationRequest, options: RequestOptions = ...
    ) -> Iterator[EmbeddingsGenerationOutput]: ...
    def stream(self, request: AnyRequest, options: RequestOptions = NO_OPTIONS) -> Iterator[AnyOutput]:
        """The outputs of a request as they come. See `AsyncClient.stream`."""
        return self._iterate(self._client.stream(request, options))

    @overload
    def generate(self, request: AudioGenerationRequest, options: RequestOptions = ...) -> AudioGenerationOutput: ...
    @overload
    def generate(self, request: TextGenerationRequest, options: RequestOptions = ...) -> TextGenerationOutput: ...
    @overload
    def generate(
        self, request: EmbeddingsGenerationRequest, options: RequestOptions = ...
    ) -> EmbeddingsGenerationOutput: ...
    def generate(self, request: AnyRequest, options: RequestOptions = NO_OPTIONS) -> AnyOutput:
        """The whole result in one output."""

        async def whole() -> AnyOutput:
            return await self._client.generate(request, options)

        return self._run(whole())

    def generate_all(
        self, request: TextGenerationRequest, options: RequestOptions = NO_OPTIONS
    ) -> tuple[TextGenerationOutput, ...]:
        """All `n` texts of a request. See `AsyncClient.generate_all`."""
        return self._run(self._client.generate_all(request, options))

    def embed(
        self,
        texts: Sequence[str | Sequence[int]],
        *,
        model: str | None = None,
        dimensions: int | None = None,
        truncate: bool = False,
        options: RequestOptions = NO_OPTIONS,
    ) -> NDArray[np.float32]:
        """The embeddings of all texts, float32 `[texts, dimensions]`. See `AsyncClient.embed`."""
        return self._run(
            self._client.embed(texts, model=model, dimensions=dimensions, truncate=truncate, options=options)
        )

    def speak(
        self,
        text: str,
        *,
        voice: str | None = None,
        model: str | None = None,
        sampling_params: SamplingParams = NO_PARAMS,
        options: RequestOptions = NO_OPTIONS,
        adapter: str | None = None,
        normalize: bool = True,
        audio_prompt_tokens: Sequence[int] = (),
        audio_prompt_transcription: str = "",
        word_timestamps: bool = False,
    ) -> Iterator[AudioGenerationOutput]:
        """A text of any length, spoken. See `AsyncClient.speak`."""
        spoken = self._client.speak(
            text,
            voice=voice,
            model=model,
            sampling_params=sampling_params,
            options=options,
            adapter=adapter,
            normalize=normalize,
            audio_prompt_tokens=audio_prompt_tokens,
            audio_prompt_transcription=audio_prompt_transcription,
            word_timestamps=word_timestamps,
        )
        return self._iterate(spoken)

    def load_adapter(self, name: str, path: str | Path, *, model: str | None = None) -> LoRAResponse:
        """Have every worker load an adapter. See `AsyncClient.load_adapter`."""
        return self._run(self._client.load_adapter(name, path, model=model))

    def unload_adapter(self, name: str, *, model: str | None = None) -> LoRAResponse:
        """Have every worker unload it. See `AsyncClient.unload_adapter`."""
        return self._run(self._client.unload_adapter(name, model=model))

    def adapters(self, model: str | None = None) -> tuple[str, ...]:
        """What requests may name now. See `AsyncClient.adapters`."""
        return self._run(self._client.adapters(model))

    def cancel(self, request_id: RequestID) -> None:
        """End a request now. See `AsyncClient.cancel`."""
        if self._thread is not None:
            self._thread.loop.call_soon_threadsafe(self._client.cancel, request_id)

    def report(self) -> Report:
        """How the server is. See `AsyncClient.report`."""
        return self._run(self._client.report())

    @property
    def models(self) -> tuple[ModelInfo, ...]:
        """What is served."""
        return self._client.models

    def _run(self, work: Coroutine[Any, Any, ResultT]) -> ResultT:
        if self._thread is None:
            work.close()
        return self._opened().run(work)

    def _iterate(self, outputs: OutputStream[OutputT] | AsyncGenerator[OutputT, None]) -> Iterator[OutputT]:
        yield from self._opened().iterate(outputs)

    def _opened(self) -> LoopThread:
        if self._thread is None:
            raise NotServing("the client is not open; use it as `with client:`")
        return self._thread

    def _stop(self) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.stop()
