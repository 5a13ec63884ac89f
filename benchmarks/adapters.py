"""What LoRA adapters cost a decode step of 16 sequences of the embedded voice's model, one core.

    OMP_NUM_THREADS=1 python benchmarks/adapters.py [--rank 8] [--steps 300] [--dtype float32] [--json FILE]

One engine has three batches, whose steps take turns, so that whatever else the machine does falls on all alike: one
without adapters, one with a single adapter for all, one whose sequences share four. Each adapter has weights for all
seven linear layers of each layer. Medians over the steps, in milliseconds, and as a multiple of the first.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import get_args

import torch
from safetensors.torch import save_file
from tqdm import tqdm

from max_engines.adapters.folder import SETTINGS, WEIGHTS
from max_engines.adapters.lora import DOWN, PREFIX, UP
from max_engines.adapters.places import Target, targets_of
from max_engines.config import EngineConfig
from max_engines.engine import Engine
from max_engines.loading import DType, load_model
from max_interfaces import RequestID, SamplingParams, SequenceStart
from max_voices import FOLDER

BATCH = 16
WARM_UP = 20  # steps
COUNTS = (0, 1, 4)


def write_adapter(folder: Path, targets: Mapping[str, Target], rank: int) -> str:
    """A random adapter, as peft would save it."""
    tensors = {}
    for name, target in targets.items():
        tensors[PREFIX + name + DOWN] = torch.randn(rank, target.inputs) * 0.01
        tensors[PREFIX + name + UP] = torch.randn(target.outputs, rank) * 0.01
    folder.mkdir()
    save_file(tensors, folder / WEIGHTS)
    (folder / SETTINGS).write_text(json.dumps({"peft_type": "LORA", "r": rank, "lora_alpha": rank}), encoding="utf-8")
    return str(folder)


def batch(engine: Engine, adapters: int, steps: int) -> list[RequestID]:
    """Sequences that take `adapters` of those loaded in turn, at random temperature 1."""
    ids = []
    for number in range(BATCH):
        params = SamplingParams(max_new_tokens=WARM_UP + steps + 2, ignore_eos=True, temperature=1.0)
        adapter = f"adapter {number % adapters}" if adapters else None
        start = SequenceStart(RequestID(), tuple(range(10, 42)), params, seed=number, adapter=adapter)
        engine.add(start)
        ids.append(start.request_id)
    return ids


def measure(folder: Path, rank: int, steps: int, dtype: DType) -> dict[str, float]:
    """Milliseconds a step, by the number of adapters in it."""
    model = load_model(FOLDER / "lm", dtype=dtype)
    engine = Engine(model, EngineConfig(max_batch=len(COUNTS) * BATCH, max_adapter_rank=rank))
    targets = targets_of(model.module)
    for number in range(max(COUNTS)):
        engine.adapters.load(f"adapter {number}", write_adapter(folder / str(number), targets, rank))
    batches = {count: batch(engine, count, steps) for count in COUNTS}
    times: dict[int, list[float]] = {count: [] for count in COUNTS}
    for number in tqdm(range(WARM_UP + steps), "stepping", leave=False):
        for count, ids in batches.items():
            begin = time.perf_counter()
            engine.step(ids)
            if number >= WARM_UP:
                times[count].append((time.perf_counter() - begin) * 1000)
    return {f"{count} adapters": statistics.median(several) for count, several in times.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--dtype", choices=get_args(DType), default="float32")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        figures = measure(Path(folder), options.rank, options.steps, options.dtype)
    bare = next(iter(figures.values()))
    for name, value in figures.items():
        print(f"{name:<16}{value:>8.3f} ms{value / bare:>8.2f} times")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
