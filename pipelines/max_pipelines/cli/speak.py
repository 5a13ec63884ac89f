"""Speak a text into a WAV file, or onto standard output while it is made.

`speak "text" -o out.wav`; `-o -` streams WAV to standard output; `speak -` reads the text from standard input. With
`--timestamps words.json` it is written down when each word is heard.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from max_codecs.wav import WavFile, WavStream
from max_interfaces import AudioGenerationOutput, SamplingParams, WordTimestamp

from ..client.speaking import check_speaks
from . import connecting, running
from .files import check_writable


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
    parser.add_argument("--model", help="which model, where a server has several")
    parser.add_argument(
        "--no-normalize", action="store_false", dest="normalize", help="leave numbers, dates and the like as they are"
    )
    parser.add_argument("--seed", type=int, help="say it in the same way again")
    parser.add_argument("--timestamps", metavar="FILE", help="write when each word is heard, as JSON")
    connecting.add_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Speak. ValueError, OSError or a MaxpipeError say what went wrong."""
    text = connecting.standard_input() if options.text == "-" else options.text
    if not text.strip():
        raise ValueError("there is nothing to say; give some text")
    _check_output(options.output)
    if options.timestamps is not None:
        _check_timestamps(options.timestamps, options.output)
    return running.run(_speak(options, text))


def _check_output(name: str) -> None:
    if name != "-":
        check_writable(name)
        if Path(name).suffix.lower() not in ("", ".wav"):
            raise ValueError(f"{name}: what is written is WAV; give the file a name that ends in .wav")
    elif sys.stdout is None:
        raise ValueError("-o -: standard output is closed")
    elif sys.stdout.isatty():
        raise ValueError("-o -: standard output is a terminal; pipe it into a player, or name a file")


def _check_timestamps(name: str, output: str) -> None:
    if name == "-":
        raise ValueError("--timestamps -: words are written into a file; name one")
    check_writable(name)
    if output != "-" and Path(name).resolve() == Path(output).resolve():
        raise ValueError(f"--timestamps {name}: the sound is written there (-o); name another file")


async def _speak(options: argparse.Namespace, text: str) -> int:
    params = SamplingParams(seed=options.seed)
    async with connecting.client(options) as client:
        info = client.model(options.model)
        check_speaks(info)
        rate = info.sample_rate
        with _sink(options.output, rate) as sink:
            spoken = client.speak(
                text,
                voice=options.voice,
                model=options.model,
                sampling_params=params,
                normalize=options.normalize,
                word_timestamps=options.timestamps is not None,
            )
            async with contextlib.aclosing(spoken):
                words = await _write(spoken, sink, rate)
    if options.timestamps is not None:
        Path(options.timestamps).write_bytes(msgspec.json.format(msgspec.json.encode(words)) + b"\n")
    if options.output != "-":
        print(options.output)
    return 0


async def _write(outputs: AsyncIterator[AudioGenerationOutput], sink: Sink, rate: int) -> list[WordTimestamp]:
    """Write the sound; the words that have come with it."""
    words: list[WordTimestamp] = []
    bar = "{desc}: {n:.1f} s of sound in {elapsed}"
    with tqdm(desc="speaking", bar_format=bar, disable=not sys.stderr.isatty()) as progress:
        async for output in outputs:
            sink.write(output.audio_data)
            words += output.metadata.words
            progress.update(output.audio_data.size / rate)
    return words


@contextmanager
def _sink(path: str, rate: int) -> Iterator[Sink]:
    if path == "-":
        yield WavStream(sys.stdout.buffer, rate)
        return
    with WavFile(path, rate) as file:
        yield file
