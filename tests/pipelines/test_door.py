"""What comes through the server's door, and what is turned away there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import zmq

from max_interfaces.lora import LoRAOperation
from max_interfaces.messages import Adapt, Alive, Header, Inspect, Submit, encode_header
from max_pipelines.address import TcpListen
from max_pipelines.security.allowed import Role
from max_pipelines.security.client import connect
from max_pipelines.security.folder import KeyFolder
from max_pipelines.security.gate import Gate
from max_pipelines.security.keys import KeyPair
from max_pipelines.server.complaints import EVERY_S, Complaints
from max_pipelines.server.door import MAX_CLIENT_HEADER, Door
from max_pipelines.server.events import Received, Unreadable
from max_pipelines.sockets import MAX_MESSAGE_BYTES, MAX_REMOTE_BYTES, most_bytes

PATIENCE_MS = 20_000


@dataclass
class House:
    """A door that is open on ipc and, behind a gate, on tcp."""

    door: Door
    context: zmq.Context[zmq.Socket[bytes]]
    keys: KeyFolder
    local: str
    resources: contextlib.ExitStack

    def caller(self, role: Role) -> zmq.Socket[bytes]:
        """A socket that has been let in."""
        socket = self.context.socket(zmq.DEALER)
        self.resources.callback(socket.close, linger=0)
        if role is Role.LOCAL:
            socket.connect(self.local)
        else:
            pair = KeyPair.new()
            self.keys.allow_list().allow(pair.public, role, role.value)
            assert self.door.public is not None
            connect(socket, self.door.public, pair)
        return socket

    def hears(self, socket: zmq.Socket[bytes], header: bytes) -> Received | Unreadable | None:
        """What comes of a message."""
        socket.send(header)
        assert self.door.socket.poll(PATIENCE_MS)
        return self.door.receive()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with contextlib.ExitStack() as resources:
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        resources.callback(context.term)
        keys = KeyFolder(tmp_path / "keys")
        keys.create()
        gate = resources.enter_context(Gate(context, keys))
        local = f"ipc://{tmp_path}/road"
        door = Door(context, local, gate, TcpListen("127.0.0.1", 0))
        door.open()
        resources.callback(door.close)
        yield House(door, context, keys, local, resources)


@pytest.mark.parametrize("role", list(Role))
def test_everybody_may_ask(role: Role, house: House) -> None:
    event = house.hears(house.caller(role), encode_header(Inspect()))
    assert isinstance(event, Received)
    assert event.message == Inspect()


def test_only_a_key_that_may_work_does(house: House) -> None:
    alive = encode_header(Alive("guest"))
    assert isinstance(house.hears(house.caller(Role.WORKER), alive), Received)
    assert isinstance(house.hears(house.caller(Role.LOCAL), alive), Received)
    refused = house.hears(house.caller(Role.CLIENT), alive)
    assert isinstance(refused, Unreadable)
    assert refused.cut
    assert refused.problem == "this key may not serve: Alive refused"


def test_a_client_of_another_host_has_nothing_long_to_say(house: House) -> None:
    """To decode a worker's longest header takes a gigabyte."""
    header = bytes([encode_header(Inspect())[0]]) + bytes(MAX_CLIENT_HEADER)
    refused = house.hears(house.caller(Role.CLIENT), header)
    assert isinstance(refused, Unreadable)
    assert refused.problem == f"a client's header of {MAX_CLIENT_HEADER + 1} bytes; at most {MAX_CLIENT_HEADER}"
    from_a_worker = house.hears(house.caller(Role.WORKER), header)
    assert isinstance(from_a_worker, Unreadable)
    assert "header refused" in from_a_worker.problem


def test_the_longest_submission_is_none_too_long() -> None:
    char, name = "\U0001f600", "\U0001f600" * 256
    longest: Header = Submit(char * 128, name, 86_400.0, 2**60, 0, char * 128, 2**60, 2**60, (name, name))
    assert len(encode_header(longest)) < MAX_CLIENT_HEADER / 4
    assert len(encode_header(Adapt(2**62, name, LoRAOperation.LOAD, name, char * 4096))) < MAX_CLIENT_HEADER


def test_how_much_may_be_sent_depends_on_the_way(house: House) -> None:
    assert most_bytes(house.caller(Role.LOCAL)) == MAX_MESSAGE_BYTES
    assert most_bytes(house.caller(Role.CLIENT)) == MAX_REMOTE_BYTES


def test_complaints_are_counted_and_not_all_printed(capsys: pytest.CaptureFixture[str]) -> None:
    complaints = Complaints()
    for number in range(100):
        complaints.say(f"number {number}", 5.0)
    complaints.say("another", 5.0 + EVERY_S)
    complaints.say("the last", 9.0)
    assert capsys.readouterr().err == (
        "maxpipe: number 0\nmaxpipe: another (and 99 others since the last such line)\nmaxpipe: the last\n"
    )


def test_who_sends_an_empty_frame_can_be_cut_off_as_well(house: House) -> None:
    socket = house.caller(Role.CLIENT)
    monitor = socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    assert isinstance(house.hears(socket, b""), Unreadable)
    house.door.cut()
    assert monitor.poll(PATIENCE_MS)
    socket.disable_monitor()
    monitor.close(linger=0)
