"""Run load for minutes or hours, and find out what leaks, what dies and which requests are lost.

`soak --minutes 60` starts a server of its own, whose workers are killed now and then; `--connect ADDRESS` loads one
that runs already. Exit code 1 if memory, files, threads or tables have grown, a worker has died by itself, or a
request had no proper end.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack
from pathlib import Path

import msgspec

from ..client import AsyncClient
from . import connecting, running
from .files import check_writable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `soak`."""
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=_positive, default=10.0, metavar="N", help="of load (10)")
    length.add_argument("--seconds", type=_positive, metavar="N", help="of load, for a first impression")
    connecting.add_arguments(parser)
    parser.add_argument("--json", metavar="FILE", help="write the outcome and all samples here")


def run(options: argparse.Namespace) -> int:
    """Soak, print a table, and say what is wrong."""
    from ..soak.outcome import table
    from ..soak.running import own_server, soak

    if options.json is not None:
        check_writable(options.json)
    seconds = options.seconds if options.seconds is not None else 60 * options.minutes
    own = options.connect is None
    with ExitStack() as resources:
        address: str = options.connect
        if own:
            address = resources.enter_context(own_server(connecting.chosen_config(options.config)))
        outcome = running.run(soak(address, lambda: AsyncClient.connect(address, options.keys), seconds, kills=own))
    print(table(outcome.rows))
    print(outcome.summary)
    if options.json is not None:
        Path(options.json).write_bytes(msgspec.json.format(msgspec.json.encode(outcome)) + b"\n")
    for problem in outcome.problems:
        print(f"maxpipe soak: {problem}", file=sys.stderr)
    return 0 if outcome.fine else 1


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < 1e6:
        raise argparse.ArgumentTypeError(f"{text}: must be above 0")
    return number
