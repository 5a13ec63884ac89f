"""The socket that Wyoming listens on."""

from __future__ import annotations

import socket as sockets

from ..config import WyomingConfig
from ..http.listening import listen_at, url


def listen(config: WyomingConfig) -> sockets.socket:
    """Listen where the config says. ConfigError if that cannot be had."""
    return listen_at("wyoming", config.host, config.port, "write another `port` in the section `wyoming`")


def uri(socket: sockets.socket) -> str:
    """Where a client finds it, as Wyoming's tools want it written."""
    return url(socket, "tcp")
