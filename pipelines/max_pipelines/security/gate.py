"""The server's gate: tcp with CURVE only, and only for keys on the list. Whatever goes wrong, it stays shut.

A socket that listens on both binds its ipc:// address first and passes the gate afterwards: libzmq copies a socket's
options when it binds, so ipc stays as it was. tests/faults/test_curve.py holds libzmq to all that is said here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import TracebackType
from typing import Self

import zmq
from zmq.auth.thread import ThreadAuthenticator
from zmq.utils import z85

from max_interfaces import ConfigError

from ..address import TcpListen
from ..sockets import MAX_REMOTE_BYTES
from .allowed import AllowList, Role
from .folder import KeyFolder
from .heartbeat import keep_alive
from .keys import PublicKey, require_curve

DOMAIN = "maxpipe"  # pyzmq's "*" would not match it, and would refuse everybody
HANDSHAKE_MS = 2000  # for a peer to show its key; an allowed one needs 10
CURVE_BYTES = 33  # what encryption adds to a frame, which libzmq counts
USER_ID, PEER_ADDRESS = "User-Id", "Peer-Address"
IPC_PEER = "localhost:"  # begins libzmq's `localhost:UID:GID:PID`; a tcp peer's address is all digits

_silent = logging.Logger("maxpipe.gate", logging.CRITICAL + 1)  # pyzmq would log keys


class Gate:
    """Open while its `with` block runs; after that, connections that stand go on and no new ones come about.

    Enter it in the context of the socket that it guards. ConfigError if libzmq, our key or the list cannot be used.
    `on_problem` is told of what must be mended while serving; it may be called from another thread.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        keys: KeyFolder,
        on_problem: Callable[[str], None] = lambda _: None,
        max_message_bytes: int = MAX_REMOTE_BYTES,
    ) -> None:
        require_curve()
        self._pair = keys.load()
        self._list = AllowList(keys.allowed_file, on_problem)
        self._list.allowed()  # can it be read
        self._max_message_bytes = max_message_bytes
        self._authenticator = _Authenticator(context, log=_silent)
        self._authenticator.configure_curve_callback(DOMAIN, _Doorkeeper(self._list))

    def __enter__(self) -> Self:
        try:
            self._authenticator.start()
        except zmq.ZMQError as problem:
            self._authenticator.stop()
            raise ConfigError(f"keys cannot be checked: this context has a ZAP handler already ({problem})") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._authenticator.stop()

    @property
    def public(self) -> PublicKey:
        """The server's key, which belongs into the address that clients are given."""
        return self._pair.public

    @property
    def alive(self) -> bool:
        """Whether keys are checked. If not, nobody new comes in."""
        return self._authenticator.is_alive()

    def guard(self, socket: zmq.Socket[bytes]) -> None:
        """From now on, whatever the socket binds takes allowed keys only. What it has bound before stays as it is."""
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt(zmq.CURVE_SECRETKEY, self._pair.secret.reveal())
        socket.setsockopt(zmq.ZAP_DOMAIN, DOMAIN.encode())
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)  # else libzmq lets everybody in when the ZAP handler is gone
        socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
        socket.setsockopt(zmq.MAXMSGSIZE, self._max_message_bytes + CURVE_BYTES)
        keep_alive(socket)

    def bind(self, socket: zmq.Socket[bytes], listen: TcpListen) -> TcpListen:
        """Guard the socket and listen. Returns where: port 0 has become a real one."""
        self.guard(socket)
        socket.setsockopt(zmq.IPV6, int(listen.ipv6))
        try:
            socket.bind(listen.endpoint)
        except zmq.ZMQError as problem:
            raise ConfigError(f"{listen}: nobody can listen there ({problem})") from None
        endpoint = socket.getsockopt(zmq.LAST_ENDPOINT)
        port = str(endpoint, "ascii").rstrip("\0").rpartition(":")[2] if isinstance(endpoint, bytes) else ""
        return TcpListen(listen.host, int(port))

    def role_of(self, frame: zmq.Frame) -> Role | None:
        """What the sender of a message may do, by any of its frames. None: nothing, or nothing any more.

        A connection outlives its key's place on the list, so this is asked for every message.
        """
        key = _property(frame, USER_ID)
        if key:  # over tcp our ZAP handler has set it, and no peer can: libzmq takes a peer's own properties last
            allowed = self._list.find(key)
            return None if allowed is None else allowed.role
        return Role.LOCAL if _property(frame, PEER_ADDRESS).startswith(IPC_PEER) else None


class _Authenticator(ThreadAuthenticator):
    """Answers libzmq in a thread of its own; each message then bears its sender's public key."""

    def curve_user_id(self, client_public_key: bytes) -> str:
        return PublicKey(client_public_key).text


class _Doorkeeper:
    """What the authenticator asks. It must not raise, that would end the thread; nor does `find`."""

    def __init__(self, allowed: AllowList) -> None:
        self._list = allowed

    def callback(self, domain: str, key: bytes) -> bool:
        """Whether the key, in z85, is on the list."""
        return self._list.find(PublicKey(z85.decode(key)).text) is not None


def _property(frame: zmq.Frame, name: str) -> str:
    """A property of a frame's connection, "" if it has none."""
    try:
        return str(frame.get(name))
    except (zmq.ZMQError, ValueError):  # none, or a local peer's own idea of text
        return ""
