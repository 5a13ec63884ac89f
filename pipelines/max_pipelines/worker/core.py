"""What a worker does with messages and steps. Logic only: no socket, no clock."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from typing import TypeAlias

import msgspec

from max_interfaces import (
    Attempt,
    Chunk,
    FailureKind,
    GenerationStatus,
    Output,
    RequestID,
    RequestOptions,
    WireError,
)
from max_interfaces.messages import ChunkHead, Delivery, Ended, ModelInfo, Retire, Start, Stop, WorkerMessage
from max_interfaces.options import DEFAULT_OPTIONS
from max_interfaces.wire import AnyRequest, Frame, decode_payload, encode_payload

from ..registry import AnyServed

Outgoing: TypeAlias = tuple[WorkerMessage, Sequence[Frame]]


class _Running(msgspec.Struct, eq=False):
    request_id: RequestID
    peer: bytes
    attempt: int
    seq: int
    done: bool = False


class WorkerCore:
    """`take` a message, `step` the pipeline; both return what is to be sent."""

    def __init__(self, served: AnyServed, model: str) -> None:
        self._served = served
        self._pipeline = served.pipeline
        self._running: dict[str, _Running] = {}
        self.model = model
        self.steps = 0
        self.retired = False
        self.refusal = ""  # why the server does not want this worker

    @property
    def info(self) -> ModelInfo:
        """What clients should know of the model."""
        return self._served.info(self.model)

    @property
    def in_flight(self) -> int:
        """How many requests run."""
        return len(self._running)

    def take(self, message: object, payload: Sequence[Frame] = ()) -> list[Outgoing]:
        """A message from the dispatcher."""
        match message:
            case Start():
                return self._start(message, payload)
            case Stop(request_id, attempt):
                running = self._running.get(request_id)
                if running is not None and running.attempt == attempt:
                    self._release(running.request_id)
            case Retire(reason):
                self.retired, self.refusal = True, reason
        return []

    def step(self) -> list[Outgoing]:
        """Move every running request one step; one message for each client that gets something."""
        if not self._running:
            return []
        ended: list[Outgoing] = []
        chunks = self._execute([running.request_id for running in self._running.values()], ended)
        self.steps += 1
        return self._deliveries(chunks, ended) + ended

    def _start(self, start: Start, payload: Sequence[Frame]) -> list[Outgoing]:
        key, attempt = start.request_id, start.attempt
        older = self._running.get(key)
        if older is not None:  # the server has begun it anew, so it has ended the old one
            self._release(older.request_id)
        try:
            request = self._decode(key, payload)
        except ValueError as problem:
            return [_failed(key, attempt, FailureKind.INVALID_REQUEST, str(problem))]
        try:
            self._pipeline.admit(
                Attempt(request, start.seed, attempt, start.tokens, start.next_sample, start.next_seq, _options(start))
            )
        except ValueError as problem:
            self._release(request.request_id)
            return [_failed(key, attempt, FailureKind.INVALID_REQUEST, str(problem))]
        except Exception as problem:  # whatever a pipeline does wrong must not take the others down
            _report(problem)
            self._release(request.request_id)
            return [_failed(key, attempt, FailureKind.WORKER_ERROR, _say(problem))]
        self._running[key] = _Running(request.request_id, start.peer, attempt, start.next_seq)
        return []

    def _decode(self, key: str, payload: Sequence[Frame]) -> AnyRequest:
        items = decode_payload(payload)
        kind = self._served.request_type
        if len(items) != 1 or not isinstance(items[0], kind):
            got = ", ".join(type(item).__name__ for item in items)
            raise ValueError(f"model {self.model!r} takes {kind.__name__}, got {got or 'nothing'}")
        request: AnyRequest = items[0]
        if request.request_id.value != key:
            raise WireError("the request's id is not the one it was announced by")
        return request

    def _execute(self, active: list[RequestID], ended: list[Outgoing]) -> list[Chunk[Output]]:
        """One step. A request that breaks it is found by halving the step, and fails alone; the others go on."""
        try:
            chunks = list(self._pipeline.execute(active))
            for chunk in chunks:
                if type(chunk.request_id) is not RequestID:
                    raise TypeError(f"a chunk's request_id is {chunk.request_id!r}: must be a RequestID")
            return chunks
        except Exception as problem:  # a step may fail in any way a model can
            if len(active) > 1:
                middle = len(active) // 2
                first = self._execute(active[:middle], ended)
                return first + self._execute(active[middle:], ended)
            _report(problem)
            ended.append(self._give_up(active[0], problem))
            return []

    def _give_up(self, key: RequestID, problem: Exception) -> Outgoing:
        attempt = self._running[key.value].attempt
        self._release(key)
        return _failed(key.value, attempt, FailureKind.WORKER_ERROR, _say(problem))

    def _deliveries(self, chunks: Sequence[Chunk[Output]], ended: list[Outgoing]) -> list[Outgoing]:
        """One message for each client."""
        by_peer: dict[bytes, list[Chunk[Output]]] = {}
        for chunk in chunks:
            running = self._running.get(chunk.request_id.value)
            if running is not None and not running.done:  # what comes after a request's end is nobody's
                running.done = chunk.output.final_status is not GenerationStatus.ACTIVE
                by_peer.setdefault(running.peer, []).append(chunk)
        return [message for peer, group in by_peer.items() for message in self._pack(peer, group, ended)]

    def _pack(self, peer: bytes, group: Sequence[Chunk[Output]], ended: list[Outgoing]) -> list[Outgoing]:
        """Chunks for one client. One that cannot be sent fails its request, not its neighbours."""
        try:
            payload = encode_payload([chunk.output for chunk in group])  # type: ignore[misc]
        except Exception as problem:  # an output of a type that the wire does not know, for example
            if len(group) > 1:
                return [message for chunk in group for message in self._pack(peer, [chunk], ended)]
            if group[0].request_id.value in self._running:
                _report(problem)
                ended.append(self._give_up(group[0].request_id, problem))
            return []
        heads = tuple([self._head(chunk) for chunk in group if chunk.request_id.value in self._running])
        return [(Delivery(peer, heads), payload)] if heads else []

    def _head(self, chunk: Chunk[Output]) -> ChunkHead:
        running = self._running[chunk.request_id.value]
        status = chunk.output.final_status
        seq, running.seq = running.seq, running.seq + 1
        if status is not GenerationStatus.ACTIVE:
            self._release(chunk.request_id)
        return ChunkHead(
            chunk.request_id.value, running.attempt, seq, chunk.first_sample, chunk.samples, status, chunk.tokens
        )

    def _release(self, key: RequestID) -> None:
        self._running.pop(key.value, None)
        try:
            self._pipeline.release(key)
        except Exception as problem:  # what it could not free is lost; the other requests need not be
            _report(problem)


def _options(start: Start) -> RequestOptions:
    """What the caller said beside the request; its deadline is the dispatcher's to keep."""
    if not start.priority and not start.tenant:
        return DEFAULT_OPTIONS  # as nearly always
    return RequestOptions(priority=start.priority, tenant=start.tenant)


def _failed(key: str, attempt: int, kind: FailureKind, message: str) -> Outgoing:
    return Ended(key, GenerationStatus.FAILED, kind, message[:4096], None, attempt), ()


def _say(problem: Exception) -> str:
    return f"{type(problem).__name__}: {problem}"


def _report(problem: Exception) -> None:
    """The worker's own log gets the whole story; the client gets one line."""
    traceback.print_exception(problem, file=sys.stderr)
