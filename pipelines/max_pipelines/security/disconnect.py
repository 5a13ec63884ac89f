"""Cutting the connection that a message came over. libzmq has no call for it; its descriptor is known, though."""

from __future__ import annotations

import os
import socket
import struct

import zmq

CREDENTIALS = struct.Struct("iII")  # Linux's struct ucred: pid, uid, gid


def disconnect(frame: zmq.Frame) -> bool:
    """Cut it; the peer sees the end of the connection, others see nothing. False if it has ended already.

    libzmq then forgets the peer; what has already been received from it is still delivered. A descriptor may have been
    given to another connection meanwhile: if that is one of another host or process, it is left alone. If it is one
    of the same, that one is cut, and libzmq connects again.
    """
    try:
        descriptor, address = frame.get(zmq.SRCFD), frame.get("Peer-Address")
    except (zmq.ZMQError, ValueError):  # it came from a thread of this process
        return False
    if not isinstance(descriptor, int):
        return False
    try:
        ours = os.dup(descriptor)  # holds on to the connection while we look at it
    except OSError:
        return False
    try:
        connection = socket.socket(fileno=ours)
    except OSError:  # no socket
        os.close(ours)
        return False
    with connection:
        try:
            if _peer_address(connection) != address:
                return False
            connection.shutdown(socket.SHUT_RDWR)
        except OSError:  # nobody at its other end any more
            return False
    return True


def _peer_address(connection: socket.socket) -> str:
    """In libzmq's words: a numeric address, or localhost:UID:GID:PID."""
    if connection.family != socket.AF_UNIX:
        return str(connection.getpeername()[0])
    connection.getpeername()  # OSError for one that listens
    pid, uid, gid = CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size))
    return f"localhost:{uid}:{gid}:{pid}"
