"""Serve a model: a dispatcher and its workers, until SIGTERM or Ctrl-C."""

from __future__ import annotations

import argparse
import socket as sockets
import sys
from contextlib import ExitStack
from pathlib import Path

from ..address import IPC, TcpAddress, check_address, private_folder
from ..config import load_config
from ..problems import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `serve`."""
    parser.add_argument("config", help="a YAML file; see configs/")
    parser.add_argument("--address", help="ipc:// and a path (default: the file's, or a private one)")
    parser.add_argument("--host", help="where HTTP listens (default: the file's, or 127.0.0.1)")
    parser.add_argument("--port", type=int, help="0 for any that is free (default: the file's, or 8000)")
    parser.add_argument("--no-http", action="store_true", help="serve no HTTP")


def run(options: argparse.Namespace) -> int:
    """Serve until told to end; running requests may finish, within the limit `drain_s`."""
    from ..http.listening import listen, url
    from ..server.serve import serve
    from ..wyoming import listening as wyoming

    config = load_config(options.config)
    with ExitStack() as resources:
        address = options.address or config.address
        if address is None:
            address = f"{IPC}{resources.enter_context(private_folder())}/server"
        check_address(address)
        served: str = address
        listening: dict[str, sockets.socket] = {}
        http = None if options.no_http else config.http
        if http is not None:
            listening["http"] = resources.enter_context(listen(http, options.host, options.port))
        if config.wyoming is not None:
            listening["wyoming"] = resources.enter_context(wyoming.listen(config.wyoming))
        print(f"maxpipe: loading {config.model.name}", flush=True)

        def on_ready(public: TcpAddress | None) -> None:
            say(f"maxpipe: serving {config.model.name} at {served}", sys.stdout)
            if "http" in listening:
                say(f"maxpipe: and over HTTP at {url(listening['http'])}", sys.stdout)
            if "wyoming" in listening:
                say(f"maxpipe: and over Wyoming at {wyoming.uri(listening['wyoming'])}", sys.stdout)
            if public is not None:
                say(f"maxpipe: and for other hosts, with a key of theirs, at {public.full}", sys.stdout)

        return serve(config, Path(options.config), served, listening, on_ready)
