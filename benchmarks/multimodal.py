"""What it is worth that requests with images and requests of text are one batch, on the whole road, one core.

    OMP_NUM_THREADS=1 python benchmarks/multimodal.py [--requests 16] [--tokens 64] [--rounds 3] [--json FILE]

A random LLaVA of 19 million weights, in float32, in a worker process. So many requests with an image and as many of
text come at once, and one after the other. Each figure is the median of its rounds; the prefix cache is off.

Then the longest that a text waits for its next token: of four that are being written, alone, and while one request with
eight images comes, whose encoders are some 20 times as much work.
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


async def longest_gap(client: AsyncClient, asked: Sequence[TextGenerationRequest], images: Sequence[bytes]) -> float:
    """The most seconds between two tokens of one of `asked`, while a request with `images` comes and ends."""
    gaps: list[float] = []
    written = [0] * len(asked)
    half_way = asyncio.Event()

    async def write(number: int) -> None:
        before: float | None = None
        async for output in client.stream(again(asked[number])):
            now = time.perf_counter()
            if before is not None:
                gaps.append(now - before)
            before = now
            written[number] += len(output.tokens)
            if min(written) >= 8:
                half_way.set()

    writing = asyncio.gather(*(write(number) for number in range(len(asked))))
    await half_way.wait()
    gaps.clear()
    if images:
        await client.generate(with_images(images))
    await writing
    return max(gaps)


def with_images(images: Sequence[bytes]) -> TextGenerationRequest:
    params = SamplingParams(temperature=0.0, max_new_tokens=4, ignore_eos=True)
    parts = tuple(MediaContentPart(MediaKind.IMAGE) for _ in images)
    message = TextGenerationRequestMessage(MessageRole.USER, parts)
    return TextGenerationRequest(RequestID(), "tiny", messages=(message,), images=tuple(images), sampling_params=params)


async def measure_gaps(rounds: int) -> dict[str, float]:
    """The longest wait for a token, alone and beside images."""

    def wide(config: Any) -> None:
        grow(config)
        for name, value in {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 24}.items():
            setattr(config.vision_config, name, value)

    params = SamplingParams(temperature=0.0, max_new_tokens=400, ignore_eos=True)
    asked = [TextGenerationRequest(RequestID(), "tiny", f"{n}: once", sampling_params=params) for n in range(4)]
    with TemporaryDirectory() as folder:
        config = serving(save_with_processor(Path(folder), "llava", wide))
        async with AsyncClient.embedded(config) as client:
            await longest_gap(client, asked, [png(99, SIDE, SIDE)])
            alone = [await longest_gap(client, asked, ()) for _ in range(rounds)]
            pictures = [[png(8 * n + at, SIDE, SIDE) for at in range(8)] for n in range(rounds)]
            beside = [await longest_gap(client, asked, images) for images in pictures]
    return {"gap_alone_s": statistics.median(alone), "gap_beside_images_s": statistics.median(beside)}


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
    found |= asyncio.run(measure_gaps(options.rounds))
    print("longest wait for a token of one of 4 texts")
    print(f"  alone             {found['gap_alone_s'] * 1000:8.0f} ms")
    print(f"  beside 8 images   {found['gap_beside_images_s'] * 1000:8.0f} ms")
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
