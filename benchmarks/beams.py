"""What a beam search costs, beside as many plain requests of as many tokens in one batch, one core.

    OMP_NUM_THREADS=1 python benchmarks/beams.py [--width 4] [--tokens 200] [--rounds 5] [--json FILE]

The real engine in float32, over the language model of the embedded voice, and over a random text model that is wider
and has a larger vocabulary. Searches and plain requests take turns; each figure is the median of its rounds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from tqdm import tqdm
from transformers import LlamaConfig, LlamaForCausalLM

from max_engines.config import EngineConfig
from max_engines.engine import Engine
from max_engines.loading import load_model
from max_interfaces import RequestID, SamplingParams, SequenceStart
from max_voices import FOLDER

PROMPT = tuple(range(10, 60))


def write_model(folder: Path) -> Path:
    """A random text model of 19 million weights."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32_000,
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def seconds(engine: Engine, sequences: Sequence[SequenceStart]) -> float:
    """How long it takes until all have ended."""
    for sequence in sequences:
        engine.add(sequence)
    active = {sequence.request_id for sequence in sequences}
    begin = time.perf_counter()
    while active:
        for request_id, delta in engine.step(active).items():
            if delta.status.is_done:
                active.remove(request_id)
    duration = time.perf_counter() - begin
    for sequence in sequences:
        engine.release(sequence.request_id)
    return duration


def sequence(prompt: tuple[int, ...], params: SamplingParams) -> SequenceStart:
    """One that ends with its last token."""
    return SequenceStart(RequestID(), prompt, params, seed=0)


def measure(folder: Path, width: int, tokens: int, rounds: int) -> dict[str, float]:
    """Milliseconds a token of each kind, and what a search costs in terms of plain requests."""
    engine = Engine(load_model(folder, dtype="float32"), EngineConfig(max_batch=max(16, width)))
    plain = SamplingParams(temperature=0.0, max_new_tokens=tokens)
    search = SamplingParams(beam_width=width, max_new_tokens=tokens)
    times: dict[str, list[float]] = {"plain": [], "search": []}
    for _ in tqdm(range(rounds + 1), "measuring", leave=False):
        # Prompts differ in their last id, so that the plain requests do not say the same.
        several = [sequence((*PROMPT, 100 + number), plain) for number in range(width)]
        times["plain"].append(seconds(engine, several))
        times["search"].append(seconds(engine, [sequence((*PROMPT, 100), search)]))
    figures = {
        kind: statistics.median(taken[1:]) * 1000 / tokens for kind, taken in times.items()
    }  # the first warms up
    return figures | {"ratio": figures["search"] / figures["plain"]}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    options = parser.parse_args()
    torch.set_num_threads(1)
    figures = {}
    with TemporaryDirectory() as folder:
        for name, model in (("voice", FOLDER / "lm"), ("text", write_model(Path(folder)))):
            figures[name] = measure(model, options.width, options.tokens, options.rounds)
    print(f"{'model':<8}{f'{options.width} plain, ms/token':>20}{'search, ms/token':>20}{'ratio':>8}")
    for name, row in figures.items():
        print(f"{name:<8}{row['plain']:>20.2f}{row['search']:>20.2f}{row['ratio']:>8.2f}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
