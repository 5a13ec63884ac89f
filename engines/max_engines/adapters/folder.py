"""Folders that peft's `save_pretrained` has made: a JSON file of settings, and weights in safetensors."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from max_interfaces.errors import AdapterRefused
from max_interfaces.lora import LoRAStatus

SETTINGS, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
MAX_SETTINGS_BYTES = 2**20
HEADER_BYTES = 2**20  # of a safetensors file, beside its numbers
# What says where an adapter comes from, and nothing about what it computes.
ORIGIN = frozenset({"peft_type", "task_type", "peft_version", "auto_mapping", "base_model_name_or_path", "revision"})
ORIGIN |= {"inference_mode"}
Settings = Mapping[str, object]


@dataclass(frozen=True, slots=True, eq=False)
class PeftFolder:
    """The two files of an adapter. Pickled weights are never read."""

    path: Path

    @classmethod
    def at(cls, path: str) -> PeftFolder:
        """AdapterRefused if there is no adapter at `path`."""
        folder = Path(path).expanduser()
        for name in (SETTINGS, WEIGHTS):
            if (folder / name).is_file():
                continue
            if name == WEIGHTS and (folder / "adapter_model.bin").is_file():
                raise invalid(f"adapter_model.bin is a pickle, and only {WEIGHTS} is read; save it as safetensors")
            reason = f"there is no {name} in {path!r}: name the folder that peft's save_pretrained has made"
            raise AdapterRefused(LoRAStatus.LOAD_INVALID_PATH, reason)
        return cls(folder)

    def settings(self) -> Settings:
        """What stands in `adapter_config.json`. AdapterRefused if that is no object of JSON."""
        data = self._read(SETTINGS, MAX_SETTINGS_BYTES)
        try:
            return msgspec.json.decode(data, type=dict[str, object])
        except (ValueError, RecursionError) as problem:
            raise invalid(f"{SETTINGS}: {problem}") from problem

    def tensors(self, most_numbers: int) -> dict[str, Tensor]:
        """All weights, by name. AdapterRefused for a file of more than `most_numbers` numbers, before it is read."""
        data = self._read(WEIGHTS, 4 * most_numbers + HEADER_BYTES)
        try:
            tensors = dict(sorted(load(data).items()))  # so that what is refused first does not change
        except (SafetensorError, ValueError, RecursionError) as problem:
            raise invalid(f"{WEIGHTS}: {problem}") from problem
        for name, tensor in tensors.items():
            if not tensor.is_floating_point():
                raise invalid(f"{WEIGHTS}: {name} holds {tensor.dtype}, and not floating-point numbers")
            if not bool(tensor.float().isfinite().all()):
                raise invalid(f"{WEIGHTS}: {name} holds NaN or infinite numbers")
        return tensors

    def _read(self, name: str, most: int) -> bytes:
        try:
            with (self.path / name).open("rb") as file:
                size = os.fstat(
                    file.fileno()
                ).st_size  # `most` may be more than there is memory, and is asked for whole
                data = file.read(min(size, most) + 1)
        except OSError as problem:
            raise AdapterRefused(
                LoRAStatus.LOAD_INVALID_PATH, f"{name} cannot be read: {problem.strerror}"
            ) from problem
        if len(data) > most:
            raise invalid(f"{name}: has more than {most} bytes, which no adapter that fits this model has")
        return data


def refuse_unknown(settings: Settings, known: frozenset[str]) -> None:
    """AdapterRefused, with its name, for a setting that is on and is not one of `known`: it would change results."""
    for name, value in settings.items():
        if name not in known and value not in (None, False, "none", [], {}):
            raise invalid(f"{SETTINGS}: {name} = {value!r:.80}: is not supported; leave it off")


def invalid(reason: str) -> AdapterRefused:
    """The refusal of what is no adapter for this model."""
    return AdapterRefused(LoRAStatus.LOAD_INVALID_ADAPTER, reason)
