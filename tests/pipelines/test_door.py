"""What comes through the server's door, and what is turned away there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import zmq

from max_interfaces import AudioGenerationRequest, RequestID
from max_interfaces.audio import MAX_SPEECH_TOKENS
from max_interfaces.lora import LoRAOperation
from max_interfaces.messages import Adapt, Alive, Delivery, Header, Inspect, Submit, encode_header
from max_interfaces.wire import Frame, decode_request, encode_payload
from max_pipelines.address import TcpListen
from max_pipelines.security.allowed import Role
from max_pipelines.security.client import connect
from max_pipelines.security.folder import KeyFolder
from max_pipelines.security.gate import Gate
from max_pipelines.security.keys import KeyPair
from max_pipelines.server import door
from max_pipelines.server.complaints import EVERY_S, Complaints
from max_pipelines.server.door import MAX_CLIENT_FRAMES, MAX_CLIENT_HEADER, Door
from max_pipelines.server.events import Received, Unreadable
from max_pipelines.sockets import MAX_MESSAGE_BYTES, MAX_REMOTE_BYTES, most_bytes

PATIENCE_MS = 20_000


@dataclass
class Refused:
    """Equal to a message that was not heard and whose sender is to be cut off, for this reason."""

    problem: str

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Unreadable) and other.cut and other.problem == self.problem


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

    def hears(self, socket: zmq.Socket[bytes], header: bytes, *payload: Frame) -> Received | Unreadable | None:
        """What comes of a message."""
        socket.send_multipart([header, *payload])
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


@pytest.mark.parametrize("role", [Role.CLIENT, Role.WORKER])
def test_a_connection_does_not_outlive_its_key_s_place_on_the_list(role: Role, house: House) -> None:
    socket, ping = house.caller(role), encode_header(Inspect())
    assert isinstance(house.hears(socket, ping), Received)
    house.keys.allow_list().revoke(role.value)
    assert house.hears(socket, ping, b"payload", b"") == Refused("this key is not allowed")
    assert house.door.receive() is None  # all of that message was taken
    monitor = socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    house.door.cut()
    assert monitor.poll(PATIENCE_MS)
    socket.disable_monitor()
    monitor.close(linger=0)


@pytest.mark.parametrize("role", list(Role))
def test_a_request_has_few_frames_whoever_sends_it(role: Role, house: House) -> None:
    socket, submit = house.caller(role), encode_header(Submit("r", "voice", 30.0))
    tokens = np.arange(MAX_SPEECH_TOKENS)
    request = AudioGenerationRequest(RequestID("r"), "voice", "Hello.", buffer_speech_tokens=tokens)
    event = house.hears(socket, submit, *encode_payload([request]))
    assert isinstance(event, Received)
    assert decode_request(event.payload) == request
    most = house.hears(socket, submit, *[b"x"] * MAX_CLIENT_FRAMES)
    assert isinstance(most, Received)
    assert [bytes(frame) for frame in most.payload] == [b"x"] * MAX_CLIENT_FRAMES
    refused = Refused(f"a message with a payload of more than {MAX_CLIENT_FRAMES} frames")
    for more in 1, 2, 1000:
        assert house.hears(socket, submit, *[b""] * (MAX_CLIENT_FRAMES + more)) == refused
        assert isinstance(house.hears(socket, encode_header(Inspect())), Received)  # nothing of it was left


@pytest.mark.parametrize("role", [Role.WORKER, Role.LOCAL])
def test_a_worker_s_delivery_has_many(role: Role, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    most = 4 * MAX_CLIENT_FRAMES
    monkeypatch.setattr(door, "MAX_WORKER_FRAMES", most)
    socket, delivery = house.caller(role), encode_header(Delivery(b"c", ()))
    event = house.hears(socket, delivery, *[b""] * most)
    assert isinstance(event, Received)
    assert len(event.payload) == most
    refused = Refused(f"a message with a payload of more than {most} frames")
    for more in 1, 2, 1000:
        assert house.hears(socket, delivery, *[b""] * (most + more)) == refused
        assert isinstance(house.hears(socket, encode_header(Inspect())), Received)


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
