"""A DEALER with nothing of ours behind it: sends whatever frames it is given, and sees when it is cut off."""

from __future__ import annotations

from types import TracebackType
from typing import Self

import zmq
from zmq.utils.monitor import recv_monitor_message

from max_interfaces.messages import Header, decode_header
from tests.faults.fuzzing.troubles import Frames
from tests.pipelines.processes import PATIENCE_S

QUEUE = 1000


class RawPeer:
    """Connected to a server for as long as its `with` block runs."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], address: str, name: bytes) -> None:
        self._socket = context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.ROUTING_ID, name)
        self._socket.setsockopt(zmq.SNDHWM, QUEUE)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RECONNECT_IVL, 10)  # ms: who does harm is soon back
        self._monitor = self._socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        self._socket.connect(address)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.disable_monitor()
        self._monitor.close(linger=0)
        self._socket.close()

    def send(self, frames: Frames) -> bool:
        """Send a message, unless the queue is full."""
        try:
            self._socket.send_multipart(frames or [b""], zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def receive(self, patience_s: float = PATIENCE_S) -> Header | None:
        """The next message, None if none comes."""
        if not self._socket.poll(round(1000 * patience_s)):
            return None
        return decode_header(self._socket.recv_multipart()[0])

    def drain(self) -> None:
        """Read all that has come."""
        while self._socket.poll(0):
            self._socket.recv_multipart()

    def cuts(self, patience_s: float = 0.0) -> int:
        """How often the connection has ended since the last call; waits for the first time."""
        count = 0
        while self._monitor.poll(0 if count else round(1000 * patience_s)):
            recv_monitor_message(self._monitor)
            count += 1
        return count
