"""A worker's adapters: what dispatchers want loaded, what may be, and what is answered."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from max_interfaces import (
    AdapterRefused,
    AudioGenerationRequest,
    DeviceLost,
    LoRAStatus,
    PipelineTask,
    RequestID,
)
from max_interfaces.messages import Adapter, Alive, Beat, Equip, Fitted, Ready, Start
from max_interfaces.wire import Frame, encode_payload
from max_pipelines.registry import ServedPipeline
from max_pipelines.trivial import TrivialOptions, TrivialPipeline
from max_pipelines.worker.adapters import AdapterStock, inside
from max_pipelines.worker.core import WorkerCore
from tests.fakes import Shelf

OK, ERROR = LoRAStatus.SUCCESS, LoRAStatus.LOAD_ERROR


@pytest.fixture
def folder(tmp_path: Path) -> str:
    for name in ("one", "two", "wide", "torn", "fatal"):
        (tmp_path / "adapters" / name).mkdir(parents=True)
    return str(tmp_path / "adapters")


def equip(revision: int, *adapters: tuple[int, str, str]) -> Equip:
    return Equip(revision, tuple(Adapter(*one) for one in adapters))


def core(shelf: Shelf, folder: str | None, links: int = 1) -> WorkerCore:
    pipeline = TrivialPipeline(TrivialOptions(chunks=3, samples=4))
    served = ServedPipeline(pipeline, AudioGenerationRequest, PipelineTask.AUDIO_GENERATION, 8, adapters=shelf)
    return WorkerCore(served, "voice", links=links, adapter_folder=folder)


# -- what may be loaded ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["one", "./one", "one/", "two/../one"])
def test_a_folder_in_the_folder_is_found(folder: str, path: str) -> None:
    assert inside(folder, path) == os.path.realpath(Path(folder) / "one")
    assert inside(folder, str(Path(folder) / path)) == inside(folder, path)


@pytest.mark.parametrize(
    "path",
    ["", ".", "..", "/", "/etc", "../adapters", "one/../../elsewhere", "../adapters2/x", "one\0", "out", "a" * 999],
)
def test_nothing_else_is(folder: str, path: str) -> None:
    outside = Path(folder).parent / "elsewhere"
    outside.mkdir()
    (Path(folder).parent / "adapters2" / "x").mkdir(parents=True)
    (Path(folder) / "out").symlink_to(outside)
    with pytest.raises(AdapterRefused, match="folder for adapters") as refused:
        inside(folder, path)
    assert refused.value.status is LoRAStatus.LOAD_INVALID_PATH


def test_a_link_that_stays_inside_is_followed(folder: str) -> None:
    (Path(folder) / "latest").symlink_to("one")
    assert inside(folder, "latest") == os.path.realpath(Path(folder) / "one")


def test_the_folder_may_be_a_link_itself(folder: str, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    assert inside(str(tmp_path / "link"), "one") == os.path.realpath(Path(folder) / "one")


def test_without_a_folder_nothing_is_loaded(folder: str) -> None:
    shelf = Shelf("given")
    stock = AdapterStock(shelf, None)
    stock.equip(0, equip(1, (1, "ann", str(Path(folder) / "one"))))
    (fitted,) = stock.fitted(0)
    assert fitted.status is ERROR
    assert "engine.adapter_folder" in fitted.message
    assert (stock.may_load, stock.given, shelf.calls) == (False, ("given",), [])


# -- lists -----------------------------------------------------------------------------------------------------------


def test_a_list_is_what_is_loaded_and_an_older_one_changes_nothing(folder: str) -> None:
    shelf = Shelf("given")
    stock = AdapterStock(shelf, folder)
    stock.equip(0, equip(1, (1, "ann", "one")))
    stock.equip(0, equip(3, (2, "bob", "two")))
    stock.equip(0, equip(2, (1, "ann", "one")))
    stock.equip(0, equip(3, (2, "bob", "two")))
    assert set(shelf.loaded) == {"given", "bob"}
    assert (stock.revision(0), stock.fitted(0)) == (3, (Fitted(2),))
    stock.forget(0)
    assert set(shelf.loaded) == {"given"}
    stock.equip(0, equip(1, (1, "ann", "one")))
    assert set(shelf.loaded) == {"given", "ann"}


def test_a_name_may_come_back_with_other_weights(folder: str) -> None:
    shelf = Shelf()
    stock = AdapterStock(shelf, folder)
    stock.equip(0, equip(1, (1, "ann", "one")))
    stock.equip(0, equip(2, (2, "ann", "two")))
    assert shelf.calls == [("load", "ann"), ("unload", "ann"), ("load", "ann")]
    assert not stock.has(0, (1,))
    assert stock.has(0, (2,))


def test_what_cannot_be_loaded_is_told_and_the_rest_is_loaded(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    shelf = Shelf()
    stock = AdapterStock(shelf, folder)
    stock.equip(0, equip(1, (1, "a", "wide"), (2, "b", "torn"), (3, "c", "absent"), (4, "d", "one")))
    wide, torn, absent, good = stock.fitted(0)
    assert wide == Fitted(1, LoRAStatus.LOAD_INVALID_ADAPTER, "r = 99: at most 64")
    assert torn.status is ERROR
    assert torn.message.startswith("RuntimeError: xxx")
    assert len(torn.message) <= 512
    assert absent.status is LoRAStatus.LOAD_INVALID_PATH
    assert good.status is OK
    assert "RuntimeError" in capsys.readouterr().err
    with pytest.raises(DeviceLost):
        stock.equip(0, equip(2, (5, "e", "fatal")))


def test_two_servers_share_an_adapter_but_not_a_name(folder: str) -> None:
    shelf = Shelf()
    stock = AdapterStock(shelf, folder, links=2)
    stock.equip(0, equip(1, (1, "ann", "one")))
    stock.equip(1, equip(1, (1, "ann", "./one"), (2, "bob", "two")))
    assert shelf.calls == [("load", "ann"), ("load", "bob")]
    stock.equip(0, equip(2, (3, "bob", "one")))
    assert stock.fitted(0)[0].status is LoRAStatus.LOAD_NAME_EXISTS
    assert "ann" in shelf.loaded, "the other still wants it"
    stock.forget(1)
    assert not shelf.loaded


def test_an_adapter_is_shared_as_long_as_its_files_are_the_same(folder: str) -> None:
    shelf = Shelf()
    stock = AdapterStock(shelf, folder, links=2)
    weights = Path(folder) / "one" / "adapter_model.safetensors"
    weights.write_bytes(b"old!")
    (Path(folder) / "one" / "dangling").symlink_to("nowhere")
    for link in (0, 1):
        stock.equip(link, equip(1, (1, "ann", "one")))
    stock.equip(0, equip(2))
    weights.write_bytes(b"new!")
    os.utime(weights, ns=(0, weights.stat().st_mtime_ns + 1))  # whatever the file system's clock made of it
    stock.equip(0, equip(3, (2, "ann", "one")))
    (fitted,) = stock.fitted(0)
    assert fitted.status is LoRAStatus.LOAD_NAME_EXISTS
    assert "unload it there first" in fitted.message
    assert not stock.has(0, (2,))
    assert shelf.calls == [("load", "ann")], "what the other runs with stays"
    stock.equip(1, equip(2))
    stock.equip(0, equip(4, (3, "ann", "one")))
    assert stock.fitted(0) == (Fitted(3),)
    assert shelf.calls == [("load", "ann"), ("unload", "ann"), ("load", "ann")]


def test_each_loading_is_announced_before_it_begins(folder: str) -> None:
    shelf = Shelf()
    stock = AdapterStock(shelf, folder, links=2)
    stock.before_load = lambda: shelf.calls.append(("soon", ""))
    stock.equip(0, equip(1, (1, "ann", "one"), (2, "torn", "torn"), (3, "none", "absent"), (4, "bob", "two")))
    stock.equip(1, equip(1, (1, "ann", "one")))  # is there
    soon = ("soon", "")
    assert shelf.calls == [soon, ("load", "ann"), soon, ("load", "torn"), soon, ("load", "bob")]


# -- the worker ------------------------------------------------------------------------------------------------------


def test_a_worker_says_what_it_was_given_and_what_it_has_made_of_a_list(folder: str) -> None:
    worker = core(Shelf("given"), folder)
    _, ready, _ = worker.ready(0)
    assert isinstance(ready, Ready)
    assert (ready.models[0].adapters, ready.models[0].loads_adapters) == (("given",), True)
    ((_, alive, _),) = worker.take(equip(1, (1, "ann", "one")))
    assert isinstance(alive, Alive)
    assert (alive.revision, alive.fitted) == (1, (Fitted(1),))
    _, ready, _ = worker.ready(0)
    assert isinstance(ready, Ready)
    assert ready.models[0].adapters == ("given",), "what is loaded while serving is the dispatcher's to tell"


def start(key: str, *adapters: int) -> tuple[Start, list[Frame]]:
    request = AudioGenerationRequest(RequestID(key), "voice", "hello", adapter_id="ann")
    return Start(key, b"client", 1, 5, 60.0, adapters=adapters), encode_payload([request])


def test_a_request_whose_adapters_are_not_there_is_as_good_as_lost(folder: str) -> None:
    worker = core(Shelf(), folder)
    worker.take(equip(1, (1, "ann", "one")))
    message, payload = start("early", 2)
    assert not worker.take(message, payload)
    message, payload = start("right", 1)
    assert not worker.take(message, payload)
    assert worker.in_flight == 1, "the right one alone"


def test_whoever_does_not_know_a_worker_any_more_has_nothing_loaded_there(folder: str) -> None:
    shelf = Shelf()
    worker = core(shelf, folder, links=2)
    worker.links.hears(1, 100.0)
    worker.take(equip(1, (1, "ann", "one")), link=0)
    worker.take(equip(1, (1, "bob", "two")), link=1, now=100.0)
    worker.take(Beat(known=False), link=0)
    assert set(shelf.loaded) == {"bob"}
    worker.tick(1e6)
    assert not shelf.loaded
