"""Frames that are received and sent on, over real sockets."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
import zmq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from max_interfaces.wire import Frame
from max_pipelines.sockets import as_received, open_socket, receive, send_frames

PATIENCE_MS = 20_000
SIZES = st.integers(0, 64) | st.sampled_from((255, 256, 8191, 8192, 16_384, 65_535, 65_536, 300_000))


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[zmq.Socket[bytes]]]:
    """A sender, the two ends of a middle, a receiver."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    folder = tmp_path_factory.mktemp("road")
    with contextlib.ExitStack() as resources:
        resources.callback(context.term)
        sockets = [open_socket(context, zmq.DEALER) for _ in range(4)]
        for socket in sockets:
            resources.callback(socket.close, linger=0)
        for number, (one, other) in enumerate((sockets[:2], sockets[2:])):
            address = f"ipc://{folder}/{number}"
            one.bind(address)
            other.connect(address)
        yield sockets


def arrived(socket: zmq.Socket[bytes]) -> list[Frame]:
    assert socket.poll(PATIENCE_MS)
    frames = receive(socket)
    assert frames is not None
    return frames


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(sizes=st.lists(SIZES, min_size=1, max_size=5))
def test_what_is_sent_on_is_what_came(road: list[zmq.Socket[bytes]], sizes: list[int]) -> None:
    sender, front, back, receiver = road
    sent = [bytes([number]) * size for number, size in enumerate(sizes)]
    send_frames(sender, sent)
    came = arrived(front)
    for _ in range(2):  # a request goes on elsewhere when a worker is lost: its frames are sent once more
        send_frames(back, [as_received(frame) for frame in came])
        assert [bytes(frame) for frame in arrived(receiver)] == sent
    assert [bytes(frame) for frame in came] == sent  # and may still be read


def test_only_a_whole_frame_is_sent_as_it_was_received(road: list[zmq.Socket[bytes]]) -> None:
    sender, front, back, receiver = road
    text = bytes(range(256)) * 64
    send_frames(sender, [text])
    (came,) = arrived(front)
    assert isinstance(as_received(came), zmq.Frame)
    for part in (came[1:], came[:-1], bytes(came), memoryview(text)):
        assert as_received(part) is part
    send_frames(back, [as_received(came[3:9000])])
    assert [bytes(frame) for frame in arrived(receiver)] == [text[3:9000]]


def test_a_small_frame_does_not_keep_what_it_was_read_with(road: list[zmq.Socket[bytes]]) -> None:
    sender, front, _, _ = road
    send_frames(sender, [b"small"])
    (came,) = arrived(front)
    assert as_received(came) is came  # which is copied when it is sent
