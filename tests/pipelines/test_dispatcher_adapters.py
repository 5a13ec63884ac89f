"""The dispatcher's list of adapters: what clients ask for, what workers say, and which requests may name what."""

from __future__ import annotations

import itertools

from max_interfaces import FailureKind, LoRAOperation, LoRAStatus
from max_interfaces.messages import (
    Adapt,
    Adapted,
    Adapter,
    Alive,
    Beat,
    Describe,
    Described,
    Ended,
    Equip,
    Fitted,
    Goodbye,
    Held,
    ModelInfo,
    Ready,
    Start,
    Submit,
)
from max_pipelines.server.adapters import REMEMBERED
from max_pipelines.server.events import Action, DrainBegins, Send, WorkerExited, WorkersGivenUp
from tests.pipelines.desk import MODEL, RATE, Desk, ends, started, to

OK, ERROR = LoRAStatus.SUCCESS, LoRAStatus.LOAD_ERROR
LOAD, UNLOAD = LoRAOperation.LOAD, LoRAOperation.UNLOAD


class Shop(Desk):
    """A desk whose workers load adapters."""

    def __init__(self, active: int = 2) -> None:
        super().__init__(active=active)
        self.lists: dict[str, Equip] = {}
        self._serials = itertools.count(1)

    def joins(self, name: str, *, given: tuple[str, ...] = ("given",), loads: bool = True) -> list[Action]:
        """A worker is ready, and can load adapters."""
        self.hear(name.encode(), Alive(name, busy_s=60.0))
        info = ModelInfo(MODEL, "audio_generation", RATE, adapters=given, loads_adapters=loads)
        return self.noted(self.hear(name.encode(), Ready(name, (info,), 2, supervised=True)))

    def asks(self, operation: LoRAOperation, name: str, path: str = "somewhere", serial: int = 0) -> list[Action]:
        """A client wants an adapter, or wants it no more."""
        return self.noted(self.hear(b"c1", Adapt(serial or next(self._serials), MODEL, operation, name, path)))

    def fits(self, worker: str, *fitted: Fitted, revision: int | None = None) -> list[Action]:
        """A worker says what it has made of the last list that it was sent: it has all, but for what is given."""
        known = {one.generation: one for one in fitted}
        told = self.lists[worker]
        made = tuple(known.get(one.generation, Fitted(one.generation)) for one in told.adapters)
        requests = self.dispatcher.requests
        held = tuple(Held(key, requests[key].attempt) for key in self.dispatcher.workers[worker.encode()].running)
        revision = told.revision if revision is None else revision
        return self.noted(self.hear(worker.encode(), Alive(worker, held=held, revision=revision, fitted=made)))

    def noted(self, actions: list[Action]) -> list[Action]:
        """Keep the lists that workers are sent."""
        for action in actions:
            if isinstance(action, Send) and isinstance(action.message, Equip):
                self.lists[action.peer.decode()] = action.message
        return actions

    def loads(self, name: str, *workers: str) -> None:
        """An adapter is loaded everywhere."""
        self.asks(LOAD, name)
        for worker in (*workers, *workers):
            self.fits(worker)
        assert name in self.described.adapters

    def names(self, key: str, *adapters: str) -> list[Action]:
        """A request with adapters comes."""
        return self.hear(b"c1", Submit(key, MODEL, 60.0, next(self._serials), adapters=adapters))

    @property
    def described(self) -> ModelInfo:
        """What clients are told."""
        (told,) = to(b"c9", self.hear(b"c9", Describe()))
        assert isinstance(told, Described)
        return told.models[0]

    @property
    def names_told(self) -> list[str]:
        """The adapters among it."""
        return list(self.described.adapters)


def answers(actions: list[Action]) -> list[tuple[LoRAStatus, str]]:
    """Every answer to a client that has asked for an adapter."""
    messages = [action.message for action in actions if isinstance(action, Send)]
    return [(message.status, message.message) for message in messages if isinstance(message, Adapted)]


def lists(actions: list[Action]) -> dict[str, list[str]]:
    """The names on the lists that workers are sent."""
    sends = [action for action in actions if isinstance(action, Send)]
    return {
        send.peer.decode(): [adapter.name for adapter in send.message.adapters]
        for send in sends
        if isinstance(send.message, Equip)
    }


def refused_start(actions: list[Action]) -> tuple[FailureKind | None, str]:
    (ended,) = [a.message for a in actions if isinstance(a, Send) and isinstance(a.message, Ended)]
    return ended.kind, ended.message


# -- loading ---------------------------------------------------------------------------------------------------------


def test_an_adapter_is_tried_by_one_then_loaded_by_all_then_answered() -> None:
    shop = Shop()
    shop.joins("w1")
    shop.joins("w2")
    assert lists(shop.asks(LOAD, "ann")) == {"w1": ["ann"], "w2": []}
    tried = shop.fits("w1")
    assert lists(tried) == {"w1": ["ann"], "w2": ["ann"]}
    assert not answers(tried)
    assert not answers(shop.fits("w1"))
    assert shop.names_told == ["given"]
    assert answers(shop.fits("w2")) == [(OK, "")]
    assert shop.names_told == ["ann", "given"]


def test_whoever_stands_by_tries_first() -> None:
    shop = Shop(active=1)
    shop.joins("w1")
    shop.joins("w2")
    assert lists(shop.asks(LOAD, "ann")) == {"w1": [], "w2": ["ann"]}


def test_the_first_refusal_is_the_answer_and_is_taken_back_from_all() -> None:
    shop = Shop()
    shop.joins("w1")
    shop.joins("w2")
    shop.asks(LOAD, "ann")
    shop.fits("w1")
    generation = shop.lists["w2"].adapters[0].generation
    refused = shop.fits("w2", Fitted(generation, LoRAStatus.LOAD_INVALID_ADAPTER, "its rank is 99"))
    assert answers(refused) == [(LoRAStatus.LOAD_INVALID_ADAPTER, "its rank is 99")]
    assert lists(refused) == {"w1": [], "w2": []}
    assert shop.described.adapters == ("given",)
    assert lists(shop.asks(LOAD, "ann")) == {"w1": ["ann"], "w2": []}, "another try is another adapter"
    assert shop.lists["w1"].adapters[0].generation > generation


def test_what_kills_the_worker_that_tries_it_is_tried_by_nobody_else() -> None:
    shop = Shop()
    shop.joins("w1")
    shop.joins("w2")
    shop.asks(LOAD, "ann")
    died = shop.noted(shop.tell(WorkerExited("w1", "was killed by SIGSEGV")))
    assert answers(died) == [(ERROR, "w1 was lost while it loaded 'ann'")]
    assert lists(died) == {"w2": []}


def test_a_worker_that_leaves_politely_is_not_to_blame() -> None:
    shop = Shop()
    shop.joins("w1")
    shop.joins("w2")
    shop.asks(LOAD, "ann")
    left = shop.noted(shop.hear(b"w1", Goodbye()))
    assert not answers(left)
    assert lists(left) == {"w2": ["ann"]}
    assert answers(shop.fits("w2")) == [(OK, "")]


def test_without_a_worker_it_waits_for_one() -> None:
    shop = Shop()
    shop.joins("w1")
    shop.tell(WorkerExited("w1", "was killed"))
    assert not answers(shop.asks(LOAD, "ann"))
    assert lists(shop.joins("w2")) == {"w2": ["ann"]}
    assert answers(shop.fits("w2")) == [(OK, "")]


def test_if_no_worker_will_come_it_fails() -> None:
    shop = Shop()
    shop.joins("w1")
    shop.tell(WorkerExited("w1", "was killed"))
    shop.asks(LOAD, "ann")
    assert answers(shop.tell(WorkersGivenUp("all of them died"))) == [(ERROR, "all of them died")]
    assert answers(shop.asks(LOAD, "bob")) == [(ERROR, "all of them died")]


def test_what_no_worker_need_be_asked_for() -> None:
    shop = Shop()
    assert answers(shop.asks(LOAD, "ann")) == [(ERROR, f"no model {MODEL!r} is ready here")]
    shop.joins("w1")
    taken = [(LoRAStatus.LOAD_NAME_EXISTS, "'given' is loaded already; choose another name")]
    assert answers(shop.asks(LOAD, "given")) == taken
    assert answers(shop.asks(LOAD, MODEL)) == [
        (LoRAStatus.LOAD_NAME_EXISTS, f"{MODEL!r} is the name of a model; choose another name")
    ]
    shop.asks(LOAD, "ann")
    assert answers(shop.asks(LOAD, "ann"))[0][1] == "'ann' is being loaded; choose another name"
    absent = LoRAStatus.UNLOAD_NAME_NONEXISTENT
    assert answers(shop.asks(UNLOAD, "ann")) == [(absent, "no adapter of the name 'ann' is loaded yet")]
    assert answers(shop.asks(UNLOAD, "bob")) == [(absent, "no adapter of the name 'bob' is loaded")]
    assert answers(shop.asks(UNLOAD, "given"))[0][0] is LoRAStatus.UNLOAD_ERROR
    shop.tell(DrainBegins())
    assert answers(shop.asks(LOAD, "bob")) == [(ERROR, "the server is shutting down")]


def test_a_server_whose_config_names_no_folder_loads_nothing() -> None:
    shop = Shop()
    shop.joins("w1", loads=False)
    ((status, message),) = answers(shop.asks(LOAD, "ann"))
    assert status is ERROR
    assert "engine.adapter_folder" in message
    assert answers(shop.asks(UNLOAD, "ann"))[0][0] is LoRAStatus.UNLOAD_ERROR


# -- what is lost on the way -----------------------------------------------------------------------------------------


def test_a_question_that_comes_again_is_the_same_question() -> None:
    shop = Shop()
    shop.joins("w1")
    shop.asks(LOAD, "ann", serial=70)
    assert not shop.asks(LOAD, "ann", serial=70)
    assert answers(shop.fits("w1")) == [(OK, "")]
    assert answers(shop.asks(LOAD, "ann", serial=70)) == [(OK, "")], "the answer was lost"
    shop.asks(UNLOAD, "ann", serial=71)
    shop.fits("w1")
    shop.loads("ann", "w1")
    assert answers(shop.asks(UNLOAD, "ann", serial=71)) == [(OK, "")], "late, and not done twice"
    assert shop.described.adapters == ("ann", "given")


def test_a_worker_that_is_behind_is_told_again() -> None:
    shop = Shop()
    shop.joins("w1")
    shop.asks(LOAD, "ann")
    assert lists(shop.noted(shop.hear(b"w1", Alive("w1")))) == {"w1": ["ann"]}
    assert not lists(shop.fits("w1"))
    assert not lists(shop.fits("w1"))


def test_a_worker_whose_list_is_of_another_server_begins_anew() -> None:
    shop = Shop()
    shop.joins("w1")
    assert to(b"w1", shop.hear(b"w1", Alive("w1", revision=7))) == [Beat(known=False)]


def test_a_worker_that_comes_later_is_told_before_it_has_a_request() -> None:
    shop = Shop()
    shop.joins("w1")
    shop.loads("ann", "w1")
    shop.tell(WorkerExited("w1", "was killed"))
    shop.names("r1", "ann")
    assert lists(shop.joins("w2")) == {"w2": ["ann"]}
    assert not started(shop.sent)
    assert started(shop.fits("w2")) == [("r1", "w2")]


def test_answers_are_kept_for_a_while_alone() -> None:
    shop = Shop()
    shop.joins("w1")
    for _ in range(REMEMBERED + 50):
        shop.asks(UNLOAD, "nobody")
    assert len(shop.dispatcher._adapters._outcomes) == REMEMBERED


# -- requests --------------------------------------------------------------------------------------------------------


def test_a_request_names_what_is_loaded_or_given() -> None:
    shop = Shop()
    shop.joins("w1")
    kind, message = refused_start(shop.names("r1", "ann"))
    assert (kind, message) == (FailureKind.UNKNOWN_MODEL, f"no adapter 'ann' is loaded for {MODEL!r}; loaded: given")
    assert started(shop.names("r2", "given")) == [("r2", "w1")]
    shop.loads("ann", "w1")
    (start,) = to(b"w1", shop.names("r3", "ann", "given"))
    assert isinstance(start, Start)
    assert start.adapters == tuple(one.generation for one in shop.lists["w1"].adapters)


def test_while_an_adapter_is_being_loaded_no_request_may_name_it() -> None:
    shop = Shop()
    shop.joins("w1")
    shop.asks(LOAD, "ann")
    assert refused_start(shop.names("r1", "ann"))[0] is FailureKind.UNKNOWN_MODEL


def test_unloading_refuses_what_is_new_and_leaves_what_runs() -> None:
    shop = Shop()
    shop.joins("w1")
    shop.loads("ann", "w1")
    shop.names("r1", "ann")
    unloading = shop.asks(UNLOAD, "ann")
    assert lists(unloading) == {"w1": []}
    assert not answers(unloading)
    assert refused_start(shop.names("r2", "ann"))[0] is FailureKind.UNKNOWN_MODEL
    assert answers(shop.fits("w1")) == [(OK, "")]
    assert list(shop.dispatcher.requests) == ["r1"]


def test_what_waits_for_an_adapter_that_is_unloaded_ends_by_name() -> None:
    shop = Shop()
    shop.joins("w1")
    shop.loads("ann", "w1")
    for key in ("r1", "r2", "r3", "r4"):
        shop.names(key, "ann")
    shop.hear(b"c1", Submit("r5", MODEL, 60.0, 900))
    kind, message = refused_start(shop.asks(UNLOAD, "ann")[:2])
    assert kind is FailureKind.UNKNOWN_MODEL
    assert message == "the adapter 'ann' was unloaded before the request could go on"
    assert sorted(shop.dispatcher.requests) == ["r1", "r2", "r5"]


def test_who_goes_on_elsewhere_finds_the_same_weights_or_ends() -> None:
    shop = Shop()
    shop.joins("w1")
    shop.loads("ann", "w1")
    shop.names("r1", "ann")
    shop.joins("w2")
    shop.asks(UNLOAD, "ann")
    shop.fits("w1")
    shop.fits("w2")
    shop.asks(LOAD, "ann", "other weights")
    shop.fits("w1")
    died = shop.tell(WorkerExited("w1", "was killed"))
    assert not started(died)
    assert refused_start(died)[0] is FailureKind.UNKNOWN_MODEL


def test_a_worker_without_the_adapter_is_passed_over_and_where_nobody_has_it_the_reason_is_told() -> None:
    shop = Shop()
    shop.joins("w1")
    shop.loads("ann", "w1")
    shop.joins("w2")
    generation = shop.lists["w2"].adapters[0].generation
    torn = Fitted(generation, LoRAStatus.LOAD_INVALID_ADAPTER, "its file is torn")
    shop.fits("w2", torn)
    assert started(shop.names("r1", "ann") + shop.names("r2", "ann")) == [("r1", "w1"), ("r2", "w1")]
    assert not started(shop.names("r3", "ann")), "it waits for w1"
    died = shop.tell(WorkerExited("w1", "was killed"))
    assert [key for key, _, kind in ends(died) if kind is FailureKind.UNKNOWN_MODEL] == ["r1", "r2", "r3"]
    assert refused_start(shop.names("r4", "ann"))[1] == "no worker could load the adapter 'ann' again: its file is torn"


def test_lists_hold_what_clients_asked_for() -> None:
    shop = Shop()
    shop.joins("w1")
    shop.asks(LOAD, "ann", "folder")
    assert shop.lists["w1"] == Equip(1, (Adapter(1, "ann", "folder"),))
