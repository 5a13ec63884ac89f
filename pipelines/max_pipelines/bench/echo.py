"""The yardstick of `bench queue`: a message there and back over three processes, with nothing but pyzmq.

`python -m max_pipelines.bench.echo BYTES FRONT BACK`: this process is the middle, and starts the one that echoes. The
answer carries as many bytes more as a chunk has, so that both roads move the same.
"""

from __future__ import annotations

import subprocess
import sys
import threading

import zmq


def middle(size: str, front: str, back: str) -> None:
    """Pass messages between clients and the echo until standard input closes."""
    context = zmq.Context()
    clients, workers = context.socket(zmq.ROUTER), context.socket(zmq.DEALER)
    clients.bind(front)
    workers.bind(back)
    poller = zmq.Poller()
    poller.register(clients, zmq.POLLIN)
    poller.register(workers, zmq.POLLIN)
    poller.register(0, zmq.POLLIN)
    command = [sys.executable, "-P", "-m", "max_pipelines.bench.echo", size, back]
    with subprocess.Popen(command, stdin=subprocess.PIPE):
        while True:
            for source, _ in poller.poll():
                if source is clients:
                    workers.send_multipart(clients.recv_multipart())
                elif source is workers:
                    clients.send_multipart(workers.recv_multipart())
                else:
                    return


def echo(size: str, back: str) -> None:
    """Send every message back, and a chunk's worth of bytes, until standard input closes."""
    chunk = bytes(int(size))
    socket = zmq.Context().socket(zmq.DEALER)
    socket.connect(back)
    poller = zmq.Poller()
    poller.register(socket, zmq.POLLIN)
    poller.register(0, zmq.POLLIN)
    while True:
        for source, _ in poller.poll():
            if source is not socket:
                return
            socket.send_multipart([*socket.recv_multipart(), chunk])


class BareEcho:
    """The client's end; blocking."""

    def __init__(self, folder: str, size: int) -> None:
        front, back = f"ipc://{folder}/front", f"ipc://{folder}/back"
        command = [sys.executable, "-P", "-m", "max_pipelines.bench.echo", str(size), front, back]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.connect(front)
        self._lock = threading.Lock()

    def round_trip(self, frames: list[bytes]) -> None:
        """There and back."""
        with self._lock:
            self._socket.send_multipart(frames)
            self._socket.recv_multipart()

    def close(self) -> None:
        """End both processes."""
        self._socket.close(linger=0)
        self._context.term()
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()


if __name__ == "__main__":
    if len(sys.argv) == 4:
        middle(*sys.argv[1:])
    else:
        echo(*sys.argv[1:])
