"""How long it takes from the start of a process to its first token.

    python benchmarks/start_time.py [--shape small] [--dtype bfloat16] [--runs 5] [--json FILE]

Each run is a fresh process; the weights are in the page cache. `bare` is a process that imports torch and transformers
and does nothing: what nobody can save who uses them. Medians, in seconds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

from tqdm import tqdm

from max_pipelines.bench.text.shapes import SHAPES

BARE = "import torch, transformers"
PROMPT = 64  # tokens
# Prints the wall clock after each phase: the parent knows when the process was started.
OURS = """
import sys, time
from max_engines.engine import Engine
from max_engines.loading import load_model
marks = [time.time()]
engine = Engine(load_model(sys.argv[1]))
marks.append(time.time())
from max_interfaces import RequestID, SamplingParams
from max_interfaces.protocols import SequenceStart
one = RequestID("one")
greedy = SamplingParams(temperature=0, max_new_tokens=1)
engine.add(SequenceStart(one, tuple(range(3, 3 + int(sys.argv[2]))), greedy, 0))
while not engine.step([one])[one].tokens:
    pass
marks.append(time.time())
print(*marks)
"""
PHASES = ("import", "load", "first token")


def bare() -> float:
    """Seconds of a process that only imports; its end is not counted for ours either, but is short."""
    begin = time.time()
    done = subprocess.run(
        [sys.executable, "-c", f"{BARE}; import time; print(time.time())"], stdout=subprocess.PIPE, check=True
    )
    return float(done.stdout) - begin


def ours(model: Path) -> list[float]:
    """Seconds of each phase."""
    begin = time.time()
    done = subprocess.run([sys.executable, "-c", OURS, str(model), str(PROMPT)], stdout=subprocess.PIPE, check=True)
    marks = [begin, *map(float, done.stdout.split())]
    return [after - before for before, after in pairwise(marks)]


def main() -> None:
    """Write a checkpoint, start, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="small")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    options = parser.parse_args()
    runs: list[list[float]] = []
    imports: list[float] = []
    with TemporaryDirectory() as folder:
        model = Path(folder) / "model"
        command = [sys.executable, "-m", "max_pipelines.bench.text.shapes", options.shape, options.dtype, str(model)]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
        bare(), ours(model)  # so that all files are in the page cache
        for _ in tqdm(range(options.runs), "starting", leave=False):
            imports.append(bare())
            runs.append(ours(model))
    figures = {name: statistics.median(times) for name, times in zip(PHASES, zip(*runs, strict=True), strict=True)}
    figures["process start to first token"] = statistics.median(map(sum, runs))
    figures["bare import of torch and transformers"] = statistics.median(imports)
    for name, value in figures.items():
        print(f"{name:<40}{value:>8.2f} s")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
