"""The decoder that most models share, from ids to scores, with as few operations as it takes.

A step of a small model is half Python and dispatch: transformers' own layer has some 60 operations and 14 modules, this
one 9 and none where `kernels` are compiled, else some 20.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, silu
from transformers import PreTrainedConfig, PreTrainedModel

from .attention import Attention, AttentionStep
from .kernels import kernels_for
from .linear import Change, Projection
from .norm import Norm
from .quantized_linear import QuantizedLinear
from .rotary import RotaryTable, Rotation
from .streaming import is_streamed

# Known to be exactly this: embedding, layers of norm → attention with rotary positions → add, norm → gated MLP → add,
# norm, head. An engine compares its scores with transformers' when it starts: a change there cannot pass unseen.
SAME_MODELS = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")
QKV, GATE_UP = ("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj")
SILU = ("SiLUActivation", "SiLU")  # called as a function: a module's call costs more than a small batch's silu
Activation: TypeAlias = Callable[[Tensor], Tensor]
_FUSED: WeakKeyDictionary[nn.Module, FusedDecoder] = WeakKeyDictionary()


class Lookup:
    """The embedding: ids int64[tokens] to hidden states `[tokens, hidden]`."""

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight
        self._change: Change | None = None

    def __call__(self, ids: Tensor) -> Tensor:
        result = embedding(ids, self.weight)
        if self._change is not None:
            self._change(ids, result)
        return result

    def attach(self, change: Change) -> None:
        """Have each result changed in place, by a function of the ids and the result: see `adapters.places`."""
        self._change = change

    def detach(self) -> None:
        """Let results be what they are."""
        self._change = None


class FusedDecoder:
    """Stands in for the forward pass of a model of `SAME_MODELS`, whose linear layers it joins and lays out anew."""

    def __init__(self, module: PreTrainedModel) -> None:
        inner = module.get_submodule("model")
        config = module.config.get_text_config(decoder=True)
        self.embedding = Lookup(inner.get_parameter("embed_tokens.weight").detach())
        layers = list(inner.get_submodule("layers").children())
        self.layers = []
        for layer in layers:
            self.layers.append(FusedLayer(layer, config))
            layer._modules.clear()  # its weights live on in the fused one alone
        self._norm = Norm(inner.get_submodule("norm"))
        self.head = Projection(_linear(module, "lm_head"))
        self.row_by_row = self.head.row_by_row
        self._rotary = RotaryTable(inner.get_submodule("rotary_emb"), self.embedding.weight)

    def __call__(self, ids: Tensor, positions: Tensor, step: AttentionStep, rows: Tensor | None) -> Tensor:
        """Scores `[rows, vocabulary]` of the ids int64[tokens] at `positions`; `rows` None is all of them.

        `positions` are int64 `[tokens]`, or `[3, tokens]` for a model that has three dimensions of them.
        """
        return self.head(self.hidden(ids, positions, step, rows))

    def hidden(self, ids: Tensor, positions: Tensor, step: AttentionStep, rows: Tensor | None) -> Tensor:
        """What the head reads of `rows`: `[rows, hidden]`."""
        return self.above(self.embedding(ids), positions, step, rows)

    def above(self, hidden: Tensor, positions: Tensor, step: AttentionStep, rows: Tensor | None) -> Tensor:
        """The same of what stands in the place of an embedding, `[tokens, hidden]`, which is overwritten."""
        rotation = self._rotary.at(positions, step.longest)
        update = None
        for layer in self.layers:
            update = layer(hidden, update, rotation, step)
        if rows is not None:
            hidden = hidden.index_select(0, rows)
            update = None if update is None else update.index_select(0, rows)
        return self._norm(hidden, update)

    def projections(self) -> Iterator[tuple[tuple[str, ...], Projection]]:
        """The joined linear layers, each with the names that its parts have in transformers' model."""
        for number, layer in enumerate(self.layers):
            for names, projection in layer.projections():
                yield tuple(f"model.layers.{number}.{name}" for name in names), projection


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
        self._heads: int = config.num_attention_heads
        self._kv_heads: int = config.num_key_value_heads
        self._input_norm = Norm(layer.get_submodule("input_layernorm"))
        self._mlp_norm = Norm(layer.get_submodule("post_attention_layernorm"))
        self._head_norms: tuple[Norm, Norm] | None = None
        if hasattr(attention, "q_norm"):
            self._head_norms = Norm(attention.get_submodule("q_norm")), Norm(attention.get_submodule("k_norm"))
        self._qkv = Projection(*(_linear(attention, name) for name in QKV))
        self._out = Projection(_linear(attention, "o_proj"))
        mlp = layer.get_submodule("mlp")
        self._gate_up = Projection(*(_linear(mlp, name) for name in GATE_UP))
        self._down = Projection(_linear(mlp, "down_proj"))
        activation = mlp.get_submodule("act_fn")
        self._activation: Activation = silu if type(activation).__name__ in SILU else activation
        weight = self._input_norm.weight
        gate_kernels = kernels_for(weight.dtype, weight.device, config.intermediate_size)
        self._gate_kernels = gate_kernels if self._activation is silu else None
        self._rotary_kernels = kernels_for(weight.dtype, weight.device, self._head_dim)
        self._change: Change | None = None

    def __call__(self, hidden: Tensor, update: Tensor | None, rotation: Rotation, step: AttentionStep) -> Tensor:
        """What is to be added to `hidden` `[tokens, hidden]`, after `update`, of the layer before, has been."""
        attended = self._attend(self._input_norm(hidden, update), rotation, step)
        result = self._down(self._gated(self._gate_up(self._mlp_norm(hidden, attended))))
        if self._change is not None:
            self._change(hidden, result)
        return result

    def attach(self, change: Change) -> None:
        """Have each result changed in place, by a function of what was read and the result: see `adapters.places`."""
        self._change = change

    def detach(self) -> None:
        """Let results be what they are."""
        self._change = None

    def projections(self) -> Iterator[tuple[tuple[str, ...], Projection]]:
        """See `FusedDecoder.projections`; names are those within the layer."""
        yield tuple(f"self_attn.{name}" for name in QKV), self._qkv
        yield ("self_attn.o_proj",), self._out
        yield tuple(f"mlp.{name}" for name in GATE_UP), self._gate_up
        yield ("mlp.down_proj",), self._down

    def _gated(self, gate_up: Tensor) -> Tensor:
        if self._gate_kernels is not None:
            return self._gate_kernels.gate(gate_up)
        gate, up = gate_up.chunk(2, -1)
        return self._activation(gate) * up

    def _attend(self, values: Tensor, rotation: Rotation, step: AttentionStep) -> Tensor:
        heads, kv_heads = self._heads, self._kv_heads
        mixed = self._qkv(values).view(-1, heads + 2 * kv_heads, self._head_dim)
        self._rotate_store(mixed, rotation, step)
        return self._out(self._attention(mixed.narrow(1, 0, heads), step).reshape(-1, heads * self._head_dim))

    def _rotate_store(self, mixed: Tensor, rotation: Rotation, step: AttentionStep) -> None:
        """Give queries and keys their norms and positions, in place, and keep keys and values."""
        heads, kv_heads, norms = self._heads, self._kv_heads, self._head_norms
        if self._rotary_kernels is not None:
            weights = None if norms is None else (norms[0].weight, norms[1].weight)
            epsilon = 0.0 if norms is None else norms[0].epsilon
            table, positions = rotation.table, rotation.positions
            store, plain = step.cache.of_layer(self._layer), step.plain_rows
            kernels = self._rotary_kernels
            if not step.staged:
                kernels.rotate_store(mixed, weights, epsilon, table, positions, step.slots, store, heads)
                return
            kernels.rotate_store(mixed[:plain], weights, epsilon, table, positions[:plain], step.slots, store, heads)
            rest = mixed[plain:]
            stage = rest.new_empty(rest.shape[0], 2 * kv_heads, self._head_dim)
            slots = torch.arange(rest.shape[0])
            kernels.rotate_store(rest, weights, epsilon, table, positions[plain:], slots, stage, heads)
            step.store_staged(self._layer, stage)
            return
        if norms is not None:
            mixed[:, :heads] = norms[0](mixed[:, :heads])
            mixed[:, heads:-kv_heads] = norms[1](mixed[:, heads:-kv_heads])
        rotation.apply(mixed.narrow(1, 0, heads + kv_heads))
        step.store(self._layer, mixed.narrow(1, heads, 2 * kv_heads))


def fused_decoder(module: PreTrainedModel) -> FusedDecoder | None:
    """The fused decoder of a module, made at the first call; None for a model that is not known to be the same.

    Nor for one whose layers are streamed: each takes longer to arrive than transformers' own takes to run.
    """
    known = _FUSED.get(module)
    if is_streamed(module):
        return None
    if known is None and type(module).__name__ in SAME_MODELS and RotaryTable.knows(module):
        known = _FUSED[module] = FusedDecoder(module)
    return known


def _linear(parent: nn.Module, name: str) -> nn.Linear | QuantizedLinear:
    layer = parent.get_submodule(name)
    if not isinstance(layer, nn.Linear | QuantizedLinear):
        raise TypeError(f"{name} is a {type(layer).__name__}, not a linear layer")
    return layer
