"""The dispatcher's logic, rule by rule."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from max_interfaces import FailureKind, GenerationStatus
from max_interfaces.messages import (
    Delivery,
    Describe,
    Described,
    Ended,
    Goodbye,
    ModelInfo,
    Pace,
    Ping,
    Read,
    Retire,
    Start,
    Stop,
)
from max_pipelines.config import Limits
from max_pipelines.server.events import (
    DrainBegins,
    DrainEnds,
    Received,
    Send,
    Tick,
)
from tests.pipelines.desk import DONE, MODEL, RATE, Desk, ends, started, to

FAILED, CANCELLED = GenerationStatus.FAILED, GenerationStatus.CANCELLED


def test_a_request_goes_to_the_worker_and_its_chunks_to_the_client_as_they_came() -> None:
    desk = Desk()
    desk.worker()
    (start,) = desk.submit("a")
    assert isinstance(start, Send)
    assert isinstance(start.message, Start)
    assert (start.peer, start.payload, start.message.peer) == (b"w1", (b"payload",), b"c1")
    (passed_on,) = desk.chunk("a", desk.attempt("a"), 0)
    assert isinstance(passed_on, Send)
    assert (passed_on.peer, passed_on.header, passed_on.payload) == (b"c1", b"as it came", (b"payload",))
    desk.chunk("a", desk.attempt("a"), 1, DONE)
    assert desk.is_idle
    assert not ends(desk.sent)  # the worker's last chunk was the terminal message


def test_what_a_resume_needs_is_recorded() -> None:
    desk = Desk()
    desk.first_sample = 5
    desk.worker()
    desk.submit("a")
    for seq in range(3):
        desk.chunk("a", desk.attempt("a"), seq)
    request = desk.dispatcher.requests["a"]
    assert (request.tokens, request.next_sample, request.next_seq) == ([0, 1, 2], 35, 3)
    assert request.first_sample == 5


# -- admission ---------------------------------------------------------------------------------------------------


def test_an_unknown_model_is_refused_with_the_names_that_are_served() -> None:
    desk = Desk(models=("one", "two"))
    (refusal,) = to(b"c1", desk.submit("a", model="three"))
    assert isinstance(refusal, Ended)
    assert refusal.kind is FailureKind.UNKNOWN_MODEL
    assert "'three'" in refusal.message
    assert "one, two" in refusal.message
    assert desk.is_idle


def test_a_live_id_is_refused_and_the_first_request_goes_on() -> None:
    desk = Desk()
    desk.worker()
    desk.submit("a", b"c1")
    assert ends(desk.submit("a", b"c2")) == [("a", FAILED, FailureKind.DUPLICATE_ID)]
    assert to(b"c1", desk.chunk("a", desk.attempt("a"), 0, DONE))
    assert desk.is_idle


def test_a_full_line_is_refused_with_a_hint_when_to_retry() -> None:
    desk = Desk(Limits(max_waiting=1))
    desk.worker(places=1)
    for key in ("runs", "waits"):
        assert not ends(desk.submit(key))
    (refusal,) = to(b"c1", desk.submit("a"))
    assert isinstance(refusal, Ended)
    assert refusal.kind is FailureKind.OVERLOADED
    assert refusal.retry_after is not None
    desk.chunk("runs", desk.attempt("runs"), 0, DONE)
    assert not ends(desk.submit("b"))  # there is room again


def test_a_line_of_length_zero_still_lets_a_free_worker_work() -> None:
    desk = Desk(Limits(max_waiting=0))
    desk.worker(places=1)
    assert started(desk.submit("a")) == [("a", "w1")]
    assert ends(desk.submit("b")) == [("b", FAILED, FailureKind.OVERLOADED)]


def test_the_number_of_live_requests_is_bounded() -> None:
    desk = Desk(Limits(max_requests=2))
    desk.worker(places=9)
    desk.submit("a")
    desk.submit("b")
    assert ends(desk.submit("c")) == [("c", FAILED, FailureKind.OVERLOADED)]


# -- the line and the workers ------------------------------------------------------------------------------------


def test_higher_priority_goes_first_then_the_order_of_arrival() -> None:
    desk = Desk()
    for key, priority in (("a", 0), ("b", 0), ("urgent", 5), ("c", 0)):
        desk.submit(key, priority=priority)
    assert [key for key, _ in started(desk.worker(places=4))] == ["urgent", "a", "b", "c"]


def test_credits_are_never_exceeded_and_the_least_loaded_worker_is_taken() -> None:
    desk = Desk()
    desk.worker("w1", places=4)
    desk.worker("w2", places=2)
    assert [worker for _, worker in started(a for key in "abcdef" for a in desk.submit(key))].count("w1") == 4
    assert (desk.load("w1"), desk.load("w2")) == (4, 2)
    assert not started(desk.submit("g"))
    assert started(desk.chunk("b", desk.attempt("b"), 0, DONE, worker="w2")) == [("g", "w2")]


def test_each_model_has_its_own_workers() -> None:
    desk = Desk(models=("one", "two"))
    desk.worker("w1", models=("one",))
    desk.worker("w2", models=("two",))
    assert started(desk.submit("a", model="two")) == [("a", "w2")]
    assert started(desk.submit("b", model="one")) == [("b", "w1")]


def test_an_id_used_again_for_another_model_does_not_stand_in_the_first_ones_line() -> None:
    desk = Desk(models=("one", "two"))
    desk.submit("a", model="one")
    desk.cancel("a")
    desk.submit("a", model="two")
    assert not started(desk.worker("w1", models=("one",)))
    assert started(desk.worker("w2", models=("two",))) == [("a", "w2")]


def test_the_line_forgets_those_who_left_it() -> None:
    desk = Desk()
    for number in range(1000):
        desk.submit(f"r{number}")
        desk.cancel(f"r{number}")
    assert desk.is_idle
    assert sum(map(len, desk.dispatcher.waiting._heaps.values())) < 200
    assert len(desk.dispatcher._ledger._deadlines._heap) < 200


def test_a_ready_worker_is_announced_to_those_who_asked_what_is_served() -> None:
    desk = Desk()
    assert not desk.hear(b"c1", Describe())
    assert to(b"c1", desk.worker()) == [Described((ModelInfo(MODEL, "audio_generation", RATE),))]
    assert to(b"c2", desk.hear(b"c2", Describe())) == [Described((ModelInfo(MODEL, "audio_generation", RATE),))]


# -- deadlines and leases ----------------------------------------------------------------------------------------


@given(st.floats(0, 2e5))
@example(45_678.006172835)
def test_the_longest_deadline_fits_on_the_wire_whatever_the_clock_says(now: float) -> None:
    desk = Desk()
    desk.now = now
    desk.worker()
    (start,) = [message for message in to(b"w1", desk.submit("a", deadline_s=86_400.0)) if isinstance(message, Start)]
    assert 86_399 < start.deadline_s <= 86_400


@pytest.mark.parametrize("running", [True, False])
def test_a_deadline_ends_a_request_running_or_waiting(running: bool) -> None:
    desk = Desk()
    desk.worker(places=1)
    if not running:
        desk.submit("other", b"c2", deadline_s=1e4)
    desk.submit("a", deadline_s=2.0)
    for _ in range(4):
        desk.now += 0.5
        assert not ends(desk.hear(b"ping", Ping(b"c1")))[1:]
        desk.hear(b"ping", Ping(b"c2"))
    actions = desk.tell(Tick())
    late = [("a", GenerationStatus.DEADLINE_EXCEEDED, FailureKind.DEADLINE_EXCEEDED)]
    assert late == ends(desk.sent)
    assert [m for m in to(b"w1", desk.sent) if isinstance(m, Stop)] == ([Stop("a", 1)] if running else [])
    assert not ends(actions) or desk.dispatcher.wake > desk.now


def test_an_id_whose_deadlines_pass_together_ends_once() -> None:
    desk = Desk(Limits(lease_s=100))
    desk.submit("a", deadline_s=5.0)
    desk.cancel("a")
    desk.submit("a", deadline_s=4.0)
    desk.now += 50
    assert len(ends(desk.tell(Tick()))) == 1


def test_a_client_that_stops_pinging_loses_its_requests_and_frees_its_place() -> None:
    desk = Desk()
    desk.worker(places=1)
    desk.submit("a", b"silent")
    desk.submit("b", b"alive")
    for _ in range(4):
        desk.now += 1.0
        desk.hear(b"any socket", Ping(b"alive"))
    assert ends(desk.sent) == [("a", FAILED, FailureKind.CONNECTION_LOST)]
    assert started(desk.sent) == [("a", "w1"), ("b", "w1")]


def test_a_new_request_renews_the_lease() -> None:
    desk = Desk(Limits(lease_s=3))
    desk.worker()
    for number in range(4):
        desk.now += 2.0
        desk.submit(f"r{number}")
    assert not ends(desk.sent)


def test_wake_is_never_later_than_what_is_due() -> None:
    desk = Desk(Limits(lease_s=3, silence_s=10))
    assert desk.dispatcher.wake == math.inf
    desk.worker()  # announced 60 s of loading, then was ready: silence counts from now
    assert desk.dispatcher.wake <= desk.now + 10
    desk.submit("a", deadline_s=1.0)
    assert desk.dispatcher.wake <= desk.now + 1.0


# -- the end of a request ----------------------------------------------------------------------------------------


def test_a_waiting_request_can_be_cancelled() -> None:
    desk = Desk()
    desk.submit("a")
    assert ends(desk.cancel("a")) == [("a", CANCELLED, None)]
    assert not started(desk.worker())
    assert desk.is_idle


def test_a_running_request_can_be_cancelled_and_its_place_goes_to_the_next() -> None:
    desk = Desk()
    desk.worker(places=1)
    desk.submit("a")
    desk.submit("b")
    actions = desk.cancel("a")
    assert ends(actions) == [("a", CANCELLED, None)]
    assert isinstance(to(b"w1", actions)[0], Stop)  # before the Start, so that the worker has room
    assert started(actions) == [("b", "w1")]


def test_only_the_owner_can_cancel() -> None:
    desk = Desk()
    desk.worker()
    desk.submit("a", b"c1")
    assert not desk.cancel("a", b"c2")
    assert "a" in desk.dispatcher.requests
    assert not desk.cancel("no such request")


def test_a_client_that_leaves_is_told_nothing_and_leaves_nothing() -> None:
    desk = Desk()
    desk.worker(places=1)
    desk.submit("a")
    desk.submit("b")
    actions = desk.hear(b"c1", Goodbye())
    assert not to(b"c1", actions)
    assert [type(m) for m in to(b"w1", actions)] == [Stop]  # "b" is not begun first
    assert desk.is_idle


def test_a_worker_ends_a_request_with_its_reason() -> None:
    desk = Desk()
    desk.worker(places=1)
    desk.submit("a")
    desk.submit("b")
    ended = Ended("a", FAILED, FailureKind.INVALID_REQUEST, "no such voice", None, desk.attempt("a"))
    actions = desk.hear(b"w1", ended)
    assert to(b"c1", actions) == [msgspec.structs.replace(ended, serial=1)]
    assert started(actions) == [("b", "w1")]
    assert not desk.hear(b"w1", ended)  # a repeat


# -- late, repeated, lost ----------------------------------------------------------------------------------------


def test_chunks_of_an_earlier_use_of_an_id_do_not_reach_its_next_use() -> None:
    desk = Desk()
    desk.worker()
    desk.submit("a")
    old = desk.attempt("a")
    desk.cancel("a")
    desk.submit("a")
    assert desk.attempt("a") != old
    assert not desk.chunk("a", old, 0)
    assert to(b"c1", desk.chunk("a", desk.attempt("a"), 0))


def test_of_a_mixed_delivery_the_stale_items_are_marked() -> None:
    desk = Desk()
    desk.worker()
    desk.submit("a")
    desk.submit("b")
    gone = desk.attempt("a")
    desk.cancel("a")
    heads = (desk.head("a", gone, 0), desk.head("b", desk.attempt("b"), 0, DONE))
    (message,) = to(b"c1", desk.hear(b"w1", Delivery(b"c1", heads)))
    assert message == Delivery(b"c1", heads, skip=(0,))
    assert desk.is_idle


def test_a_repeated_chunk_is_dropped() -> None:
    desk = Desk()
    desk.worker()
    desk.submit("a")
    assert desk.chunk("a", desk.attempt("a"), 0)
    assert not desk.chunk("a", desk.attempt("a"), 0)
    assert desk.dispatcher.requests["a"].tokens == [0]


def test_nobody_but_the_worker_that_has_it_delivers_a_request() -> None:
    desk = Desk()
    desk.worker("w1", places=1)
    desk.worker("w2", places=1)
    desk.submit("a")
    assert not desk.chunk("a", desk.attempt("a"), 0, worker="w2")
    assert not desk.chunk("a", desk.attempt("a"), 0, worker="a client")


# -- the end of the server ---------------------------------------------------------------------------------------


def test_draining_refuses_what_waits_and_what_comes_and_lets_the_rest_end() -> None:
    desk = Desk()
    desk.worker(places=1)
    desk.submit("runs")
    desk.submit("waits")
    assert ends(desk.tell(DrainBegins())) == [("waits", FAILED, FailureKind.SHUTTING_DOWN)]
    assert ends(desk.submit("new")) == [("new", FAILED, FailureKind.SHUTTING_DOWN)]
    assert not ends(desk.chunk("runs", desk.attempt("runs"), 0, DONE))
    assert desk.is_idle


def test_the_end_of_the_drain_cancels_the_rest() -> None:
    desk = Desk()
    desk.worker()
    desk.submit("a")
    desk.tell(DrainBegins())
    assert ends(desk.tell(DrainEnds())) == [("a", CANCELLED, FailureKind.SHUTTING_DOWN)]


def test_messages_for_others_are_ignored() -> None:
    desk = Desk()
    desk.worker()
    for message in (
        Described(),
        Stop("a", 1),
        Retire(),
        Start("a", b"c1", 1, 1, 1.0),
        Read("a", 1, 0, 0),
        Pace("a", 1, True),
    ):
        assert not desk.tell(Received(b"c1", message))
