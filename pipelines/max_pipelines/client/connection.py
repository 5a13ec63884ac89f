"""A DEALER socket in an asyncio loop: messages go out at once, incoming ones reach a handler."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence

import zmq

from max_interfaces import RequestFailed
from max_interfaces.messages import Header, decode_header, encode_header
from max_interfaces.status import Failure, FailureKind
from max_interfaces.wire import Frame

from ..sockets import open_socket, receive

MESSAGES_A_TURN = 64  # then the loop's other work gets its turn

OnMessage = Callable[[Header, Sequence[Frame]], None]


class Connection:
    """Owned by one event loop. `on_message` is called for each message, `on_lost` when the server has gone."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        address: str,
        on_message: OnMessage,
        on_lost: Callable[[], None],
    ) -> None:
        self.peer = b"c" + os.urandom(15)
        self._on_message = on_message
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._closed = False
        self._socket = open_socket(context, zmq.DEALER)
        self._socket.setsockopt(zmq.ROUTING_ID, self.peer)
        self._monitor = self._socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        self._socket.connect(address)
        self._loop.add_reader(self._socket.FD, self._drain)
        self._loop.add_reader(self._monitor.FD, self._watch)

    def send(self, message: Header, payload: Sequence[Frame] = ()) -> None:
        """Send now. RequestFailed(connection_lost) if we are closed, or the server has not read for very long."""
        if self._closed:
            raise RequestFailed(Failure(FailureKind.CONNECTION_LOST, "the client was closed"))
        try:
            self._socket.send_multipart([encode_header(message), *payload], flags=zmq.NOBLOCK, copy=False)
        except zmq.Again:
            text = "the server does not read: its queue is full"
            raise RequestFailed(Failure(FailureKind.CONNECTION_LOST, text)) from None
        # ZeroMQ's descriptor tells of news only once, and the send may just have taken that notice.
        self._loop.call_soon(self._drain)

    def close(self) -> None:
        """Close the socket; what was sent still leaves."""
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._socket.FD)
        self._loop.remove_reader(self._monitor.FD)
        self._socket.disable_monitor()
        self._monitor.close(linger=0)
        self._socket.close()

    def _drain(self) -> None:
        if self._closed:
            return
        for _ in range(MESSAGES_A_TURN):
            frames = receive(self._socket)
            if frames is None:
                return
            self._on_message(decode_header(frames[0]), frames[1:])
        self._loop.call_soon(self._drain)

    def _watch(self) -> None:
        lost = False
        while not self._closed and self._monitor.poll(0):
            self._monitor.recv_multipart()
            lost = True
        if lost:
            self._on_lost()
