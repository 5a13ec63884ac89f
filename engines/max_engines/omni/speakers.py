"""The voices of a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers.utils.hub import cached_file

FILE = "spk_dict.pt"


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


def read_speakers(source: str, revision: str | None, vocab_size: int) -> Mapping[str, Speaker]:
    """The voices by their names. ValueError for a checkpoint without any.

    Published checkpoints have them in a pickle alone. torch reads numbers and tensors of it, and refuses anything that
    would run.
    """
    path = cached_file(source, FILE, revision=revision, _raise_exceptions_for_missing_entries=False)
    if path is None:
        raise ValueError(f"cannot load the model {source!r}: it speaks, and has no {FILE} with its voices")
    try:
        found: object = torch.load(Path(path), map_location="cpu", weights_only=True)
        if not isinstance(found, dict) or not found:
            raise ValueError("it names none")
        return {str(name): _speaker(values, vocab_size) for name, values in found.items()}
    except Exception as problem:
        reason = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
        raise ValueError(f"cannot load the model {source!r}: {FILE} holds no voices: {reason:.300}") from problem


def _speaker(values: Mapping[str, object], vocab_size: int) -> Speaker:
    begin, conditioning, mel = values["bos_token"], values["cond"], values["ref_mel"]
    begin_id = int(begin)  # type: ignore[call-overload]
    if not isinstance(conditioning, Tensor) or not isinstance(mel, Tensor) or not 0 <= begin_id < vocab_size:
        raise ValueError("a voice has bos_token, cond and ref_mel")
    if conditioning.dim() != 2 or mel.dim() != 3 or not bool(conditioning.isfinite().all() & mel.isfinite().all()):
        raise ValueError("cond and ref_mel are [1, channels] and [1, frames, bins]")
    return Speaker(begin_id, conditioning.float(), mel.float())
