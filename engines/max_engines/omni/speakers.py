"""The voices of a checkpoint.

Published ones have them in a pickle. It is read here alone, by torch's reader with `weights_only=True`: that makes
tensors, numbers and tables, calls nothing that a file names, and refuses all else.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import ZipFile, is_zipfile

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers.utils.hub import cached_file

from ..loading import LOAD_ERRORS, first_line

FILE, PUBLISHED = "spk_dict.safetensors", "spk_dict.pt"  # the first is read where both are
PARTS = ("bos_token", "cond", "ref_mel")
# What Qwen publishes has 2 voices, and 260 KB.
MOST_BYTES, MOST_VOICES, MOST_CHARACTERS = 64 << 20, 256, 80


@dataclass(frozen=True, slots=True, eq=False)
class Speaker:
    """A voice: the id with which the talker begins to speak in it, and what its sound is made like.

    `conditioning` float32 `[1, channels]`, `reference_mel` float32 `[1, frames, bins]`.
    """

    begin_id: int
    conditioning: Tensor
    reference_mel: Tensor

    def to(self, device: torch.device) -> Speaker:
        """The same on a device."""
        return Speaker(self.begin_id, self.conditioning.to(device), self.reference_mel.to(device))


def without_voices(source: str, revision: str | None) -> str | None:
    """Why there are no voices of a checkpoint; None if there are."""
    return f"it has no {PUBLISHED} with its voices" if _voices_of(source, revision) is None else None


def read_speakers(source: str, revision: str | None, vocab_size: int) -> Mapping[str, Speaker]:
    """The voices by their names, in order of these. ValueError if there are none, or a voice is not one.

    A safetensors file has `NAME.bos_token`, `NAME.cond` and `NAME.ref_mel`, a published one a table of these for each.
    """
    path = _voices_of(source, revision)
    if path is None:
        raise ValueError(f"cannot load the model {source!r}: {without_voices(source, revision)}")
    try:
        voices = _published(path) if path.name == PUBLISHED else _flat(path)
        if not 1 <= len(voices) <= MOST_VOICES:
            raise ValueError(f"it names {len(voices)} voices: must be 1 to {MOST_VOICES}")
        return {name: _speaker(name, voices[name], vocab_size) for name in sorted(voices)}
    except LOAD_ERRORS as problem:
        raise ValueError(f"cannot load the model {source!r}: {path.name}: {first_line(problem):.300}") from problem


def _voices_of(source: str, revision: str | None) -> Path | None:
    for name in (FILE, PUBLISHED):
        path = cached_file(source, name, revision=revision, _raise_exceptions_for_missing_entries=False)
        if path is not None:
            return Path(path)
    return None


def _flat(path: Path) -> dict[str, dict[str, Tensor]]:
    _check_size(path.stat().st_size)
    voices: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for key, value in load_file(path).items():
        name, _, part = key.rpartition(".")
        voices[name][part] = value
    return voices


def _published(path: Path) -> dict[str, dict[str, Tensor]]:
    _check_size(path.stat().st_size)
    if is_zipfile(path):  # what torch unpacks may be larger
        with ZipFile(path) as parts:
            _check_size(sum(part.file_size for part in parts.infolist()))
    try:
        voices = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as problem:  # a broken or hostile file has a dozen types, whose texts say how to run it
        raise ValueError("it is broken, or has more than tensors and numbers; nothing of it was run") from problem
    if not isinstance(voices, dict) or not all(_is_table(name, values) for name, values in voices.items()):
        raise ValueError("it must be a table of voices, each a table of tensors and numbers by their names")
    return {voice: {name: torch.as_tensor(value) for name, value in parts.items()} for voice, parts in voices.items()}


def _check_size(size: int) -> None:
    if size > MOST_BYTES:
        raise ValueError(f"it has {size:,} bytes: must be at most {MOST_BYTES:,}")


def _is_table(name: Any, values: Any) -> bool:
    return (
        isinstance(name, str)
        and isinstance(values, dict)
        and all(isinstance(part, str) and isinstance(value, Tensor | int) for part, value in values.items())
    )


def _speaker(name: str, values: Mapping[str, Tensor], vocab_size: int) -> Speaker:
    if not 1 <= len(name) <= MOST_CHARACTERS or not name.isprintable():
        raise ValueError(f"a voice is named {name!r:.90}: must be 1 to {MOST_CHARACTERS} printable characters")
    if values.keys() != set(PARTS):
        raise ValueError(f"the voice {name!r} must have {', '.join(PARTS)}, and nothing else")
    begin, conditioning, mel = (values[part] for part in PARTS)
    if begin.dtype not in (torch.int32, torch.int64) or begin.numel() != 1 or not 0 <= int(begin) < vocab_size:
        raise ValueError(f"{name}.bos_token must be one id, below {vocab_size}")
    if not _are_numbers(conditioning, 2) or not _are_numbers(mel, 3):
        raise ValueError(f"{name}: cond and ref_mel must be numbers [1, channels] and [1, frames, bins]")
    return Speaker(int(begin), conditioning.float().contiguous(), mel.float().contiguous())


def _are_numbers(value: Tensor, dimensions: int) -> bool:
    """True for finite floats `[1, …]` that all were in the file: a view of one number can claim to be any many."""
    return (
        value.layout == torch.strided
        and not value.is_meta
        and value.dtype.is_floating_point
        and value.dim() == dimensions
        and value.shape[0] == 1
        and 0 < value.nbytes <= value.untyped_storage().nbytes()
        and bool(value.isfinite().all())
    )
