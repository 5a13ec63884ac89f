"""The worker's logic: what it does with messages, steps and pipelines that fail."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from max_interfaces import (
    Attempt,
    AudioGenerationMetadata,
    AudioGenerationOutput,
    AudioGenerationRequest,
    Chunk,
    FailureKind,
    GenerationStatus,
    PipelineTask,
    RequestID,
    TextGenerationRequest,
)
from max_interfaces.messages import Delivery, Ended, Retire, Start, Stop
from max_interfaces.wire import Frame, decode_payload, encode_payload
from max_pipelines.registry import ServedPipeline
from max_pipelines.worker.core import Outgoing, WorkerCore

ACTIVE, DONE = GenerationStatus.ACTIVE, GenerationStatus.END_OF_SEQUENCE


@dataclass
class Scripted:
    """A pipeline of three chunks a request, which fails where it is told to."""

    refused: set[str] = field(default_factory=set)
    broken: set[str] = field(default_factory=set)
    unsendable: set[str] = field(default_factory=set)
    misnamed: set[str] = field(default_factory=set)
    given: dict[str, int] = field(default_factory=dict)
    released: list[str] = field(default_factory=list)
    admitted: list[Attempt[AudioGenerationRequest]] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)

    def admit(self, attempt: Attempt[AudioGenerationRequest]) -> None:
        key = attempt.request.request_id.value
        if key in self.refused:
            raise ValueError("voice = 'x': there is no such voice")
        if key == "crash":
            raise RuntimeError("out of memory")
        self.admitted.append(attempt)
        self.given[key] = attempt.next_sample

    def execute(self, active: Collection[RequestID]) -> Sequence[Chunk[Any]]:
        self.steps.append(len(active))
        if any(key.value in self.broken for key in active):
            raise RuntimeError("device-side error")
        return [self._chunk(key) for key in active]

    def _chunk(self, key: RequestID) -> Chunk[Any]:
        number = self.given[key.value]
        self.given[key.value] += 1
        if key.value in self.unsendable:
            return Chunk(key, Unsendable())
        if key.value in self.misnamed:
            return Chunk(key.value, AudioGenerationOutput(ACTIVE, 1))  # type: ignore[arg-type]
        status = DONE if number == 2 else ACTIVE
        return Chunk(
            key, AudioGenerationOutput(status, 1, metadata=AudioGenerationMetadata(chunk_id=number)), (number,)
        )

    def release(self, request_id: RequestID) -> None:
        self.released.append(request_id.value)
        del self.given[request_id.value]  # not safe for an unknown id: a worker must stand that


@dataclass
class Unsendable:
    """An output that the wire does not know."""

    final_status: GenerationStatus = ACTIVE
    is_done: bool = False


def core(pipeline: Scripted) -> WorkerCore:
    return WorkerCore(ServedPipeline(pipeline, AudioGenerationRequest, PipelineTask.AUDIO_GENERATION), "voice")


def request(key: str) -> list[Frame]:
    return encode_payload([AudioGenerationRequest(RequestID(key), "voice", "Hello.")])


def begin(worker: WorkerCore, *keys: str, peer: bytes = b"c1", attempt: int = 1) -> list[Outgoing]:
    return [sent for key in keys for sent in worker.take(Start(key, peer, attempt, 7), request(key))]


def failures(outgoing: Sequence[Outgoing]) -> list[tuple[str, FailureKind | None]]:
    return [(message.request_id, message.kind) for message, _ in outgoing if isinstance(message, Ended)]


def delivered(outgoing: Sequence[Outgoing]) -> list[tuple[str, int]]:
    heads = [head for message, _ in outgoing if isinstance(message, Delivery) for head in message.heads]
    return [(head.request_id, head.seq) for head in heads]


def test_chunks_are_numbered_in_order_and_the_request_is_released_after_its_last() -> None:
    pipeline = Scripted()
    worker = core(pipeline)
    assert not begin(worker, "a")
    steps = [worker.step() for _ in range(4)]
    assert [delivered(step) for step in steps] == [[("a", 0)], [("a", 1)], [("a", 2)], []]
    assert (worker.in_flight, worker.steps, pipeline.released) == (0, 3, ["a"])


def test_one_message_a_step_for_each_client_item_by_head() -> None:
    worker = core(Scripted())
    begin(worker, "a", "b", peer=b"c1")
    begin(worker, "c", peer=b"c2")
    outgoing = worker.step()
    assert [message.peer for message, _ in outgoing if isinstance(message, Delivery)] == [b"c1", b"c2"]
    assert [len(decode_payload(payload)) for _, payload in outgoing] == [2, 1]


def test_what_an_earlier_attempt_had_reached_is_passed_on() -> None:
    pipeline = Scripted()
    worker = core(pipeline)
    worker.take(Start("a", b"c1", 2, 7, tokens=(5, 6), next_sample=1, next_seq=4), request("a"))
    (attempt,) = pipeline.admitted
    assert (attempt.seed, attempt.tokens, attempt.next_sample) == (7, (5, 6), 1)
    ((message, _),) = worker.step()
    assert isinstance(message, Delivery)
    assert (message.heads[0].seq, message.heads[0].attempt, message.heads[0].tokens) == (4, 2, (1,))


def test_a_request_the_pipeline_refuses_fails_with_its_words() -> None:
    worker = core(Scripted(refused={"a"}))
    ((message, _),) = begin(worker, "a")
    assert isinstance(message, Ended)
    assert (message.kind, message.attempt) == (FailureKind.INVALID_REQUEST, 1)
    assert "no such voice" in message.message
    assert worker.in_flight == 0


@pytest.mark.parametrize(
    "payload",
    [
        encode_payload([TextGenerationRequest(RequestID("a"), "voice", "Hi")]),
        [],
        [b"\xc1 nonsense"],
        request("another id"),
    ],
    ids=["wrong type", "no payload", "undecodable", "another id"],
)
def test_a_payload_that_is_not_the_request_fails_it_alone(payload: list[Frame]) -> None:
    worker = core(Scripted())
    begin(worker, "good")
    outgoing = worker.take(Start("a", b"c1", 1, 7), payload)
    assert failures(outgoing) == [("a", FailureKind.INVALID_REQUEST)]
    assert delivered(worker.step()) == [("good", 0)]


def test_a_crash_on_admission_fails_the_request_alone(capsys: pytest.CaptureFixture[str]) -> None:
    worker = core(Scripted())
    begin(worker, "good")
    assert failures(begin(worker, "crash")) == [("crash", FailureKind.WORKER_ERROR)]
    assert delivered(worker.step()) == [("good", 0)]
    assert "out of memory" in capsys.readouterr().err


@pytest.mark.parametrize("culprits", [{"r0"}, {"r5"}, {"r7"}, {"r1", "r6"}, {f"r{n}" for n in range(8)}])
def test_those_who_break_the_step_are_found_and_the_rest_go_on(culprits: set[str]) -> None:
    pipeline = Scripted(broken=culprits)
    worker = core(pipeline)
    keys = [f"r{number}" for number in range(8)]
    begin(worker, *keys)
    outgoing = worker.step()
    assert sorted(failures(outgoing)) == [(key, FailureKind.WORKER_ERROR) for key in sorted(culprits)]
    assert delivered(outgoing) == [(key, 0) for key in keys if key not in culprits]
    if len(culprits) == 1:
        assert len(pipeline.steps) <= 2 * 3 + 1  # 2·log2(8) + 1
    assert sorted(pipeline.released) == sorted(culprits)


def test_an_output_that_cannot_be_sent_fails_its_request_alone() -> None:
    pipeline = Scripted(unsendable={"b"})
    worker = core(pipeline)
    begin(worker, "a", "b", "c")
    outgoing = worker.step()
    assert failures(outgoing) == [("b", FailureKind.WORKER_ERROR)]
    assert delivered(outgoing) == [("a", 0), ("c", 0)]
    assert delivered(worker.step()) == [("a", 1), ("c", 1)]


def test_a_chunk_whose_id_is_no_request_id_fails_its_request_alone() -> None:
    worker = core(Scripted(misnamed={"b"}))
    begin(worker, "a", "b", "c")
    outgoing = worker.step()
    assert failures(outgoing) == [("b", FailureKind.WORKER_ERROR)]
    assert {key for key, _ in delivered(outgoing)} == {"a", "c"}


def test_a_stop_frees_the_request_and_a_stale_one_is_ignored() -> None:
    pipeline = Scripted()
    worker = core(pipeline)
    begin(worker, "a", attempt=2)
    worker.take(Stop("a", 1))
    worker.take(Stop("unknown", 1))
    assert worker.in_flight == 1
    worker.take(Stop("a", 2))
    assert (worker.in_flight, pipeline.released) == (0, ["a"])
    assert not worker.step()


def test_a_request_begun_again_starts_afresh() -> None:
    pipeline = Scripted()
    worker = core(pipeline)
    begin(worker, "a", attempt=1)
    worker.step()
    begin(worker, "a", attempt=5)
    ((message, _),) = worker.step()
    assert isinstance(message, Delivery)
    assert (message.heads[0].attempt, message.heads[0].seq) == (5, 0)
    assert pipeline.released == ["a"]


def test_retire_is_noted() -> None:
    worker = core(Scripted())
    worker.take(Retire())
    assert worker.retired
