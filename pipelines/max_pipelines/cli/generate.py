"""Write on from a prompt, or answer one, with a language model from a folder or the hub.

`generate "Once upon a time" --model PATH_OR_ID`; `--chat` asks through the model's chat template; `generate -` reads
the prompt from standard input. The likeliest token is always taken unless `--temperature` is given.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from max_interfaces import (
    GenerationStatus,
    MessageRole,
    RequestID,
    SamplingParams,
    TextGenerationOutput,
    TextGenerationRequest,
    TextGenerationRequestMessage,
    TextGenerationResponseFormat,
)
from max_interfaces.text import GenerationStatistics
from max_interfaces.values import Json

from ..client import AsyncClient
from ..config import load_config
from . import connecting, running

TEXT_CONFIG = "text.yaml"
MODEL = f"{connecting.MODEL}; built in: Qwen2.5-0.5B-Instruct, 1 GB"
MAX_NEW_TOKENS = 256  # a few paragraphs: an end that a small model forgets must not cost an hour


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `generate`."""
    parser.add_argument("prompt", help="what to go on from; - reads it from standard input")
    parser.add_argument("--model", help=f"{MODEL}; with --connect, the name of a served one")
    parser.add_argument("--device", help="where to run it: cpu, or cuda:0 (default: as the config says)")
    parser.add_argument("--stream", action="store_true", help="print the text while it is made")
    chat = parser.add_argument_group("conversation")
    chat.add_argument(
        "--chat", action="store_true", help="the prompt is a message to the model, not a text to go on with"
    )
    chat.add_argument("--system", metavar="TEXT", help="what the model is told first; implies --chat")
    chat.add_argument("--json-schema", metavar="FILE", help="the answer is JSON of this schema")
    sampling = parser.add_argument_group("sampling")
    limit = f"end after so many ({MAX_NEW_TOKENS})"
    sampling.add_argument("--max-new-tokens", type=int, default=MAX_NEW_TOKENS, metavar="N", help=limit)
    sampling.add_argument("--temperature", type=float, default=0.0, metavar="T", help="0 takes the likeliest token (0)")
    sampling.add_argument("--top-p", type=float, default=1.0, metavar="P", help="only the likeliest, P in all (1)")
    sampling.add_argument("--top-k", type=int, default=-1, metavar="K", help="only the K likeliest (all)")
    sampling.add_argument(
        "--min-p", type=float, default=0.0, metavar="P", help="only what is P times as likely as the likeliest (0)"
    )
    sampling.add_argument("--repetition-penalty", type=float, default=1.0, metavar="R", help="above 1 repeats less (1)")
    sampling.add_argument(
        "--beam-width", type=int, metavar="W", help="search with W beams; the text comes when it ends"
    )
    sampling.add_argument(
        "--length-penalty", type=float, default=1.0, metavar="P", help="of a search: above 0 prefers long texts (1)"
    )
    sampling.add_argument("--truncate", type=int, metavar="N", help="read the last N tokens of the prompt alone")
    sampling.add_argument("--seed", type=int, metavar="N", help="write the same again")
    sampling.add_argument(
        "--stop", action="append", default=[], metavar="TEXT", help="end before this; may be repeated"
    )
    memory = parser.add_argument_group("memory of keys and values")
    memory.add_argument("--kv-bits", type=int, metavar="B", help="quantise them to 8 or 4 bits")
    memory.add_argument("--kv-group-size", type=int, default=64, metavar="N", help="values that share a scale (64)")
    memory.add_argument(
        "--quantized-kv-start", type=int, default=5000, metavar="N", help="quantise from so many tokens on (5000)"
    )
    memory.add_argument(
        "--max-kv-size", type=int, metavar="N", help="keep those of the first 4 and the last N - 4 tokens"
    )
    connecting.add_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Generate. ValueError, OSError or a MaxpipeError say what went wrong."""
    prompt = connecting.standard_input() if options.prompt == "-" else options.prompt
    if not prompt:
        raise ValueError("there is nothing to go on from; give a prompt")
    if options.connect is not None and options.device is not None:
        raise ValueError("--device: a running server has its own; leave it out with --connect")
    return running.run(_generate(options, _request(options, prompt)))


def _request(options: argparse.Namespace, prompt: str) -> TextGenerationRequest:
    """The request, but for the name of its model, which only the server knows."""
    params = SamplingParams(
        max_new_tokens=options.max_new_tokens,
        temperature=options.temperature,
        top_p=options.top_p,
        top_k=options.top_k,
        min_p=options.min_p,
        repetition_penalty=options.repetition_penalty,
        truncate=options.truncate,
        seed=options.seed,
        stop=options.stop,
        kv_bits=options.kv_bits,
        kv_group_size=options.kv_group_size,
        quantized_kv_start=options.quantized_kv_start,
        max_kv_size=options.max_kv_size,
        beam_width=options.beam_width,
        length_penalty=options.length_penalty,
    )
    chat = options.chat or options.system is not None
    system = [] if options.system is None else [TextGenerationRequestMessage(MessageRole.SYSTEM, options.system)]
    schema = None
    if options.json_schema is not None:
        schema = TextGenerationResponseFormat("json_schema", _schema(options.json_schema))
    return TextGenerationRequest(
        RequestID(),
        options.model or "model",
        None if chat else prompt,
        (*system, TextGenerationRequestMessage(MessageRole.USER, prompt)) if chat else (),
        response_format=schema,
        sampling_params=params,
    )


def _schema(file: str) -> Json:
    try:
        return Json(Path(file).read_text(encoding="utf-8"))
    except ValueError as problem:
        raise ValueError(f"--json-schema {file}: {problem}") from None


def _is_json(text: str) -> bool:
    try:
        Json(text)
    except ValueError:
        return False
    return True


async def _generate(options: argparse.Namespace, request: TextGenerationRequest) -> int:
    async with _client(options) as client:
        name = client.model(options.model if options.connect is not None else None).name
        last, text = await _print(client.stream(replace(request, model_name=name)), options)
    if sys.stderr.isatty() and last.statistics is not None:
        print(_summary(last.statistics), file=sys.stderr)
    cut = last.final_status is GenerationStatus.MAXIMUM_LENGTH
    if cut and options.json_schema is not None and not _is_json(text):
        few = f"--max-new-tokens {options.max_new_tokens} was too few for it"
        print(f"maxpipe generate: the JSON is cut; {few}", file=sys.stderr)
        return 1
    return 1 if last.final_status is GenerationStatus.CANCELLED else 0


def _client(options: argparse.Namespace) -> AsyncClient:
    """A client of the served address, or one with a server of the model below it."""
    if options.connect is not None:
        return AsyncClient.connect(options.connect, options.keys)
    config = load_config(options.config or connecting.built_in(TEXT_CONFIG))
    return AsyncClient.embedded(connecting.with_model(config, options.model, options.device))


async def _print(
    outputs: AsyncIterator[TextGenerationOutput], options: argparse.Namespace
) -> tuple[TextGenerationOutput, str]:
    """Print the text, at once or as it comes; the last output, and the text."""
    texts: list[str] = []
    hidden = options.stream or not sys.stderr.isatty()
    with tqdm(desc="writing", total=options.max_new_tokens, unit=" tokens", leave=False, disable=hidden) as progress:
        async for output in outputs:
            progress.update(len(output.tokens))
            texts.append(output.text)
            if options.stream:
                print(output.text, end="", flush=True)
    text = "".join(texts)
    print("" if options.stream else text, flush=True)  # before anything that standard error is told
    return output, text


def _summary(given: GenerationStatistics) -> str:
    """What it cost, in a line."""
    cached = f", {given.cached_tokens} of them cached" if given.cached_tokens else ""
    return (
        f"{given.prompt_tokens} prompt tokens{cached} in {given.prompt_s:.2f} s, "
        f"{given.generated_tokens} new ones at {given.generated_tokens_per_second:.1f} a second, "
        f"{given.peak_memory / 2**20:.0f} MiB"
    )
