"""A worker's connection to one dispatcher."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

import zmq

from max_interfaces.messages import Goodbye, WorkerMessage, encode_header
from max_interfaces.wire import Frame

from ..problems import complain
from ..sockets import Dial, open_socket, send_frames

DIAL_AGAIN_S = 5.0


class Wire:
    """The `socket` to one dispatcher. What cannot be sent is lost: the two find out, and mend it.

    libzmq connects again by itself where a connection ends, but not after the other end has refused our key. So it is
    done here: somebody may have put the key on the list meanwhile.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], dial: Dial, poller: zmq.Poller) -> None:
        self._context = context
        self._dial = dial
        self._poller = poller
        self._dial_again_at = 0.0
        self.socket = self._open()

    def send(self, message: WorkerMessage | Goodbye, payload: Sequence[Frame] = ()) -> None:
        """Send, if that is possible."""
        try:
            send_frames(self.socket, (encode_header(message), *payload))
        except zmq.Again:
            self._dial_anew()

    def close(self) -> None:
        """End it; what was sent still leaves."""
        self._poller.unregister(self.socket)
        self.socket.close()

    def _open(self) -> zmq.Socket[bytes]:
        socket = open_socket(self._context, zmq.DEALER)
        socket.setsockopt(zmq.ROUTING_ID, b"w" + os.urandom(15))
        self._dial(socket)
        self._poller.register(socket, zmq.POLLIN)
        return socket

    def _dial_anew(self) -> None:
        now = time.monotonic()
        if now < self._dial_again_at:
            return
        complain("a server does not read what this worker says, or does not let it in")
        self._dial_again_at = now + DIAL_AGAIN_S
        self._poller.unregister(self.socket)
        self.socket.close(linger=0)
        self.socket = self._open()
