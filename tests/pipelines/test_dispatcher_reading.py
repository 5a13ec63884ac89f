"""The dispatcher's logic for readers that are slower than the engine, and for who may wait how long in which line."""

from __future__ import annotations

from max_interfaces import FailureKind, GenerationStatus
from max_interfaces.messages import Pace, Ping, Read, Watch
from max_pipelines.config import Limits
from max_pipelines.server.events import Action, Received, Tick, WorkerExited
from tests.pipelines.desk import DONE, RATE, Desk, ends, started, to

CHUNK_S = 10 / RATE  # of the desk's chunks


def listening(ahead_chunks: int, stall_s: float = 30.0) -> Desk:
    """A desk whose readers may be so many chunks behind, with a request that runs."""
    desk = Desk(Limits(ahead_s=ahead_chunks * CHUNK_S, stall_s=stall_s, lease_s=1e3, silence_s=1e3))
    desk.worker()
    desk.submit("a", deadline_s=1e3)
    return desk


def chunks(desk: Desk, first: int, last: int) -> list[Action]:
    """The worker delivers some."""
    return [action for seq in range(first, last) for action in desk.chunk("a", desk.attempt("a"), seq)]


def read(desk: Desk, seq: int) -> list[Action]:
    """The client tells that its reader has taken all chunks up to a number."""
    return desk.hear(b"c1", Read("a", desk.dispatcher.requests["a"].serial, seq, 10 * (seq + 1)))


def said(peer: bytes, actions: list[Action], kind: type) -> list[object]:
    return [message for message in to(peer, actions) if isinstance(message, kind)]


def test_who_reads_a_short_answer_is_asked_nothing() -> None:
    desk = listening(10)
    assert not said(b"c1", chunks(desk, 0, 5), Watch)
    desk.chunk("a", desk.attempt("a"), 5, DONE)
    assert desk.is_idle


def test_a_reader_that_may_be_behind_is_watched_and_its_request_rests_when_it_is() -> None:
    desk = listening(10)
    assert said(b"c1", chunks(desk, 0, 6), Watch) == [Watch("a", 1, 5)]
    assert not said(b"w1", chunks(desk, 6, 9), Pace)
    assert said(b"w1", chunks(desk, 9, 11), Pace) == [Pace("a", desk.attempt("a"), True)]
    assert not said(b"w1", chunks(desk, 11, 13), Pace)  # what was on its way
    assert not said(b"w1", read(desk, 6), Pace)
    assert said(b"w1", read(desk, 8), Pace) == [Pace("a", desk.attempt("a"), False)]


def test_a_question_that_was_lost_on_the_way_is_asked_again_as_long_as_its_request_rests() -> None:
    desk = listening(10)
    chunks(desk, 0, 12)
    desk.now += 1.1
    assert said(b"c1", desk.tell(Tick()), Watch) == [Watch("a", 1, 11)]
    read(desk, 11)
    desk.now += 1.1
    assert not said(b"c1", desk.tell(Tick()), Watch)


def test_a_reader_at_playing_speed_never_lacks_anything() -> None:
    desk = listening(10)
    made = heard = 0
    while made < 200:
        request = desk.dispatcher.requests["a"]
        if not request.resting:
            chunks(desk, made, made + 1)
            made += 1
            continue
        assert made - heard > 1
        read(desk, heard)
        heard += 1
        desk.now += CHUNK_S
        desk.tell(Tick())
    assert not ends(desk.sent)


def test_a_reader_that_stops_is_cancelled_with_the_reason_and_one_that_goes_on_is_not() -> None:
    desk = listening(10, stall_s=30.0)
    chunks(desk, 0, 12)
    desk.now += 29
    read(desk, 0)
    desk.now += 29
    assert not ends(desk.tell(Tick()))
    desk.now += 1.1
    assert ends(desk.tell(Tick())) == [("a", GenerationStatus.CANCELLED, FailureKind.STALLED)]
    assert desk.is_idle


def test_a_request_that_rests_goes_on_resting_with_its_next_worker() -> None:
    desk = listening(10)
    chunks(desk, 0, 12)
    assert desk.dispatcher.requests["a"].resting
    desk.worker("w2")
    desk.tell(WorkerExited("w1", "crashed"))
    actions = desk.chunk("a", desk.attempt("a"), 12, worker="w2")
    assert said(b"w2", actions, Pace) == [Pace("a", desk.attempt("a"), True)]


def test_text_is_bounded_by_the_number_of_its_outputs() -> None:
    desk = Desk(Limits(ahead_outputs=10, ahead_s=1e3))
    desk.worker()
    desk.submit("a")
    assert said(b"w1", chunks(desk, 0, 12), Pace) == [Pace("a", 1, True)]


def test_what_was_kept_ahead_counts_again_once_it_is_read_for_real() -> None:
    desk = listening(10, stall_s=30.0)
    chunks(desk, 0, 8)
    read(desk, 7)  # all that came, kept for later
    chunks(desk, 8, 20)
    assert desk.dispatcher.requests["a"].resting
    for seq in range(7):  # and now it is heard, slowly
        desk.now += 25
        read(desk, seq)
        assert not ends(desk.tell(Tick()))
    desk.now += 20
    read(desk, 6)  # a repeat puts nothing off
    desk.now += 11
    assert ends(desk.tell(Tick())) == [("a", GenerationStatus.CANCELLED, FailureKind.STALLED)]


def test_what_was_heard_before_a_request_that_goes_on_from_another_is_not_unread() -> None:
    desk = listening(10)
    desk.first_sample = 10_000
    assert not said(b"c1", chunks(desk, 0, 5), Watch)
    assert said(b"c1", chunks(desk, 5, 6), Watch) == [Watch("a", 1, 5)]
    assert not said(b"w1", chunks(desk, 6, 9), Pace)
    assert said(b"w1", chunks(desk, 9, 11), Pace) == [Pace("a", desk.attempt("a"), True)]


def test_reads_of_others_late_and_repeated_change_nothing() -> None:
    desk = listening(10)
    chunks(desk, 0, 12)
    request = desk.dispatcher.requests["a"]
    assert not desk.hear(b"c2", Read("a", request.serial, 11, 120))
    assert not desk.hear(b"c1", Read("a", request.serial + 1, 11, 120))
    read(desk, 3)
    assert not read(desk, 3)
    assert not read(desk, 1)
    assert (request.read_seq, request.read_sample) == (4, 40)
    desk.hear(b"c1", Read("a", request.serial, 10**6, 10**9))  # no further than what was sent
    assert (request.read_seq, request.read_sample) == (12, 120)


# -- fair between tenants ------------------------------------------------------------------------------------------


def test_tenants_take_turns_and_each_ones_own_go_in_order() -> None:
    desk = Desk()
    for number in range(3):
        desk.submit(f"many-{number}", tenant="many")
    desk.submit("few-0", tenant="few")
    desk.submit("other-0", tenant="other")
    order = [key for key, _ in started(desk.worker(places=5))]
    assert order == ["many-0", "few-0", "other-0", "many-1", "many-2"]


def test_who_takes_back_all_that_waited_comes_next_as_one_that_comes_now() -> None:
    desk = Desk()
    for number in range(3):
        desk.submit(f"fickle-{number}", tenant="fickle")
    desk.submit("few-0", tenant="few")
    for number in range(3):
        desk.cancel(f"fickle-{number}")
    for number in range(3, 6):
        desk.submit(f"fickle-{number}", tenant="fickle")
    desk.submit("other-0", tenant="other")
    order = [key for key, _ in started(desk.worker(places=6))]
    assert order == ["few-0", "fickle-3", "other-0", "fickle-4", "fickle-5"]


def test_to_take_back_and_ask_again_spares_nobody_the_turns_it_had() -> None:
    desk = Desk()
    desk.worker(places=1)
    desk.submit("first")
    for key in ("greedy-0", "greedy-1", "patient-0", "patient-1"):
        desk.submit(key, tenant=key[:-2])
    order = []
    for _ in range(5):
        for key in sorted(desk.dispatcher.waiting.places):
            if key.startswith("greedy"):
                desk.cancel(key)
                desk.submit(key, tenant="greedy")
        (running,) = desk.dispatcher.workers[b"w1"].running
        order.append(running)
        desk.chunk(running, desk.attempt(running), 0, DONE)
    assert order == ["first", "patient-0", "patient-1", "greedy-0", "greedy-1"]  # it gains nothing, but loses


def test_nothing_is_kept_of_a_tenant_that_waits_no_more() -> None:
    desk = Desk()
    desk.submit("stays", tenant="patient")
    for number in range(500):
        desk.submit("a", tenant=f"tenant-{number}")
        desk.cancel("a")
    assert set(desk.dispatcher.waiting._turns) == {"patient"}
    desk.worker()
    assert not desk.dispatcher.waiting._turns


def test_one_tenant_leaves_a_part_of_the_line_to_others() -> None:
    desk = Desk(Limits(max_waiting=90))
    refused = [key for number in range(100) for key, _, _ in ends(desk.submit(f"many-{number}", tenant="many"))]
    assert len(refused) == 20
    assert not ends(desk.submit("few", tenant="few"))


def test_too_many_bytes_are_refused() -> None:
    desk = Desk(Limits(max_bytes=20))  # the desk's requests have 7
    desk.worker(places=9)
    assert not ends(desk.submit("a") + desk.submit("b"))
    assert ends(desk.submit("c")) == [("c", GenerationStatus.FAILED, FailureKind.OVERLOADED)]
    desk.chunk("a", desk.attempt("a"), 0, DONE)
    assert not ends(desk.submit("d"))


def test_a_request_that_begins_as_another_did_goes_where_that_is_known() -> None:
    desk = Desk()
    desk.worker("w1", places=8)
    desk.worker("w2", places=8)
    assert started(desk.submit("a")) == [("a", "w1")]
    assert started(desk.submit("b", prefix=7)) == [("b", "w2")]
    assert started(desk.submit("c", prefix=7)) == [("c", "w2")]
    assert started(desk.submit("d")) == [("d", "w1")]
    for number in range(6):  # but not at any price
        desk.submit(f"more-{number}", prefix=7)
    assert abs(desk.load("w1") - desk.load("w2")) <= 3


def test_a_ping_keeps_only_the_own_requests() -> None:
    desk = Desk(Limits(lease_s=3))
    desk.worker()
    desk.submit("a", b"c1")
    desk.submit("b", b"c2")
    desk.now += 2.9
    desk.tell(Received(b"x", Ping(b"c2")))
    desk.now += 0.2
    assert [key for key, _, _ in ends(desk.tell(Tick()))] == ["a"]
