"""The voices of a checkpoint."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers.utils.hub import cached_file

from ..loading import LOAD_ERRORS, first_line

FILE, PICKLED = "spk_dict.safetensors", "spk_dict.pt"
CONVERT = (
    f"its voices are in {PICKLED}, a pickle, and only safetensors are read; if you trust it, convert it: save_file("
    f'{{f"{{voice}}.{{name}}": torch.as_tensor(value) for voice, values in torch.load("{PICKLED}", '
    f"weights_only=True).items() "
    f'for name, value in values.items()}}, "{FILE}")'
)
PARTS = ("bos_token", "cond", "ref_mel")


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
    """Why the voices of a checkpoint cannot be read; None if they can."""
    if _found(source, FILE, revision) is not None:
        return None
    return CONVERT if _found(source, PICKLED, revision) is not None else f"it has no {FILE} with its voices"


def read_speakers(source: str, revision: str | None, vocab_size: int) -> Mapping[str, Speaker]:
    """The voices by their names: `NAME.bos_token`, `NAME.cond` and `NAME.ref_mel`. ValueError if there are none."""
    path = _found(source, FILE, revision)
    if path is None:
        raise ValueError(f"cannot load the model {source!r}: {without_voices(source, revision)}")
    voices: dict[str, dict[str, Tensor]] = defaultdict(dict)
    try:
        for key, value in load_file(path).items():
            name, _, part = key.rpartition(".")
            voices[name][part] = value
        if not voices:
            raise ValueError("it names none")
        return {name: _speaker(name, values, vocab_size) for name, values in voices.items()}
    except LOAD_ERRORS as problem:
        raise ValueError(f"cannot load the model {source!r}: {FILE}: {first_line(problem):.300}") from problem


def _speaker(name: str, values: Mapping[str, Tensor], vocab_size: int) -> Speaker:
    if values.keys() != set(PARTS):
        raise ValueError(f"the voice {name!r:.80} must have {', '.join(PARTS)}, and nothing else")
    begin, conditioning, mel = (values[part] for part in PARTS)
    if begin.numel() != 1 or not 0 <= int(begin) < vocab_size:
        raise ValueError(f"{name:.80}.bos_token must be one id, below {vocab_size}")
    if conditioning.dim() != 2 or mel.dim() != 3 or not bool(conditioning.isfinite().all() & mel.isfinite().all()):
        raise ValueError(f"{name:.80}: cond and ref_mel must be numbers [1, channels] and [1, frames, bins]")
    return Speaker(int(begin), conditioning.float(), mel.float())


def _found(source: str, name: str, revision: str | None) -> str | None:
    path: str | None = cached_file(source, name, revision=revision, _raise_exceptions_for_missing_entries=False)
    return path
