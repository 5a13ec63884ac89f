"""ZeroMQ sockets as maxpipe uses them: bounded queues, no lingering, messages as frames of bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import zmq

from max_interfaces.messages import Header, encode_header
from max_interfaces.wire import Frame

Dial: TypeAlias = Callable[[zmq.Socket[bytes]], None]  # connects a fresh socket to a server

MAX_MESSAGE_BYTES = 256 * 2**20
MAX_REMOTE_BYTES = 32 * 2**20  # over tcp: libzmq holds one for each connection, also for those without a key so far
SEND_QUEUE = 100_000  # messages a peer; credits keep well below it
READ_BUFFER = 8192  # what libzmq reads at once; larger messages have memory of their own
LINGER_MS = 500  # for the last words of an ending process
NOBLOCK = int(zmq.NOBLOCK)
POLLIN = int(zmq.POLLIN)
MORE = int(zmq.NOBLOCK | zmq.SNDMORE)
_send_frame = zmq.backend.Socket.send  # below pyzmq's wrapper, which looks at arguments that we never use


def open_socket(context: zmq.Context[zmq.Socket[bytes]], kind: int) -> zmq.Socket[bytes]:
    """A socket with finite bounds."""
    socket = context.socket(kind)
    socket.setsockopt(zmq.LINGER, LINGER_MS)
    socket.setsockopt(zmq.SNDHWM, SEND_QUEUE)
    socket.setsockopt(zmq.RCVHWM, SEND_QUEUE)
    socket.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)
    if kind == zmq.ROUTER:
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)  # a lost peer is an error, not silence
        # A peer that connects again, before what it had sent last has been read, would never be heard any more, and
        # what it sends be kept for ever. Names are 16 random bytes, so nobody takes another's place.
        socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
    return socket


def most_bytes(socket: zmq.Socket[bytes]) -> int:
    """The largest frame that may be sent to the server that a socket has been connected to."""
    endpoint = socket.getsockopt(zmq.LAST_ENDPOINT)
    over_tcp = isinstance(endpoint, bytes) and endpoint.startswith(b"tcp:")
    return MAX_REMOTE_BYTES if over_tcp else MAX_MESSAGE_BYTES


def send(socket: zmq.Socket[bytes], message: Header, payload: Sequence[Frame] = ()) -> None:
    """Send a message from a DEALER. zmq.Again if its queue is full."""
    send_frames(socket, (encode_header(message), *payload))


def send_frames(socket: zmq.Socket[bytes], frames: Sequence[Frame | zmq.Frame]) -> None:
    """What `send_multipart(frames, NOBLOCK, copy=False)` does, at half the price. Small frames are copied anyway."""
    for frame in frames[:-1]:
        _send_frame(socket, frame, MORE, False)
    _send_frame(socket, frames[-1], NOBLOCK, False)


def as_received(frame: Frame) -> Frame | zmq.Frame:
    """A frame to pass on. One that was received is libzmq's already, and need not be copied to be sent.

    But a small one keeps the whole buffer that it was read into, which would count while it waits for a slow reader.
    """
    if len(frame) < READ_BUFFER or not isinstance(frame, memoryview):
        return frame
    whole = frame.obj
    return whole if isinstance(whole, zmq.Frame) and len(whole) == len(frame) else frame


def readable(socket: zmq.Socket[bytes]) -> bool:
    """Whether a message waits. Asking also makes the socket's descriptor tell of the next one."""
    events = socket.getsockopt(zmq.EVENTS)
    return bool(events & POLLIN) if isinstance(events, int) else False


def receive(socket: zmq.Socket[bytes]) -> list[Frame] | None:
    """The frames of one waiting message, without copying, or None."""
    try:
        frame = socket.recv(NOBLOCK, copy=False)
    except zmq.Again:
        return None
    frames: list[Frame] = [frame.buffer]
    while frame.more:
        frame = socket.recv(NOBLOCK, copy=False)
        frames.append(frame.buffer)
    return frames
