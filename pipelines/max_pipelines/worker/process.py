"""A worker as a process of its own."""

from __future__ import annotations

import argparse
import gc
import os
import signal
import sys
import threading
from functools import partial

import zmq

from ..address import TcpAddress, parse_address
from ..config import load_config
from ..problems import say
from ..security.client import connect
from ..security.folder import KeyFolder
from .lifeline import die_with_parent
from .loop import run_worker


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What a worker is told when it is started."""
    parser.add_argument("config", help="the server's YAML file")
    parser.add_argument(
        "--connect",
        required=True,
        action="append",
        metavar="ADDRESS",
        help="a server's address; several are served at once",
    )
    parser.add_argument("--keys", metavar="FOLDER", help="our key for tcp:// (default: that of `maxpipe keys`)")
    parser.add_argument("--name", help="what it calls itself; two workers need two names")
    parser.add_argument("--supervised", action="store_true", help="end when standard input closes")


def run_process(options: argparse.Namespace) -> int:
    """Run until retired. Returns the exit code; ConfigError for a config or an address that cannot be used."""
    if options.supervised:
        die_with_parent()
        for number in (signal.SIGINT, signal.SIGHUP):  # these reach the whole group; the server decides
            signal.signal(number, signal.SIG_IGN)
    config = load_config(options.config)
    addresses = [parse_address(text) for text in options.connect]
    over_tcp = any(isinstance(address, TcpAddress) for address in addresses)
    keys = KeyFolder(options.keys).load() if over_tcp else None
    stopped = threading.Event()
    if not options.supervised:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stopped.set())
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):  # read once, when torch is first imported
        os.environ[variable] = str(config.workers.threads)
    name = options.name or f"worker-{os.getpid()}"

    def on_ready() -> None:
        gc.freeze()  # what is loaded by now stays: no collection need look at it again
        gc.enable()
        if not options.supervised:
            where = ", ".join(map(str, addresses))
            say(f"maxpipe: {name} has loaded {config.model.name} and offers it to {where}", sys.stdout)

    gc.disable()  # half a million objects are made while loading, all to stay: looking through them takes 0.5 s of 3.4
    try:
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()
        dials = [partial(connect, address=address, keys=keys) for address in addresses]
        return run_worker(config, dials, name, context, stopped.is_set, on_ready, supervised=options.supervised)
    finally:
        gc.enable()
