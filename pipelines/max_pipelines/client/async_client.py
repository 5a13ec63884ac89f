"""The client for asyncio programs: typed requests in, streams of outputs back."""

from __future__ import annotations

import asyncio
import contextlib
import socket as sockets
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, overload

import zmq

from max_interfaces import (
    AudioGenerationOutput,
    AudioGenerationRequest,
    EmbeddingsGenerationOutput,
    EmbeddingsGenerationRequest,
    Failure,
    FailureKind,
    GenerationStatus,
    NotServing,
    RequestFailed,
    RequestID,
    RequestOptions,
    SamplingParams,
    StartFailed,
    TextGenerationOutput,
    TextGenerationRequest,
)
from max_interfaces.messages import (
    Cancel,
    Delivery,
    Describe,
    Described,
    Ended,
    Goodbye,
    Header,
    ModelInfo,
    Submit,
)
from max_interfaces.wire import Frame, decode_payload, encode_payload

from ..address import IPC, check_address
from ..config import Config, load_config
from .connection import Connection
from .embedded import Embedded, start_embedded
from .inbox import Inbox
from .lease import Lease
from .outputs import (
    AnyOutput,
    Request,
    join_audio,
    join_text,
    model_of,
    raise_if_broken,
    seed_of,
    terminal_output,
)
from .speaking import Joiner, plan, requests

NO_OPTIONS = RequestOptions()
NO_PARAMS = SamplingParams()
CHECK_S = 0.5  # how often a server that loads is looked at


class AsyncClient:
    """Connected to a served address, or with a server of its own below it. Belongs to one event loop.

    `async with AsyncClient.connect("ipc:///run/maxpipe") as client:` or
    `async with AsyncClient.embedded("configs/speech.yaml") as client:`; ready once entered.
    """

    def __init__(self, address: str | None, config: Config | None) -> None:
        self._address = address
        self._config = config
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._connection: Connection | None = None
        self._lease: Lease | None = None
        self._server: Embedded | None = None
        self._inboxes: dict[str, Inbox[AnyOutput | Ended]] = {}
        self._described: asyncio.Future[Described] | None = None
        self.models: tuple[ModelInfo, ...] = ()

    @classmethod
    def connect(cls, address: str) -> Self:
        """A client of the server at `address`, as `maxpipe serve` prints it."""
        return cls(check_address(address), None)

    @classmethod
    def embedded(cls, config: Config | str | Path) -> Self:
        """A client with its own dispatcher and workers, which end with it. ConfigError for a bad file."""
        return cls(None, config if isinstance(config, Config) else load_config(config))

    async def __aenter__(self) -> Self:
        """Start or connect, and wait until the models are ready. StartFailed or NotServing if they will not be."""
        self._context = zmq.Context()
        try:
            if self._config is not None:
                self._server = start_embedded(self._config, self._context)
                address = self._server.address
            else:
                address = self._address or ""
                _check_served(address)
            self._connection = Connection(self._context, address, self._on_message, self._on_lost)
            self._lease = Lease(self._context, address, self._connection.peer)
            await self._wait_ready()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End all requests, the connection and the embedded server. Safe to call twice."""
        if self._connection is not None:
            with contextlib.suppress(RequestFailed):
                self._connection.send(Goodbye())
            self._connection.close()
        loop = asyncio.get_running_loop()
        if self._lease is not None:
            await loop.run_in_executor(None, self._lease.close)
            self._lease = None
        if self._server is not None:
            await loop.run_in_executor(None, self._server.close)
            self._server = None
        if self._context is not None:
            await loop.run_in_executor(None, self._context.term)
            self._context = None
        self._fail_all("the client was closed")

    # -- requests ------------------------------------------------------------------------------------------------

    @overload
    def stream(
        self, request: AudioGenerationRequest, options: RequestOptions = ...
    ) -> AsyncIterator[AudioGenerationOutput]: ...
    @overload
    def stream(
        self, request: TextGenerationRequest, options: RequestOptions = ...
    ) -> AsyncIterator[TextGenerationOutput]: ...
    @overload
    def stream(
        self, request: EmbeddingsGenerationRequest, options: RequestOptions = ...
    ) -> AsyncIterator[EmbeddingsGenerationOutput]: ...
    def stream(self, request: Request, options: RequestOptions = NO_OPTIONS) -> AsyncIterator[AnyOutput]:
        """The outputs of a request as they come; the last one's `is_done` is true. Submitted when first iterated.

        Raises RequestFailed if it fails or misses its deadline. A cancelled request ends with an output whose
        status is `cancelled`. Leaving the loop early cancels.
        """
        return self._stream(request, options)

    async def _stream(self, request: Request, options: RequestOptions) -> AsyncIterator[AnyOutput]:
        async for output in self._read(request, self.submit(request, options)):
            yield output

    async def _read(self, request: Request, inbox: Inbox[AnyOutput | Ended]) -> AsyncIterator[AnyOutput]:
        done = False
        try:
            while not done:
                item = await inbox.get()
                if isinstance(item, Ended):
                    done = True
                    raise_if_broken(item.status, _failure(item))
                    item = terminal_output(request, item.status)
                elif item.is_done:
                    done = True
                    raise_if_broken(item.final_status, item.failure)
                yield item
        finally:
            self._inboxes.pop(request.request_id.value, None)
            if not done:
                self.cancel(request.request_id)

    def submit(self, request: Request, options: RequestOptions = NO_OPTIONS) -> Inbox[AnyOutput | Ended]:
        """Send a request now, and return where its raw outputs arrive. RequestFailed if its id is live here."""
        key = request.request_id.value
        if key in self._inboxes:
            text = f"request {key!r} is still running; give a new id"
            raise RequestFailed(Failure(FailureKind.DUPLICATE_ID, text))
        if self._connection is None:
            raise NotServing("the client is not open; use it as `async with client:`")
        inbox = self._inboxes[key] = Inbox()
        submit = Submit(key, model_of(request), options.deadline_s, options.priority, options.tenant, seed_of(request))
        self._connection.send(submit, encode_payload([request]))
        return inbox

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
    async def generate(self, request: Request, options: RequestOptions = NO_OPTIONS) -> AnyOutput:
        """The whole result in one output: a fold of `stream`."""
        if isinstance(request, AudioGenerationRequest):
            return join_audio([output async for output in self.stream(request, options)])
        if isinstance(request, TextGenerationRequest):
            return join_text([output async for output in self.stream(request, options)])
        return [output async for output in self.stream(request, options)][-1]

    async def speak(
        self,
        text: str,
        *,
        voice: str | None = None,
        model: str | None = None,
        sampling_params: SamplingParams = NO_PARAMS,
        options: RequestOptions = NO_OPTIONS,
    ) -> AsyncIterator[AudioGenerationOutput]:
        """A text of any length, spoken: cut at sentences and clauses, one request a part, joined with pauses.

        The next part is made while the current one is heard. Raises ValueError for an empty text or an unknown
        voice, RequestFailed as `stream` does.
        """
        info = self.model(model)
        parts = plan(info, text)
        waiting = requests(info, parts, voice, sampling_params)
        joiner = Joiner(info.sample_rate)
        inbox = self.submit(waiting[0], options)
        ahead: Inbox[AnyOutput | Ended] | None = None
        try:
            for number, (request, part) in enumerate(zip(waiting, parts, strict=True)):
                last = number + 1 == len(parts)
                async for output in self._read(request, inbox):
                    if ahead is None and not last:
                        ahead = self.submit(waiting[number + 1], options)
                    yield joiner.join(output, part, last)  # type: ignore[arg-type]
                    if output.final_status is GenerationStatus.CANCELLED:
                        return
                if ahead is not None:
                    inbox, ahead = ahead, None
        finally:
            for request in waiting:
                if self._inboxes.pop(request.request_id.value, None) is not None:
                    self.cancel(request.request_id)

    def cancel(self, request_id: RequestID) -> None:
        """End a request now, in whatever phase it is. Its stream ends with status `cancelled`."""
        if self._connection is not None:
            with contextlib.suppress(RequestFailed):
                self._connection.send(Cancel(request_id.value))

    def model(self, name: str | None = None) -> ModelInfo:
        """What is known of a served model; of the only one if no name is given."""
        names = [info.name for info in self.models]
        if name is None and len(self.models) == 1:
            return self.models[0]
        for info in self.models:
            if info.name == name:
                return info
        text = f"no model {name!r} is served here; served: {', '.join(names) or 'none'}"
        raise RequestFailed(Failure(FailureKind.UNKNOWN_MODEL, text))

    # -- messages ------------------------------------------------------------------------------------------------

    def _on_message(self, message: Header, payload: Sequence[Frame]) -> None:
        match message:
            case Delivery(_, heads, skip):
                outputs = decode_payload(payload)
                for index, (head, output) in enumerate(zip(heads, outputs, strict=True)):
                    inbox = self._inboxes.get(head.request_id)
                    if inbox is not None and index not in skip:
                        inbox.put(output)  # type: ignore[arg-type]
            case Ended():
                inbox = self._inboxes.get(message.request_id)
                if inbox is not None:
                    inbox.put(message)
            case Described():
                if self._described is not None and not self._described.done():
                    self._described.set_result(message)

    def _on_lost(self) -> None:
        self._fail_all("the server is gone")

    def _fail_all(self, why: str) -> None:
        for key, inbox in self._inboxes.items():
            inbox.put(Ended(key, GenerationStatus.FAILED, FailureKind.CONNECTION_LOST, why))

    async def _wait_ready(self) -> None:
        self._described = asyncio.get_running_loop().create_future()
        if self._connection is not None:
            self._connection.send(Describe())
        while True:
            done, _ = await asyncio.wait([self._described], timeout=CHECK_S)
            if done:
                break
            if self._server is not None:
                self._server.check()
            else:
                _check_served(self._address or "")
        described = self._described.result()
        if described.problem:
            raise StartFailed(described.problem)
        self.models = described.models


def _failure(ended: Ended) -> Failure | None:
    return None if ended.kind is None else Failure(ended.kind, ended.message, ended.retry_after)


def _check_served(address: str) -> None:
    """NotServing unless something listens at an ipc address: a connection alone would wait for ever."""
    if not address.startswith(IPC):
        return
    with sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM) as probe:
        try:
            probe.connect(address.removeprefix(IPC))
        except OSError as problem:
            why = problem.strerror or "no answer"
            raise NotServing(f"no server at {address} ({why}); start one with `maxpipe serve CONFIG`") from None
