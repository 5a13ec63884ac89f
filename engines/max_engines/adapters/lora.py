"""LoRA adapters (https://arxiv.org/abs/2106.09685), as peft saves them."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Annotated, TypeVar

import msgspec
import torch
from msgspec import Meta
from torch import Tensor

from .folder import ORIGIN, SETTINGS, WEIGHTS, PeftFolder, Settings, invalid, refuse_unknown
from .low_rank import LowRank
from .places import Place, Target

PREFIX = "base_model.model."
DOWN, UP = ".lora_A.weight", ".lora_B.weight"
# Which layers have weights, is seen from the weights; how they were trained, does not matter.
TRAINING = frozenset({"target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "lora_dropout"})
TRAINING |= {"fan_in_fan_out", "init_lora_weights", "megatron_core", "eva_config", "qalora_group_size"}
# These begin with other weights of the base model than it has, unless they were converted.
CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
# Words, classes of characters and few repetitions: such an expression takes no time worth mentioning.
SAFE_PATTERN = re.compile(r"[\w.^$|\[\]\\-]*(?:[*+][\w.^$|\[\]\\-]*){0,3}")
Pattern = Annotated[str, Meta(max_length=256)]
T = TypeVar("T")
Alpha = Annotated[float, Meta(ge=-1e6, le=1e6)]


class LoraSettings(msgspec.Struct, frozen=True):
    """What of peft's `LoraConfig` says how much of the product is added: `alpha / rank`, or `alpha / sqrt(rank)`.

    Ranks are seen from the weights, and `r` and `rank_pattern` are held against them.
    """

    r: Annotated[int, Meta(ge=1, le=2**16)]
    lora_alpha: Alpha
    use_rslora: bool = False
    rank_pattern: Annotated[dict[Pattern, Annotated[int, Meta(ge=1, le=2**16)]], Meta(max_length=4096)] = {}
    alpha_pattern: Annotated[dict[Pattern, Alpha], Meta(max_length=4096)] = {}

    def rank(self, layer: str) -> int:
        """The rank of the layer of this name."""
        return _matching(self.rank_pattern, layer, self.r)

    def scale(self, layer: str) -> float:
        """The factor of the product for the layer of this name."""
        rank = self.rank(layer)
        return _matching(self.alpha_pattern, layer, self.lora_alpha) / (math.sqrt(rank) if self.use_rslora else rank)


class LoraAdapter:
    """What is added to the results of some places, for those rows that are its own."""

    def __init__(self, products: Mapping[Place, LowRank]) -> None:
        self.products = products


def read_lora(
    folder: PeftFolder, settings: Settings, targets: Mapping[str, Target], max_rank: int, like: Tensor
) -> LoraAdapter:
    """The adapter in a folder, in the type and on the device of `like`. AdapterRefused if the model cannot have it."""
    chosen = _settings(settings)
    tensors = folder.tensors(max_rank * sum(target.inputs + target.outputs for target in targets.values()))
    parts: dict[Place, list[tuple[Target, Tensor, Tensor]]] = defaultdict(list)
    for layer, (down, up) in _pairs(tensors).items():
        target = targets.get(layer)
        if target is None:
            raise invalid(f"{WEIGHTS}: this model has no linear layer {layer!r} that an adapter can change")
        rank = chosen.rank(layer)
        if rank > max_rank:
            raise invalid(f"{SETTINGS}: rank {rank} of {layer}: at most {max_rank} (engine.max_adapter_rank)")
        for given, wanted in ((down, (rank, target.inputs)), (up, (target.outputs, rank))):
            if given.shape != wanted:
                raise invalid(f"{WEIGHTS}: {layer} has {tuple(given.shape)} where {wanted} is needed")
        scaled = (up.float() * chosen.scale(layer)).to(like)
        if not bool(scaled.isfinite().all()):
            raise invalid(f"{WEIGHTS}: {layer}: lora_B times its scale is beyond {like.dtype}")
        parts[target.place].append((target, down.to(like), scaled))
    return LoraAdapter({place: _joined(several) for place, several in parts.items()})


def _settings(settings: Settings) -> LoraSettings:
    known = ORIGIN | TRAINING | set(LoraSettings.__struct_fields__)
    refuse_unknown(settings, known)
    start = settings.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(CHANGES_BASE):
        raise invalid(
            f"{SETTINGS}: init_lora_weights = {start!r:.80}: is for other weights of the base model; save it with "
            "path_initial_model_for_weight_conversion"
        )
    try:
        chosen = msgspec.convert({name: settings[name] for name in settings if name in known}, LoraSettings)
    except ValueError as problem:
        raise invalid(f"{SETTINGS}: {problem}") from problem
    for pattern in (*chosen.rank_pattern, *chosen.alpha_pattern):
        if not SAFE_PATTERN.fullmatch(pattern):
            raise invalid(f"{SETTINGS}: the pattern {pattern!r:.80} is too involved; name the layers")
        try:
            re.compile(pattern)
        except re.error as problem:
            raise invalid(f"{SETTINGS}: the pattern {pattern!r:.80} is none: {problem}") from problem
    return chosen


def _pairs(tensors: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    """Both weights of each layer. AdapterRefused for anything else, by its name."""
    pairs: dict[str, tuple[Tensor, Tensor]] = {}
    for name, tensor in tensors.items():
        if not name.startswith(PREFIX) or not name.endswith((DOWN, UP)):
            raise invalid(f"{WEIGHTS}: {name}: only lora_A and lora_B of linear layers are supported")
        layer = name.removeprefix(PREFIX).removesuffix(DOWN).removesuffix(UP)
        other = tensors.get(PREFIX + layer + (UP if name.endswith(DOWN) else DOWN))
        if other is None:
            raise invalid(f"{WEIGHTS}: {name} is alone; lora_A and lora_B belong together")
        pairs[layer] = (tensor, other) if name.endswith(DOWN) else (other, tensor)
    if not pairs:
        raise invalid(f"{WEIGHTS}: has no weights")
    return pairs


def _joined(parts: list[tuple[Target, Tensor, Tensor]]) -> LowRank:
    """One product for all layers of a place: their inputs are the same, each has columns of its own."""
    down = torch.cat([part for _, part, _ in parts])
    up = down.new_zeros(parts[0][0].width, down.shape[0])
    column = 0
    for target, _, part in parts:
        up[target.first : target.first + target.outputs, column : column + part.shape[1]] = part
        column += part.shape[1]
    return LowRank(down, up)


def _matching(patterns: Mapping[str, T], layer: str, default: T) -> T:
    """The value of the first pattern that a layer's name ends with, as peft reads them."""
    found = (value for pattern, value in patterns.items() if re.match(rf"(.*\.)?({pattern})$", layer))
    return next(found, default)
