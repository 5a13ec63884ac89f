"""A DEALER socket in an asyncio loop: messages go out at once, incoming ones reach a handler."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket as sockets
from collections.abc import Callable, Sequence
from functools import reduce
from operator import or_

import zmq
from zmq.utils.monitor import recv_monitor_message

from max_interfaces import NotServing, RequestFailed, WireError
from max_interfaces.messages import Goodbye, Header, decode_header, encode_header
from max_interfaces.status import Failure, FailureKind
from max_interfaces.wire import Frame

from ..address import IPC, IpcAddress, ServerAddress
from ..security.client import REFUSALS
from ..sockets import Dial, most_bytes, open_socket, readable, receive, send_frames

CONNECT_S = 10.0  # what a server on another host gets to answer the first time
MESSAGES_A_TURN = 64  # then the loop's other work gets its turn
WATCHED = reduce(or_, REFUSALS, int(zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_SUCCEEDED))

OnMessage = Callable[[Header, Sequence[Frame]], None]
OnLost = Callable[[str], None]


class Connection:
    """Owned by one event loop. `on_message` is called for each message, `on_lost` when the server has gone, with why.

    ZeroMQ connects again by itself, should a server come back; until then, sending is an error.
    """

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], dial: Dial, on_message: OnMessage, on_lost: OnLost
    ) -> None:
        self.peer = b"c" + os.urandom(15)
        self._on_message = on_message
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._gone = ""  # why nothing can be sent
        self._closed = False
        self._opened_at = self._loop.time()
        self._connected = False  # the server has answered at least once
        self._socket = open_socket(context, zmq.DEALER)
        self._socket.setsockopt(zmq.ROUTING_ID, self.peer)
        self._monitor = self._socket.get_monitor_socket(WATCHED)
        try:
            dial(self._socket)
        except BaseException:  # or ending the context would wait for them for ever
            self._close_sockets()
            raise
        self.most_bytes = most_bytes(self._socket)  # of a frame
        self._loop.add_reader(self._socket.FD, self._drain)
        self._loop.add_reader(self._monitor.FD, self._watch)
        self._loop.call_soon(self._watch)  # its descriptor tells of news only once somebody has looked for some

    def send(self, message: Header, payload: Sequence[Frame] = ()) -> None:
        """Send now. RequestFailed(connection_lost) if nobody is there, or the server has not read for very long."""
        if self._gone:
            raise RequestFailed(Failure(FailureKind.CONNECTION_LOST, self._gone))
        try:
            send_frames(self._socket, (encode_header(message), *payload))
        except zmq.Again:
            text = "the server does not read: its queue is full"
            raise RequestFailed(Failure(FailureKind.CONNECTION_LOST, text)) from None
        # ZeroMQ's descriptor tells of news only once, and the send may just have taken that notice.
        if readable(self._socket):
            self._loop.call_soon(self._drain)

    @property
    def silent_s(self) -> float:
        """How long no server has answered; 0 once one has."""
        return 0.0 if self._connected else self._loop.time() - self._opened_at

    def close(self) -> None:
        """Close the socket; what was sent still leaves."""
        if self._closed:
            return
        self._closed = True
        self._gone = "the client was closed"
        self._loop.remove_reader(self._socket.FD)
        self._loop.remove_reader(self._monitor.FD)
        self._close_sockets()

    def _close_sockets(self) -> None:
        self._socket.disable_monitor()
        self._monitor.close(linger=0)
        self._socket.close()

    def _drain(self) -> None:
        """Take what has come, until nothing is left: only then does ZeroMQ's descriptor tell of news again."""
        for _ in range(MESSAGES_A_TURN):
            if self._closed:
                return
            self._take()
            if self._closed or not readable(self._socket):
                return
        self._loop.call_soon(self._drain)

    def _take(self) -> None:
        frames = receive(self._socket)
        if not frames:
            return
        try:
            message = decode_header(frames[0])
        except WireError as problem:  # nobody can say whom it was for
            self._leave()
            self._on_lost(f"the server cannot be understood: {problem}")
            return
        self._on_message(message, frames[1:])

    def _leave(self) -> None:
        """The server shall end all our requests: here they have ended."""
        with contextlib.suppress(zmq.Again):
            send_frames(self._socket, (encode_header(Goodbye()),))

    def _watch(self) -> None:
        while not self._closed and readable(self._monitor):
            event = recv_monitor_message(self._monitor)["event"]
            if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self._connected = True
                if self._gone:  # what was sent before we knew may reach the new server, and was reported as failed
                    self._leave()
                self._gone = ""
                continue
            while not self._closed and readable(self._socket):
                self._take()  # what it said before it went still counts
            self._gone = REFUSALS.get(zmq.Event(event), "the server is gone")
            self._on_lost(self._gone)


def check_served(address: ServerAddress, silent_s: float = 0.0) -> None:
    """NotServing unless something listens at an ipc address, or if it has been silent for longer than CONNECT_S.

    A connection alone would wait for ever.
    """
    if isinstance(address, IpcAddress):
        with sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM) as probe:
            try:
                probe.connect(address.endpoint.removeprefix(IPC))
            except OSError as problem:
                why = problem.strerror or "no answer"
                raise NotServing(f"no server at {address} ({why}); start one with `maxpipe serve CONFIG`") from None
    if silent_s > CONNECT_S:
        raise NotServing(f"no server at {address}: it has not answered for {CONNECT_S:g} s")
