"""`maxpipe bench text`: from its options to a report."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from .contender import Contender, contenders
from .race import Race, run_race
from .report import Report
from .scenarios import chosen
from .shapes import SHAPES


@dataclass(frozen=True, slots=True)
class TextBench:
    """The options. `model` is a folder and comes before `shape`; empty `scenarios` or `contenders` are all."""

    model: str | None = None
    shape: str = "small"
    dtype: str = "bfloat16"
    device: str = "cpu"
    threads: int = 1
    rounds: int = 3
    vllm: str | None = None
    scenarios: Sequence[str] = ()
    contenders: Sequence[str] = ()


def bench_text(options: TextBench) -> Report:
    """Everything that was asked for. ValueError for a name that there is not, OSError if nothing can be written."""
    scenarios, racing = chosen(options.scenarios), _chosen(options.contenders, options.vllm)
    with TemporaryDirectory(prefix="maxpipe-bench-") as scratch:
        model = Path(options.model) if options.model else _checkpoint(options.shape, options.dtype, Path(scratch))
        race = Race(
            name=model.resolve().name if options.model else f"{options.shape} Llama",
            model=model.resolve(),
            dtype=options.dtype,
            device=options.device,
            threads=options.threads,
            rounds=options.rounds,
            scenarios=scenarios,
            contenders=racing,
        )
        return run_race(race, Path(scratch))


def _chosen(names: Sequence[str], vllm: str | None) -> list[Contender]:
    every = contenders(vllm)
    unknown = sorted(set(names) - {contender.name for contender in every})
    if unknown:
        there = ", ".join(contender.name for contender in every)
        raise ValueError(f"--contenders {', '.join(unknown)}: there are {there}")
    return [contender for contender in every if not names or contender.name in names]


def _checkpoint(shape: str, dtype: str, folder: Path) -> Path:
    """A random checkpoint, written by another process: this one loads no torch."""
    if shape not in SHAPES:
        raise ValueError(f"--shape {shape}: there are {', '.join(SHAPES)}")
    model = folder / "model"
    command = [sys.executable, "-P", "-m", "max_pipelines.bench.text.shapes", shape, dtype, str(model)]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise OSError(f"cannot write a checkpoint: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}")
    return model
