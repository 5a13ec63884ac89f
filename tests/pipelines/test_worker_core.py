"""The worker's logic: what it does with messages, steps and pipelines that fail."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from max_interfaces import (
    Attempt,
    AudioGenerationMetadata,
    AudioGenerationOutput,
    AudioGenerationRequest,
    Chunk,
    DeviceLost,
    FailureKind,
    GenerationStatus,
    PipelineTask,
    RequestID,
    TextGenerationRequest,
)
from max_interfaces.messages import (
    Alive,
    Beat,
    ChunkHead,
    Delivery,
    Ended,
    Held,
    Note,
    Noted,
    Pace,
    Ready,
    Retire,
    Start,
    Stop,
    decode_header,
    encode_header,
)
from max_interfaces.wire import Frame, decode_payload, encode_payload
from max_pipelines.registry import ServedPipeline
from max_pipelines.worker.core import GRACE_S, WorkerCore
from max_pipelines.worker.stepping import Outgoing

ACTIVE, DONE = GenerationStatus.ACTIVE, GenerationStatus.END_OF_SEQUENCE
SERIAL = 41


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
    steps: list[tuple[str, ...]] = field(default_factory=list)

    def admit(self, attempt: Attempt[AudioGenerationRequest]) -> None:
        key = attempt.request.request_id.value
        if key in self.refused:
            raise ValueError("voice = 'x': there is no such voice")
        if key == "crash":
            raise RuntimeError("out of memory")
        if key == "fatal":
            raise DeviceLost("an illegal access of its memory")
        self.admitted.append(attempt)
        self.given[key] = attempt.next_sample

    def execute(self, active: Collection[RequestID]) -> Sequence[Chunk[Any]]:
        self.steps.append(tuple([key.value for key in active]))
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
        return sound(key.value, number, status=DONE if number == 2 else ACTIVE, number=number)

    def release(self, request_id: RequestID) -> None:
        self.released.append(request_id.value)
        del self.given[request_id.value]  # not safe for an unknown id: a worker must stand that


@dataclass
class Unsendable:
    """An output that the wire does not know."""

    final_status: GenerationStatus = ACTIVE
    is_done: bool = False


@dataclass
class Played:
    """A pipeline whose steps the test has written down; an exception among them is raised."""

    steps: list[list[Chunk[AudioGenerationOutput]] | Exception]

    def admit(self, attempt: Attempt[AudioGenerationRequest]) -> None:
        pass

    def execute(self, active: Collection[RequestID]) -> Sequence[Chunk[AudioGenerationOutput]]:
        step = self.steps.pop(0)
        if isinstance(step, Exception):
            raise step
        return step

    def release(self, request_id: RequestID) -> None:
        pass


def sound(key: str, *tokens: int, status: GenerationStatus = ACTIVE, number: int = 0) -> Chunk[AudioGenerationOutput]:
    """A chunk that the caller hears."""
    metadata = AudioGenerationMetadata(chunk_id=number)
    return Chunk(RequestID(key), AudioGenerationOutput(status, 1, metadata=metadata), tokens)


def note(key: str, *tokens: int) -> Chunk[AudioGenerationOutput]:
    """A chunk that has nothing to show."""
    return Chunk(RequestID(key), None, tokens)


def core(pipeline: Scripted | Played | Mixed, links: int = 1, most_bytes: int = 2**20) -> WorkerCore:
    served: ServedPipeline[AudioGenerationRequest, AudioGenerationOutput] = ServedPipeline(
        pipeline, AudioGenerationRequest, PipelineTask.AUDIO_GENERATION, gauges=lambda: {"free": 5}
    )
    return WorkerCore(served, "voice", links=links, most_bytes=most_bytes)


def request(key: str) -> list[Frame]:
    return encode_payload([AudioGenerationRequest(RequestID(key), "voice", "Hello.")])


def begin(
    worker: WorkerCore, *keys: str, peer: bytes = b"c1", attempt: int = 1, link: int = 0, deadline_s: float = 60.0
) -> list[Outgoing]:
    starts = {key: Start(key, peer, attempt, 7, deadline_s, SERIAL) for key in keys}
    return [sent for key, start in starts.items() for sent in worker.take(start, request(key), 0.0, link)]


def failures(outgoing: Sequence[Outgoing]) -> list[tuple[str, FailureKind | None]]:
    return [(message.request_id, message.kind) for _, message, _ in outgoing if isinstance(message, Ended)]


def heads(outgoing: Sequence[Outgoing]) -> list[ChunkHead]:
    return [head for _, message, _ in outgoing if isinstance(message, Delivery) for head in message.heads]


def delivered(outgoing: Sequence[Outgoing]) -> list[tuple[str, int]]:
    return [(head.request_id, head.seq) for head in heads(outgoing)]


def held(worker: WorkerCore, link: int = 0) -> list[Held]:
    """What it says that it has of a dispatcher's."""
    _, message, _ = worker.alive(link)
    assert isinstance(message, Alive)
    return list(message.held)


def test_chunks_are_numbered_in_order_and_the_request_is_released_after_its_last() -> None:
    pipeline = Scripted()
    worker = core(pipeline)
    assert not begin(worker, "a")
    steps = [worker.step() for _ in range(4)]
    assert [delivered(step) for step in steps] == [[("a", 0)], [("a", 1)], [("a", 2)], []]
    assert (worker.in_flight, worker.active, worker.steps, pipeline.released) == (0, False, 3, ["a"])


def test_one_message_a_step_for_each_client_item_by_head() -> None:
    worker = core(Scripted())
    begin(worker, "a", "b", peer=b"c1")
    begin(worker, "c", peer=b"c2")
    outgoing = worker.step()
    assert [message.peer for _, message, _ in outgoing if isinstance(message, Delivery)] == [b"c1", b"c2"]
    assert [len(decode_payload(payload)) for _, _, payload in outgoing] == [2, 1]


def test_what_an_earlier_attempt_had_reached_is_passed_on() -> None:
    pipeline = Scripted()
    worker = core(pipeline)
    start = Start("a", b"c1", 2, 7, 60.0, SERIAL, tokens=(5, 6), next_sample=1, next_seq=4, first_sample=1)
    worker.take(start, request("a"))
    (attempt,) = pipeline.admitted
    assert (attempt.seed, attempt.tokens, attempt.next_sample, attempt.next_seq) == (7, (5, 6), 1, 4)
    assert attempt.first_sample == 1
    (head,) = heads(worker.step())
    assert (head.seq, head.attempt, head.serial, head.first_token, head.tokens) == (4, 2, SERIAL, 2, (1,))


def test_a_request_the_pipeline_refuses_fails_with_its_words() -> None:
    worker = core(Scripted(refused={"a"}))
    ((_, message, _),) = begin(worker, "a")
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
    outgoing = worker.take(Start("a", b"c1", 1, 7, 60.0), payload)
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


def test_an_output_that_is_too_large_to_be_sent_fails_its_request_alone() -> None:
    """The other end would cut the connection, and everybody's sound with it."""
    large = AudioGenerationOutput(ACTIVE, 1, np.zeros(20_000, np.float32))
    worker = core(Played([[sound("a"), Chunk(RequestID("b"), large), sound("c")]]), most_bytes=70_000)
    begin(worker, "a", "b", "c")
    outgoing = worker.step()
    (ended,) = [message for _, message, _ in outgoing if isinstance(message, Ended)]
    assert (ended.request_id, ended.kind) == ("b", FailureKind.WORKER_ERROR)
    assert ended.message == "ValueError: an output of 80000 bytes: at most 70000 can be sent; ask for a stream"
    assert delivered(outgoing) == [("a", 0), ("c", 0)]


def test_a_chunk_whose_id_is_no_request_id_fails_its_request_alone() -> None:
    worker = core(Scripted(misnamed={"b"}))
    begin(worker, "a", "b", "c")
    outgoing = worker.step()
    assert failures(outgoing) == [("b", FailureKind.WORKER_ERROR)]
    assert {key for key, _ in delivered(outgoing)} == {"a", "c"}


@pytest.mark.parametrize("together", [(), ("a", "b")])
def test_a_lost_device_ends_the_worker_and_no_request(together: tuple[str, ...]) -> None:
    pipeline = Played([DeviceLost("an illegal access of its memory")])
    worker = core(pipeline)
    begin(worker, "c", *together)
    with pytest.raises(DeviceLost, match="illegal access"):
        worker.step()
    with pytest.raises(DeviceLost):
        begin(core(Scripted()), "fatal")


def test_a_lost_device_is_told_from_a_broken_request() -> None:
    """The step is repeated in halves, and the second repetition finds that no step will succeed."""
    pipeline = Played([RuntimeError("no memory"), [sound("a")], DeviceLost("gone")])
    worker = core(pipeline)
    begin(worker, "a", "b")
    with pytest.raises(DeviceLost):
        worker.step()


# -- tokens that nobody hears of ---------------------------------------------------------------------------------


def test_notes_become_one_message_for_each_dispatcher_after_what_is_heard() -> None:
    pipeline = Played([[note("a", 1, 2), sound("b", 3), note("c"), note("d", 4), sound("e", 5)]])
    worker = core(pipeline, links=2)
    begin(worker, "a", "b", "c")
    begin(worker, "d", "e", peer=b"c2", link=1)
    outgoing = worker.step()
    assert [(link, type(message)) for link, message, _ in outgoing] == [
        (0, Delivery),
        (1, Delivery),
        (0, Noted),
        (1, Noted),
    ]
    assert [message for _, message, _ in outgoing[2:]] == [
        Noted((Note("a", 1, 0, (1, 2)), Note("c", 1, 0, ()))),
        Noted((Note("d", 1, 0, (4,)),)),
    ]


def test_tokens_are_counted_on_over_notes_and_chunks() -> None:
    pipeline = Played([[note("a", 1, 2)], [sound("a", 3)], [note("a", 4)], [sound("a", 5, 6)], [note("a", 7)]])
    worker = core(pipeline)
    worker.take(Start("a", b"c1", 3, 7, 60.0, SERIAL, tokens=(8, 9), next_seq=1), request("a"))
    told: list[tuple[int, int | None, tuple[int, ...]]] = []
    for _ in range(5):
        ((_, message, _),) = worker.step()
        match message:
            case Noted((told_note,)):
                told.append((told_note.first_token, None, told_note.tokens))
            case Delivery(_, (head,)):
                told.append((head.first_token, head.seq, head.tokens))
    assert told == [(2, None, (1, 2)), (4, 1, (3,)), (5, None, (4,)), (6, 2, (5, 6)), (8, None, (7,))]


def test_a_note_before_a_chunk_of_the_same_step_goes_with_it() -> None:
    pipeline = Played([[note("a", 1), note("a", 2), sound("a", 3), sound("a", 4), note("a", 5), note("a", 6)]])
    worker = core(pipeline)
    begin(worker, "a")
    outgoing = worker.step()
    assert [(head.seq, head.first_token, head.tokens) for head in heads(outgoing)] == [(0, 0, (1, 2, 3)), (1, 3, (4,))]
    assert outgoing[-1][1] == Noted((Note("a", 1, 4, (5, 6)),))


def test_what_comes_after_a_requests_end_is_nobodys() -> None:
    pipeline = Played([[note("a", 1), sound("a", 2, status=DONE), sound("a", 3), note("a", 4), sound("stranger", 5)]])
    worker = core(pipeline)
    begin(worker, "a")
    ((_, message, payload),) = worker.step()
    assert isinstance(message, Delivery)
    assert [(head.status, head.tokens) for head in message.heads] == [(DONE, (1, 2))]
    assert len(decode_payload(payload)) == 1
    assert worker.in_flight == 0


# -- messages that are late, twice, or about something else ------------------------------------------------------


def test_a_stop_frees_the_request_and_a_stale_one_is_ignored() -> None:
    pipeline = Scripted()
    worker = core(pipeline, links=2)
    begin(worker, "a", attempt=2)
    worker.take(Stop("a", 1))
    worker.take(Stop("a", 3))
    worker.take(Stop("a", 2), link=1)  # of another server
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
    (head,) = heads(worker.step())
    assert (head.attempt, head.seq, head.first_token) == (5, 0, 0)
    assert pipeline.released == ["a"]


@pytest.mark.parametrize("attempt", [1, 2])
def test_a_start_that_is_repeated_or_late_does_nothing(attempt: int) -> None:
    pipeline = Scripted()
    worker = core(pipeline)
    begin(worker, "a", attempt=2)
    worker.step()
    assert not begin(worker, "a", attempt=attempt)
    assert (len(pipeline.admitted), pipeline.released, held(worker)) == (1, [], [Held("a", 2)])
    assert delivered(worker.step()) == [("a", 1)]


def test_a_second_servers_request_with_the_same_id_is_refused() -> None:
    pipeline = Scripted()
    worker = core(pipeline, links=2)
    begin(worker, "a", attempt=1)
    ((link, message, _),) = begin(worker, "a", attempt=9, link=1)
    assert isinstance(message, Ended)
    assert (link, message.kind, message.attempt) == (1, FailureKind.DUPLICATE_ID, 9)
    assert (held(worker, 0), held(worker, 1)) == ([Held("a", 1)], [])
    assert delivered(worker.step()) == [("a", 0)]
    worker.take(Stop("a", 1))
    assert not begin(worker, "a", attempt=10, link=1)  # now the id is free
    assert held(worker, 1) == [Held("a", 10)]


def test_a_request_rests_and_goes_on_as_it_is_told() -> None:
    pipeline = Scripted()
    worker = core(pipeline)
    begin(worker, "a", "b")
    for _ in "12":  # a repeat changes nothing
        worker.take(Pace("a", 1, True))
    assert worker.active
    assert delivered(worker.step()) == [("b", 0)]
    worker.take(Pace("b", 1, True))
    assert not worker.active
    assert not worker.step()
    assert (worker.steps, pipeline.steps) == (1, [("b",)])
    assert held(worker) == [Held("a", 1, True), Held("b", 1, True)]
    for _ in "12":
        worker.take(Pace("a", 1, False))
    assert worker.active
    assert delivered(worker.step()) == [("a", 0)]
    worker.take(Stop("b", 1))  # one that rests is forgotten like any other
    assert worker.active
    worker.take(Pace("a", 1, True))
    assert not worker.active


def test_a_stale_pace_is_ignored() -> None:
    worker = core(Scripted(), links=2)
    begin(worker, "a", attempt=2)
    worker.take(Pace("a", 1, True))
    worker.take(Pace("a", 2, True), link=1)
    worker.take(Pace("unknown", 1, True))
    assert worker.active
    assert delivered(worker.step()) == [("a", 0)]


def test_a_request_begun_again_does_not_rest() -> None:
    worker = core(Scripted())
    begin(worker, "a")
    worker.take(Pace("a", 1, True))
    begin(worker, "a", attempt=2)
    assert worker.active
    assert held(worker) == [Held("a", 2, False)]


# -- dispatchers -------------------------------------------------------------------------------------------------


def test_a_dispatcher_that_does_not_know_this_worker_has_nothing_here() -> None:
    pipeline = Scripted()
    worker = core(pipeline, links=2)
    begin(worker, "a", "b")
    begin(worker, "c", link=1)
    worker.take(Pace("b", 1, True))
    (link, message, _), *others = worker.take(Beat(known=False))
    assert (link, type(message)) == (0, Ready)
    assert all(isinstance(other, Alive) for _, other, _ in others)
    assert sorted(pipeline.released) == ["a", "b"]
    assert (held(worker, 0), held(worker, 1)) == ([], [Held("c", 1)])
    assert worker.active
    assert delivered(worker.step()) == [("c", 0)]


def test_a_beat_of_a_dispatcher_that_knows_this_worker_forgets_nothing() -> None:
    worker = core(Scripted())
    begin(worker, "a")
    assert not worker.take(Beat(3))
    assert held(worker) == [Held("a", 1)]


def test_who_is_retired_by_all_is_retired() -> None:
    worker = core(Scripted())
    worker.take(Retire("there are too many of you"))
    assert worker.retired
    assert not worker.links.hopeful


def test_who_is_retired_by_one_of_two_goes_on_for_the_other() -> None:
    pipeline = Scripted()
    worker = core(pipeline, links=2)
    begin(worker, "a")
    begin(worker, "b", link=1)
    worker.take(Retire(), link=0)
    assert not worker.retired
    assert pipeline.released == ["a"]
    assert (held(worker, 0), held(worker, 1)) == ([], [Held("b", 1)])
    assert delivered(worker.step()) == [("b", 0)]
    worker.take(Retire(), link=1)
    assert worker.retired, "none of them is there: as if it had had one"


def test_a_dispatcher_that_has_ended_is_offered_this_worker_again_once_it_is_back() -> None:
    worker = core(Scripted(), links=2)
    share = worker.links.all[0].credits
    (told,) = worker.take(Retire(), link=0)
    assert (told[0], worker.links.all[1].credits) == (1, 2 * share), "the other has all of it"
    assert worker.links.hopeful == [0, 1]
    _, alive, _ = worker.alive(0)
    assert isinstance(alive, Alive)
    assert not alive.credits
    (link, ready, _), *changed = worker.take(Beat(known=False), now=9.0, link=0)
    assert (link, [number for number, *_ in changed]) == (0, [0, 1])
    assert isinstance(ready, Ready)
    assert ready.credits == worker.links.all[0].credits == share
    begin(worker, "a")
    worker.take(Retire(), now=9.5, link=1)
    assert not worker.retired, "the first is there again"
    assert held(worker, 0) == [Held("a", 1)]


def test_a_dispatcher_that_does_not_want_this_worker_is_not_asked_again() -> None:
    worker = core(Scripted(), links=2)
    worker.take(Retire("this server serves other things"), link=0)
    assert not worker.retired
    assert worker.links.hopeful == [1]
    worker.take(Retire(), link=1)
    assert worker.retired


def test_a_sign_of_life_says_what_is_held_and_how_it_goes() -> None:
    worker = core(Scripted(), links=2)
    begin(worker, "a", "b", attempt=3)
    begin(worker, "c", link=1)
    worker.step()
    link, message, _ = worker.alive(1, 0.5, 7.0)
    assert link == 1
    assert message == Alive("worker", 1, (Held("c", 1),), 8, 0.5, 7.0, {"pid": 0, "free": 5})
    assert held(worker, 0) == [Held("a", 3), Held("b", 3)]


def test_a_worker_that_was_idle_for_a_year_can_say_so() -> None:
    _, message, _ = core(Scripted()).alive(0, 3e7)
    assert decode_header(encode_header(message)) == message


def test_a_request_whose_dispatcher_forgets_it_ends_soon_after_its_deadline() -> None:
    pipeline = Scripted()
    worker = core(pipeline)
    begin(worker, "late", "resting", deadline_s=5.0)
    begin(worker, "in time", deadline_s=50.0)
    worker.take(Pace("resting", 1, True))
    assert delivered(worker.step(5.0 + GRACE_S - 0.01)) == [("late", 0), ("in time", 0)]
    assert delivered(worker.step(5.0 + GRACE_S)) == [("in time", 1)]
    assert pipeline.released == ["late", "resting"]
    assert worker.active


# -- all of it together ------------------------------------------------------------------------------------------


@dataclass
class Mixed:
    """A pipeline that notes, sounds and says nothing in turn, six steps a request. Strict about what it has."""

    given: dict[str, int] = field(default_factory=dict)
    begun: int = 0

    def admit(self, attempt: Attempt[AudioGenerationRequest]) -> None:
        key = attempt.request.request_id.value
        assert key not in self.given
        self.given[key] = 0
        self.begun += 1

    def execute(self, active: Collection[RequestID]) -> Sequence[Chunk[AudioGenerationOutput]]:
        return [chunk for key in active for chunk in self._step(key.value)]

    def _step(self, key: str) -> list[Chunk[AudioGenerationOutput]]:
        number = self.given[key] = self.given[key] + 1
        if number == 6:
            return [sound(key, 1, status=DONE)]
        return [[], [note(key, 1, 1)], [sound(key, 1), note(key, 1)], [note(key, 1), sound(key, 1)]][number % 4]

    def release(self, request_id: RequestID) -> None:
        del self.given[request_id.value]


KEYS, LINKS, ATTEMPTS = st.sampled_from("abc"), st.integers(0, 1), st.integers(1, 3)
MESSAGES = st.one_of(
    st.builds(lambda key, attempt: Start(key, b"c1", attempt, 7, 4.0, SERIAL, (1,) * attempt), KEYS, ATTEMPTS),
    st.builds(Stop, KEYS, ATTEMPTS),
    st.builds(Pace, KEYS, ATTEMPTS, st.booleans()),
    st.builds(Beat, st.integers(0, 9), st.booleans()),
)
EVENTS = st.lists(st.tuples(MESSAGES, LINKS) | st.just("step") | st.just("second"), max_size=40)


@given(events=EVENTS)
@settings(max_examples=300, deadline=None)
def test_whatever_comes_nothing_is_leaked_and_everything_is_counted(
    events: list[tuple[Start | Stop | Pace | Beat, int] | str],
) -> None:
    pipeline = Mixed()
    worker = core(pipeline, links=2)
    reached: dict[str, tuple[int, int]] = {}  # the outputs and tokens of each request
    now = 0.0
    for event in events:
        if isinstance(event, str):
            now += event == "second"
            outgoing = worker.step(now) if event == "step" else worker.tick(now)
        else:
            message, link = event
            begun = pipeline.begun
            outgoing = worker.take(message, request(getattr(message, "request_id", "a")), now, link)
            if isinstance(message, Start) and pipeline.begun > begun:
                reached[message.request_id] = (0, message.attempt)
        _count(outgoing, reached)
        both = [held(worker, link) for link in range(2)]
        assert [len(mine) for mine in both] == [link.running for link in worker.links.all]
        everything = both[0] + both[1]
        assert sorted(one.request_id for one in everything) == sorted(pipeline.given)
        assert worker.in_flight == len(everything)
        assert worker.active == any(not one.resting for one in everything)


def _count(outgoing: Sequence[Outgoing], reached: dict[str, tuple[int, int]]) -> None:
    """Outputs and tokens follow on one another, in the order in which they are sent."""
    for _, message, payload in outgoing:
        match message:
            case Delivery(_, told):
                assert len(decode_payload(payload)) == len(told)
                for head in told:
                    assert (head.seq, head.first_token) == reached[head.request_id]
                    reached[head.request_id] = (head.seq + 1, head.first_token + len(head.tokens))
            case Noted(notes):
                for one in notes:
                    seq, tokens = reached[one.request_id]
                    assert one.first_token == tokens
                    reached[one.request_id] = (seq, tokens + len(one.tokens))
            case Ended():
                assert message.kind is FailureKind.DUPLICATE_ID  # nothing else fails here


def test_a_worker_offers_itself_once_to_a_dispatcher_that_asks_again_and_again() -> None:
    worker = core(Scripted())
    assert [type(message) for _, message, _ in worker.take(Beat(known=False), now=1.0)] == [Ready]
    assert not worker.take(Beat(known=False), now=1.1)  # the answer to a sign of life from before
    assert [type(message) for _, message, _ in worker.take(Beat(known=False), now=2.0)] == [Ready]


def test_a_request_that_rests_ends_by_its_deadline_too() -> None:
    worker = core(Scripted())
    worker.take(Start("a", b"c1", 1, 7, 5.0), request("a"), now=1.0)
    worker.take(Pace("a", 1, True), now=1.0)
    worker.take(Beat(), now=6.4)
    worker.tick(6.5)
    assert worker.in_flight == 1
    worker.tick(7.0)
    assert worker.in_flight == 0
