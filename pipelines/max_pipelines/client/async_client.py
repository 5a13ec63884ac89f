"""The client for asyncio programs: typed requests in, streams of outputs back."""

from __future__ import annotations

import asyncio
import contextlib
import socket as sockets
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias, overload

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
    WireError,
)
from max_interfaces.messages import (
    Cancel,
    ChunkHead,
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

Arrivals: TypeAlias = Inbox[AnyOutput | Ended]


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
        self._inboxes: dict[str, Arrivals] = {}
        self._left: Counter[str] = Counter()  # requests left early whose last message has yet to come
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
        self._loop = asyncio.get_running_loop()
        self._context = zmq.Context()
        try:
            if self._config is not None:
                self._server = start_embedded(self._config, self._context)
                address = self._server.address
            else:
                address = self._address or ""
                _check_served(address)
            self._connection = Connection(self._context, address, self._on_message, self._fail_all)
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
        self._fail_all("the client was closed")
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
        return self._read(request, options)

    async def _read(
        self, request: Request, options: RequestOptions, inbox: Arrivals | None = None
    ) -> AsyncGenerator[AnyOutput, None]:
        """The outputs of a request, submitted now unless it has an inbox already."""
        inbox = inbox or self.submit(request, options)
        done = False
        try:
            while not done:
                if not inbox.items:
                    await inbox.arrival()
                item = inbox.items.popleft()
                if isinstance(item, Ended):
                    done = True
                    raise_if_broken(item.status, _failure(item))
                    item = terminal_output(request, item.status)
                elif item.final_status is not GenerationStatus.ACTIVE:
                    done = True
                    raise_if_broken(item.final_status, item.failure)
                yield item
        finally:
            self._leave(request.request_id)

    def submit(self, request: Request, options: RequestOptions = NO_OPTIONS) -> Arrivals:
        """Send a request now, and return where its raw outputs arrive. RequestFailed if its id is live here."""
        key = request.request_id.value
        if key in self._inboxes:
            text = f"request {key!r} is still running; give a new id"
            raise RequestFailed(Failure(FailureKind.DUPLICATE_ID, text))
        if self._connection is None:
            raise NotServing("the client is not open; use it as `async with client:`")
        submit = Submit(key, model_of(request), options.deadline_s, options.priority, options.tenant, seed_of(request))
        self._connection.send(submit, encode_payload([request]))
        inbox = self._inboxes[key] = Inbox(self._loop)
        return inbox

    def _leave(self, request_id: RequestID) -> None:
        """Nobody reads this request any more. Cancel it unless its end is here; until that comes, drop what comes."""
        inbox = self._inboxes.pop(request_id.value, None)
        if inbox is not None and not inbox.ended:
            self._left[request_id.value] += 1
            self.cancel(request_id)

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
        ahead: Arrivals | None = None
        try:
            for number, (request, part) in enumerate(zip(waiting, parts, strict=True)):
                last = number + 1 == len(parts)
                async with contextlib.aclosing(self._read(request, options, inbox)) as outputs:
                    async for output in outputs:
                        if ahead is None and not last:
                            ahead = self.submit(waiting[number + 1], options)
                        yield joiner.join(output, part, last)  # type: ignore[arg-type]
                        if output.final_status is GenerationStatus.CANCELLED:
                            return
                if ahead is not None:
                    inbox, ahead = ahead, None
        finally:
            for request in waiting:
                self._leave(request.request_id)

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
            case Delivery():
                self._delivered(message, payload)
            case Ended():
                self._put(message.request_id, message, last=True)
            case Described():
                if self._described is not None and not self._described.done():
                    self._described.set_result(message)

    def _delivered(self, delivery: Delivery, payload: Sequence[Frame]) -> None:
        heads = delivery.heads
        try:
            outputs: Sequence[Any] = decode_payload(payload)
            if len(outputs) != len(heads):
                raise WireError(f"{len(outputs)} outputs for {len(heads)} chunks")
        except WireError as problem:
            self._undecodable(heads, str(problem))
            return
        skip = frozenset(delivery.skip)
        for index, head in enumerate(heads):
            if index not in skip:
                self._put(head.request_id, outputs[index], last=head.status is not GenerationStatus.ACTIVE)

    def _put(self, key: str, item: AnyOutput | Ended, last: bool) -> None:
        if self._left and key in self._left:  # the rest of an earlier request with this id
            if last:
                self._left -= Counter([key])
            return
        inbox = self._inboxes.get(key)
        if inbox is not None:
            inbox.put(item, last)

    def _undecodable(self, heads: Sequence[ChunkHead], problem: str) -> None:
        """No output can be had from this message: whoever waits for one of them must not wait for ever."""
        for head in {head.request_id: head for head in heads}.values():
            if head.status is GenerationStatus.ACTIVE:
                self.cancel(RequestID(head.request_id))
                self._left[head.request_id] += 1
            ended = Ended(head.request_id, GenerationStatus.FAILED, FailureKind.WORKER_ERROR, problem[:4096])
            inbox = self._inboxes.get(head.request_id)
            if inbox is not None:
                inbox.put(ended, last=True)

    def _fail_all(self, why: str) -> None:
        """Nothing more will come for anybody."""
        self._left.clear()
        for key, inbox in self._inboxes.items():
            if not inbox.ended:
                inbox.put(Ended(key, GenerationStatus.FAILED, FailureKind.CONNECTION_LOST, why), last=True)
        if self._described is not None and not self._described.done():
            self._described.set_result(Described(problem=why))

    async def _wait_ready(self) -> None:
        self._described = self._loop.create_future()
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
