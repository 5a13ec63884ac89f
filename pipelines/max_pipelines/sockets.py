"""ZeroMQ sockets as maxpipe uses them: bounded queues, no lingering, messages as frames of bytes."""

from __future__ import annotations

from collections.abc import Sequence

import zmq

from max_interfaces.messages import Header, encode_header
from max_interfaces.wire import Frame

MAX_MESSAGE_BYTES = 256 * 2**20
SEND_QUEUE = 100_000  # messages a peer; credits keep well below it
LINGER_MS = 500  # for the last words of an ending process


def open_socket(context: zmq.Context[zmq.Socket[bytes]], kind: int) -> zmq.Socket[bytes]:
    """A socket with finite bounds."""
    socket = context.socket(kind)
    socket.setsockopt(zmq.LINGER, LINGER_MS)
    socket.setsockopt(zmq.SNDHWM, SEND_QUEUE)
    socket.setsockopt(zmq.RCVHWM, SEND_QUEUE)
    socket.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)
    if kind == zmq.ROUTER:
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)  # a lost peer is an error, not silence
    return socket


def send(socket: zmq.Socket[bytes], message: Header, payload: Sequence[Frame] = (), *, copy: bool = True) -> None:
    """Send a message from a DEALER. zmq.Again if its queue is full."""
    socket.send_multipart([encode_header(message), *payload], flags=zmq.NOBLOCK, copy=copy)


def receive(socket: zmq.Socket[bytes]) -> list[Frame] | None:
    """The frames of one waiting message, without copying, or None."""
    try:
        frames = socket.recv_multipart(flags=zmq.NOBLOCK, copy=False)
    except zmq.Again:
        return None
    return [frame.buffer for frame in frames]
