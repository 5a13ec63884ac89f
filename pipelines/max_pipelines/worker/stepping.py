"""One step of a pipeline: who breaks it is found, and what it gives is packed for those who asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec

from max_interfaces import Chunk, DeviceLost, Failure, GenerationStatus, Output, Pipeline, RequestID
from max_interfaces.messages import ChunkHead, Delivery, Ended, Note, Noted, WorkerMessage
from max_interfaces.wire import Frame, encode_payload

from ..problems import failure_of, report

Outgoing: TypeAlias = tuple[int, WorkerMessage, Sequence[Frame]]  # the first is the number of the dispatcher
Address: TypeAlias = tuple[int, bytes]  # a dispatcher's number, and a client of it


class Running(msgspec.Struct, eq=False):
    """A request that a worker has, and how much of it was sent."""

    request_id: RequestID
    link: int
    peer: bytes
    serial: int
    attempt: int
    seq: int
    tokens: int
    late_at: float  # when its worker ends it by itself
    resting: bool = False
    done: bool = False


class Stepper:
    """Steps the pipeline; `running` are all requests by id, `release` forgets one. No frame has over `most_bytes`."""

    def __init__(
        self,
        pipeline: Pipeline[Any, Any],
        running: Mapping[str, Running],
        release: Callable[[RequestID], None],
        most_bytes: int,
    ) -> None:
        self._pipeline = pipeline
        self._running = running
        self._release = release
        self._most_bytes = most_bytes

    def step(self, active: list[RequestID]) -> list[Outgoing]:
        """Move these one step. DeviceLost if no step will ever succeed."""
        ended: list[Outgoing] = []
        chunks = self._execute(active, ended)
        by_address, noted = self._sorted(chunks)
        sent: list[Outgoing] = []
        for at, group in by_address.items():
            sent += self._pack(at, group, ended)
        if noted:
            sent += self._notes(noted)
        return sent + ended

    def _execute(self, active: list[RequestID], ended: list[Outgoing]) -> list[Chunk[Output]]:
        """One step. A request that breaks it is found by halving the step, and fails alone; the others go on."""
        try:
            chunks = list(self._pipeline.execute(active))
            for chunk in chunks:
                if type(chunk.request_id) is not RequestID:
                    raise TypeError(f"a chunk's request_id is {chunk.request_id!r}: must be a RequestID")
            return chunks
        except DeviceLost:
            raise
        except Exception as problem:  # a step may fail in any way a model can
            if len(active) > 1:
                middle = len(active) // 2
                first = self._execute(active[:middle], ended)
                return first + self._execute(active[middle:], ended)
            report(problem)
            ended.append(self._give_up(active[0], problem))
            return []

    def _give_up(self, key: RequestID, problem: Exception) -> Outgoing:
        running = self._running[key.value]
        self._release(key)
        return failed(running.link, key.value, running.attempt, failure_of(problem))

    def _sorted(
        self, chunks: Sequence[Chunk[Output]]
    ) -> tuple[dict[Address, list[Chunk[Output]]], dict[str, tuple[int, ...]]]:
        """The chunks by who gets them, and the tokens that have nothing to show by request."""
        by_address: dict[Address, list[Chunk[Output]]] = {}
        noted: dict[str, tuple[int, ...]] = {}
        for given in chunks:
            chunk, output, key = given, given.output, given.request_id.value
            running = self._running.get(key)
            if running is None or running.done:
                continue  # what comes after a request's end is nobody's
            if output is None:
                noted[key] = noted.get(key, ()) + chunk.tokens
                continue
            if key in noted:
                chunk = msgspec.structs.replace(chunk, tokens=noted.pop(key) + chunk.tokens)
            running.done = output.final_status is not GenerationStatus.ACTIVE
            by_address.setdefault((running.link, running.peer), []).append(chunk)
        return by_address, noted

    def _pack(self, at: Address, group: Sequence[Chunk[Output]], ended: list[Outgoing]) -> list[Outgoing]:
        """Chunks for one client. One that cannot be sent fails its request, not its neighbours."""
        link, peer = at
        try:
            payload = encode_payload([chunk.output for chunk in group])  # type: ignore[misc]
            if (size := max(map(len, payload))) > self._most_bytes:  # the other end would cut the connection
                raise ValueError(f"an output of {size} bytes: at most {self._most_bytes} can be sent; ask for a stream")
        except Exception as problem:  # an output of a type that the wire does not know, for example
            if len(group) > 1:
                return [message for chunk in group for message in self._pack(at, [chunk], ended)]
            if group[0].request_id.value in self._running:
                report(problem)
                ended.append(self._give_up(group[0].request_id, problem))
            return []
        heads: list[ChunkHead] = []
        for chunk in group:
            key, tokens = chunk.request_id.value, chunk.tokens
            running = self._running.get(key)
            if running is None or chunk.output is None:
                continue
            status, serial, attempt = chunk.output.final_status, running.serial, running.attempt
            place = chunk.first_sample, chunk.samples
            heads.append(ChunkHead(key, serial, attempt, running.seq, *place, status, running.tokens, tokens))
            running.seq += 1
            running.tokens += len(tokens)
            if status is not GenerationStatus.ACTIVE:
                self._release(chunk.request_id)
        return [(link, Delivery(peer, tuple(heads)), payload)] if heads else []

    def _notes(self, noted: Mapping[str, tuple[int, ...]]) -> list[Outgoing]:
        """One message for each dispatcher."""
        by_link: dict[int, list[Note]] = {}
        for key, tokens in noted.items():
            running = self._running.get(key)
            if running is not None:
                by_link.setdefault(running.link, []).append(Note(key, running.attempt, running.tokens, tokens))
                running.tokens += len(tokens)
        return [(link, Noted(tuple(notes)), ()) for link, notes in by_link.items()]


def failed(link: int, key: str, attempt: int, failure: Failure) -> Outgoing:
    """That a request has failed before it had an output to say so."""
    return link, Ended(key, GenerationStatus.FAILED, failure.kind, failure.message, None, attempt), ()
