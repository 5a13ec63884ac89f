"""The decoder layer that most models share, with as few operations as it takes.

A step of a small model is half Python and dispatch: in transformers' own layer some 60 operations and 14 modules, here
25 and two. Six layers that compute next to nothing take 1.2 ms a step for 1.75 ms (one core, one stream).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, rms_norm
from transformers import PreTrainedConfig, PreTrainedModel

from .attention import AttentionStep, attend

# Layers known to be exactly this: norm → attention with rotary positions → add, norm → gated MLP → add.
# An engine compares its scores with transformers' when it starts, so that a change there cannot pass unseen.
SAME_LAYERS = ("LlamaDecoderLayer", "MistralDecoderLayer", "Qwen2DecoderLayer", "Qwen3DecoderLayer")


class FusedLayer(nn.Module):
    """Stands in for a layer of `SAME_LAYERS`: one projection for queries, keys and values, one for gate and up."""

    def __init__(self, layer: nn.Module, config: PreTrainedConfig) -> None:
        super().__init__()
        attention = layer.get_submodule("self_attn")
        self._layer: int = attention.layer_idx  # type: ignore[assignment]
        self._head_dim: int = attention.head_dim  # type: ignore[assignment]
        self._scaling: float = attention.scaling  # type: ignore[assignment]
        own_window = hasattr(attention, "sliding_window")  # Mistral's is in the configuration alone
        self._window: int | None = getattr(attention if own_window else config, "sliding_window", None)
        self._heads: int = config.num_attention_heads
        self._kv_heads: int = config.num_key_value_heads
        self._input_norm = Norm(layer.get_submodule("input_layernorm"))
        self._mlp_norm = Norm(layer.get_submodule("post_attention_layernorm"))
        has_norms = hasattr(attention, "q_norm")
        self._query_norm = Norm(attention.get_submodule("q_norm")) if has_norms else None
        self._key_norm = Norm(attention.get_submodule("k_norm")) if has_norms else None
        self._qkv = Projection(attention, "q_proj", "k_proj", "v_proj")
        self._out = Projection(attention, "o_proj")
        mlp = layer.get_submodule("mlp")
        self._gate_up = Projection(mlp, "gate_proj", "up_proj")
        self._down = Projection(mlp, "down_proj")
        self._activation = mlp.get_submodule("act_fn")

    def forward(
        self,
        hidden_states: Tensor,
        *,
        position_embeddings: tuple[Tensor, Tensor],
        attention_step: AttentionStep,
        **unused: object,
    ) -> Tensor:
        """`hidden_states` `[1, tokens, hidden]` through the layer; the other arguments are transformers'."""
        heads, kv_heads = self._heads, self._kv_heads
        mixed = self._qkv(self._input_norm(hidden_states)).view(-1, heads + 2 * kv_heads, self._head_dim)
        query_key, values = mixed[:, :-kv_heads], mixed[:, -kv_heads:]
        if self._query_norm is not None and self._key_norm is not None:
            query_key = torch.cat((self._query_norm(query_key[:, :heads]), self._key_norm(query_key[:, heads:])), 1)
        cos, sin = attention_step.rotation(position_embeddings)
        rotated = torch.addcmul(query_key * cos, query_key.roll(self._head_dim // 2, -1), sin)
        query, key = rotated[:, :heads], rotated[:, heads:]
        attended = attend(
            attention_step, self._layer, query.transpose(0, 1)[None], key, values, self._scaling, self._window, None
        )
        hidden_states = hidden_states + self._out(attended.reshape(1, -1, heads * self._head_dim))
        gate, up = self._gate_up(self._mlp_norm(hidden_states)).chunk(2, -1)
        return hidden_states + self._down(self._activation(gate) * up)


class Norm:
    """A root mean square norm, in one operation."""

    def __init__(self, norm: nn.Module) -> None:
        self._weight: Tensor = norm.get_parameter("weight")
        self._epsilon: float = norm.variance_epsilon  # type: ignore[assignment]
        self._shape = tuple(self._weight.shape)

    def __call__(self, values: Tensor) -> Tensor:
        return rms_norm(values, self._shape, self._weight, self._epsilon)


class Projection:
    """Several linear layers that read the same input, as one; the weights keep the layout of the first."""

    def __init__(self, parent: nn.Module, *names: str) -> None:
        parts = [parent.get_submodule(name) for name in names]
        weights: list[Tensor] = [part.get_parameter("weight") for part in parts]
        if weights[0].is_contiguous():
            self._weight = torch.cat(weights).detach()
        else:  # input-major, see `loading.store_input_major`
            self._weight = torch.cat([weight.t() for weight in weights], 1).detach().t()
        biases = [part.bias for part in parts]
        self._bias = torch.cat(biases).detach() if isinstance(biases[0], Tensor) else None  # type: ignore[arg-type]

    def __call__(self, values: Tensor) -> Tensor:
        return linear(values, self._weight, self._bias)


def fuse_layers(module: PreTrainedModel) -> None:
    """Put a `FusedLayer` in the place of every layer of `module` that is one of `SAME_LAYERS`."""
    config = module.config.get_text_config(decoder=True)
    for parent in list(module.modules()):
        if isinstance(parent, nn.ModuleList):
            for index, layer in enumerate(parent):
                if type(layer).__name__ in SAME_LAYERS:
                    parent[index] = FusedLayer(layer, config)
