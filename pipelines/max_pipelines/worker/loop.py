"""The worker's loop: wait for messages or work, take them, step, send. One thread does it all.

Heartbeats leave from this loop and carry its progress, so that a worker that spins or hangs is found out. What is known
to take long is announced before.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Sequence

import zmq

from max_interfaces import DeviceLost, MaxpipeError, WireError
from max_interfaces.messages import Alive, Goodbye, Retire, Start, Unfit, WorkerMessage, decode_header

from ..config import Config
from ..problems import complain, report, sendable
from ..registry import build_pipeline, prove
from ..sockets import Dial, most_bytes, receive
from .core import WorkerCore
from .stepping import Outgoing
from .wire import Wire

HEARTBEAT_S = 1.0
UNFIT = 3  # the exit code of a worker that cannot serve
DEVICE_LOST = 4  # … of one that cannot serve any more
SLOW_STEP_S = 0.25  # a pipeline whose steps take longer has each of them announced
PATIENCE = 4  # a step that is announced may take so many times the longest of late
LONGEST_BUSY_S = 120.0
LARGE_PAYLOAD = 256 * 1024  # reading one takes long enough to be announced
LOADING_S = 30.0  # what an adapter may take: a large one, from a cold disk
READ_BYTES_PER_S = 100_000  # the slowest tokenizer, with a margin
OVERSLEPT_S = 1.0  # a turn that took longer than this: nothing could be heard meanwhile


def run_worker(
    config: Config,
    dials: Sequence[Dial],
    name: str,
    context: zmq.Context[zmq.Socket[bytes]],
    stopped: Callable[[], bool] = lambda: False,
    on_ready: Callable[[], None] = lambda: None,
    *,
    supervised: bool = True,
) -> int:
    """Load the pipeline, prove that it works, serve until retired or told to end. Each of `dials` leads to a server.

    Returns the exit code: 0, 3 if it cannot serve, 4 if it cannot any more.
    """
    with contextlib.ExitStack() as resources:
        poller = zmq.Poller()
        wires: list[Wire] = []
        for dial in dials:
            wires.append(Wire(context, dial, poller))
            resources.callback(wires[-1].close)
        _tell(wires, Alive(name, busy_s=config.workers.start_timeout_s))
        try:
            served = build_pipeline(config)
            resources.callback(served.close)
            longest_step = prove(served)
        except Exception as problem:  # a third party's pipeline may fail in any way
            _tell(wires, Unfit(name, _explain(problem)))
            return UNFIT
        core = WorkerCore(
            served,
            config.model.name,
            name,
            links=len(wires),
            lease_s=config.limits.lease_s,
            supervised=supervised,
            pid=os.getpid(),
            most_bytes=min(most_bytes(wire.socket) for wire in wires),
            adapter_folder=config.engine.adapter_folder,
        )
        on_ready()
        loop = WorkerLoop(wires, poller, core, longest_step)
        return _serve(loop, core, wires, stopped)


def _serve(loop: WorkerLoop, core: WorkerCore, wires: Sequence[Wire], stopped: Callable[[], bool]) -> int:
    """One turn after the other. Returns the exit code."""
    try:
        loop.begin()
        while not core.retired and not stopped():
            loop.turn()
    except DeviceLost as problem:
        report(problem)
        _tell(wires, Unfit(core.name, sendable(f"has lost its device: {problem}")))
        return DEVICE_LOST
    except WireError as problem:
        # Nobody can say which request the message was about. So all of them end here, with this reason, and loudly: a
        # server that this worker cannot read is of another version, and neither waiting nor guessing mends that.
        _tell(wires, Unfit(core.name, sendable(f"cannot read its server: {problem}")))
        return UNFIT
    if not core.links.hopeful:
        return UNFIT
    _tell(wires, Goodbye())  # what it still has goes on elsewhere
    return 0


def _tell(wires: Sequence[Wire], message: WorkerMessage | Goodbye) -> None:
    for wire in wires:
        wire.send(message)


def _explain(problem: Exception) -> str:
    """One line. Errors of these kinds say themselves what is wrong; any other shows its origin in the log."""
    text = " ".join(str(problem).split())
    if not isinstance(problem, ValueError | OSError | ImportError | MaxpipeError):
        report(problem)
        text = f"{type(problem).__name__}: {text}"
    return sendable(text)


class WorkerLoop:
    """One core, and a wire to each dispatcher, all of which `poller` watches."""

    def __init__(self, wires: Sequence[Wire], poller: zmq.Poller, core: WorkerCore, longest_step: float = 0.0) -> None:
        self._wires = wires
        self._poller = poller
        self._core = core
        core.adapters.before_load = lambda: self._announce(LOADING_S)
        self._longest = longest_step  # of late
        self._stepped = time.monotonic()  # when the last step ended
        self._turned = self._stepped
        self._beat_at = self._stepped + HEARTBEAT_S

    def begin(self) -> None:
        """Offer this worker to all."""
        now = time.monotonic()
        for link in range(len(self._wires)):
            self._core.links.hears(link, now)
            self._deliver([self._core.ready(link)])

    def turn(self) -> None:
        """Receive, step, deliver: the life of a worker is this, again and again."""
        self._receive()
        if self._core.active:
            self._deliver(self._step())
        self._beat()

    def _receive(self) -> None:
        """Take what is there. With nothing else to do, wait for one message: a step is not to wait for a second.

        Unless one step is all that a request gets: there, whoever is not taken into it is not batched at all.
        """
        if not self._core.active:
            patience = math.ceil(max(0.0, self._beat_at - time.monotonic()) * 1000)
            if self._poller.poll(patience):
                self._take_one_each()
            if not self._core.gathers:
                return
        while self._poller.poll(0):
            self._take_one_each()
            self._beat()  # taking many long texts is progress, too

    def _take_one_each(self) -> None:
        for link, wire in enumerate(self._wires):
            frames = receive(wire.socket)
            if not frames:
                continue
            message, payload = decode_header(frames[0]), frames[1:]
            if isinstance(message, Start):
                if (size := sum(map(len, payload))) > LARGE_PAYLOAD:
                    self._announce(size / READ_BYTES_PER_S)
            elif isinstance(message, Retire) and message.reason:
                complain(f"{self._core.name} is not wanted: {message.reason}")
            if answers := self._core.take(message, payload, time.monotonic(), link):
                self._deliver(answers)

    def _step(self) -> list[Outgoing]:
        begin = time.monotonic()
        expected = max(self._longest, self._core.step_s())
        if expected > SLOW_STEP_S:
            self._announce(PATIENCE * expected)
        outgoing = self._core.step(begin)
        self._stepped = time.monotonic()
        self._longest = max(self._stepped - begin, 0.9 * self._longest)
        return outgoing

    def _deliver(self, outgoing: Sequence[Outgoing]) -> None:
        for link, message, payload in outgoing:
            self._wires[link].send(message, payload)

    def _announce(self, seconds: float) -> None:
        """What comes now may take so long."""
        busy_s, age_s = min(seconds, LONGEST_BUSY_S), time.monotonic() - self._stepped
        self._deliver([self._core.alive(link, age_s, busy_s) for link in self._core.links.hopeful])

    def _beat(self) -> None:
        """A sign of life every second, and a look at who else lives."""
        now = time.monotonic()
        if now < self._beat_at:
            return
        if now > self._turned + HEARTBEAT_S + OVERSLEPT_S:
            self._core.links.excuse(now - self._turned - HEARTBEAT_S)
        self._turned = now
        self._beat_at = now + HEARTBEAT_S
        self._deliver(self._core.tick(now))
        age_s = now - self._stepped
        self._deliver([self._core.alive(link, age_s) for link in self._core.links.hopeful])
