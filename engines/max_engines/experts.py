"""Mixtures of experts whose results for a row do not depend on the other rows, in float32 on a CPU."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers import PreTrainedModel
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

from .least_rows import least_rows

EXPERTS = "maxpipe_experts"  # the name under which transformers finds them


class GatedExperts(Protocol):
    """What transformers' modules of experts have, with weights `[experts, out, in]`."""

    gate_up_proj: Tensor
    down_proj: Tensor

    def _apply_gate(self, gate_up: Tensor) -> Tensor: ...


def run_experts(module: GatedExperts, hidden: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
    """Send each row of `hidden` `[rows, width]` through its experts `chosen` int64[rows, k], and add up by `weights`.

    Too few rows for an expert are filled up with copies, see `least_rows`. A row's results are added in the order of
    expert ids. With the signature of transformers' `ExpertsInterface`.
    """
    output = torch.zeros_like(hidden)
    least = least_rows()
    for expert in torch.unique(chosen).tolist():
        rows, places = torch.where(chosen == expert)
        several = torch.cat((rows, rows[:1].expand(max(0, least - len(rows)))))
        gated = module._apply_gate(linear(hidden[several], module.gate_up_proj[expert]))
        results = linear(gated, module.down_proj[expert])[: len(rows)]
        output.index_add_(0, rows, results * weights[rows, places, None])
    return output


def take_over_experts(module: PreTrainedModel) -> None:
    """Have a model in float32 on a CPU use `run_experts`, if all its experts are of the common kind."""
    experts = [layer for layer in module.modules() if hasattr(layer, "gate_up_proj") and hasattr(layer, "has_gate")]
    exact = module.device.type == "cpu" and module.dtype == torch.float32
    if exact and experts and all(_common(layer) for layer in experts):
        module.set_experts_implementation(EXPERTS)


def _common(layer: nn.Module) -> bool:
    strange = ("has_bias", "is_transposed", "has_post_expert_norm")
    return bool(layer.has_gate) and not any(getattr(layer, name) for name in strange)


ALL_EXPERTS_FUNCTIONS.register(EXPERTS, run_experts)
