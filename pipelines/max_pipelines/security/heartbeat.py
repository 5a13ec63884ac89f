"""Heartbeats of libzmq itself, for connections that cross a network."""

from __future__ import annotations

import zmq

HEARTBEAT_MS, SILENCE_MS = 1000, 3000  # a peer behind a cut cable is noticed after these two together


def keep_alive(socket: zmq.Socket[bytes]) -> None:
    """Notice a peer that can no longer be reached; TCP itself would wait for hours.

    libzmq's own thread answers, so they say nothing about whether the peer's program makes progress.
    """
    socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, SILENCE_MS)
