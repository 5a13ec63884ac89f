"""The client for asyncio programs: typed requests in, streams of outputs back."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, overload

import numpy as np
from numpy.typing import NDArray

from max_interfaces import (
    AudioGenerationOutput,
    AudioGenerationRequest,
    EmbeddingsGenerationOutput,
    EmbeddingsGenerationRequest,
    Failure,
    FailureKind,
    InvalidRequest,
    LoRAOperation,
    LoRARequest,
    LoRAResponse,
    NotServing,
    RequestFailed,
    RequestID,
    RequestOptions,
    SamplingParams,
    TextGenerationOutput,
    TextGenerationRequest,
)
from max_interfaces.messages import ModelInfo, Report
from max_interfaces.wire import AnyOutput, AnyRequest, encode_payload

from ..address import ServerAddress, TcpAddress, parse_address
from ..config import Config, load_config
from ..security.folder import KeyFolder
from ..security.keys import KeyPair
from .embedding import embedded
from .inbox import Inbox
from .outputs import join_audio, join_texts
from .session import Session
from .speaking import Flush, Manner, check_speaks, check_voice, parts_as_written, parts_of, spoken
from .stream import OutputStream
from .submission import submission
from .transcript import Transcript

NO_OPTIONS = RequestOptions()
NO_PARAMS = SamplingParams()


class AsyncClient:
    """Connected to a served address, or with a server of its own below it. Belongs to one event loop.

    `async with AsyncClient.connect("ipc:///run/maxpipe") as client:` or
    `async with AsyncClient.embedded("configs/speech.yaml") as client:`; ready once entered.
    """

    def __init__(self, address: ServerAddress | None, config: Config | None, keys: KeyPair | None = None) -> None:
        self._address = address
        self._config = config
        self._keys = keys
        self._session: Session | None = None
        self.models: tuple[ModelInfo, ...] = ()

    @classmethod
    def connect(cls, address: str, keys: str | Path | None = None) -> Self:
        """A client of the server at `address`, as `maxpipe serve` prints it.

        Over tcp:// it shows the key in the folder `keys`, by default that of `maxpipe keys`. ConfigError for what is
        no address, or without a key.
        """
        where = parse_address(address)
        return cls(where, None, KeyFolder(keys).load() if isinstance(where, TcpAddress) else None)

    @classmethod
    def embedded(cls, config: Config | str | Path) -> Self:
        """A client with its own dispatcher and workers, which end with it. ConfigError for a bad file."""
        return cls(None, config if isinstance(config, Config) else load_config(config))

    async def __aenter__(self) -> Self:
        """Start or connect, and wait until the models are ready. StartFailed or NotServing if they will not be."""
        session = self._session = Session(self._address, self._config, self._keys)
        try:
            self.models = await session.questions.models()
        except BaseException:
            await session.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End all requests, the connection and the embedded server. Safe to call twice."""
        if self._session is not None:
            await self._session.close()

    # -- requests ------------------------------------------------------------------------------------------------

    @overload
    def stream(
        self, request: AudioGenerationRequest, options: RequestOptions = ...
    ) -> OutputStream[AudioGenerationOutput]: ...
    @overload
    def stream(
        self, request: TextGenerationRequest, options: RequestOptions = ...
    ) -> OutputStream[TextGenerationOutput]: ...
    @overload
    def stream(
        self, request: EmbeddingsGenerationRequest, options: RequestOptions = ...
    ) -> OutputStream[EmbeddingsGenerationOutput]: ...
    def stream(self, request: AnyRequest, options: RequestOptions = NO_OPTIONS) -> OutputStream[Any]:
        """The outputs of a request as they come; the last one's `is_done` is true. Submitted when first iterated.

        Raises RequestFailed if it fails or misses its deadline. A cancelled request ends with an output whose
        status is `cancelled`. Leaving the loop early cancels.
        """
        return OutputStream(self._opened().demultiplexer, request, partial(self._submit, request, options))

    def _submit(self, request: AnyRequest, options: RequestOptions, ahead: bool) -> Inbox:
        session = self._opened()
        key = request.request_id.value
        serial = session.demultiplexer.number(key)
        submit = submission(request, options, serial)
        payload = encode_payload([request])
        size = max(map(len, payload))
        most = session.connection.most_bytes
        if size > most:  # the other end would cut the connection for it, without a word to us
            raise InvalidRequest(f"the request has {size} bytes: over this connection at most {most} can be sent")
        session.connection.send(submit, payload)
        return session.demultiplexer.open(key, serial, options.deadline_s, ahead=ahead)

    @overload
    async def generate(
        self, request: AudioGenerationRequest, options: RequestOptions = ...
    ) -> AudioGenerationOutput: ...
    @overload
    async def generate(self, request: TextGenerationRequest, options: RequestOptions = ...) -> TextGenerationOutput: ...
    @overload
    async def generate(
        self, request: EmbeddingsGenerationRequest, options: RequestOptions = ...
    ) -> EmbeddingsGenerationOutput: ...
    async def generate(self, request: AnyRequest, options: RequestOptions = NO_OPTIONS) -> AnyOutput:
        """The whole result in one output: a fold of `stream`. Of the texts of `n` > 1 it is the first."""
        if isinstance(request, AudioGenerationRequest):
            return join_audio([output async for output in self.stream(request, options)])
        if isinstance(request, TextGenerationRequest):
            return (await self.generate_all(request, options))[0]
        return [output async for output in self.stream(request, options)][-1]

    async def generate_all(
        self, request: TextGenerationRequest, options: RequestOptions = NO_OPTIONS
    ) -> tuple[TextGenerationOutput, ...]:
        """All `n` texts of a request, each whole; number i has `index` i."""
        return join_texts([output async for output in self.stream(request, options)])

    async def embed(
        self,
        texts: Sequence[str | Sequence[int]],
        *,
        model: str | None = None,
        dimensions: int | None = None,
        truncate: bool = False,
        options: RequestOptions = NO_OPTIONS,
    ) -> NDArray[np.float32]:
        """The embeddings of all texts, float32 `[texts, dimensions]`, in their order; see EmbeddingsGenerationRequest.

        InvalidRequest for a text that cannot be embedded, with its number; RequestFailed as `stream` does.
        """
        return await embedded(self, self.model(model).name, texts, dimensions, truncate, options)

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
    ) -> AsyncGenerator[AudioGenerationOutput, None]:
        """A text of any length, spoken: cut at sentences, joined with pauses; long ones at clauses, joined without.

        The next part is made while the current one is heard, all with the `adapter` if one is named, and each in the
        voice of the sample, if its speech tokens and its words are given. `normalize=False` has numbers and the like
        not written out first. With `word_timestamps` the outputs' `metadata.words` say when each word of the text is
        heard. Raises InvalidRequest for an empty text or an unknown voice, RequestFailed as `stream` does.
        """
        info = self.model(model)
        check_speaks(info)
        check_voice(info, voice)
        sample = tuple(audio_prompt_tokens), audio_prompt_transcription
        manner = Manner(voice, sampling_params, options, adapter, normalize, *sample, word_timestamps)
        return spoken(self, parts_of(info, text, normalize), info, manner, Transcript(text if word_timestamps else ""))

    def stream_text(
        self,
        texts: AsyncIterator[str | Flush],
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
    ) -> AsyncGenerator[AudioGenerationOutput, None]:
        """A text that is still being written, spoken: each sentence when it is complete, at first each clause.

        `Flush()` among the `texts` has what came before it spoken at once. The sound ends when they do; without a word
        in them it is empty. Raises as `speak` does, and what `texts` raises.
        """
        info = self.model(model)
        check_speaks(info)
        check_voice(info, voice)
        sample = tuple(audio_prompt_tokens), audio_prompt_transcription
        manner = Manner(voice, sampling_params, options, adapter, normalize, *sample, word_timestamps)
        transcript = Transcript()
        noted = transcript if word_timestamps else None
        return spoken(self, parts_as_written(info, texts, normalize, noted), info, manner, transcript)

    def cancel(self, request_id: RequestID) -> None:
        """End a request now, in whatever phase it is. Its stream ends with status `cancelled`."""
        if self._session is not None:
            self._session.demultiplexer.cancel(request_id.value)

    async def report(self) -> Report:
        """How the server is, in numbers. RequestFailed if it does not answer."""
        return await self._opened().questions.report()

    # -- adapters ------------------------------------------------------------------------------------------------

    async def load_adapter(self, name: str, path: str | Path, *, model: str | None = None) -> LoRAResponse:
        """Have every worker load the adapter in a folder, so that requests may name it: `adapter_id`.

        `path` lies in the server's `engine.adapter_folder`; a name in it will do. Answered when all that are ready have
        it, and those that come later load it first. ValueError for a name or a path that can be none; RequestFailed if
        the server does not answer.
        """
        return await self._adapt(LoRARequest(LoRAOperation.LOAD, name, str(path)), model)

    async def unload_adapter(self, name: str, *, model: str | None = None) -> LoRAResponse:
        """Have every worker unload it. What runs with it goes on to its end; from now on no request may name it."""
        return await self._adapt(LoRARequest(LoRAOperation.UNLOAD, name), model)

    async def adapters(self, model: str | None = None) -> tuple[str, ...]:
        """What requests may name now: the config's own adapters, and those that were loaded since."""
        await self.ask_models()
        return self.model(model).adapters

    async def ask_models(self) -> tuple[ModelInfo, ...]:
        """What is served now: `models` is as it was when it was last asked. StartFailed if nothing is any more."""
        self.models = await self._opened().questions.models()
        return self.models

    async def _adapt(self, request: LoRARequest, model: str | None) -> LoRAResponse:
        adapted = await self._opened().questions.adapt(request, self.model(model).name)
        return LoRAResponse(adapted.status, adapted.message)

    def model(self, name: str | None = None) -> ModelInfo:
        """What is known of a served model; of the only one if no name is given."""
        names = [info.name for info in self.models]
        if name is None and len(self.models) == 1:
            return self.models[0]
        for info in self.models:
            if info.name == name:
                return info
        asked = f"no model {name!r} is served here" if name else "which model? Name one of those that are served"
        text = f"{asked}; served: {', '.join(names) or 'none'}"
        raise RequestFailed(Failure(FailureKind.UNKNOWN_MODEL, text))

    def _opened(self) -> Session:
        if self._session is None:
            raise NotServing("the client is not open; use it as `async with client:`")
        return self._session
