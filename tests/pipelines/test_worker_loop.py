"""The loop around a worker's core, over real sockets, and the life of a worker from its start to its exit code."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
import zmq

from max_interfaces import Adapters, AudioGenerationOutput, AudioGenerationRequest, Chunk, PipelineTask, RequestID
from max_interfaces.messages import (
    Adapter,
    Alive,
    Beat,
    Delivery,
    Ended,
    Equip,
    Fitted,
    Goodbye,
    Header,
    Held,
    Pace,
    Ready,
    Retire,
    Start,
    Unfit,
    decode_header,
    encode_header,
)
from max_interfaces.wire import Frame, encode_payload
from max_pipelines.registry import ServedPipeline
from max_pipelines.sockets import Dial, open_socket, receive
from max_pipelines.trivial import TrivialOptions, TrivialPipeline
from max_pipelines.worker import loop
from max_pipelines.worker.core import WorkerCore
from max_pipelines.worker.loop import DEVICE_LOST, UNFIT, WorkerLoop, run_worker
from max_pipelines.worker.wire import Wire
from tests.fakes import Shelf
from tests.pipelines.processes import PATIENCE_S, config, install

NAME = "worker-0.1"
Context = zmq.Context[zmq.Socket[bytes]]


class Spinning(TrivialPipeline):
    """Its requests never end, and its steps take `seconds`."""

    def __init__(self, seconds: float = 0.0) -> None:
        super().__init__(TrivialOptions(chunks=100_000, samples=0))
        self.seconds = seconds

    def execute(self, active: Collection[RequestID]) -> Sequence[Chunk[AudioGenerationOutput]]:
        end = time.monotonic() + self.seconds
        while time.monotonic() < end:
            pass
        return super().execute(active)


class Played:
    """A dispatcher in the test's own hands."""

    def __init__(self, context: Context, address: str) -> None:
        self._address = address
        self._socket = open_socket(context, zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.bind(address)
        self.peer = b""

    def dial(self, socket: zmq.Socket[bytes]) -> None:
        """Connect a worker's socket."""
        socket.connect(self._address)

    def say(self, header: Header | bytes, payload: Sequence[Frame] = ()) -> None:
        """A message to the worker."""
        first = header if isinstance(header, bytes) else encode_header(header)
        self._socket.send_multipart([self.peer, first, *payload])

    def start(self, key: str, text: str = "Hello.") -> None:
        """A request."""
        payload = encode_payload([AudioGenerationRequest(RequestID(key), "voice", text)])
        self.say(Start(key, b"c1", 1, 7, 60.0), payload)

    def heard(self) -> list[Header]:
        """All that has come."""
        messages = []
        while self._socket.poll(0):
            messages.append(self._take())
        return messages

    def hear(self) -> Header:
        """The next message."""
        assert self._socket.poll(int(PATIENCE_S * 1000)), "nothing has come"
        return self._take()

    def _take(self) -> Header:
        self.peer, header, *_ = self._socket.recv_multipart()
        return decode_header(header)

    def close(self) -> None:
        """Gone."""
        self._socket.close()


class Bench:
    """Two dispatchers, and a worker's loop that has offered itself to one of them or to both."""

    def __init__(self) -> None:
        self.context: Context = zmq.Context()
        self.poller = zmq.Poller()
        self._wires: list[Wire] = []
        self.servers = [Played(self.context, f"inproc://server-{number}") for number in range(2)]

    def worker(
        self,
        pipeline: TrivialPipeline | None = None,
        *,
        links: int = 1,
        longest_step: float = 0.0,
        lease_s: float = 60.0,
        step_s: Callable[[], float] = lambda: 0.0,
        adapters: Adapters | None = None,
        adapter_folder: str | None = None,
    ) -> WorkerLoop:
        """A worker of the first `links` dispatchers, and they know."""
        served = ServedPipeline(
            pipeline or Spinning(),
            AudioGenerationRequest,
            PipelineTask.AUDIO_GENERATION,
            gauges=lambda: {"free": 5},
            step_s=step_s,
            adapters=adapters,
        )
        wires = [self.wire(server.dial) for server in self.servers[:links]]
        core = WorkerCore(served, "voice", NAME, links=links, lease_s=lease_s, adapter_folder=adapter_folder)
        begun = WorkerLoop(wires, self.poller, core, longest_step)
        begun.begin()
        for server in self.servers[:links]:
            (ready,) = server.heard()
            assert isinstance(ready, Ready)
        return begun

    def wire(self, dial: Dial) -> Wire:
        """A worker's end of a link."""
        made = Wire(self.context, dial, self.poller)
        self._wires.append(made)
        return made

    def close(self) -> None:
        """All of it ends."""
        for wire in self._wires:
            wire.close()
        for server in self.servers:
            server.close()
        self.context.destroy(linger=0)


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.close()


def busy(messages: Sequence[Header]) -> list[float]:
    """What is announced to take long."""
    return [message.busy_s for message in messages if isinstance(message, Alive) and message.busy_s]


# -- signs of life -----------------------------------------------------------------------------------------------


def test_a_worker_shows_that_it_lives_between_two_messages(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    server, _ = bench.servers
    monkeypatch.setattr(loop, "HEARTBEAT_S", 0.0)  # as if every message took that long
    worker = bench.worker()
    server.start("a")
    worker.turn()
    assert [type(message) for message in server.heard()] == [Delivery, Alive]
    for _ in range(5):
        server.say(Beat())
    worker.turn()
    assert [type(message) for message in server.heard()] == [Alive] * 5 + [Delivery, Alive]


def test_a_sign_of_life_says_how_far_the_worker_is_and_what_it_has(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "HEARTBEAT_S", 0.0)
    worker = bench.worker(links=2)
    for server, key in zip(bench.servers, "ab", strict=True):
        server.start(key)
    for _ in range(3):
        worker.turn()
    for server, key in zip(bench.servers, "ab", strict=True):
        *_, alive = server.heard()
        assert isinstance(alive, Alive)
        assert (alive.worker, alive.steps, alive.held, alive.credits) == (NAME, 3, (Held(key, 1),), 8)
        assert (alive.busy_s, alive.gauges) == (0.0, {"pid": 0, "free": 5})


def test_a_worker_that_stands_still_grows_older(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    server, _ = bench.servers
    monkeypatch.setattr(loop, "HEARTBEAT_S", 0.0)
    worker = bench.worker()
    server.start("a")
    worker.turn()
    server.say(Pace("a", 1, True))
    worker.turn()
    server.heard()
    for _ in "123":
        worker.turn()
    beats = [message for message in server.heard() if isinstance(message, Alive)]
    assert {beat.steps for beat in beats} == {1}
    assert beats[0].held == (Held("a", 1, True),)
    ages = [beat.age_s for beat in beats]
    assert 0.0 < ages[0] < ages[1] < ages[2]


def test_between_two_signs_of_life_a_worker_works(bench: Bench) -> None:
    server, _ = bench.servers
    worker = bench.worker()
    server.start("a")
    worker.turn()  # it waited for work, and does it at once
    worker.turn()
    deliveries = server.heard()
    assert [message.heads[0].seq for message in deliveries if isinstance(message, Delivery)] == [0, 1]
    assert len(deliveries) == 2


@pytest.mark.parametrize(("overslept_s", "kept"), [(0.0, True), (60.0, False)])
def test_a_dispatcher_is_not_lost_because_this_worker_did_not_listen(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, overslept_s: float, kept: bool
) -> None:
    server, _ = bench.servers
    monkeypatch.setattr(loop, "HEARTBEAT_S", 0.0)
    monkeypatch.setattr(loop, "OVERSLEPT_S", overslept_s)
    worker = bench.worker(Spinning(0.05), lease_s=0.02)
    server.start("a")
    worker.turn()
    *_, alive = server.heard()
    assert isinstance(alive, Alive)
    assert alive.held == ((Held("a", 1),) if kept else ())


def test_a_server_that_takes_nothing_is_dialled_again_and_ends_no_worker(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    """A full queue, or none because our key was refused: both are `zmq.Again` when something is sent."""
    server, _ = bench.servers
    dialled: list[zmq.Socket[bytes]] = []

    def dial(socket: zmq.Socket[bytes]) -> None:
        dialled.append(socket)
        if len(dialled) == 2:
            server.dial(socket)

    wire = bench.wire(dial)
    wire.send(Alive(NAME))
    assert "does not let it in" in capsys.readouterr().err
    wire.send(Alive(NAME, 1))
    assert server.heard() == [Alive(NAME, 1)]
    server.say(Beat())
    assert bench.poller.poll(0) == [(wire.socket, zmq.POLLIN)]
    assert receive(wire.socket)


def test_a_server_that_takes_nothing_is_not_dialled_without_end(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    dialled: list[zmq.Socket[bytes]] = []
    wire = bench.wire(dialled.append)
    for _ in range(3):
        wire.send(Alive(NAME))
    assert len(dialled) == 2
    assert capsys.readouterr().err.count("\n") == 1


# -- what takes long ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("longest", "announced"),
    [(loop.SLOW_STEP_S, []), (2.0, [2.0 * loop.PATIENCE]), (1000.0, [loop.LONGEST_BUSY_S])],
)
def test_slow_steps_are_announced_to_all(bench: Bench, longest: float, announced: list[float]) -> None:
    worker = bench.worker(links=2, longest_step=longest)
    bench.servers[0].start("a")
    worker.turn()
    first, second = (server.heard() for server in bench.servers)
    assert busy(first) == busy(second) == announced
    assert isinstance(first[-1], Delivery)  # … before the step
    if announced:
        assert isinstance(first[0], Alive)
        assert first[0].held == (Held("a", 1),)


def test_a_step_that_its_pipeline_knows_to_be_long_is_announced_before_there_was_one(bench: Bench) -> None:
    expected = iter([3.0, loop.SLOW_STEP_S])
    worker = bench.worker(step_s=lambda: next(expected))
    bench.servers[0].start("a")
    worker.turn()
    assert busy(bench.servers[0].heard()) == [3.0 * loop.PATIENCE]
    worker.turn()
    assert not busy(bench.servers[0].heard())


def test_what_is_slow_is_learnt_and_forgotten(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    server, _ = bench.servers
    monkeypatch.setattr(loop, "SLOW_STEP_S", 0.02)
    pipeline = Spinning(0.03)
    worker = bench.worker(pipeline)
    server.start("a")
    worker.turn()
    assert not busy(server.heard())  # nobody knew
    pipeline.seconds = 0.0
    worker.turn()
    (announced,) = busy(server.heard())
    assert announced >= 0.03 * loop.PATIENCE
    for _ in range(200):
        worker.turn()
        if not busy(server.heard()):
            return
    pytest.fail("quick steps are still announced")


@pytest.mark.parametrize(
    ("size", "announced"),
    [
        (loop.LARGE_PAYLOAD, []),
        (400_000, [400_000 / loop.READ_BYTES_PER_S]),
        (int(2 * loop.LONGEST_BUSY_S * loop.READ_BYTES_PER_S), [loop.LONGEST_BUSY_S]),
    ],
)
def test_a_large_payload_is_announced_to_all_before_it_is_read(bench: Bench, size: int, announced: list[float]) -> None:
    worker = bench.worker(links=2)
    bench.servers[0].start("a")
    worker.turn()
    bench.servers[0].heard()
    bench.servers[0].say(Start("large", b"c1", 1, 7, 60.0), [b"\xc1" + bytes(size - 1)])
    worker.turn()
    first, second = (server.heard() for server in bench.servers)
    assert busy(first) == busy(second) == announced
    spoken = [message for message in first if not (isinstance(message, Alive) and not message.busy_s)]  # no heartbeats
    assert [type(message) for message in spoken] == [Alive] * len(announced) + [Ended, Delivery]
    if announced:
        assert isinstance(spoken[0], Alive)
        assert spoken[0].held == (Held("a", 1),)


def test_each_adapter_is_announced_to_all_before_it_is_loaded(bench: Bench, tmp_path: Path) -> None:
    """However many there are: of none is more announced than one may take, and none begins unannounced."""
    for number in range(8):
        (tmp_path / str(number)).mkdir()
    heard: list[list[float]] = []

    class Slow(Shelf):
        def load(self, name: str, path: str) -> None:
            heard.append([seconds for server in bench.servers for seconds in busy(server.heard())])
            super().load(name, path)

    worker = bench.worker(links=2, adapters=Slow(), adapter_folder=str(tmp_path))
    adapters = tuple(Adapter(number + 1, f"a{number}", str(number)) for number in range(8))
    bench.servers[0].say(Equip(1, adapters))
    worker.turn()
    assert heard == [[loop.LOADING_S, loop.LOADING_S]] * 8
    (*_, alive) = bench.servers[0].heard()
    assert isinstance(alive, Alive)
    assert (alive.revision, alive.fitted, alive.busy_s) == (1, tuple(Fitted(number + 1) for number in range(8)), 0.0)


# -- several servers ---------------------------------------------------------------------------------------------


def test_who_has_ended_goes_on_hearing_of_this_worker_and_who_refused_it_does_not(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(loop, "HEARTBEAT_S", 0.0)
    ending, other = bench.servers
    worker = bench.worker(links=2, longest_step=1.0)
    ending.say(Retire())
    worker.turn()
    ending.heard()
    other.start("a")
    worker.turn()  # with a step that is announced
    assert [bool(seconds) for seconds in busy(ending.heard())] == [True]
    ending.say(Beat(known=False))  # another one, at the same address
    worker.turn()
    assert any(isinstance(message, Ready) for message in ending.heard())
    assert not capsys.readouterr().err
    ending.say(Retire("this server serves other things"))
    worker.turn()
    assert "is not wanted: this server serves other things" in capsys.readouterr().err
    ending.heard()
    worker.turn()
    assert not ending.heard()
    assert busy(other.heard())


# -- from the start to the exit code -----------------------------------------------------------------------------

PLUGINS = '''
from max_interfaces import AudioGenerationRequest, DeviceLost, PipelineTask, RequestID
from max_pipelines.registry import ServedPipeline
from max_pipelines.trivial import TrivialOptions, TrivialPipeline

CANARY = AudioGenerationRequest(RequestID(), "voice", "Hello.")

class Fragile(TrivialPipeline):
    """Works until a text says otherwise."""

    def admit(self, attempt):
        self.fatal = attempt.request.input == "die"
        super().admit(attempt)

    def execute(self, active):
        if self.fatal:
            raise DeviceLost("an illegal access of its memory")
        return super().execute(active)

def fragile(config):
    pipeline = Fragile(TrivialOptions(chunks=2, samples=10))
    return ServedPipeline(
        pipeline, AudioGenerationRequest, PipelineTask.AUDIO_GENERATION, sample_rate=100, canary=CANARY
    )

def mute(config):
    pipeline = TrivialPipeline(TrivialOptions(chunks=2, samples=0))
    return ServedPipeline(
        pipeline, AudioGenerationRequest, PipelineTask.AUDIO_GENERATION, sample_rate=100, canary=CANARY
    )
'''
ENTRY_POINTS = "[maxpipe.pipelines]\nfragile = loop_plugins:fragile\nmute = loop_plugins:mute\n"


Run = Callable[[str], "Future[int]"]


@pytest.fixture
def run(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Starts a worker of one of these pipelines in a thread; it has said that it begins."""
    install(tmp_path, "loop_plugins", PLUGINS, ENTRY_POINTS)
    monkeypatch.syspath_prepend(tmp_path)
    stopping = threading.Event()
    server = bench.servers[0]

    def begin(kind: str) -> Future[int]:
        settings = config(kind, transport="thread")
        code = threads.submit(run_worker, settings, [server.dial], NAME, bench.context, stopping.is_set)
        assert server.hear() == Alive(NAME, busy_s=settings.workers.start_timeout_s)
        return code

    with ThreadPoolExecutor(1) as threads:
        yield begin
        stopping.set()


def test_a_worker_serves_until_it_is_retired(bench: Bench, run: Run) -> None:
    server, _ = bench.servers
    code = run("fragile")
    ready = server.hear()
    assert isinstance(ready, Ready)
    assert ready.supervised
    server.start("a")
    for seq in range(2):
        delivery = server.hear()
        assert isinstance(delivery, Delivery)
        assert delivery.heads[0].seq == seq
    server.say(Retire())
    assert server.hear() == Goodbye()
    assert code.result(PATIENCE_S) == 0


def test_a_worker_that_is_not_wanted_says_why_and_fails(
    bench: Bench, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    server, _ = bench.servers
    code = run("fragile")
    server.hear()
    server.say(Retire("this server serves other things"))
    assert code.result(PATIENCE_S) == UNFIT
    assert "this server serves other things" in capsys.readouterr().err


def test_a_worker_whose_first_request_fails_offers_itself_to_nobody(bench: Bench, run: Run) -> None:
    server, _ = bench.servers
    code = run("mute")
    unfit = server.hear()
    assert isinstance(unfit, Unfit)
    assert "gave no sound" in unfit.message
    assert code.result(PATIENCE_S) == UNFIT


def test_a_worker_that_loses_its_device_says_so_and_ends(bench: Bench, run: Run) -> None:
    server, _ = bench.servers
    code = run("fragile")
    server.hear()
    server.start("a", "die")
    unfit = server.hear()
    assert isinstance(unfit, Unfit)
    assert "has lost its device: an illegal access" in unfit.message
    assert code.result(PATIENCE_S) == DEVICE_LOST


def test_a_worker_that_cannot_read_its_server_says_so_and_ends(bench: Bench, run: Run) -> None:
    server, _ = bench.servers
    code = run("fragile")
    server.hear()
    server.say(b"\x63nonsense")
    unfit = server.hear()
    assert isinstance(unfit, Unfit)
    assert "protocol version" in unfit.message
    assert code.result(PATIENCE_S) == UNFIT
