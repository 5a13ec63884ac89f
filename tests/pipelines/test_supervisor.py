"""The supervisor's logic: when a worker is started again, and when no more."""

from __future__ import annotations

import math

from max_pipelines.server.supervisor import (
    CRASH_WINDOW_S,
    FIRST_PAUSE_S,
    LONGEST_PAUSE_S,
    MAX_CRASHES,
    Abandon,
    End,
    GiveUp,
    Order,
    Spawn,
    Supervisor,
)


def spawned(orders: list[Order]) -> list[str]:
    return [order.name for order in orders if isinstance(order, Spawn)]


def test_every_place_gets_a_worker_at_once() -> None:
    supervisor = Supervisor(2)
    assert supervisor.wake <= 5.0
    assert spawned(supervisor.tick(5.0)) == ["worker-0.1", "worker-1.1"]
    assert supervisor.wake == math.inf
    assert not supervisor.tick(6.0)


def test_a_dead_worker_is_replaced_under_a_new_name_after_a_pause() -> None:
    supervisor = Supervisor(1)
    (name,) = spawned(supervisor.tick(0.0))
    assert not supervisor.exited(name, "crashed", 10.0)
    assert supervisor.wake == 10.0 + FIRST_PAUSE_S
    assert not supervisor.tick(10.0)
    assert spawned(supervisor.tick(supervisor.wake)) == ["worker-0.2"]


def test_the_pause_doubles_up_to_its_limit_and_is_short_again_after_success() -> None:
    supervisor = Supervisor(1)
    now, pauses = 0.0, []
    for _ in range(8):
        (name,) = spawned(supervisor.tick(now))
        now += CRASH_WINDOW_S / (MAX_CRASHES - 1)  # too seldom to be given up, too often to be forgotten
        supervisor.exited(name, "crashed", now)
        pauses.append(supervisor.wake - now)
        now = supervisor.wake
    assert pauses[:3] == [FIRST_PAUSE_S, 2 * FIRST_PAUSE_S, 4 * FIRST_PAUSE_S]
    assert pauses[-1] == LONGEST_PAUSE_S
    (name,) = spawned(supervisor.tick(now))
    supervisor.ready(name)
    supervisor.exited(name, "crashed", now)
    assert supervisor.wake == now + FIRST_PAUSE_S


def test_a_death_a_day_is_mended_at_once_also_of_what_never_says_that_it_is_ready() -> None:
    supervisor = Supervisor(1, "http")
    now = 0.0
    for day in range(1, 8):
        (name,) = spawned(supervisor.tick(now))
        supervisor.exited(name, "was killed by SIGKILL", 86_400.0 * day)
        now = supervisor.wake
        assert now == 86_400.0 * day + FIRST_PAUSE_S


def crash(supervisor: Supervisor, place: str, times: int, now: float) -> list[Order]:
    """Let the worker of a place die again and again; returns what the last time led to."""
    orders: list[Order] = []
    for _ in range(times):
        names = {name.partition(".")[0]: name for name in spawned(supervisor.tick(now))}
        orders = supervisor.exited(names[place], "was killed by SIGKILL", now)
        now = max(now, supervisor.wake) if supervisor.wake != math.inf else now
    return orders


def test_five_deaths_within_a_minute_are_enough() -> None:
    supervisor = Supervisor(1)
    (order,) = crash(supervisor, "worker-0", MAX_CRASHES, 0.0)
    assert isinstance(order, GiveUp)
    assert "worker-0.5 was killed by SIGKILL" in order.reason
    assert supervisor.wake == math.inf


def test_deaths_long_ago_do_not_count() -> None:
    supervisor = Supervisor(1)
    assert not crash(supervisor, "worker-0", MAX_CRASHES - 1, 0.0)
    assert not crash(supervisor, "worker-0", MAX_CRASHES - 1, 2 * CRASH_WINDOW_S)


def test_the_other_places_go_on_without_the_one_that_is_abandoned() -> None:
    supervisor = Supervisor(2)
    names = spawned(supervisor.tick(0.0))
    supervisor.exited(names[0], "crashed", 0.0)
    (order,) = crash(supervisor, "worker-0", MAX_CRASHES - 1, 1.0)
    assert isinstance(order, Abandon)
    assert not supervisor.exited("worker-1.1", "crashed", 100.0)
    assert spawned(supervisor.tick(supervisor.wake)) == ["worker-1.2"]


def test_a_worker_that_cannot_start_is_believed_if_none_has_ever_served() -> None:
    supervisor = Supervisor(2)
    first, second = spawned(supervisor.tick(0.0))
    assert supervisor.unfit(first, "no such folder") == [Abandon(first, "no such folder")]
    assert supervisor.unfit(second, "no such folder") == [GiveUp("no such folder")]
    assert not supervisor.exited(first, "exited with code 3", 0.0)
    assert not supervisor.tick(100.0)


def test_where_one_has_served_the_next_may_again_and_its_words_are_kept() -> None:
    supervisor = Supervisor(1)
    (name,) = spawned(supervisor.tick(0.0))
    supervisor.ready(name)
    supervisor.exited(name, "was killed by SIGKILL", 0.0)
    orders: list[Order] = []
    for _ in range(MAX_CRASHES - 1):
        (name,) = spawned(supervisor.tick(supervisor.wake))
        assert not supervisor.unfit(name, "CUDA out of memory")
        orders = supervisor.exited(name, "exited with code 3", 1.0)
    (order,) = orders
    assert isinstance(order, GiveUp)
    assert "CUDA out of memory" in order.reason


def test_a_worker_that_takes_for_ever_to_start_is_ended_and_one_that_is_ready_has_all_the_time_there_is() -> None:
    supervisor = Supervisor(2, start_timeout_s=30.0)
    hangs, serves = spawned(supervisor.tick(0.0))
    assert supervisor.wake == 30.0
    supervisor.ready(serves)
    assert not supervisor.tick(29.9)
    assert supervisor.tick(30.0) == [End(hangs, "was not ready after 30 s")]
    assert supervisor.wake == math.inf
    assert not supervisor.exited(hangs, "was killed by SIGKILL", 30.1)
    assert spawned(supervisor.tick(supervisor.wake)) == ["worker-0.2"]
    assert supervisor.wake == 30.1 + FIRST_PAUSE_S + 30.0


def test_what_never_starts_is_given_up_for_that_reason() -> None:
    supervisor = Supervisor(1, start_timeout_s=1.0)
    orders: list[Order] = []
    for _ in range(MAX_CRASHES):
        (name,) = spawned(supervisor.tick(supervisor.wake))
        now = supervisor.wake
        assert supervisor.tick(now) == [End(name, "was not ready after 1 s")]
        orders = supervisor.exited(name, "was killed by SIGKILL", now)
    (order,) = orders
    assert isinstance(order, GiveUp)
    assert "was not ready after 1 s" in order.reason


def test_workers_that_are_not_its_own_are_not_its_business() -> None:
    supervisor = Supervisor(1)
    supervisor.tick(0.0)
    supervisor.ready("worker-4711")
    assert not supervisor.unfit("worker-4711", "no such folder")
    assert not supervisor.exited("worker-0.0", "of another life", 0.0)
    assert supervisor.wake == math.inf
