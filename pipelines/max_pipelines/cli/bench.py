"""Measure: the queue against a bare echo, a voice's speed and quality, or the engine beside its peers."""

from __future__ import annotations

import argparse
import json
import sys
from importlib.util import find_spec
from pathlib import Path

import msgspec

from ..bench.text.contender import contenders
from ..bench.text.scenarios import SCENARIOS
from . import connecting, running
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
    voice = kinds.add_parser("voice", help="how well each voice is understood, how like its teacher it is, how fast")
    _add_voice_arguments(voice)
    text = kinds.add_parser("text", help="tokens/s and latency of the engine, side by side with its peers")
    _add_text_arguments(text)
    for kind in (queue, speech, voice, text):
        kind.add_argument("--json", metavar="FILE", help="write the figures here as well")


def _add_voice_arguments(voice: argparse.ArgumentParser) -> None:
    voice.add_argument("--voice", nargs="+", default=[], metavar="NAME", help="which voices (all of the model's)")
    voice.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3], metavar="N", help="a round for each (1 2 3)")
    voice.add_argument("--sentences", type=_positive, default=100, metavar="N", help="of the 100, evenly spread (100)")
    voice.add_argument("--html", metavar="FILE", help="a page to look at and to listen to")
    connecting.add_arguments(voice)


def _add_text_arguments(text: argparse.ArgumentParser) -> None:
    model = text.add_mutually_exclusive_group()
    model.add_argument("--model", metavar="FOLDER", help="a checkpoint; else a random one of a shape")
    model.add_argument("--shape", default="small", help="tiny, small (8.3 M), mid (199 M) or llama-3b (small)")
    text.add_argument("--dtype", default="bfloat16", choices=("float32", "bfloat16", "float16"), help="(bfloat16)")
    text.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (cpu)")
    text.add_argument("--threads", type=_positive, default=1, help="of the model; one more processor for the rest (1)")
    text.add_argument("--rounds", type=_positive, default=3, help="rounds, of which the fastest counts (3)")
    text.add_argument("--vllm", metavar="PYTHON", help="the python of an environment with vLLM")
    for option, all_names in (("--scenarios", SCENARIOS), ("--contenders", [every.name for every in contenders(None)])):
        some = f"some instead of all of {', '.join(all_names)}"
        text.add_argument(option, type=_names, default=[], metavar="NAME,NAME", help=some)
    text.add_argument("--plot", metavar="FILE.svg", help="draw the figures here as well")


def run(options: argparse.Namespace) -> int:
    """Measure, print a table, and write the figures if asked to."""
    if options.json is not None:
        check_writable(options.json)
    if options.kind == "text":
        return _run_text(options)
    if options.kind == "voice":
        return _run_voice(options)
    if options.kind == "queue":
        from ..bench.queue import bench_queue

        figures = running.run(bench_queue(options.requests, options.concurrent))
    else:
        from ..bench.speech import bench_speech

        figures = running.run(bench_speech(connecting.client(options), options.runs))
    width = max(map(len, figures))
    for name, value in figures.items():
        print(f"{name:<{width}}  {value:>12,.3f}")
    if options.json is not None:
        Path(options.json).write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return 0


def _run_text(options: argparse.Namespace) -> int:
    from ..bench.text.command import TextBench, bench_text
    from ..bench.text.plot import svg
    from ..bench.text.report import table

    if options.plot is not None:
        check_writable(options.plot)
    fields = ("model", "shape", "dtype", "device", "threads", "rounds", "vllm", "scenarios", "contenders")
    report = bench_text(TextBench(**{name: getattr(options, name) for name in fields}))
    print(table(report))
    if options.json is not None:
        Path(options.json).write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")
    if options.plot is not None:
        Path(options.plot).write_text(svg(report), encoding="utf-8")
    if all(row.figures is None for row in report.rows):
        print("maxpipe bench: nothing could be measured; the table says why", file=sys.stderr)
        return 1
    return 0


def _run_voice(options: argparse.Namespace) -> int:
    if find_spec("pocketsphinx") is None:
        missing = "pocketsphinx, which hears what was said, is not installed: pip install 'maxpipe[judge]'"
        print(f"maxpipe bench: {missing}", file=sys.stderr)
        return 1
    from max_voices.recipe.judge import Judge

    from ..bench.voice.measuring import figures_of, listen, profiles
    from ..bench.voice.page import page
    from ..bench.voice.report import VoiceReport, table
    from ..bench.voice.speaking import VoiceBench, speak

    if options.html is not None:
        check_writable(options.html)
    bench = VoiceBench(tuple(options.voice), tuple(options.seeds), options.sentences)
    client = connecting.client(options)
    judge = Judge()
    voices = [listen(judge, spoken) for spoken in running.run(speak(client, bench))]
    known = profiles(voices)
    figures = tuple(figures_of(voice, known) for voice in voices)
    report = VoiceReport(client.model().name, len(voices[0].rounds[0]), bench.seeds, figures)
    print(table(report))
    if options.json is not None:
        Path(options.json).write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")
    if options.html is not None:
        Path(options.html).write_text(page(report, voices), encoding="utf-8")
    return 0


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number}: must be at least 1")
    return number
