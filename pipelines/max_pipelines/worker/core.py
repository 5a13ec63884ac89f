"""What a worker does with messages and steps. Logic only: no socket, no clock."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from max_interfaces import Attempt, Chunk, FailureKind, GenerationStatus, Output, RequestID, WireError
from max_interfaces.messages import ChunkHead, Delivery, Ended, ModelInfo, Retire, Start, Stop, WorkerMessage
from max_interfaces.wire import Frame, Payload, decode_payload, encode_payload

from ..registry import AnyServed

Outgoing: TypeAlias = tuple[WorkerMessage, Sequence[Frame]]


@dataclass(slots=True)
class _Running:
    peer: bytes
    attempt: int
    seq: int


class WorkerCore:
    """`take` a message, `step` the pipeline; both return what is to be sent."""

    def __init__(self, served: AnyServed, model: str) -> None:
        self._served = served
        self._pipeline = served.pipeline
        self._running: dict[RequestID, _Running] = {}
        self.model = model
        self.steps = 0
        self.retired = False

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
                running = self._running.get(RequestID(request_id))
                if running is not None and running.attempt == attempt:
                    self._release(RequestID(request_id))
            case Retire():
                self.retired = True
        return []

    def step(self) -> list[Outgoing]:
        """Move every running request one step; one message for each client that gets something."""
        if not self._running:
            return []
        ended: list[Outgoing] = []
        chunks = self._execute(list(self._running), ended)
        self.steps += 1
        return self._deliveries(chunks) + ended

    def _start(self, start: Start, payload: Sequence[Frame]) -> list[Outgoing]:
        key = RequestID(start.request_id)
        try:
            request = self._decode(key, payload)
            attempt = Attempt(request, start.seed, start.attempt, start.tokens, start.next_sample)
            self._pipeline.admit(attempt)
        except ValueError as problem:
            self._pipeline.release(key)
            return [_failed(start, FailureKind.INVALID_REQUEST, str(problem))]
        except Exception as problem:  # whatever a pipeline does wrong must not take the others down
            _report(problem)
            self._pipeline.release(key)
            return [_failed(start, FailureKind.WORKER_ERROR, _say(problem))]
        self._running[key] = _Running(start.peer, start.attempt, start.next_seq)
        return []

    def _decode(self, key: RequestID, payload: Sequence[Frame]) -> Payload:
        items = decode_payload(payload)
        kind = self._served.request_type
        if len(items) != 1 or not isinstance(items[0], kind):
            got = ", ".join(type(item).__name__ for item in items)
            raise ValueError(f"model {self.model!r} takes a {kind.__name__}, got {got or 'nothing'}")
        if items[0].request_id != key:
            raise WireError("the request's id is not the one it was announced by")
        request: Payload = items[0]
        return request

    def _execute(self, active: list[RequestID], ended: list[Outgoing]) -> list[Chunk[Output]]:
        """One step. A request that breaks it is found by halving the step, and fails alone; the others go on."""
        try:
            return list(self._pipeline.execute(active))
        except Exception as problem:  # a step may fail in any way a model can
            if len(active) > 1:
                middle = len(active) // 2
                first = self._execute(active[:middle], ended)
                return first + self._execute(active[middle:], ended)
            _report(problem)
            ended.append(self._give_up(active[0], problem))
            return []

    def _give_up(self, key: RequestID, problem: Exception) -> Outgoing:
        running = self._running[key]
        self._release(key)
        kind = FailureKind.WORKER_ERROR
        return Ended(key.value, GenerationStatus.FAILED, kind, _say(problem)[:4096], None, running.attempt), ()

    def _deliveries(self, chunks: Sequence[Chunk[Output]]) -> list[Outgoing]:
        by_peer: dict[bytes, tuple[list[ChunkHead], list[Output]]] = {}
        for chunk in chunks:
            running = self._running.get(chunk.request_id)
            if running is None:
                continue
            heads, outputs = by_peer.setdefault(running.peer, ([], []))
            heads.append(
                ChunkHead(
                    chunk.request_id.value,
                    running.attempt,
                    running.seq,
                    chunk.first_sample,
                    chunk.samples,
                    chunk.output.final_status,
                    chunk.tokens,
                )
            )
            outputs.append(chunk.output)
            running.seq += 1
            if chunk.output.is_done:
                self._release(chunk.request_id)
        return [
            (Delivery(peer, tuple(heads)), encode_payload(outputs))  # type: ignore[arg-type]
            for peer, (heads, outputs) in by_peer.items()
        ]

    def _release(self, key: RequestID) -> None:
        self._running.pop(key, None)
        self._pipeline.release(key)


def _failed(start: Start, kind: FailureKind, message: str) -> Outgoing:
    return Ended(start.request_id, GenerationStatus.FAILED, kind, message[:4096], None, start.attempt), ()


def _say(problem: Exception) -> str:
    return f"{type(problem).__name__}: {problem}"


def _report(problem: Exception) -> None:
    """The worker's own log gets the whole story; the client gets one line."""
    traceback.print_exception(problem, file=sys.stderr)
