"""The loop around a worker's core, over real sockets."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import zmq

from max_interfaces.messages import Alive, Retire, decode_header, encode_header
from max_interfaces.wire import Frame
from max_pipelines.worker import loop
from max_pipelines.worker.core import Outgoing


class SlowCore:
    """A core that has work, and takes long over every message."""

    in_flight = 1
    steps = 0

    def __init__(self) -> None:
        self.taken = 0

    def take(self, message: object, payload: Sequence[Frame] = ()) -> list[Outgoing]:
        self.taken += 1
        return []

    def step(self) -> list[Outgoing]:
        return []


def test_a_worker_shows_that_it_lives_between_two_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "HEARTBEAT_S", 0.0)  # as if every message took that long
    with zmq.Context() as context, context.socket(zmq.ROUTER) as server, context.socket(zmq.DEALER) as socket:
        server.bind("inproc://server")
        socket.setsockopt(zmq.ROUTING_ID, b"worker-0.1")
        socket.connect("inproc://server")
        core = SlowCore()
        for _ in range(5):
            server.send_multipart([b"worker-0.1", encode_header(Retire())])
        loop.WorkerLoop(socket, core, "worker-0.1").turn()  # type: ignore[arg-type]
        assert core.taken == 5
        beats = []
        while server.poll(0):
            beats.append(decode_header(server.recv_multipart()[1]))
        assert beats == [Alive("worker-0.1", 0, 1)] * 6
