"""Whether the engine can run an architecture: asked of the model itself, not of a list of names."""

from __future__ import annotations

from collections.abc import Callable
from weakref import WeakSet

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface

from .attention import PAGED_ATTENTION
from .experts import take_over_experts
from .kv_cache import KVShape
from .loading import LoadedModel, first_line

TRIAL_TOKENS = 11
NOTING_ATTENTION = "maxpipe_noting"  # the name under which transformers finds it
# How far two ways to compute one attention may be apart, relative to the largest logit.
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.2, torch.float16: 0.05}
_ACCEPTED: WeakSet[nn.Module] = WeakSet()
CAN_RUN = (
    "it runs causal LMs with full or sliding-window attention that transformers' attention interface serves "
    "(Llama, Qwen, Mistral, Mixtral, Gemma, Phi, GPT-2, OPT and the like); engine.kind: reference runs others, slowly"
)


def kv_shape(model: LoadedModel) -> KVShape:
    """The shape of the model's keys and values. ValueError, with its name, for an architecture without one."""
    config = model.config
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    strange = sorted(kinds - {"full_attention", "sliding_attention"})
    if model.is_encoder_decoder:
        raise unsupported(model, "is an encoder-decoder")
    if strange:
        raise unsupported(model, f"has layers of {', '.join(strange)}")
    if not model.module.is_backend_compatible():  # type: ignore[no-untyped-call]
        raise unsupported(model, "does not take its attention from transformers' attention interface")
    if getattr(config, "kv_lora_rank", None):
        raise unsupported(model, "has multi-head latent attention")
    try:
        heads = config.num_attention_heads
        return KVShape(
            layers=config.num_hidden_layers,
            heads=getattr(config, "num_key_value_heads", None) or heads,
            head_dim=getattr(config, "head_dim", None) or config.hidden_size // heads,
            dtype=model.dtype,
        )
    except (AttributeError, RuntimeError) as problem:  # what transformers raises if each layer has its own
        raise unsupported(model, f"has no one shape of keys and values ({first_line(problem)})") from problem


def take_over_attention(model: LoadedModel, run: Callable[[list[int]], Tensor], room: int) -> None:
    """Switch the model to paged attention, and see that it computes the same as before.

    `run` gives the engine's logits `[vocabulary]` after up to `room` tokens. ValueError if they are not those of the
    plain model: what passes something to its attention that ours does not know must not run wrongly.
    """
    tokens = [token % model.vocab_size for token in range(3, 3 + min(room, TRIAL_TOKENS))]
    if model.module in _ACCEPTED:
        return  # an engine before this one has tried
    if model.module.config._attn_implementation == PAGED_ATTENTION:
        raise ValueError(f"cannot run {model.name!r}: an engine has tried and refused it")
    ids = torch.tensor([tokens], device=model.device)
    try:
        with torch.inference_mode():
            plain = model.module if model.whole is None else model.whole
            expected = plain(input_ids=ids, use_cache=False).logits[0, -1].float()
        if not bool(expected.isfinite().all()):
            raise ValueError(f"cannot run {model.name!r}: its weights give NaN or infinite scores")
        model.module.set_attn_implementation(PAGED_ATTENTION)
        take_over_experts(model.module)
        needs = _hidden_needs(model, ids)
        if needs:
            raise unsupported(model, needs[0])
        found = run(tokens).float()
    except (RuntimeError, TypeError, AttributeError, KeyError) as problem:
        raise unsupported(model, f"failed in a trial run ({first_line(problem)})") from problem
    error = float((found - expected).abs().max() / expected.abs().max().clamp_min(1e-6))
    if not error <= TOLERANCE.get(model.dtype, 0.2):
        raise unsupported(model, f"gave other scores than transformers in a trial run (off by {error:.2g})")
    _ACCEPTED.add(model.module)


def _hidden_needs(model: LoadedModel, ids: Tensor) -> list[str]:
    """What a layer needs beyond one paged attention with the window it is told; a short trial would not show it.

    Two attentions in one layer would overwrite each other's keys and values, which shows from the second step on; a
    window that is in the mask alone shows when it is full. So the model runs once with masks that say nothing but their
    window, and an attention that only takes notes.
    """
    found: list[str] = []
    seen: set[object] = set()

    def mask(q_length: int, kv_length: int, local_size: int | None = None, **others: object) -> Tensor:
        return torch.full((1, 1, q_length, kv_length), local_size or 0)

    def attention(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **told: object
    ) -> tuple[Tensor, None]:
        layer = getattr(module, "layer_idx", None)
        if layer in seen:
            found.append(f"attends twice in layer {layer}")
        if attention_mask is not None and attention_mask.flatten()[0].item() != (told.get("sliding_window") or 0):
            found.append(f"does not tell its attention the sliding window of layer {layer}")
        seen.add(layer)
        return query.transpose(1, 2), None

    AttentionMaskInterface.register(NOTING_ATTENTION, mask)
    AttentionInterface.register(NOTING_ATTENTION, attention)
    model.module.set_attn_implementation(NOTING_ATTENTION)
    try:
        with torch.inference_mode():
            model.module(input_ids=ids, use_cache=False)
    finally:
        model.module.set_attn_implementation(PAGED_ATTENTION)
    return found


def unsupported(model: LoadedModel, reason: str) -> ValueError:
    """The refusal of an architecture, by its name."""
    return ValueError(f"the engine cannot run {type(model.module).__name__} ({model.name}): it {reason}; {CAN_RUN}")
