"""The face as a process of its own."""

from __future__ import annotations

import argparse
import asyncio
import gc
import signal
import socket as sockets

import uvicorn

from ..client import AsyncClient
from ..config import HttpConfig, load_config
from ..worker.lifeline import die_with_parent
from .app import build_app
from .face import Face
from .log import logging_to_stderr
from .protocol import TimedProtocol
from .traces import Tracing, tracing_to

KEEP_ALIVE_S = 30  # of a connection that is not used
GRACE_S = 1  # for what still runs when this process is told to end


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What a face is told when it is started."""
    parser.add_argument("config", help="the server's YAML file")
    parser.add_argument("--connect", required=True, metavar="ADDRESS", help="the dispatcher's address")
    parser.add_argument("--socket", required=True, type=int, metavar="FD", help="the socket that listens")
    parser.add_argument("--supervised", action="store_true", help="end when standard input closes")


def run_process(options: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT. Returns the exit code; ConfigError for a config that cannot be used."""
    if options.supervised:
        die_with_parent()
    config = load_config(options.config)
    http = config.http or HttpConfig()
    socket = sockets.socket(fileno=options.socket)
    with logging_to_stderr(http), tracing_to(http.traces) as tracing, socket as listening:
        asyncio.run(_serve(http, config.model.name, options.connect, listening, tracing))
    return 0


async def _serve(
    config: HttpConfig, model: str, address: str, listening: sockets.socket, tracing: Tracing | None
) -> None:
    face = Face(AsyncClient.connect(address), config, model)
    server = build_server(face, listening, tracing)
    opening = asyncio.ensure_future(face.open())
    gc.freeze()  # what is loaded by now stays: no collection need look at it again
    for number in (signal.SIGTERM, signal.SIGINT):  # uvicorn ends at the first, and raises it again once it has:
        signal.signal(number, lambda *_: None)  # then it would end us before the last of the log and the traces
    try:
        await server.serve([listening])
    finally:
        opening.cancel()
        await face.close()


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
