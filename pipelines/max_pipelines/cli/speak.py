"""Speak a text into a WAV file, or onto standard output while it is made.

`speak "text" -o out.wav`; `-o -` streams WAV to standard output; `speak -` reads the text from standard input.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from max_codecs.wav import WavFile, WavStream
from max_interfaces import AudioGenerationOutput, SamplingParams

from . import connecting


class Sink(Protocol):
    """Where samples go."""

    def write(self, samples: NDArray[np.floating]) -> None:
        """Take samples in [-1, 1]."""
        ...


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `speak`."""
    parser.add_argument("text", help="what to say; - reads it from standard input")
    parser.add_argument("-o", "--output", default="speech.wav", metavar="FILE", help="a WAV file, or - (speech.wav)")
    parser.add_argument("--voice", help="which voice; see `maxpipe voices`")
    parser.add_argument("--seed", type=int, help="say it in the same way again")
    connecting.add_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Speak. ValueError, OSError or a MaxpipeError say what went wrong."""
    text = sys.stdin.read() if options.text == "-" else options.text
    if not text.strip():
        raise ValueError("there is nothing to say; give some text")
    if options.output != "-":
        _check_writable(Path(options.output))
    return asyncio.run(_speak(options, text))


async def _speak(options: argparse.Namespace, text: str) -> int:
    params = SamplingParams(seed=options.seed)
    async with connecting.client(options) as client:
        rate = client.model().sample_rate
        with _sink(options.output, rate) as sink:
            await _write(client.speak(text, voice=options.voice, sampling_params=params), sink, rate)
    if options.output != "-":
        print(options.output)
    return 0


async def _write(outputs: AsyncIterator[AudioGenerationOutput], sink: Sink, rate: int) -> None:
    bar = "{desc}: {n:.1f} s of sound in {elapsed}"
    with tqdm(desc="speaking", bar_format=bar, disable=not sys.stderr.isatty()) as progress:
        async for output in outputs:
            sink.write(output.audio_data)
            progress.update(output.audio_data.size / rate)


@contextmanager
def _sink(path: str, rate: int) -> Iterator[Sink]:
    if path == "-":
        yield WavStream(sys.stdout.buffer, rate)
        return
    with WavFile(path, rate) as file:
        yield file


def _check_writable(path: Path) -> None:
    """Before a model is loaded. OSError names the path."""
    folder = path.parent
    if not folder.is_dir():
        raise FileNotFoundError(2, "its folder does not exist", str(path))
    if path.is_dir():
        raise IsADirectoryError(21, "is a folder", str(path))
    if not os.access(path if path.exists() else folder, os.W_OK):
        raise PermissionError(13, "cannot be written", str(path))
