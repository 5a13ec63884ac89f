"""Who may reach a server over tcp, on real sockets: no key, wrong key, removed key, plain client, no one who checks.

That something does not arrive is shown by a fence: the stranger's connection has failed, then a good client's message
arrives, and nothing before it.
"""

from __future__ import annotations

import contextlib
import os
import socket as sockets
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq
from zmq.utils.monitor import recv_monitor_message

from max_interfaces import ConfigError
from max_pipelines.address import IpcAddress, ServerAddress, TcpListen
from max_pipelines.security.allowed import Role
from max_pipelines.security.client import REFUSALS, connect
from max_pipelines.security.disconnect import disconnect
from max_pipelines.security.folder import KeyFolder
from max_pipelines.security.gate import Gate
from max_pipelines.security.heartbeat import HEARTBEAT_MS, SILENCE_MS
from max_pipelines.security.keys import KeyPair

DEADLINE_MS = 10_000
SMALL = 2**16  # the longest message over tcp here
OLD_PROTOCOLS = {
    "ZMTP 1.0": b"\x01\x00\x06\x00hello",
    "ZMTP 2.0": b"\xff" + bytes(7) + b"\x01\x7f\x01\x05\x00\x00\x00\x05hello",
    "HTTP": b"GET / HTTP/1.1\r\nHost: here\r\n\r\n",
}
Context = zmq.Context[zmq.Socket[bytes]]


class Peer:
    """A DEALER, and what its monitor tells."""

    def __init__(self, context: Context) -> None:
        self.socket = context.socket(zmq.DEALER)
        self.socket.linger = 0
        self._monitor = self.socket.get_monitor_socket()

    def connected(self, address: ServerAddress, keys: KeyPair | None = None) -> Peer:
        connect(self.socket, address, keys)
        return self

    def tries(self, text: bytes) -> None:
        """Send, if the socket still has a connection that could come about; one that was refused has none."""
        with contextlib.suppress(zmq.Again):
            self.socket.send(text, zmq.NOBLOCK)

    def wait_for(self, *events: int) -> int:
        """The first of these events to come."""
        while self._monitor.poll(DEADLINE_MS):
            event = recv_monitor_message(self._monitor)["event"]
            if event in events:
                return int(event)
        raise TimeoutError(events)

    def was_disturbed(self) -> bool:
        events = []
        while self._monitor.poll(0):
            events.append(recv_monitor_message(self._monitor)["event"])
        return zmq.EVENT_DISCONNECTED in events

    def close(self) -> None:
        if self.socket.closed:
            return
        self.socket.disable_monitor()
        self._monitor.close(linger=0)
        self.socket.close()


class Host:
    """A server's socket as maxpipe has it: ipc first, then tcp through the gate. `friend` is in already."""

    def __init__(self, folder: Path, resources: contextlib.ExitStack) -> None:
        self._resources = resources
        self.context: Context = zmq.Context()
        resources.callback(self.context.term)
        self.keys = KeyFolder(folder / "keys")
        self.keys.create()
        self.problems: list[str] = []
        self.gate = Gate(self.context, self.keys, self.problems.append, max_message_bytes=SMALL)
        self._open = resources.enter_context(contextlib.ExitStack())
        self._open.enter_context(self.gate)
        self.socket = self.context.socket(zmq.ROUTER)
        self.socket.linger = 0
        resources.callback(self.socket.close)
        self.local = IpcAddress(f"ipc://{folder}/socket")
        self.socket.bind(self.local.endpoint)
        self.remote = self.gate.bind(self.socket, TcpListen("127.0.0.1", 0)).served(self.gate.public)
        self.friend = self.peer().connected(self.remote, self.let_in(Role.CLIENT, "friend"))
        assert self.says(self.friend, b"hello") is Role.CLIENT

    def peer(self) -> Peer:
        peer = Peer(self.context)
        self._resources.callback(peer.close)
        return peer

    def let_in(self, role: Role, name: str) -> KeyPair:
        pair = KeyPair.new()
        self.keys.allow_list().allow(pair.public, role, name)
        return pair

    def stop_checking(self) -> None:
        self._open.close()

    def take(self) -> tuple[Role | None, zmq.Frame]:
        assert self.socket.poll(DEADLINE_MS)
        frame = self.socket.recv_multipart(copy=False)[-1]
        return self.gate.role_of(frame), frame

    def says(self, peer: Peer, text: bytes) -> Role | None:
        """What role the server sees in a peer whose message arrives."""
        peer.socket.send(text)
        role, frame = self.take()
        assert frame.bytes == text
        return role

    def hears_friends_only(self) -> bool:
        """Nothing has arrived before the fence."""
        return self.says(self.friend, b"fence") is Role.CLIENT


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with contextlib.ExitStack() as resources:
        yield Host(tmp_path, resources)


def refused(peer: Peer) -> int:
    """Wait until the handshake has failed; the monitor's event that says how."""
    return peer.wait_for(*REFUSALS)


# -- who comes in, and who does not ----------------------------------------------------------------------------------


def test_allowed_keys_and_local_peers_come_in_each_as_what_it_is(host: Host) -> None:
    worker = host.peer().connected(host.remote, host.let_in(Role.WORKER, "gpu"))
    local = host.peer().connected(host.local)
    assert host.says(worker, b"ready") is Role.WORKER
    assert host.says(local, b"ready") is Role.LOCAL


def test_a_clients_key_does_not_make_a_worker(host: Host) -> None:
    client = host.peer()
    client.socket.setsockopt(zmq.ROUTING_ID, b"worker-1")  # it may call itself what it likes
    client.connected(host.remote, host.let_in(Role.CLIENT, "worker-1"))
    assert host.says(client, b"ready to serve") is Role.CLIENT


def test_a_plain_client(host: Host) -> None:
    stranger = host.peer()
    stranger.socket.connect(host.remote.endpoint)
    stranger.tries(b"plain")
    assert refused(stranger) == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    assert host.hears_friends_only()


def test_a_client_with_a_password(host: Host) -> None:
    stranger = host.peer()
    stranger.socket.plain_username, stranger.socket.plain_password = b"admin", b"admin"
    stranger.socket.connect(host.remote.endpoint)
    stranger.tries(b"password")
    assert refused(stranger) == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    assert host.hears_friends_only()


@pytest.mark.parametrize("protocol", OLD_PROTOCOLS)
def test_a_protocol_without_keys(protocol: str, host: Host) -> None:
    with sockets.create_connection(("127.0.0.1", host.remote.port), timeout=DEADLINE_MS / 1000) as stranger:
        stranger.sendall(OLD_PROTOCOLS[protocol])
        assert ended(stranger)
    assert host.hears_friends_only()


def test_who_says_nothing_is_sent_away(host: Host) -> None:
    with sockets.create_connection(("127.0.0.1", host.remote.port), timeout=DEADLINE_MS / 1000) as stranger:
        assert ended(stranger)  # after the two seconds of gate.HANDSHAKE_MS
    assert host.hears_friends_only()


def test_a_client_without_a_key_does_not_even_try(host: Host) -> None:
    with pytest.raises(ConfigError, match="maxpipe keys new"):
        host.peer().connected(host.remote)


def test_a_key_that_is_not_on_the_list(host: Host) -> None:
    stranger = host.peer().connected(host.remote, KeyPair.new())
    stranger.tries(b"unknown")
    assert refused(stranger) == zmq.EVENT_HANDSHAKE_FAILED_AUTH
    assert host.hears_friends_only()


def test_another_servers_key(host: Host) -> None:
    address = TcpListen("127.0.0.1", host.remote.port).served(KeyPair.new().public)
    mistaken = host.peer().connected(address, host.let_in(Role.CLIENT, "mistaken"))
    mistaken.tries(b"meant for another server")
    assert refused(mistaken) == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    assert host.hears_friends_only()


def test_a_key_that_was_removed_before_it_connects(host: Host) -> None:
    pair = host.let_in(Role.CLIENT, "former")
    host.keys.allow_list().revoke("former")
    former = host.peer().connected(host.remote, pair)
    former.tries(b"removed")
    assert refused(former) == zmq.EVENT_HANDSHAKE_FAILED_AUTH
    assert host.hears_friends_only()


def test_a_key_that_is_removed_while_connected(host: Host) -> None:
    former = host.peer().connected(host.remote, host.let_in(Role.WORKER, "former"))
    assert host.says(former, b"before") is Role.WORKER
    host.keys.allow_list().revoke("former")
    former.socket.send(b"after")
    role, frame = host.take()
    assert role is None  # libzmq still delivers it
    assert disconnect(frame)
    assert refused(former) == zmq.EVENT_HANDSHAKE_FAILED_AUTH  # it has tried again
    assert host.hears_friends_only()
    assert not host.friend.was_disturbed()


def test_a_role_that_changes_counts_from_the_next_message(host: Host) -> None:
    pair = host.let_in(Role.CLIENT, "peer")
    peer = host.peer().connected(host.remote, pair)
    assert host.says(peer, b"1") is Role.CLIENT
    host.keys.allow_list().revoke("peer")
    host.keys.allow_list().allow(pair.public, Role.WORKER, "peer")
    assert host.says(peer, b"2") is Role.WORKER


# -- when checking itself fails --------------------------------------------------------------------------------------


def test_nobody_new_comes_in_when_nobody_checks_keys(host: Host) -> None:
    allowed = host.let_in(Role.CLIENT, "late")
    host.stop_checking()
    assert not host.gate.alive
    plain = host.peer()
    plain.socket.connect(host.remote.endpoint)
    for peer in (plain, host.peer().connected(host.remote, KeyPair.new()), host.peer().connected(host.remote, allowed)):
        peer.tries(b"unchecked")
        refused(peer)
    assert host.hears_friends_only()  # who was in already stays
    assert host.says(host.peer().connected(host.local), b"local") is Role.LOCAL


def test_nobody_comes_in_by_a_list_that_cannot_be_read(host: Host) -> None:
    pair = host.let_in(Role.CLIENT, "late")
    file = host.keys.allowed_file
    good = file.read_text(encoding="utf-8")
    file.write_text(good + "somebody, please\n", encoding="utf-8")
    assert refused(host.peer().connected(host.remote, pair)) == zmq.EVENT_HANDSHAKE_FAILED_AUTH
    assert host.says(host.friend, b"still there?") is None
    assert host.says(host.friend, b"hello?") is None
    assert len(host.problems) == 1
    assert "allowed: line 3: expected KEY" in host.problems[0]
    file.write_text(good, encoding="utf-8")
    assert host.says(host.peer().connected(host.remote, pair), b"late") is Role.CLIENT
    assert host.says(host.friend, b"hello") is Role.CLIENT


def test_a_message_that_libzmq_says_nothing_about_comes_from_nobody(host: Host) -> None:
    assert host.gate.role_of(zmq.Frame(b"made here")) is None


def test_a_message_over_tcp_has_a_bound_of_its_own(host: Host) -> None:
    remote = host.peer().connected(host.remote, host.let_in(Role.CLIENT, "chatty"))
    assert host.says(remote, bytes(SMALL)) is Role.CLIENT
    remote.socket.send(bytes(SMALL + 1))
    remote.wait_for(zmq.EVENT_DISCONNECTED)
    assert host.says(host.peer().connected(host.local), bytes(SMALL + 1)) is Role.LOCAL
    assert host.hears_friends_only()


def test_a_gate_that_cannot_be_set_up(host: Host, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a ZAP handler already"), Gate(host.context, host.keys):
        pass
    with pytest.raises(ConfigError, match="there is no key; make one"):
        Gate(host.context, KeyFolder(tmp_path / "none"))
    with pytest.raises(ConfigError, match="nobody can listen there"):
        host.gate.bind(host.socket, TcpListen("127.0.0.1", host.remote.port))
    assert host.hears_friends_only()


def test_both_sides_notice_a_cut_cable(host: Host) -> None:
    for socket in (host.socket, host.friend.socket):
        assert socket.getsockopt(zmq.HEARTBEAT_IVL) == HEARTBEAT_MS
        assert socket.getsockopt(zmq.HEARTBEAT_TIMEOUT) == SILENCE_MS


# -- cutting a connection --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", ["ipc", "tcp"])
def test_a_connection_is_cut_and_others_are_not(transport: str, host: Host) -> None:
    def another(name: str) -> Peer:
        if transport == "ipc":
            return host.peer().connected(host.local)
        return host.peer().connected(host.remote, host.let_in(Role.CLIENT, name))

    bad, good = another("bad"), another("good")
    assert host.says(good, b"good")
    bad.socket.send(b"bad")
    _, frame = host.take()
    assert disconnect(frame)
    bad.wait_for(zmq.EVENT_DISCONNECTED)
    bad.wait_for(zmq.EVENT_HANDSHAKE_SUCCEEDED)  # libzmq connects again by itself
    assert host.says(bad, b"sorry") is not None
    for peer in (good, host.friend):
        assert host.says(peer, b"good")
        assert not peer.was_disturbed()


def test_who_has_left_is_not_cut_nor_who_came_after(host: Host) -> None:
    host.friend.socket.send(b"bye")
    _, frame = host.take()
    descriptor = frame.get(zmq.SRCFD)
    assert isinstance(descriptor, int)
    host.friend.close()
    wait_until_closed(descriptor)
    assert not disconnect(frame)
    ours, theirs = sockets.socketpair()
    with ours, theirs:
        os.dup2(ours.fileno(), descriptor)  # the same number, somebody else's connection
        try:
            assert not disconnect(frame)
        finally:
            os.close(descriptor)
        ours.sendall(b"unharmed")
        assert theirs.recv(8) == b"unharmed"
    assert not disconnect(zmq.Frame(b"made here"))


# -- tools -----------------------------------------------------------------------------------------------------------


def ended(connection: sockets.socket) -> bool:
    """Read until the other side ends it."""
    try:
        while connection.recv(4096):
            pass
    except ConnectionResetError:
        pass
    return True


def wait_until_closed(descriptor: int) -> None:
    """libzmq's thread does it, and tells nobody."""
    deadline = time.monotonic() + DEADLINE_MS / 1000
    with contextlib.suppress(OSError):
        while os.fstat(descriptor):
            assert time.monotonic() < deadline
