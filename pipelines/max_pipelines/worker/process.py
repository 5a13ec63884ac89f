"""A worker as a process of its own."""

from __future__ import annotations

import argparse
import gc
import os
import signal

import zmq

from ..address import check_address
from ..config import load_config
from .lifeline import die_with_parent
from .loop import run_worker


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What a worker is told when it is started."""
    parser.add_argument("config", help="the server's YAML file")
    parser.add_argument("--connect", required=True, metavar="ADDRESS", help="the server's ipc:// address")
    parser.add_argument("--name", help="what it calls itself; two workers need two names")
    parser.add_argument("--supervised", action="store_true", help="end when standard input closes")


def run_process(options: argparse.Namespace) -> int:
    """Run until retired. Returns the exit code; ConfigError for a config or an address that cannot be used."""
    if options.supervised:
        die_with_parent()
        for number in (signal.SIGINT, signal.SIGHUP):  # these reach the whole group; the server decides
            signal.signal(number, signal.SIG_IGN)
    config = load_config(options.config)
    address = check_address(options.connect)
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):  # read once, when torch is first imported
        os.environ[variable] = str(config.workers.threads)
    name = options.name or f"worker-{os.getpid()}"

    def on_ready() -> None:
        gc.freeze()  # what is loaded by now stays: no collection need look at it again
        gc.enable()
        if not options.supervised:
            print(f"maxpipe: {name} has loaded {config.model.name} and offers it to {address}", flush=True)

    gc.disable()  # half a million objects are made while loading, all to stay: looking through them takes 0.5 s of 3.4
    try:
        return run_worker(config, address, name, zmq.Context.instance(), on_ready=on_ready)
    finally:
        gc.enable()
