"""What it is worth that requests with images and requests of text are one batch, on the whole road, one core.

    OMP_NUM_THREADS=1 python benchmarks/multimodal.py [--requests 16] [--tokens 64] [--rounds 3] [--json FILE]

A random LLaVA of 19 million weights, in float32, in a worker process. So many requests with an image and as many of
text come at once, and one after the other. Each figure is the median of its rounds; the prefix cache is off.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from max_interfaces import (
    MessageRole,
    RequestID,
    SamplingParams,
    TextContentPart,
    TextGenerationRequest,
    TextGenerationRequestMessage,
)
from max_interfaces.text import MediaContentPart, MediaKind
from max_pipelines.client import AsyncClient
from tests.engines.tiny_processors import png, save_with_processor, serving

SIDE = 600  # pixels of an image as it comes


def grow(config: Any) -> None:
    """From tiny to 19 million weights, of which 7 million see."""
    text = {"hidden_size": 384, "intermediate_size": 1152, "num_hidden_layers": 8, "max_position_embeddings": 1024}
    for name, value in text.items():
        setattr(config.text_config, name, value)
    for name, value in {"hidden_size": 320, "intermediate_size": 1280, "num_hidden_layers": 6}.items():
        setattr(config.vision_config, name, value)


def requests(count: int, tokens: int) -> list[TextGenerationRequest]:
    """So many with an image, and as many of text, in turn."""
    params = SamplingParams(temperature=0.0, max_new_tokens=tokens, ignore_eos=True)
    made: list[TextGenerationRequest] = []
    for number in range(count):
        question = TextContentPart(f"{number}: what is this? ")
        for image in ((png(number, SIDE, SIDE),), ()):
            seen = tuple(MediaContentPart(MediaKind.IMAGE) for _ in image)
            message = TextGenerationRequestMessage(MessageRole.USER, (question, *seen))
            made.append(
                TextGenerationRequest(RequestID(), "tiny", messages=(message,), images=image, sampling_params=params)
            )
    return made


async def together(client: AsyncClient, asked: Sequence[TextGenerationRequest]) -> float:
    """Tokens a second, all at once."""
    begin = time.perf_counter()
    texts = await asyncio.gather(*(client.generate(again(one)) for one in asked))
    return sum(len(text.tokens) for text in texts) / (time.perf_counter() - begin)


async def in_turn(client: AsyncClient, asked: Sequence[TextGenerationRequest]) -> float:
    """The same, each when the one before has ended."""
    begin = time.perf_counter()
    count = 0
    for one in asked:
        count += len((await client.generate(again(one))).tokens)
    return count / (time.perf_counter() - begin)


def again(request: TextGenerationRequest) -> TextGenerationRequest:
    return replace(request, request_id=RequestID())


async def measure(count: int, tokens: int, rounds: int) -> dict[str, float]:
    with TemporaryDirectory() as folder:
        config = serving(save_with_processor(Path(folder), "llava", grow))
        engine = msgspec.structs.replace(config.engine, max_batch=2 * count, prefix_caching=False)
        async with AsyncClient.embedded(msgspec.structs.replace(config, engine=engine)) as client:
            asked = requests(count, tokens)
            await together(client, asked)
            figures = [(await together(client, asked), await in_turn(client, asked)) for _ in range(rounds)]
    at_once, one_by_one = (statistics.median(column) for column in zip(*figures, strict=True))
    return {"together_tps": at_once, "in_turn_tps": one_by_one, "ratio": at_once / one_by_one}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = asyncio.run(measure(options.requests, options.tokens, options.rounds))
    print(f"{options.requests} with an image and {options.requests} of text, {options.tokens} tokens each")
    print(f"  at once           {found['together_tps']:8.0f} tokens/s")
    print(f"  one after another {found['in_turn_tps']:8.0f} tokens/s")
    print(f"  ratio             {found['ratio']:8.2f}")
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
