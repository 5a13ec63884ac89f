"""Print the embeddings of texts, one line of JSON each.

`embed "a text" "another" --model PATH_OR_ID`; `embed -` reads a text a line from standard input; `-o vectors.npy`
writes an array for numpy instead, float32 [texts, dimensions].
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..client import AsyncClient
from ..config import load_config
from . import connecting, running
from .files import check_writable

EMBEDDINGS_CONFIG = "embeddings.yaml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `embed`."""
    parser.add_argument("texts", nargs="+", metavar="text", help="what to embed; - reads a text a line")
    parser.add_argument("--model", help=f"{connecting.MODEL}; with --connect, the name of a served one")
    parser.add_argument("--device", help="where to run it: cpu, or cuda:0 (default: as the config says)")
    parser.add_argument("-o", "--output", metavar="FILE", help="a .npy file for all vectors")
    parser.add_argument("--dimensions", type=int, metavar="N", help="only the first N numbers of each")
    parser.add_argument("--truncate", action="store_true", help="leave out the end of a text that is too long")
    connecting.add_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Embed. ValueError, OSError or a MaxpipeError say what went wrong."""
    texts = connecting.standard_input().splitlines() if options.texts == ["-"] else options.texts
    if options.output is not None:
        check_writable(options.output)
        if Path(options.output).suffix != ".npy":
            raise ValueError(f"{options.output}: what is written is an array of numpy's; give a name that ends in .npy")
    vectors = running.run(_embed(options, texts))
    if options.output is not None:
        np.save(options.output, vectors)
        return 0
    for text, vector in zip(texts, vectors, strict=True):
        print(json.dumps({"text": text, "embedding": vector.tolist()}, ensure_ascii=False))
    return 0


async def _embed(options: argparse.Namespace, texts: Sequence[str]) -> NDArray[np.float32]:
    async with _client(options) as client:
        model = options.model if options.connect is not None else None
        return await client.embed(texts, model=model, dimensions=options.dimensions, truncate=options.truncate)


def _client(options: argparse.Namespace) -> AsyncClient:
    if options.connect is not None:
        return AsyncClient.connect(options.connect, options.keys)
    config = load_config(options.config or connecting.built_in(EMBEDDINGS_CONFIG))
    return AsyncClient.embedded(connecting.with_model(config, options.model, options.device))
