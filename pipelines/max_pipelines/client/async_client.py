"""The client for asyncio programs: typed requests in, streams of outputs back."""

from __future__ import annotations

import asyncio
import contextlib
import socket as sockets
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, overload

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
    Describe,
    Described,
    Goodbye,
    Inspect,
    ModelInfo,
    Read,
    Report,
    Submit,
)
from max_interfaces.wire import AnyOutput, AnyRequest, Frame, encode_payload

from ..address import IPC, IpcAddress, ServerAddress, TcpAddress, parse_address
from ..config import Config, load_config
from ..security.client import connect
from ..security.folder import KeyFolder
from ..security.keys import KeyPair
from ..sockets import MAX_MESSAGE_BYTES, MAX_REMOTE_BYTES, Dial
from .connection import Connection
from .demultiplexer import Demultiplexer
from .embedded import Embedded, start_embedded
from .inbox import Inbox
from .lease import Lease
from .outputs import join_audio, join_texts, model_of, prefix_of, seed_of
from .speaking import Joiner, plan, requests
from .stream import OutputStream

NO_OPTIONS = RequestOptions()
NO_PARAMS = SamplingParams()
CHECK_S = 0.5  # how often a server that loads is looked at
CONNECT_S = 10.0  # what a server on another host gets to answer the first time
REPORT_S = 5.0  # what a server gets to say how it is


class AsyncClient:
    """Connected to a served address, or with a server of its own below it. Belongs to one event loop.

    `async with AsyncClient.connect("ipc:///run/maxpipe") as client:` or
    `async with AsyncClient.embedded("configs/speech.yaml") as client:`; ready once entered.
    """

    def __init__(self, address: ServerAddress | None, config: Config | None, keys: KeyPair | None = None) -> None:
        self._address = address
        self._config = config
        self._keys = keys
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._connection: Connection | None = None
        self._lease: Lease | None = None
        self._server: Embedded | None = None
        self._demultiplexer: Demultiplexer | None = None
        self._described: asyncio.Future[Described] | None = None
        self._reported: asyncio.Future[Report] | None = None
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
        self._loop = asyncio.get_running_loop()
        self._demultiplexer = Demultiplexer(self._loop, self._tell, self._answer)
        self._context = zmq.Context()
        try:
            if self._config is not None:
                self._server = start_embedded(self._config, self._context, self._lost_in_a_thread)
                self._address = self._server.address
            dial = self._dialler()
            self._connection = Connection(self._context, dial, self._demultiplexer.take, self._fail_all)
            self._lease = Lease(self._context, dial, self._connection.peer)
            await self._wait_ready()
        except BaseException:
            await self.close()
            raise
        return self

    def _dialler(self) -> Dial:
        address = self._address
        if address is None:
            raise NotServing("the client has no address")
        if self._server is None:
            _check_served(address)
        return partial(connect, address=address, keys=self._keys)

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
        self._fail_all("the client was closed")
        if self._demultiplexer is not None:
            self._demultiplexer.close()
        # In one piece and in a thread: it goes on to its end even if whoever waits for it is cancelled.
        await asyncio.get_running_loop().run_in_executor(None, self._close_rest)

    def _close_rest(self) -> None:
        """What may block: the lease's thread, the server, and what was sent but has not left."""
        lease, self._lease = self._lease, None
        server, self._server = self._server, None
        context, self._context = self._context, None
        if lease is not None:
            lease.close()
        if server is not None:
            server.close()
        if context is not None:
            context.term()

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
        demultiplexer, _ = self._opened()
        return OutputStream(demultiplexer, request, partial(self._submit, request, options))

    def _submit(self, request: AnyRequest, options: RequestOptions, ahead: bool) -> Inbox:
        demultiplexer, connection = self._opened()
        key, deadline_s = request.request_id.value, options.deadline_s
        serial = demultiplexer.number(key)
        submit = Submit(
            key,
            model_of(request),
            deadline_s,
            serial,
            options.priority,
            options.tenant,
            seed_of(request),
            prefix_of(request),
        )
        payload = encode_payload([request])
        self._check_size(payload)
        connection.send(submit, payload)
        return demultiplexer.open(key, serial, deadline_s, ahead=ahead)

    def _check_size(self, payload: Sequence[Frame]) -> None:
        """ValueError for what the other end would cut the connection for, without a word to us."""
        most = MAX_REMOTE_BYTES if isinstance(self._address, TcpAddress) else MAX_MESSAGE_BYTES
        size = max(map(len, payload))
        if size > most:
            raise ValueError(f"the request has {size} bytes: over this connection at most {most} can be sent")

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
        current = self.stream(waiting[0], options).submit()
        ahead: OutputStream[AudioGenerationOutput] | None = None
        try:
            for number, part in enumerate(parts):
                last = number + 1 == len(parts)
                async for output in current:
                    if ahead is None and not last:
                        ahead = self.stream(waiting[number + 1], options).submit(ahead=True)
                    cancelled = output.final_status is GenerationStatus.CANCELLED
                    yield joiner.join(output, part, last or cancelled)
                    if cancelled:
                        return
                if ahead is not None:
                    current, ahead = ahead, None
        finally:
            for outputs in (current, ahead):
                if outputs is not None:
                    await outputs.aclose()

    def cancel(self, request_id: RequestID) -> None:
        """End a request now, in whatever phase it is. Its stream ends with status `cancelled`."""
        if self._demultiplexer is not None:
            self._demultiplexer.cancel(request_id.value)

    def _tell(self, message: Cancel | Read | Describe) -> None:
        if self._connection is not None:
            with contextlib.suppress(RequestFailed):
                self._connection.send(message)

    async def report(self) -> Report:
        """How the server is, in numbers. RequestFailed if it does not answer."""
        _, connection = self._opened()
        if self._reported is None or self._reported.done():  # else it has been asked, and the answer is everybody's
            self._reported = self._loop.create_future()
            connection.send(Inspect())
        try:
            return await asyncio.wait_for(asyncio.shield(self._reported), REPORT_S)
        except TimeoutError:
            self._reported = None  # the question may be lost: the next caller asks anew
            text = f"the server has not answered for {REPORT_S:g} s"
            raise RequestFailed(Failure(FailureKind.CONNECTION_LOST, text)) from None

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

    def _opened(self) -> tuple[Demultiplexer, Connection]:
        if self._demultiplexer is None or self._connection is None:
            raise NotServing("the client is not open; use it as `async with client:`")
        return self._demultiplexer, self._connection

    # -- messages ------------------------------------------------------------------------------------------------

    def _answer(self, described: Described | Report) -> None:
        """What was asked for; unasked, it is that the server cannot read us."""
        if isinstance(described, Report):
            if self._reported is not None and not self._reported.done():
                self._reported.set_result(described)
        elif self._described is not None and not self._described.done():
            self._described.set_result(described)
        elif described.problem:
            self._fail_all(described.problem)

    def _fail_all(self, why: str) -> None:
        """Nothing more will come for anybody."""
        if self._demultiplexer is not None:
            self._demultiplexer.fail_all(why)
        if self._described is not None and not self._described.done():
            self._described.set_result(Described(problem=why))
        if self._reported is not None and not self._reported.done():
            self._reported.set_exception(RequestFailed(Failure(FailureKind.CONNECTION_LOST, why)))

    def _lost_in_a_thread(self, why: str) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended, and all requests with it
            self._loop.call_soon_threadsafe(self._fail_all, why)

    def _check_server(self) -> None:
        """StartFailed or NotServing if nobody is there any more, or has been so far."""
        if self._server is not None:
            self._server.check()
        elif self._address is not None:
            _check_served(self._address)
            late = self._loop.time() > self._opened_at + CONNECT_S
            if late and self._connection is not None and not self._connection.connected:
                raise NotServing(f"no server at {self._address}: it has not answered for {CONNECT_S:g} s")

    async def _wait_ready(self) -> None:
        self._opened_at = self._loop.time()
        self._described = self._loop.create_future()
        self._tell(Describe())
        while True:
            done, _ = await asyncio.wait([self._described], timeout=CHECK_S)
            if done:
                break
            self._check_server()
            self._tell(Describe())  # the question may be lost, or its answer
        described = self._described.result()
        if described.problem:
            raise StartFailed(described.problem)
        self.models = described.models


def _check_served(address: ServerAddress) -> None:
    """NotServing unless something listens at an ipc address: a connection alone would wait for ever."""
    if not isinstance(address, IpcAddress):
        return
    with sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM) as probe:
        try:
            probe.connect(address.endpoint.removeprefix(IPC))
        except OSError as problem:
            why = problem.strerror or "no answer"
            raise NotServing(f"no server at {address} ({why}); start one with `maxpipe serve CONFIG`") from None
