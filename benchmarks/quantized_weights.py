"""What int8 and int4 weights cost and save on one CPU core, against float32 and bfloat16 in the same run.

    OMP_NUM_THREADS=1 python benchmarks/quantized_weights.py [--tokens 64] [--rounds 3] [--json FILE]

The embedded voice, and a random Llama of 155 million parameters, 1024 wide, which no cache holds. Each way of loading
has an engine of its own; they take turns, `--rounds` times, and the best counts. Memory is by how much the process grew
from before loading until after a first step, the pages of files that it has mapped apart. Agreement is with float32: of
the voice's likeliest next token, and of its logits, after each token of what float32 says to 20 sentences.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor
from tqdm import tqdm
from transformers import LlamaConfig, LlamaForCausalLM

from max_engines.config import EngineConfig
from max_engines.engine import Engine
from max_engines.loading import DType, LoadedModel, load_model
from max_engines.quantizing import Quantization
from max_engines.tokenizer import load_tokenizer
from max_engines.weights import WeightOptions
from max_interfaces import AudioGenerationRequest, RequestID, SamplingParams, SequenceStart
from max_pipelines.speech.prompting import SpeechPrompter
from max_voices import FOLDER, load_voice
from max_voices.recipe.corpus import everyday_sentences

VOICE = FOLDER / "lm"
WAYS: tuple[tuple[DType, Quantization], ...] = (
    ("float32", "none"),
    ("bfloat16", "none"),
    ("float32", "int8"),
    ("float32", "int4"),
    ("bfloat16", "int8"),
    ("bfloat16", "int4"),
)
BATCHES = (1, 8)
SENTENCES = 20
LONGEST = 400  # tokens of a sentence


@dataclass
class Figures:
    """One way to load one model: tokens a second by batch, MiB, and agreement with float32, if it was asked for."""

    model: str
    dtype: str
    quantization: str
    tokens_per_second: dict[int, float]
    mebibytes: float
    same_likeliest: float | None = None
    logit_difference: float | None = None


def write_wide_model(folder: Path) -> None:
    """Random weights: only their number counts."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=4096,
        hidden_size=1024,
        intermediate_size=2816,
        num_hidden_layers=12,
        num_attention_heads=16,
        num_key_value_heads=16,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(folder)


def load(folder: Path, dtype: DType, quantization: Quantization) -> LoadedModel:
    """With the group size that is the default."""
    return load_model(folder, dtype=dtype, weights=WeightOptions(quantization))


def memory() -> float:
    """MiB of its own that the process holds, what is free given back. Pages of a mapped file are not among them."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


def begin(engine: Engine, batch: int, tokens: int) -> list[RequestID]:
    """Sequences whose prompts have been read."""
    names = [RequestID() for _ in range(batch)]
    for number, name in enumerate(names):
        params = SamplingParams(temperature=0, max_new_tokens=tokens + 1, ignore_eos=True)
        engine.add(SequenceStart(name, tuple(range(10 + number, 26 + number)), params, seed=0))
    engine.step(names)
    return names


def speed(engine: Engine, batch: int, tokens: int) -> float:
    """Tokens a second while all decode."""
    names = begin(engine, batch, tokens)
    started = time.perf_counter()
    for _ in range(tokens):
        engine.step(names)
    seconds = time.perf_counter() - started
    for name in names:
        engine.release(name)
    return batch * tokens / seconds


def measure(name: str, folder: Path, tokens: int, rounds: int) -> list[Figures]:
    """All ways, one after the other in each round."""
    engines: list[Engine] = []
    rows: list[Figures] = []
    for dtype, quantization in tqdm(WAYS, f"loading {name}", leave=False):
        before = memory()
        engine = Engine(load(folder, dtype, quantization), EngineConfig(max_batch=max(BATCHES), num_blocks=64))
        speed(engine, max(BATCHES), 2)
        rows.append(Figures(name, dtype, quantization, dict.fromkeys(BATCHES, 0.0), memory() - before))
        engines.append(engine)
    for _ in tqdm(range(rounds), f"running {name}", leave=False):
        for row, engine in zip(rows, engines, strict=True):
            for batch in BATCHES:
                row.tokens_per_second[batch] = max(row.tokens_per_second[batch], speed(engine, batch, tokens))
    return rows


def sayings() -> list[tuple[list[int], int]]:
    """What the voice says to some sentences, in float32 and by its likeliest tokens; and how much of it is prompt."""
    prompter = SpeechPrompter(load_voice(), load_tokenizer(VOICE))
    engine = Engine(load(VOICE, "float32", "none"))
    said = []
    for text in everyday_sentences()[:SENTENCES]:
        prompt = prompter.prompt(AudioGenerationRequest(RequestID(), "voice", text)).ids
        start = SequenceStart(RequestID(), prompt, SamplingParams(temperature=0, max_new_tokens=LONGEST), seed=0)
        engine.add(start)
        tokens = list(prompt)
        while True:
            delta = engine.step([start.request_id])[start.request_id]
            tokens.extend(delta.tokens)
            if delta.status.is_done:
                break
        engine.release(start.request_id)
        said.append((tokens, len(prompt)))
    return said


@torch.inference_mode()
def scores(model: LoadedModel, said: Sequence[tuple[list[int], int]]) -> Tensor:
    """The logits after each token from the prompt's last on: `[tokens, vocabulary]`."""
    parts = []
    for tokens, prompt in said:
        logits: Tensor = model.module(input_ids=torch.tensor([tokens]), use_cache=False).logits[0]
        parts.append(logits[prompt - 1 : -1].float())
    return torch.cat(parts)


def compare(rows: Sequence[Figures]) -> None:
    """Fill in how far each way is from float32. The difference is relative to the spread of float32's logits."""
    said = sayings()
    exact = scores(load(VOICE, "float32", "none"), said)
    for row, (dtype, quantization) in zip(tqdm(rows, "comparing", leave=False), WAYS, strict=True):
        found = scores(load(VOICE, dtype, quantization), said)
        row.same_likeliest = float((found.argmax(-1) == exact.argmax(-1)).float().mean())
        row.logit_difference = float((found - exact).square().mean().sqrt() / exact.std())


def show(rows: Sequence[Figures]) -> None:
    """A table, with ratios to float32."""
    print(
        "model         dtype     weights  MiB           " + "".join(f"tokens/s x{b:<13}" for b in BATCHES) + "agreement"
    )
    for row in rows:
        first = next(other for other in rows if other.model == row.model)
        speeds = "".join(
            f"{row.tokens_per_second[b]:8.0f} ({row.tokens_per_second[b] / first.tokens_per_second[b]:4.2f})       "
            for b in BATCHES
        )
        agreement = "" if row.same_likeliest is None else f"{row.same_likeliest:.3f}, {row.logit_difference:.3f}"
        share = f"{row.mebibytes:6.1f} ({row.mebibytes / first.mebibytes:4.2f})"
        print(f"{row.model:13} {row.dtype:9} {row.quantization:8} {share:13} {speeds}{agreement}")


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    speed(Engine(load(VOICE, "float32", "int8")), 1, 2)  # the first pays for what all use
    rows = measure("voice", VOICE, arguments.tokens, arguments.rounds)
    compare(rows)
    with TemporaryDirectory() as folder:
        write_wide_model(Path(folder))
        rows += measure("155 M, random", Path(folder), arguments.tokens, arguments.rounds)
    show(rows)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=2))


if __name__ == "__main__":
    main()
