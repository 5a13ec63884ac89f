"""A whole CSM from a folder or the hub."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import CsmConfig, CsmForConditionalGeneration, LlamaForCausalLM, PreTrainedModel

from ..compatibility import TOLERANCE, unsupported
from ..language_model import language_model
from ..loading import (
    DType,
    LoadedModel,
    describe,
    known_config,
    load_module,
    model_source,
    prepared,
    store_input_major,
)
from ..weights import PLAIN, WeightOptions
from .depth import DepthDecoder
from .embeddings import Embeddings
from .ids import FrameIds


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """A thought `[1, width]`, a frame int64 `[1, codebooks]`, and the scores `[codebooks - 1, size]` that transformers'
    depth decoder gives its codes.
    """

    thought: Tensor
    frame: Tensor
    scores: Tensor

    @classmethod
    @torch.inference_mode()
    def of(cls, whole: PreTrainedModel, ids: FrameIds) -> Trial:
        """One of a model as it was loaded."""
        source = torch.Generator().manual_seed(0)
        thought = torch.randn(1, whole.config.hidden_size, generator=source).to(whole.dtype)
        frame = torch.randint(ids.size, (1, ids.codebooks), generator=source)
        read = nn.functional.pad(frame[:, :-1], (1, 0))
        depth = whole.get_submodule("depth_decoder")
        found = depth(input_ids=read, backbone_last_hidden_state=thought, use_cache=False)
        return cls(thought, frame, found.logits[0].float())

    def error(self, decoder: DepthDecoder) -> float:
        """How far another decoder's scores are from these, relative to the largest."""
        found: list[Tensor] = []
        frame = self.frame.to(decoder.device)

        def choose(scores: Tensor) -> Tensor:
            found.append(scores[0].float())
            return frame[:, len(found)]

        decoder.unroll(self.thought.to(decoder.device), frame[:, 0], choose)
        distance = (torch.stack(found).cpu() - self.scores).abs().max()
        return float(distance / self.scores.abs().max().clamp_min(1e-6))


@dataclass(frozen=True, slots=True, eq=False)
class CsmModel:
    """The backbone, a language model of first codes; what it reads; and the parts of the depth decoder."""

    ids: FrameIds
    backbone: LoadedModel
    embeddings: Embeddings
    language: LoadedModel
    projector: nn.Linear
    heads: Sequence[nn.Linear]
    trial: Trial

    def depth(self, most_rows: int) -> DepthDecoder:
        """The depth decoder of an engine. ValueError if it does not compute what transformers' does."""
        decoder = DepthDecoder(self.language, self.projector, self.heads, most_rows)
        error = self.trial.error(decoder)
        if not error <= TOLERANCE.get(self.language.dtype, 0.2):
            raise unsupported(self.language, f"gave other codes than transformers in a trial run (off by {error:.2g})")
        return decoder


def load_csm(
    path_or_id: str | Path,
    *,
    dtype: DType = "auto",
    device: str = "cpu",
    revision: str | None = None,
    weights: WeightOptions = PLAIN,
) -> CsmModel:
    """Load backbone and depth decoder; the codec in the checkpoint is not read. ValueError as `load_model`.

    `weights` are for the backbone.
    """
    source = model_source(path_or_id)
    target = torch.device(device)
    weights.check(target)
    whole = load_module(source, _factory, dtype=dtype, revision=revision, unneeded="codec_model.")
    config: CsmConfig = whole.config  # type: ignore[assignment]
    ids = _ids(config)
    trial = Trial.of(whole, ids)
    codes: Tensor = whole.get_parameter("backbone_model.embed_tokens.embed_audio_tokens.weight").detach()
    text = whole.get_parameter("embed_text_tokens.weight").detach()
    embeddings = Embeddings(ids, text.to(target), codes.to(target))
    language, projector, heads = _depth(whole, source, target)
    config.depth_decoder_config = config.codec_config = None  # what is said to the backbone's layers is not for them
    backbone = whole.get_submodule("backbone_model")
    backbone.embed_tokens = nn.Embedding(ids.size, codes.shape[1], _weight=codes[: ids.size])
    twin = language_model(whole, LlamaForCausalLM, backbone, whole.get_submodule("lm_head"))
    return CsmModel(ids, prepared(source, twin, target, weights), embeddings, language, projector, heads, trial)


def _ids(config: CsmConfig) -> FrameIds:
    """ValueError for a configuration that leaves something open."""
    codebooks, end_code, end_id = config.num_codebooks, config.codebook_eos_token_id, config.audio_eos_token_id
    if codebooks is None or codebooks < 2 or not isinstance(end_code, int) or not isinstance(end_id, int):
        raise ValueError(
            f"config.json: num_codebooks = {codebooks}, codebook_eos_token_id = {end_code}, audio_eos_token_id = "
            f"{end_id}: must be integers, and two codebooks at least"
        )
    return FrameIds(config.text_vocab_size, codebooks, config.vocab_size, end_code, end_id)


def _depth(
    whole: PreTrainedModel, source: str, target: torch.device
) -> tuple[LoadedModel, nn.Linear, Sequence[nn.Linear]]:
    """The depth decoder as a language model; the projection to its width is folded into the embedding."""
    depth: PreTrainedModel = whole.get_submodule("depth_decoder")  # type: ignore[assignment]
    decoder = depth.get_submodule("model")
    projector: nn.Linear = decoder.get_submodule("inputs_embeds_projector")  # type: ignore[assignment]
    folded = projector(decoder.get_parameter("embed_tokens.weight").detach()).detach()
    decoder.embed_tokens = nn.Embedding(folded.shape[0], folded.shape[1], _weight=folded)
    heads = [_linear(weight) for weight in depth.get_parameter("codebooks_head.weight").detach()]
    language = language_model(depth, LlamaForCausalLM, decoder, heads[0]).to(target)  # type: ignore[arg-type]
    for part in (projector, *heads):
        part.to(target)
    if target.type == "cpu" and language.dtype == torch.float32:
        store_input_major(language)
    return describe(f"{source} (depth decoder)", language), projector, heads


def _linear(weight: Tensor) -> nn.Linear:
    """A linear layer of weights `[in, out]`, which stay as they lie: see `store_input_major`."""
    layer = nn.Linear(weight.shape[0], weight.shape[1], bias=False, device="meta")
    layer.weight = nn.Parameter(weight.t(), requires_grad=False)
    return layer


def _factory(source: str, revision: str | None) -> type[PreTrainedModel]:
    config = known_config(source, revision)
    if not isinstance(config, CsmConfig):
        raise ValueError(f"its architecture {config.model_type!r} is no CSM")
    return CsmForConditionalGeneration
