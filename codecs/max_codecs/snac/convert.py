"""SNAC's published `pytorch_model.bin` to safetensors: `python -m max_codecs.snac.convert SOURCE TARGET`.

`torch.load` stands here with `weights_only=True`: it reads tensors and runs nothing.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from max_interfaces.errors import ConfigError

from .config import read_config
from .files import CONFIG, PUBLISHED, WEIGHTS, locate


def read_published(path: Path) -> dict[str, Tensor]:
    """The tensors of a `pytorch_model.bin`. ValueError if it is anything but a table of tensors."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # what it raises for a broken or hostile file has a dozen types, some of them pickle's
        raise ValueError(f"not a table of tensors: {str(error).splitlines()[0]}") from error
    if not isinstance(state, dict) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise ValueError("not a table of tensors")
    return state


def convert(source: str | Path, target: Path) -> Path:
    """Write `config.json` and `model.safetensors` into the folder `target`; the path of the latter.

    `source` is a folder with `config.json` and `pytorch_model.bin`, or a hub id. ConfigError for anything else. Each
    file is complete when it appears under its name.
    """
    files = locate(source)
    if files.weights.name != PUBLISHED:
        raise ConfigError(f"{files.weights}: is no {PUBLISHED}; there is nothing to convert")
    read_config(files.config)
    try:
        state = read_published(files.weights)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{files.weights}: {error}") from error
    target.mkdir(parents=True, exist_ok=True)
    written = target / WEIGHTS
    partial = target / f".{WEIGHTS}.{os.getpid()}"
    try:
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, partial)
        (target / CONFIG).write_bytes(files.config.read_bytes())
        partial.replace(written)
    finally:
        partial.unlink(missing_ok=True)
    return written


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0, or 2 with one line on standard error."""
    parser = argparse.ArgumentParser(prog="python -m max_codecs.snac.convert", description=__doc__)
    parser.add_argument("source", help="a folder with config.json and pytorch_model.bin, or a hub id")
    parser.add_argument("target", type=Path, help="the folder to write")
    options = parser.parse_args(arguments)
    try:
        written = convert(options.source, options.target)
    except (ConfigError, OSError) as error:
        sys.stderr.write(f"convert: {error}\n")
        return 2
    sys.stdout.write(f"{written}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
