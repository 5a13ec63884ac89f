"""The dispatcher's logic when workers fail: what they had goes on elsewhere, and what breaks them ends."""

from __future__ import annotations

import pytest

from max_interfaces import FailureKind, GenerationStatus
from max_interfaces.messages import (
    Alive,
    Beat,
    Delivery,
    Describe,
    Described,
    Ended,
    Goodbye,
    Held,
    Inspect,
    ModelInfo,
    Note,
    Noted,
    Ready,
    Report,
    Retire,
    Start,
    Stop,
    Unfit,
)
from max_pipelines.config import Limits
from max_pipelines.server.events import (
    Action,
    Cut,
    DrainBegins,
    Kill,
    Overslept,
    PeerGone,
    Send,
    Tick,
    Unreadable,
    WorkerExited,
    WorkersGivenUp,
)
from max_pipelines.server.placement import MAX_LOST, TRIAL_S
from max_pipelines.server.roster import TRIAL_GROUP
from tests.pipelines.desk import DONE, MODEL, Desk, ends, started, to

FAILED = GenerationStatus.FAILED


def starts(actions: list[Action]) -> list[Start]:
    """Every Start among the actions."""
    sends = [action.message for action in actions if isinstance(action, Send)]
    return [message for message in sends if isinstance(message, Start)]


def die(desk: Desk, name: str) -> list[Action]:
    """A worker dies."""
    return desk.tell(WorkerExited(name, "was killed by SIGKILL"))


# -- going on elsewhere --------------------------------------------------------------------------------------------


def test_what_a_dead_worker_had_begun_goes_on_elsewhere_from_what_was_heard() -> None:
    desk = Desk()
    desk.first_sample = 5
    desk.worker("w1", places=1)
    desk.submit("a")
    for seq in range(3):
        desk.chunk("a", desk.attempt("a"), seq)
    desk.worker("w2")
    old = desk.attempt("a")
    (start,) = starts(die(desk, "w1"))
    assert (start.tokens, start.next_sample, start.next_seq) == ((0, 1, 2), 35, 3)
    assert start.first_sample == 5
    assert start.attempt > old
    assert not desk.chunk("a", old, 3, worker="w1")  # what the dead one still says
    assert to(b"c1", desk.chunk("a", start.attempt, 3, DONE, worker="w2"))
    assert not ends(desk.sent)
    assert desk.is_idle


def test_notes_count_and_those_of_an_earlier_attempt_or_twice_do_not() -> None:
    desk = Desk()
    desk.worker("w1", places=1)
    desk.submit("a")
    attempt = desk.attempt("a")
    for note in (Note("a", attempt, 0, (7, 8)), Note("a", attempt, 0, (7, 8)), Note("a", attempt - 1, 2, (9,))):
        assert not desk.hear(b"w1", Noted((note,)))
    desk.worker("w2")
    (start,) = starts(die(desk, "w1"))
    assert (start.tokens, start.next_seq) == ((7, 8), 0)


def test_without_another_worker_it_waits_for_the_next_one_and_goes_first() -> None:
    desk = Desk()
    desk.worker("w1", places=1)
    desk.submit("begun")
    desk.submit("new", priority=100)
    assert not started(die(desk, "w1"))
    assert started(desk.worker("w2", places=1)) == [("begun", "w2")]


def test_those_whose_listeners_run_dry_soonest_go_first() -> None:
    desk = Desk()
    desk.worker("w1", places=3)
    for key, chunks in (("long", 9), ("short", 1), ("middle", 4)):
        desk.submit(key)
        for seq in range(chunks):
            desk.chunk(key, desk.attempt(key), seq)
    die(desk, "w1")
    assert [key for key, _ in started(desk.worker("w2", places=3))] == ["short", "middle", "long"]


def test_a_silent_worker_is_killed_and_its_requests_go_on_elsewhere() -> None:
    desk = Desk(Limits(silence_s=3, lease_s=1000))
    desk.worker("w1", places=1)
    desk.submit("a", deadline_s=1000)
    desk.worker("w2")
    desk.now += 2
    desk.chunk("a", desk.attempt("a"), 0)  # a chunk is a sign of life too
    desk.alive("w2")
    desk.now += 2
    assert not started(desk.tell(Tick()))
    desk.alive("w2")
    desk.now += 1
    actions = desk.tell(Tick())
    assert [action.name for action in actions if isinstance(action, Kill)] == ["w1"]
    assert started(actions) == [("a", "w2")]


def test_a_worker_is_lost_once_however_that_is_found_out() -> None:
    desk = Desk(Limits(silence_s=3))
    for name in ("hangs", "crashes"):
        desk.worker(name, supervised=True)
    desk.tell(WorkerExited("crashes", "was killed"))
    desk.now += 4
    assert [action.name for action in desk.tell(Tick()) if isinstance(action, Kill)] == ["hangs"]
    desk.tell(WorkerExited("hangs", "was killed"))
    report = to(b"c1", desk.hear(b"c1", Inspect()))[0]
    assert isinstance(report, Report)
    assert report.gauges["lost_workers"] == 2


def test_a_lost_worker_of_our_own_has_nothing_more_to_say() -> None:
    desk = Desk()
    desk.worker("w1", supervised=True)
    desk.tell(PeerGone(b"w1", "reads too slowly"))
    assert not desk.hear(b"w1", Alive("w1"))
    assert not desk.worker("w1")
    assert not desk.dispatcher.workers


def test_a_lost_worker_is_counted_once_also_where_its_end_is_noticed_twice() -> None:
    desk = Desk()
    desk.worker("w1", supervised=True)
    desk.tell(PeerGone(b"w1", "is gone"))
    die(desk, "w1")
    desk.worker("w2", supervised=True)
    die(desk, "w2")
    (report,) = [action.message for action in desk.hear(b"c1", Inspect()) if isinstance(action, Send)]
    assert isinstance(report, Report)
    assert report.gauges["lost_workers"] == 2


def test_a_worker_that_leaves_takes_no_blame_with_it() -> None:
    desk = Desk()
    desk.worker("w1", places=1)
    desk.submit("a")
    desk.worker("w2")
    actions = desk.hear(b"w1", Goodbye())
    assert started(actions) == [("a", "w2")]
    assert not [action for action in actions if isinstance(action, Kill)]
    request = desk.dispatcher.requests["a"]
    assert (request.suspect, request.broken, request.losses) == (False, 0, frozenset())


def test_draining_lets_also_those_end_that_a_lost_worker_had_begun() -> None:
    desk = Desk()
    desk.worker("w1", places=1)
    desk.submit("begun")
    desk.submit("waits")
    die(desk, "w1")
    assert ends(desk.tell(DrainBegins())) == [("waits", FAILED, FailureKind.SHUTTING_DOWN)]
    assert started(desk.worker("w2")) == [("begun", "w2")]


# -- who is to blame -----------------------------------------------------------------------------------------------


def test_a_request_that_breaks_two_workers_before_it_makes_progress_is_not_tried_again() -> None:
    desk = Desk()
    for name in ("w1", "w2"):
        desk.worker(name, places=1)
        if name == "w1":
            desk.submit("killer")
        actions = die(desk, name)
    assert ends(actions) == [("killer", FAILED, FailureKind.WORKER_DIED)]
    (message,) = [m for m in to(b"c1", actions) if isinstance(m, Ended)]
    assert "w2 was killed by SIGKILL; the request has broken 2 workers" in message.message
    assert desk.is_idle


def test_suspects_are_tried_a_few_at_a_time_and_nobody_else_begins_meanwhile() -> None:
    desk = Desk()
    keys = [f"r{number:02}" for number in range(TRIAL_GROUP + 2)]
    desk.worker("w1", places=len(keys))
    for key in keys:
        desk.submit(key)
        desk.chunk(key, desk.attempt(key), 0)
    desk.submit("new")
    die(desk, "w1")
    assert [key for key, _ in started(desk.worker("w2", places=100))] == keys[:TRIAL_GROUP]
    note = Noted((Note(keys[0], desk.attempt(keys[0]), 1, (1,)),))
    assert [key for key, _ in started(desk.hear(b"w2", note))] == [keys[TRIAL_GROUP]]
    actions = desk.chunk(keys[1], desk.attempt(keys[1]), 1, worker="w2")
    assert [key for key, _ in started(actions)] == [keys[TRIAL_GROUP + 1]]
    for key in keys[2:]:
        actions = desk.chunk(key, desk.attempt(key), 1, worker="w2")
    assert [key for key, _ in started(actions)] == ["new"]


def test_those_on_trial_when_a_worker_dies_are_tried_alone() -> None:
    desk = Desk()
    desk.worker("w1", places=3)
    for key in "abc":
        desk.submit(key)
        desk.chunk(key, desk.attempt(key), 0)
    die(desk, "w1")
    desk.worker("w2", places=8)
    desk.chunk("b", desk.attempt("b"), 1, worker="w2")
    assert not ends(die(desk, "w2"))  # while a and c were on trial
    assert [desk.dispatcher.requests[key].broken for key in "abc"] == [1, 0, 1]
    assert [key for key, _ in started(desk.worker("w3", places=8))] == ["a"]
    assert [key for key, _ in started(desk.chunk("a", desk.attempt("a"), 1, worker="w3"))] == ["c"]
    assert ends(die(desk, "w3")) == [("c", FAILED, FailureKind.WORKER_DIED)]
    assert desk.dispatcher.requests.keys() == {"a", "b"}


def test_a_suspect_that_makes_progress_is_acquitted() -> None:
    desk = Desk()
    desk.worker("w1")
    desk.submit("a")
    die(desk, "w1")
    assert desk.dispatcher.requests["a"].broken == 1
    desk.worker("w2")
    desk.chunk("a", desk.attempt("a"), 0, worker="w2")
    request = desk.dispatcher.requests["a"]
    assert (request.suspect, request.broken) == (False, 0)


def test_a_suspect_that_makes_no_progress_keeps_the_others_only_for_a_while() -> None:
    desk = Desk(Limits(silence_s=1000, lease_s=1000))
    desk.worker("w1")
    desk.submit("a")
    die(desk, "w1")
    desk.submit("b")
    assert [key for key, _ in started(desk.worker("w2"))] == ["a"]
    desk.now += TRIAL_S + 0.1
    assert not started(desk.tell(Tick()))  # of a worker that hangs nothing is heard
    desk.alive("w2")
    desk.now += 1.0
    assert [key for key, _ in started(desk.tell(Tick()))] == ["b"]


def hang(desk: Desk, name: str) -> list[Action]:
    """A worker says nothing any more, and is lost for that. What came of it."""
    actions: list[Action] = []
    while name.encode() in desk.dispatcher.workers:
        desk.now += 0.5
        actions += desk.tell(Tick())
    return actions


def test_a_request_that_hangs_its_workers_is_to_blame_for_two() -> None:
    """As one that kills them; it takes longer to find out than a suspect may keep others waiting, else."""
    desk = Desk(Limits(silence_s=3.0, lease_s=1000))
    desk.worker("w1")
    desk.submit("a")
    assert not ends(hang(desk, "w1"))
    desk.worker("w2")
    assert ends(hang(desk, "w2")) == [("a", FAILED, FailureKind.WORKER_DIED)]


def test_who_is_acquitted_only_because_time_has_passed_is_tried_alone_the_next_time() -> None:
    desk = Desk(Limits(silence_s=1000, lease_s=1000))
    desk.worker("w1")
    desk.submit("a")
    die(desk, "w1")
    desk.worker("w2")
    desk.now += TRIAL_S + 0.1
    desk.alive("w2")
    desk.now += 1.0
    desk.tell(Tick())
    assert not desk.dispatcher.requests["a"].suspect
    assert not ends(die(desk, "w2"))
    desk.worker("w3")
    assert ends(die(desk, "w3")) == [("a", FAILED, FailureKind.WORKER_DIED)]


def test_who_shows_nothing_until_its_end_keeps_suspects_from_its_worker_only_for_a_while() -> None:
    """A beam search, for example."""
    desk = Desk(Limits(silence_s=1000, lease_s=1000))
    desk.worker("w1", places=2)
    desk.worker("w2", places=1)
    for key in ("search", "speech"):
        desk.submit(key)
    assert (desk.load("w1"), desk.load("w2")) == (1, 1)
    desk.chunk("speech", desk.attempt("speech"), 0, worker="w2")
    assert not started(die(desk, "w2"))
    desk.now += TRIAL_S + 0.1
    assert started(desk.alive("w1")) == [("speech", "w1")]


def tried_alone() -> Desk:
    """Two suspects of what broke two workers: `a` is on trial alone on w3, `c` waits for its turn."""
    desk = Desk(Limits(silence_s=1000, lease_s=1000))
    desk.worker("w1", places=3)
    for key in "ac":
        desk.submit(key, deadline_s=1000)
        desk.chunk(key, desk.attempt(key), 0)
    die(desk, "w1")
    desk.worker("w2", places=8)
    die(desk, "w2")
    assert [key for key, _ in started(desk.worker("w3", places=8))] == ["a"]
    return desk


def test_what_a_suspect_may_still_break_after_its_end_is_not_blamed_on_the_next() -> None:
    desk = tried_alone()
    assert not started(desk.cancel("a"))  # the worker may be in the step that kills it
    assert not started(desk.alive("w3"))  # which it may have said before it had the request
    assert not started(desk.submit("new"))
    assert not ends(die(desk, "w3"))
    assert desk.dispatcher.requests["c"].broken == 1
    assert [key for key, _ in started(desk.worker("w4", places=8))] == ["c"]


def test_the_next_suspect_is_tried_once_the_worker_has_the_last_one_no_more() -> None:
    desk = tried_alone()
    attempt = desk.attempt("a")
    desk.cancel("a")
    for _ in range(3):
        assert not started(desk.hear(b"w3", Alive("w3", held=(Held("a", attempt),))))
    assert not started(desk.alive("w3"))
    assert started(desk.alive("w3")) == [("c", "w3")]


def test_a_worker_that_does_not_say_so_is_waited_for_only_for_a_while() -> None:
    desk = tried_alone()
    attempt = desk.attempt("a")
    desk.cancel("a")
    desk.now += TRIAL_S + 0.1
    assert not started(desk.tell(Tick()))
    desk.hear(b"w3", Alive("w3", held=(Held("a", attempt),)))  # and could hang in its step no longer
    desk.now += 1.0
    assert started(desk.tell(Tick())) == [("c", "w3")]


def test_another_worker_takes_the_next_suspect_at_once() -> None:
    desk = tried_alone()
    desk.cancel("a")
    assert started(desk.worker("w4")) == [("c", "w4")]


def test_a_request_cannot_lose_workers_for_ever() -> None:
    desk = Desk()
    desk.worker("w0", places=1)
    desk.submit("a")
    actions: list[Action] = []
    for number in range(MAX_LOST):
        desk.chunk("a", desk.attempt("a"), number, worker=f"w{number}")
        actions = die(desk, f"w{number}")
        desk.worker(f"w{number + 1}", places=1)
    assert ends(actions) == [("a", FAILED, FailureKind.WORKER_DIED)]


def test_what_a_killer_has_broken_is_not_held_against_those_beside_it() -> None:
    desk = Desk()
    desk.submit("a")
    for number in range(MAX_LOST):
        desk.worker(f"v{number}")
        desk.chunk("a", desk.attempt("a"), number, worker=f"v{number}")
        desk.submit(f"killer-{number}")
        assert not ends(die(desk, f"v{number}"))
        assert [key for key, _ in started(desk.worker(f"w{number}", places=1))] == [f"killer-{number}"]
        assert ends(die(desk, f"w{number}")) == [(f"killer-{number}", FAILED, FailureKind.WORKER_DIED)]
    assert started(desk.worker("w")) == [("a", "w")]


# -- what is lost on the way ---------------------------------------------------------------------------------------


def test_a_request_of_which_a_chunk_was_lost_goes_on_from_what_is_known() -> None:
    desk = Desk()
    desk.worker()
    desk.submit("a")
    desk.chunk("a", desk.attempt("a"), 0)
    old = desk.attempt("a")
    actions = desk.chunk("a", old, 2)
    assert to(b"w1", actions)[0] == Stop("a", old)
    (start,) = starts(actions)
    assert (start.tokens, start.next_seq) == ((0,), 1)
    assert not ends(desk.sent)


def test_a_request_that_its_worker_twice_knows_nothing_of_begins_anew() -> None:
    desk = Desk()
    desk.worker()
    desk.submit("a")
    assert not desk.hear(b"w1", Alive("w1"))  # it may have been said before it came
    assert started(desk.hear(b"w1", Alive("w1"))) == [("a", "w1")]


def test_a_worker_is_told_again_what_it_should_have_stopped() -> None:
    desk = Desk()
    desk.worker()
    desk.submit("a")
    desk.alive()
    held = (Held("a", desk.attempt("a")), Held("old", 7))
    assert to(b"w1", desk.hear(b"w1", Alive("w1", held=held))) == [Stop("old", 7)]


def test_a_worker_that_nobody_knows_is_asked_to_say_that_it_is_ready() -> None:
    desk = Desk()
    desk.worker()
    desk.tell(PeerGone(b"w1", "is gone"))
    assert to(b"w1", desk.hear(b"w1", Alive("w1", steps=7))) == [Beat(known=False)]
    desk.submit("a")
    assert started(desk.worker()) == [("a", "w1")]


def test_a_worker_whose_ready_was_lost_is_asked_again() -> None:
    desk = Desk()
    desk.hear(b"w1", Alive("w1", busy_s=60.0))
    assert to(b"w1", desk.hear(b"w1", Alive("w1"))) == [Beat(known=False)]


def test_a_worker_that_is_ready_again_has_nothing_of_what_it_had() -> None:
    desk = Desk()
    desk.worker("mine")
    desk.submit("a")
    old = desk.attempt("a")
    assert started(desk.worker("mine")) == [("a", "mine")]
    assert desk.attempt("a") > old


def test_a_submission_that_comes_twice_is_one() -> None:
    desk = Desk()
    desk.worker()
    desk.submit("a")
    desk._serial -= 1
    assert not desk.submit("a")
    assert desk.load() == 1


# -- other ends ----------------------------------------------------------------------------------------------------


def test_the_last_messages_of_a_dead_worker_do_not_bring_it_back() -> None:
    desk = Desk()
    die(desk, "w1")
    assert not desk.worker("w1")
    assert not desk.dispatcher.workers
    assert not started(desk.submit("a"))


def test_a_worker_that_loads_may_be_silent_for_as_long_as_it_announced() -> None:
    desk = Desk(Limits(silence_s=10))
    desk.hear(b"w1", Alive("w1", busy_s=600))
    desk.now += 609
    assert not desk.tell(Tick())
    desk.now += 1
    assert isinstance(desk.tell(Tick())[0], Kill)


def test_while_the_server_itself_stood_still_nobody_was_silent() -> None:
    desk = Desk()
    desk.worker()
    desk.submit("a")
    desk.now += 20.0
    assert not ends(desk.tell(Overslept(20.0)))
    assert not [action for action in desk.tell(Tick()) if isinstance(action, Kill)]
    assert desk.load() == 1


def test_a_worker_that_sends_nonsense_is_killed_and_a_client_is_told_once_and_then_cut_off() -> None:
    desk = Desk()
    desk.worker()
    desk.submit("a")
    actions = desk.tell(Unreadable(b"w1", "header refused"))
    assert [action.name for action in actions if isinstance(action, Kill)] == ["w1"]
    assert to(b"c1", desk.tell(Unreadable(b"c1", "version 7"))) == [Described(problem="version 7")]
    assert [action.peer for action in desk.tell(Unreadable(b"c1", "version 7")) if isinstance(action, Cut)] == [b"c1"]
    assert desk.is_idle  # nothing of who cannot be understood runs on


def test_an_unfit_workers_requests_wait_for_another_one() -> None:
    desk = Desk()
    desk.worker()
    desk.submit("a")
    assert not ends(desk.hear(b"w1", Unfit("w1", "has lost its device")))
    assert started(desk.worker("w2")) == [("a", "w2")]


def test_when_no_worker_can_be_had_everybody_is_told_why() -> None:
    desk = Desk()
    desk.hear(b"c2", Describe())
    desk.submit("a")
    actions = desk.tell(WorkersGivenUp("model.path: no such folder"))
    assert to(b"c2", actions) == [Described(problem="model.path: no such folder")]
    assert ends(actions) == [("a", FAILED, FailureKind.WORKER_DIED)]
    assert ends(desk.submit("b")) == [("b", FAILED, FailureKind.WORKER_DIED)]


def test_a_worker_that_came_by_itself_serves_on_when_there_will_be_no_other() -> None:
    desk = Desk()
    desk.worker("guest")
    assert not desk.tell(WorkersGivenUp("no such folder"))
    assert started(desk.submit("a")) == [("a", "guest")]
    assert ends(desk.hear(b"guest", Goodbye())) == [("a", FAILED, FailureKind.WORKER_DIED)]
    assert desk.dispatcher.problem == "no such folder"


def test_a_worker_that_is_ready_again_gets_nothing_by_what_it_said_before() -> None:
    desk = Desk(models=["one", "two"])
    desk.worker(places=1, models=["one"])
    desk.submit("a", model="one")
    assert not started(desk.hear(b"w1", Ready("w1", (ModelInfo("two", "audio_generation"),), 1)))


def test_a_worker_of_another_model_is_sent_away_with_the_reason_and_the_catalogue_stays() -> None:
    desk = Desk(models=["one"])
    actions = desk.worker("w9", models=["one", "stranger"])
    assert to(b"w9", actions) == [Retire("this server serves one, not stranger")]
    assert not desk.dispatcher.workers
    assert desk.dispatcher.catalogue.names == ["one"]
    assert not desk.dispatcher.catalogue.complete


# -- who stands by ------------------------------------------------------------------------------------------------


def test_a_worker_in_reserve_does_nothing_until_one_of_the_others_is_gone() -> None:
    desk = Desk(active=1)
    desk.worker("w1", places=1, supervised=True)
    desk.worker("w2", places=1, supervised=True)
    desk.submit("a")
    desk.submit("b")
    assert (desk.load("w1"), desk.load("w2")) == (1, 0)
    assert started(die(desk, "w1")) == [("a", "w2")]
    assert not started(desk.worker("w3", supervised=True))  # stands by now
    desk.chunk("a", desk.attempt("a"), 0, DONE, worker="w2")
    assert (desk.load("w2"), desk.load("w3")) == (1, 0)


def test_a_worker_that_came_by_itself_works() -> None:
    desk = Desk(active=1)
    desk.worker("w1", places=1, supervised=True)
    desk.worker("guest", places=1)
    assert len(started(desk.submit("a") + desk.submit("b"))) == 2


@pytest.mark.parametrize("size", [1, 3])
def test_workers_hear_every_second_that_their_dispatcher_lives_and_how_many_wait(size: int) -> None:
    desk = Desk()
    desk.worker(places=1)
    for number in range(size):
        desk.submit(f"r{number}")
    desk.now += 1.0
    assert Beat(size - 1) in to(b"w1", desk.tell(Tick()))


def test_a_delivery_for_somebody_elses_request_is_not_passed_on() -> None:
    desk = Desk()
    desk.worker()
    desk.submit("a", b"c1")
    assert not to(b"c2", desk.hear(b"w1", Delivery(b"c2", (desk.head("a", desk.attempt("a"), 0),))))
    assert MODEL in desk.dispatcher.catalogue
