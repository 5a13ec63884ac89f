"""Who is measured, and how its process is started."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from .messages import Setup

VLLM_SCRIPT = Path(__file__).with_name("vllm_script.py")
VLLM_SPINS_S = 1.2  # 0.32: a second of sched_yield on the shared memory between its processes


@dataclass(frozen=True, slots=True)
class Contender:
    """Somebody who is measured. `command` gets the setup as its last argument."""

    name: str
    command: tuple[str, ...]
    own_environment: bool = False  # its python is another one, which our PYTHONPATH would confuse
    quiet_after_s: float = 0.0  # how long its processes spin after an answer, waiting for the next job


def contenders(vllm: str | None) -> list[Contender]:
    """All of them, ours first. `vllm` is the python of an environment that has vLLM."""
    child = (sys.executable, "-P", "-m", "max_pipelines.bench.text.child")
    return [
        Contender("ours", (*child, "ours")),
        Contender("ours (whole road)", (*child, "road")),
        Contender("generate", (*child, "generate")),
        Contender("generate_batch", (*child, "generate_batch")),
        _vllm("compiled", vllm),
        _vllm("eager", vllm),
    ]


def _vllm(mode: str, python: str | None) -> Contender:
    command = (python or "", str(VLLM_SCRIPT), mode)
    return Contender(f"vLLM ({mode})", command, own_environment=True, quiet_after_s=VLLM_SPINS_S)


def environment(contender: Contender, setup: Setup, processors: frozenset[int]) -> dict[str, str]:
    """Environment variables, the same for all; what concerns one of them alone says so in its name."""
    dropped = ("PYTHONPATH", "PYTHONHOME") if contender.own_environment else ()
    inherited = {name: value for name, value in os.environ.items() if name not in dropped}
    threads = str(setup.threads)
    model_cores = sorted(processors)[: setup.threads]
    bind = {"VLLM_CPU_OMP_THREADS_BIND": ",".join(map(str, model_cores))} if model_cores else {}
    return inherited | {
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "VLLM_CPU_KVCACHE_SPACE": "2",  # GiB
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": "ERROR",
        **bind,
    }
