"""The one socket that everybody talks to: a ROUTER on ipc:// or inproc://, and on tcp:// behind a gate."""

from __future__ import annotations

import os
from typing import get_args

import zmq

from max_interfaces import WireError
from max_interfaces.messages import WorkerMessage, decode_header, encode_header
from max_interfaces.wire import Frame

from ..address import TcpAddress, TcpListen
from ..security.allowed import Role
from ..security.disconnect import disconnect
from ..security.gate import Gate
from ..sockets import NOBLOCK, as_received, open_socket, send_frames
from .events import PeerGone, Received, Send, Unreadable

OF_WORKERS = tuple(set(get_args(WorkerMessage)))
MAX_CLIENT_HEADER = 2**15  # of theirs Adapt is the largest: a path of 16 KiB; a worker's lists need far more
# Of a payload: one of msgpack, then one for each array of 64 KiB or more. A request has one such array; so many of a
# worker's would be 4 GiB. An empty frame is no byte that anybody counts, but an object of ours.
MAX_CLIENT_FRAMES = 16
MAX_WORKER_FRAMES = 2**16
NOT_ALLOWED = "this key is not allowed"
TOO_MANY = "a message with a payload of more than {} frames"


class Door:
    """Messages in, messages out. Whoever comes over tcp has shown a key that is allowed, also at each message."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        address: str,
        gate: Gate | None = None,
        listen: TcpListen | None = None,
    ) -> None:
        self.socket = open_socket(context, zmq.ROUTER)
        self._address = address
        self._gate = gate
        self._listen = listen
        self._last: zmq.Frame | None = None  # the header of the message that was received last
        self.public: TcpAddress | None = None  # what clients on other hosts are given

    def open(self) -> None:
        """Listen. ConfigError if the tcp address cannot be had."""
        old_mask = os.umask(0o077)  # an ipc socket's file is the owner's alone
        try:
            self.socket.bind(self._address)
        finally:
            os.umask(old_mask)
        if self._gate is not None and self._listen is not None:  # last: its options hold for what is bound after them
            self.public = self._gate.bind(self.socket, self._listen).served(self._gate.public)

    def close(self) -> None:
        """Nobody is listened to any more; what was sent still leaves."""
        self.socket.close()

    def receive(self) -> Received | Unreadable | None:
        """One message, if one is there."""
        try:
            peer = self.socket.recv(NOBLOCK)
        except zmq.Again:
            return None
        frame = self._last = self.socket.recv(NOBLOCK, copy=False)  # there is no name without a message
        header = frame.buffer
        role = Role.LOCAL if self._gate is None else self._gate.role_of(frame)
        if role is None:
            return self._refused(peer, NOT_ALLOWED, frame)
        client = role is Role.CLIENT
        most = MAX_CLIENT_FRAMES if client else MAX_WORKER_FRAMES
        payload: list[Frame] = []
        while frame.more:
            if len(payload) == most:
                return self._refused(peer, TOO_MANY.format(most), frame)
            frame = self.socket.recv(NOBLOCK, copy=False)
            payload.append(frame.buffer)
        if client and len(header) > MAX_CLIENT_HEADER:
            return Unreadable(peer, f"a client's header of {len(header)} bytes; at most {MAX_CLIENT_HEADER}")
        try:
            message = decode_header(header)
        except WireError as problem:
            return Unreadable(peer, str(problem))
        if client and isinstance(message, OF_WORKERS):
            return Unreadable(peer, f"this key may not serve: {type(message).__name__} refused", cut=True)
        if len(payload) > MAX_CLIENT_FRAMES and not isinstance(message, OF_WORKERS):
            return Unreadable(peer, TOO_MANY.format(MAX_CLIENT_FRAMES), cut=True)
        return Received(peer, message, header, payload)

    def _refused(self, peer: bytes, problem: str, frame: zmq.Frame) -> Unreadable:
        """Pass over what comes after this frame of a message, one frame at a time."""
        while frame.more:
            frame = self.socket.recv(NOBLOCK, copy=False)
        return Unreadable(peer, problem, cut=True)

    def send(self, action: Send) -> PeerGone | None:
        """Send a message, or say why its peer cannot be reached."""
        header = encode_header(action.message) if action.header is None else as_received(action.header)
        frames: list[Frame | zmq.Frame] = [action.peer, header]
        for frame in action.payload:
            frames.append(as_received(frame))
        try:
            send_frames(self.socket, frames)
        except zmq.Again:
            return PeerGone(action.peer, "reads too slowly: its queue is full")
        except zmq.ZMQError as problem:
            if problem.errno != zmq.EHOSTUNREACH:
                raise
            return PeerGone(action.peer, "is gone")
        return None

    def cut(self) -> None:
        """End the connection that the last message came over."""
        if self._last is not None:  # libzmq knows by any frame where it came from
            disconnect(self._last)
