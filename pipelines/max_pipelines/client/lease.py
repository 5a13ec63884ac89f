"""The sign of life that keeps a client's requests alive."""

from __future__ import annotations

import contextlib
import threading

import zmq

from max_interfaces.messages import Ping

from ..sockets import Dial, open_socket, send

PING_S = 1.0


class Lease:
    """Pings from a thread and socket of its own, so that a busy event loop does not cost a caller its call."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], dial: Dial, peer: bytes) -> None:
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(context, dial, peer), name="maxpipe-lease", daemon=True)
        self._thread.start()

    def _run(self, context: zmq.Context[zmq.Socket[bytes]], dial: Dial, peer: bytes) -> None:
        socket = open_socket(context, zmq.DEALER)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.IMMEDIATE, 1)  # nobody there: nothing to keep alive, and nothing to queue
        try:
            dial(socket)
            while not self._ending.wait(PING_S):
                with contextlib.suppress(zmq.Again):
                    send(socket, Ping(peer))
        finally:
            socket.close()

    def close(self) -> None:
        """Stop, and wait until the socket is closed."""
        self._ending.set()
        self._thread.join()
