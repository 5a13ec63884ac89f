"""Running a server in this process: in the foreground, or embedded below a client."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket as sockets
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

import zmq

from ..address import TcpAddress, check_address, parse_listen
from ..config import Config
from ..problems import complain
from ..security.folder import KeyFolder
from ..security.gate import Gate
from .claiming import claimed
from .door import Door
from .launcher import FaceLauncher, ProcessLauncher
from .shell import Server
from .stopping import Stopping

OnReady: TypeAlias = Callable[[TcpAddress | None], None]


def serve(
    config: Config, config_path: Path, address: str, listening: Mapping[str, sockets.socket], on_ready: OnReady
) -> int:
    """Serve in the foreground until SIGTERM, SIGINT or SIGHUP, which drain; a second one ends at once.

    Over HTTP and Wyoming, too, if `listening` has a socket for them. Returns the exit code. `on_ready` is given the
    address for other hosts, if there is one.
    """
    hangs_up = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN  # as it is below nohup
    signals = _catch(signal.SIGTERM, signal.SIGINT, *[signal.SIGHUP] * hangs_up)
    faces = FaceLauncher(config_path, address, listening) if listening else None
    problem = _run(config, config_path, address, Stopping(signals=signals), on_ready, faces, embedded=False)
    if problem:
        print(f"maxpipe serve: {problem}", file=sys.stderr)
    return 1 if problem else 0


def serve_embedded(config: Config, config_path: Path, address: str, parent: int) -> int:
    """Serve until the client that started us is gone: standard input closes, or its process `parent` ends."""
    for number in (signal.SIGINT, signal.SIGHUP):  # these reach the whole group; the client decides
        signal.signal(number, signal.SIG_IGN)
    stopping = Stopping(parents=(0, *_process(parent)), signals=_catch(signal.SIGTERM))
    try:
        _run(config, config_path, address, stopping, lambda _: None, None, embedded=True)
    finally:
        with contextlib.suppress(OSError):  # the client's folder, if it was killed and cannot do it
            config_path.unlink()
            config_path.parent.rmdir()
    return 0


def _run(
    config: Config,
    config_path: Path,
    address: str,
    stopping: Stopping,
    on_ready: OnReady,
    faces: FaceLauncher | None,
    *,
    embedded: bool,
) -> str:
    check_address(address)
    with claimed(address), zmq.Context() as context, _gate(config, context) as gate:
        launcher = ProcessLauncher(config_path, address)
        listen = None if config.tcp is None else parse_listen(config.tcp.listen)
        door = Door(context, address, gate, listen)
        server = Server(
            config,
            door,
            launcher,
            stopping,
            faces=faces,
            on_ready=lambda: on_ready(door.public),
            linger_when_unfit=embedded,  # the client has yet to ask what went wrong
        )
        gc.freeze()  # what is loaded by now stays: no collection need look at it again
        return server.run()


@contextlib.contextmanager
def _gate(config: Config, context: zmq.Context[zmq.Socket[bytes]]) -> Iterator[Gate | None]:
    """What lets peers in over tcp, if any may come that way."""
    if config.tcp is None:
        yield None
        return
    with Gate(context, KeyFolder(config.tcp.keys), complain) as gate:
        yield gate


def _process(number: int) -> list[int]:
    """A descriptor that becomes readable when a process ends, where the system has such.

    The pipe that is our standard input stays open if the client has forked, as long as that child lives.
    """
    if sys.platform != "linux":
        return []
    try:
        return [os.pidfd_open(number)]
    except ProcessLookupError:  # gone already
        return [os.open(os.devnull, os.O_RDONLY)]  # which is always readable
    except OSError:  # a kernel that cannot do it
        return []


def _catch(*numbers: signal.Signals) -> int:
    """A descriptor that becomes readable when one of these signals comes."""
    readable, writable = os.pipe()
    os.set_blocking(writable, False)
    signal.set_wakeup_fd(writable)
    for number in numbers:
        signal.signal(number, lambda *_: None)
    return readable
