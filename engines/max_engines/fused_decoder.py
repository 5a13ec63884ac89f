"""The decoder that most models share, from ids to scores, with as few operations as it takes.

A step of a small model is half Python and dispatch: transformers' own layer has some 60 operations and 14 modules, this
one 16 and none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, silu
from transformers import PreTrainedConfig, PreTrainedModel

from .attention import Attention, AttentionStep
from .linear import Projection
from .rotary import RotaryTable

# Known to be exactly this: embedding, layers of norm → attention with rotary positions → add, norm → gated MLP → add,
# norm, head. An engine compares its scores with transformers' when it starts: a change there cannot pass unseen.
SAME_MODELS = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")
SILU = ("SiLUActivation", "SiLU")  # called as a function: a module's call costs more than a small batch's silu
Activation: TypeAlias = Callable[[Tensor], Tensor]
FEW_ROWS = 32
_FUSED: WeakKeyDictionary[nn.Module, FusedDecoder] = WeakKeyDictionary()


class FusedDecoder:
    """Stands in for the forward pass of a model of `SAME_MODELS`, whose linear layers it joins and lays out anew."""

    def __init__(self, module: PreTrainedModel) -> None:
        inner = module.get_submodule("model")
        config = module.config.get_text_config(decoder=True)
        self._embedding = inner.get_parameter("embed_tokens.weight").detach()
        layers = list(inner.get_submodule("layers").children())
        self._layers = []
        for layer in layers:
            self._layers.append(FusedLayer(layer, config))
            layer._modules.clear()  # its weights live on in the fused one alone
        self._norm = Norm(inner.get_submodule("norm"))
        self._head = Projection(_linear(module, "lm_head"))
        self._rotary = RotaryTable(inner.get_submodule("rotary_emb"), self._embedding)

    def __call__(self, ids: Tensor, positions: Tensor, step: AttentionStep, rows: Tensor | None) -> Tensor:
        """Scores `[rows, vocabulary]` of the ids int64[tokens] at `positions`; `rows` None is all of them."""
        hidden = embedding(ids, self._embedding)
        rotation = self._rotary.at(positions, step.longest)
        for layer in self._layers:
            hidden = layer(hidden, rotation, step)
        if rows is not None:
            hidden = hidden.index_select(0, rows)
        return self._head(self._norm(hidden))


class FusedLayer:
    """One layer: one projection for queries, keys and values, one for gate and up."""

    def __init__(self, layer: nn.Module, config: PreTrainedConfig) -> None:
        attention = layer.get_submodule("self_attn")
        self._layer: int = attention.layer_idx  # type: ignore[assignment]
        self._head_dim: int = attention.head_dim  # type: ignore[assignment]
        # Mistral's is in the configuration alone; a Llama's configuration may have one that nobody reads.
        source = config if type(attention).__name__ == "MistralAttention" else attention
        window: int | None = getattr(source, "sliding_window", None)
        self._attention = Attention(self._layer, attention.scaling, window)  # type: ignore[arg-type]
        self._half = self._head_dim // 2
        self._heads: int = config.num_attention_heads
        self._kv_heads: int = config.num_key_value_heads
        self._input_norm = Norm(layer.get_submodule("input_layernorm"))
        self._mlp_norm = Norm(layer.get_submodule("post_attention_layernorm"))
        has_norms = hasattr(attention, "q_norm")
        self._query_norm = Norm(attention.get_submodule("q_norm")) if has_norms else None
        self._key_norm = Norm(attention.get_submodule("k_norm")) if has_norms else None
        self._qkv = Projection(*(_linear(attention, name) for name in ("q_proj", "k_proj", "v_proj")))
        self._out = Projection(_linear(attention, "o_proj"))
        mlp = layer.get_submodule("mlp")
        self._gate_up = Projection(_linear(mlp, "gate_proj"), _linear(mlp, "up_proj"))
        self._down = Projection(_linear(mlp, "down_proj"))
        activation = mlp.get_submodule("act_fn")
        self._activation: Activation = silu if type(activation).__name__ in SILU else activation

    def __call__(self, hidden: Tensor, rotation: tuple[Tensor, Tensor], step: AttentionStep) -> Tensor:
        """`hidden` `[tokens, hidden]` through the layer."""
        hidden = hidden + self._attend(self._input_norm(hidden), rotation, step)
        gate, up = self._gate_up(self._mlp_norm(hidden)).chunk(2, -1)
        return hidden + self._down(self._activation(gate) * up)

    def _attend(self, values: Tensor, rotation: tuple[Tensor, Tensor], step: AttentionStep) -> Tensor:
        heads, kv_heads = self._heads, self._kv_heads
        mixed = self._qkv(values).view(-1, heads + 2 * kv_heads, self._head_dim)
        if self._query_norm is not None and self._key_norm is not None:
            mixed[:, :heads] = self._query_norm(mixed[:, :heads])
            mixed[:, heads:-kv_heads] = self._key_norm(mixed[:, heads:-kv_heads])
        cos, sin = rotation
        query_key = mixed.narrow(1, 0, heads + kv_heads)
        rolled = query_key.roll(self._half, -1)
        query_key.mul_(cos).addcmul_(rolled, sin)
        step.store(self._layer, mixed.narrow(1, heads, 2 * kv_heads))
        attended = self._attention(mixed.narrow(1, 0, heads), step)
        return self._out(attended.reshape(-1, heads * self._head_dim))


class Norm:
    """A root mean square norm.

    torch makes a dozen operations of it on a CPU, each of which costs more than the arithmetic of a few rows. But the
    layer norm of (x, -x), whose mean is 0, has the same values in one operation, and few rows in bfloat16 go that
    way (one row of 256 on cold caches: 26 µs for 40).
    """

    def __init__(self, norm: nn.Module) -> None:
        self._weight: Tensor = norm.get_parameter("weight").detach()
        self._epsilon: float = norm.variance_epsilon  # type: ignore[assignment]
        self._width = self._weight.shape[0]
        self._twice = torch.cat((self._weight, self._weight))
        reduced = self._weight.device.type == "cpu" and self._weight.dtype != torch.float32
        self._few_rows = FEW_ROWS if reduced else 0

    def __call__(self, values: Tensor) -> Tensor:
        if values.dim() != 2 or values.shape[0] > self._few_rows:
            return torch.rms_norm(values, (self._width,), self._weight, self._epsilon)
        both = torch.cat((values, -values), 1)
        return torch.layer_norm(both, (2 * self._width,), self._twice, None, self._epsilon).narrow(1, 0, self._width)


def fused_decoder(module: PreTrainedModel) -> FusedDecoder | None:
    """The fused decoder of a module, made at the first call; None for a model that is not known to be the same."""
    known = _FUSED.get(module)
    if known is None and type(module).__name__ in SAME_MODELS and RotaryTable.knows(module):
        known = _FUSED[module] = FusedDecoder(module)
    return known


def _linear(parent: nn.Module, name: str) -> nn.Linear:
    layer = parent.get_submodule(name)
    if not isinstance(layer, nn.Linear):
        raise TypeError(f"{name} is a {type(layer).__name__}, not a linear layer")
    return layer
