"""What every training shares: a budget in wall time, the device, checkpoints, a log."""

import json
import math
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn


def device() -> torch.device:
    """A GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@dataclass(slots=True)
class Budget:
    """Wall time of one training; the learning rate follows it, so any budget ends at a small rate."""

    seconds: float
    warmup: int = 100  # steps
    started: float = field(default_factory=time.monotonic)

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.started

    @property
    def done(self) -> bool:
        return self.elapsed >= self.seconds

    def rate(self, step: int) -> float:
        """Factor on the learning rate: linear warm-up by steps, then a cosine in time down to 2 %."""
        fraction = min(1.0, self.elapsed / self.seconds)
        return min(1.0, (step + 1) / self.warmup) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * fraction)))


def set_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = group.setdefault("peak", group["lr"]) * factor


class Log:
    """One JSON object per line on standard error and in ``path``."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a")

    def __call__(self, **figures: float | str) -> None:
        rounded = {k: round(v, 4) if isinstance(v, float) else v for k, v in figures.items()}
        line = json.dumps({"clock": time.strftime("%H:%M:%S"), **rounded})
        print(line, file=sys.stderr, flush=True)
        self._file.write(line + "\n")
        self._file.flush()


def save(module: nn.Module, path: Path) -> None:
    """The weights as safetensors, written whole or not at all."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    save_file(tensors, part)
    part.replace(path)


def restore(module: nn.Module, path: Path) -> None:
    """The inverse of ``save``; raises ``RuntimeError`` where names or shapes differ."""
    module.load_state_dict(load_file(path))
