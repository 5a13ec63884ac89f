"""The face as a process of its own."""

from __future__ import annotations

import argparse
import asyncio
import gc
import signal
import socket as sockets
from collections.abc import Mapping
from contextlib import ExitStack

import uvicorn

from ..client import AsyncClient
from ..config import Config, HttpConfig, load_config
from ..worker.lifeline import die_with_parent
from ..wyoming.server import WyomingServer
from .app import build_app
from .face import Face
from .log import logging_to_stderr
from .protocol import TimedProtocol
from .traces import Tracing, tracing_to
from .uploads import Uploads

KEEP_ALIVE_S = 30  # of a connection that is not used
GRACE_S = 1  # for what still runs when this process is told to end


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What a face is told when it is started."""
    parser.add_argument("config", help="the server's YAML file")
    parser.add_argument("--connect", required=True, metavar="ADDRESS", help="the dispatcher's address")
    parser.add_argument("--http", type=int, metavar="FD", help="the socket that listens for HTTP")
    parser.add_argument("--wyoming", type=int, metavar="FD", help="the one for Wyoming")
    parser.add_argument("--supervised", action="store_true", help="end when standard input closes")


def run_process(options: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT. Returns the exit code; ConfigError for a config that cannot be used."""
    if options.supervised:
        die_with_parent()
    config = load_config(options.config)
    numbers = {"http": options.http, "wyoming": options.wyoming}
    http = config.http or HttpConfig()
    with logging_to_stderr(http), tracing_to(http.traces) as tracing, ExitStack() as stack:
        listening = {
            protocol: stack.enter_context(sockets.socket(fileno=number))
            for protocol, number in numbers.items()
            if number is not None
        }
        asyncio.run(_serve(config, options.connect, listening, tracing))
    return 0


async def _serve(
    config: Config, address: str, listening: Mapping[str, sockets.socket], tracing: Tracing | None
) -> None:
    model = config.model
    http = config.http or HttpConfig()
    uploads = Uploads(config) if http.voice_uploads and config.speech is not None else None
    face = Face(AsyncClient.connect(address), http, model.name, model.device, uploads)
    opening = asyncio.ensure_future(face.open())
    ending = _told_to_end()
    gc.freeze()  # what is loaded by now stays: no collection need look at it again
    try:
        async with asyncio.TaskGroup() as serving:
            if "http" in listening:
                server = build_server(face, listening["http"], tracing)
                serving.create_task(server.serve([listening["http"]]))
            if "wyoming" in listening and config.wyoming is not None:
                serving.create_task(WyomingServer(face, config.wyoming).serve(listening["wyoming"], ending))
    finally:
        opening.cancel()
        await face.close()


def _told_to_end() -> asyncio.Event:
    """Set by SIGTERM and SIGINT. Uvicorn waits for them itself, and raises them again when it has ended: to us, so that
    the last of the log and the traces is still written.
    """
    ending = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ending.set)
    return ending


def build_server(face: Face, listening: sockets.socket, tracing: Tracing | None = None) -> uvicorn.Server:
    """The server of a face; `serve([listening])` runs it. ConfigError if its keys cannot be used."""
    config = uvicorn.Config(
        build_app(face, listening.getsockname()[0], tracing),
        http=TimedProtocol,
        ws="websockets-sansio",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=face.config.max_connections,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
    )
    return uvicorn.Server(config)
