"""The sockets that faces listen on: opened before anything is loaded, kept while faces come and go."""

from __future__ import annotations

import socket as sockets
from pathlib import Path

from max_interfaces import ConfigError

from ..config import HttpConfig
from .guard import Keys
from .traces import check_traces

BACKLOG = 2048


def listen(config: HttpConfig, host: str | None = None, port: int | None = None) -> sockets.socket:
    """Listen where the config says, or at `host` and `port`. ConfigError for what cannot be had."""
    check_traces(config.traces)
    if config.keys is not None:
        Keys.load(Path(config.keys))
    where = config.port if port is None else port
    return listen_at("http", host or config.host, where, "give --port, or --no-http")


def listen_at(section: str, name: str, number: int, hint: str) -> sockets.socket:
    """Listen at a host and a port, for a `section` of the config. ConfigError, with a hint, if that cannot be had."""
    try:
        family, kind, protocol, _, address = sockets.getaddrinfo(name, number, type=sockets.SOCK_STREAM)[0]
        socket = sockets.socket(family, kind, protocol)
    except (OSError, UnicodeError) as problem:
        raise ConfigError(f"{section}: {name}: no such host ({problem})") from None
    try:
        socket.setsockopt(sockets.SOL_SOCKET, sockets.SO_REUSEADDR, 1)
        socket.bind(address)
        socket.listen(BACKLOG)
    except (OSError, OverflowError) as problem:
        socket.close()
        raise ConfigError(f"{section}: nobody can listen at {name}:{number} ({problem}); {hint}") from None
    return socket


def url(socket: sockets.socket, scheme: str = "http") -> str:
    """Where a client finds it."""
    host, port = socket.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
