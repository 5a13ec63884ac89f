"""Measure: the queue against a bare echo, or the voice's latency and speed."""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path

from . import connecting
from .files import check_writable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `bench`."""
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")
    queue = kinds.add_parser("queue", help="round trips and throughput of the road itself")
    queue.add_argument("--requests", type=_positive, default=200, help="requests of the idle and serial rows (200)")
    queue.add_argument("--concurrent", type=_positive, default=500, help="concurrent requests of 20 chunks (500)")
    speech = kinds.add_parser("speech", help="time to first audio and real-time factor of a voice")
    speech.add_argument("--runs", type=_positive, default=10, help="runs of each sentence (10)")
    connecting.add_arguments(speech)
    for kind in (queue, speech):
        kind.add_argument("--json", metavar="FILE", help="write the figures here as well")


def run(options: argparse.Namespace) -> int:
    """Measure, print a table, and write the figures if asked to."""
    if options.json is not None:
        check_writable(options.json)
    if options.kind == "queue":
        from ..bench.queue import bench_queue

        figures = asyncio.run(bench_queue(options.requests, options.concurrent))
    else:
        from ..bench.speech import bench_speech

        figures = asyncio.run(bench_speech(connecting.client(options), options.runs))
    width = max(map(len, figures))
    for name, value in figures.items():
        print(f"{name:<{width}}  {value:>12,.3f}")
    if options.json is not None:
        Path(options.json).write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return 0


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number}: must be at least 1")
    return number
