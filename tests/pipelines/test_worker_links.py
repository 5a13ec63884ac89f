"""A worker between several dispatchers: how its credits are split, and what becomes of those that fall silent."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from max_interfaces import AudioGenerationRequest, PipelineTask, RequestID
from max_interfaces.messages import Alive, Beat, Held, Ready, Retire, Start, Stop
from max_interfaces.wire import encode_payload
from max_pipelines.registry import ServedPipeline
from max_pipelines.trivial import TrivialOptions, TrivialPipeline
from max_pipelines.worker.core import WorkerCore
from max_pipelines.worker.links import Links
from max_pipelines.worker.sharing import shares
from max_pipelines.worker.stepping import Outgoing

LEASE_S = 3.0
CREDITS = 8
WANTED = st.lists(st.integers(0, 5) | st.integers(0, 2**31), min_size=1, max_size=6)


@given(total=st.integers(1, 2**16), wanted=WANTED)
@settings(max_examples=300, deadline=None)
def test_everybody_has_a_share_and_the_rest_goes_where_the_demand_is(total: int, wanted: list[int]) -> None:
    given = shares(total, wanted)
    assert min(given) >= 1
    assert sum(given) == max(total, len(wanted))
    rest, whole = max(0, total - len(wanted)), sum(wanted)
    for share, want in zip(given, wanted, strict=True):
        exact = Fraction(rest * want, whole) if whole else Fraction(rest, len(wanted))
        assert abs(share - 1 - exact) < 1


@given(total=st.integers(1, 2**16), wanted=WANTED)
@settings(max_examples=100, deadline=None)
def test_who_wants_more_gets_no_less(total: int, wanted: list[int]) -> None:
    by_want = [share for _, share in sorted(zip(wanted, shares(total, wanted), strict=True))]
    assert by_want == sorted(by_want)


@pytest.mark.parametrize(
    ("total", "wanted", "given"),
    [
        (8, [0], [8]),
        (8, [0, 0], [4, 4]),
        (7, [0, 0], [4, 3]),
        (8, [5, 0], [7, 1]),
        (8, [2, 1], [5, 3]),
        (10, [3, 1], [7, 3]),
        (1, [9, 9, 9], [1, 1, 1]),
    ],
)
def test_shares_by_example(total: int, wanted: list[int], given: list[int]) -> None:
    assert shares(total, wanted) == given


# -- the dispatchers themselves ----------------------------------------------------------------------------------


def credits_of(links: Links) -> list[int]:
    """What each dispatcher may give."""
    return [link.credits for link in links.all]


def test_who_waits_more_has_more_and_who_has_changed_is_named() -> None:
    links = Links(3, CREDITS, LEASE_S)
    assert credits_of(links) == [3, 3, 2]
    assert links.share() == []
    links.all[2].waiting = 10
    assert links.share() == [0, 1, 2]
    assert credits_of(links) == [1, 1, 6]
    links.all[1].running = 10
    assert links.share() == [1, 2]
    assert credits_of(links) == [1, 4, 3]


def test_a_dispatcher_that_is_silent_for_a_lease_has_no_credits_until_it_is_heard() -> None:
    links = Links(2, CREDITS, LEASE_S)
    links.hears(1, 1.0)
    assert links.forsaken(LEASE_S - 0.1) == []
    assert links.forsaken(LEASE_S) == [0]
    assert links.forsaken(LEASE_S) == []  # it is said once
    assert links.share() == [1]
    assert credits_of(links) == [0, CREDITS]
    assert links.forsaken(1.0 + LEASE_S) == [1]
    assert links.share() == []  # nobody is there
    links.hears(0, 9.0)
    assert links.forsaken(9.0) == []
    assert links.share() == [0]
    assert credits_of(links) == [CREDITS, 0]


def test_the_time_that_this_worker_did_not_listen_does_not_count() -> None:
    links = Links(2, CREDITS, LEASE_S)
    links.excuse(60.0)
    assert links.forsaken(60.0 + LEASE_S - 0.1) == []
    assert links.forsaken(60.0 + LEASE_S) == [0, 1]


def test_who_does_not_want_this_worker_has_no_share() -> None:
    links = Links(2, CREDITS, LEASE_S)
    links.retires(0, "not you")
    assert links.share() == [1]
    assert credits_of(links) == [0, CREDITS]
    assert (links.retired, links.hopeful) == (False, [1])
    links.hears(0, 1.0)  # what was on its way
    assert links.share() == []
    links.retires(1, "nor me")
    assert (links.retired, links.hopeful) == (True, [])


def test_who_has_ended_is_as_good_as_lost_until_it_is_heard() -> None:
    links = Links(3, CREDITS, LEASE_S)
    links.all[2].heard = 100.0
    links.retires(0, "")
    assert links.share() == [1, 2]
    assert credits_of(links) == [0, 4, 4]
    assert links.hopeful == [0, 1, 2]
    assert links.forsaken(LEASE_S) == [1]  # the first is known to be gone
    links.retires(2, "")
    assert not links.retired, "the second was lost without a word, and may be only slow"
    links.retires(1, "")
    assert links.retired
    links.hears(0, 101.0)
    assert not links.retired
    assert links.share() == [0]


@given(
    count=st.integers(1, 4),
    total=st.integers(1, 20),
    events=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 30), st.floats(0.0, 2.0)), max_size=30),
)
@settings(max_examples=100, deadline=None)
def test_those_that_are_there_have_all_the_credits(
    count: int, total: int, events: list[tuple[int, int, float]]
) -> None:
    links, now = Links(count, total, LEASE_S), 0.0
    for number, waiting, seconds in events:
        now += seconds
        links.forsaken(now)
        if number < count:
            links.hears(number, now)
            links.all[number].waiting = waiting
        links.share()
        present = [link for link in links.all if not link.lost]
        assert all(link.heard + LEASE_S > now for link in present)
        assert all(link.credits >= 1 for link in present)
        assert sum(credits_of(links)) == (max(total, len(present)) if present else 0)


# -- a worker that has them --------------------------------------------------------------------------------------


def worker(links: int = 2) -> WorkerCore:
    """A worker of eight credits whose requests never end."""
    pipeline = TrivialPipeline(TrivialOptions(chunks=100_000, samples=0))
    served = ServedPipeline(pipeline, AudioGenerationRequest, PipelineTask.AUDIO_GENERATION, CREDITS)
    return WorkerCore(served, "voice", links=links, lease_s=LEASE_S)


def begin(core: WorkerCore, key: str, link: int, now: float = 0.0) -> None:
    """A dispatcher gives it a request."""
    payload = encode_payload([AudioGenerationRequest(RequestID(key), "voice", "Hello.")])
    assert not core.take(Start(key, b"c1", 1, 7, 600.0), payload, now, link)


def told(outgoing: Sequence[Outgoing]) -> dict[int, int]:
    """The credits that each dispatcher was told of."""
    return {link: message.credits for link, message, _ in outgoing if isinstance(message, Alive | Ready)}


def held(core: WorkerCore, link: int) -> tuple[Held, ...]:
    """What it says that it has of a dispatcher's."""
    _, message, _ = core.alive(link)
    assert isinstance(message, Alive)
    return message.held


def test_each_dispatcher_is_offered_its_share() -> None:
    core = worker(3)
    assert told([core.ready(link) for link in range(3)]) == {0: 3, 1: 3, 2: 2}


def test_a_beat_moves_the_credits_to_where_requests_wait() -> None:
    core = worker()
    assert told(core.take(Beat(waiting=30), (), 0.0, 0)) == {0: 7, 1: 1}
    assert not core.take(Beat(waiting=30), (), 1.0, 0)  # nothing has changed
    assert told(core.take(Beat(waiting=30), (), 1.0, 1)) == {0: 4, 1: 4}
    assert told(core.take(Beat(), (), 2.0, 0)) == {0: 1, 1: 7}


def test_what_runs_counts_as_wanted() -> None:
    core = worker()
    for number in range(3):
        begin(core, f"r{number}", 0)
    begin(core, "other", 1)
    assert told(core.take(Beat(), (), 0.0, 1)) == {0: 6, 1: 2}  # one each, and 4.5 and 1.5 of the rest
    for number in range(3):
        core.take(Stop(f"r{number}", 1), (), 0.0, 0)
    assert told(core.take(Beat(), (), 0.0, 1)) == {0: 1, 1: 7}


def test_a_lost_dispatchers_requests_are_released_and_its_credits_go_to_the_others() -> None:
    core = worker()
    begin(core, "a", 0)
    begin(core, "b", 1)
    core.take(Beat(), (), 1.0, 1)
    assert not core.tick(LEASE_S - 0.1)
    assert core.in_flight == 2
    assert told(core.tick(LEASE_S)) == {1: CREDITS}
    assert (held(core, 0), held(core, 1)) == ((), (Held("b", 1),))
    assert not core.tick(LEASE_S + 0.5)
    assert len(core.step(LEASE_S + 0.5)) == 1


def test_a_lost_dispatcher_that_had_nothing_here_keeps_no_credits_either() -> None:
    core = worker()
    core.take(Beat(waiting=30), (), 0.0, 0)
    core.take(Beat(), (), 1.0, 1)
    assert told(core.tick(LEASE_S)) == {1: CREDITS}


def test_a_dispatcher_that_comes_back_has_its_share_again() -> None:
    core = worker()
    begin(core, "a", 0)
    core.take(Beat(), (), 1.0, 1)
    core.tick(LEASE_S)
    back = core.take(Beat(known=False), (), LEASE_S + 0.5, 0)
    assert isinstance(back[0][1], Ready)  # first of all: a sign of life alone would be asked about again
    assert told(back) == {0: 4, 1: 4}
    begin(core, "a", 0, LEASE_S + 0.5)
    assert held(core, 0) == (Held("a", 1),)


def test_all_dispatchers_may_be_lost() -> None:
    core = worker()
    begin(core, "a", 0)
    begin(core, "b", 1)
    assert not core.tick(LEASE_S)
    assert (core.in_flight, core.active) == (0, False)
    assert not core.retired  # they may come back
    assert told(core.take(Beat(known=False), (), 60.0, 1)) == {1: CREDITS}


def test_what_a_worker_did_not_hear_while_it_was_stopped_is_not_held_against_anybody() -> None:
    core = worker()
    begin(core, "a", 0)
    core.links.excuse(60.0)
    assert not core.tick(60.0)
    assert core.in_flight == 1


@pytest.mark.parametrize("reason", ["", "not you"])
def test_the_credits_of_who_has_ended_or_does_not_want_it_go_to_the_others(reason: str) -> None:
    core = worker()
    begin(core, "a", 0)
    assert told(core.take(Retire(reason), (), 0.0, 0)) == {1: CREDITS}
    assert not core.in_flight
