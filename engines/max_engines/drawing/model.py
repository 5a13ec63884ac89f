"""A whole Janus from a folder or the hub."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import (
    AutoImageProcessor,
    GenerationConfig,
    JanusConfig,
    JanusForConditionalGeneration,
)
from transformers.models.janus.modeling_janus import JanusVQVAE

from ..least_rows import least_rows
from ..loading import (
    LOAD_ERRORS,
    DType,
    LoadedModel,
    first_line,
    known_config,
    load_model,
    model_source,
    store_input_major,
)
from ..weights import PLAIN, WeightOptions

LARGEST_SIDE = 4096  # pixels


@dataclass(frozen=True, slots=True, eq=False)
class Pixels:
    """How the values of a decoder become pixels: as an image's become values, the other way round.

    The formula is that of transformers' `JanusImageProcessor.postprocess`, which needs torchvision; that of its
    processor on pillow takes the rows of a picture for its channels.
    """

    mean: NDArray[np.float32]
    std: NDArray[np.float32]

    @classmethod
    def read(cls, source: str, revision: str | None) -> Pixels:
        """From the checkpoint's processor of images. ValueError, or OSError, for one without it."""
        factory: Any = AutoImageProcessor  # it has no types
        processor = factory.from_pretrained(source, revision=revision, trust_remote_code=False)
        mean, std = (np.array(values, np.float32) for values in (processor.image_mean, processor.image_std))
        if mean.shape != (3,) or std.shape != (3,) or not np.isfinite([mean, std]).all() or not (std > 0).all():
            raise ValueError("its processor's image_mean and image_std must be three numbers each, those above 0")
        return cls(mean, std)

    def of(self, values: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Of floats `[height, width, 3]`. ValueError if they are no numbers."""
        if not np.isfinite(values).all():
            raise ValueError("its picture has pixels that are no numbers")
        levels: NDArray[np.float32] = (values + self.mean / self.std) * (self.std * 255)
        return np.ascontiguousarray(levels.clip(0, 255), np.uint8)


@dataclass(frozen=True, slots=True, eq=False)
class DrawingModel:
    """The language model, and what is between it and a picture, which has `count` codes.

    `embedding` `[codes, hidden]` is what the language model reads for each code, `head` gives a code's scores of what
    it thinks. Ids: `begin_id` follows the prompt of a picture, `bos_id` begins a text, and `padding_id` stands for the
    other ids of a prompt where there is none.
    """

    language: LoadedModel
    embedding: Tensor
    head: nn.Module
    decoder: JanusVQVAE
    pixels: Pixels
    count: int
    begin_id: int
    bos_id: int
    padding_id: int

    @property
    def codes(self) -> int:
        """How many codes there are to choose from."""
        return len(self.embedding)

    @torch.inference_mode()
    def scores(self, states: Tensor) -> Tensor:
        """Float32 `[rows, codes]` of the language model's last hidden states `[rows, hidden]`.

        In float32 on a CPU a row's are the same to the last bit beside any others.
        """
        exact = states.dtype == torch.float32 and states.device.type == "cpu"
        missing = max(0, (least_rows() if exact else 1) - len(states))
        scores: Tensor = self.head(torch.cat((states, states[:1].expand(missing, -1))))
        return scores[: len(states)].float()

    @torch.inference_mode()
    def picture(self, codes: Sequence[int]) -> NDArray[np.uint8]:
        """The pixels `[height, width, 3]` of `count` codes. ValueError if they are no numbers."""
        ids: Any = torch.tensor([list(codes)], device=self.embedding.device)
        decoded = self.decoder.decode(ids)
        return self.pixels.of(decoded[0].permute(1, 2, 0).cpu().numpy())


def draws(path_or_id: str | Path, revision: str | None = None) -> bool:
    """Whether `load_drawing` reads a checkpoint. ValueError if there is none."""
    return isinstance(known_config(model_source(path_or_id), revision), JanusConfig)


def load_drawing(
    path_or_id: str | Path,
    *,
    dtype: DType = "auto",
    device: str = "cpu",
    revision: str | None = None,
    weights: WeightOptions = PLAIN,
) -> DrawingModel:
    """Load all of it. ValueError as `load_model`, for a model that does not draw, and for one without its processor.

    What makes pixels is in float32, whatever `dtype` says; `weights` are for the language model.
    """
    source = model_source(path_or_id)
    if not draws(source, revision):
        raise ValueError(f"cannot load the model {source!r}: its architecture does not draw")
    language = load_model(source, dtype=dtype, device=device, revision=revision, weights=weights)
    try:
        return _drawing(language, Pixels.read(source, revision))
    except LOAD_ERRORS as problem:
        raise ValueError(f"cannot load the model {source!r}: it cannot draw: {first_line(problem)}") from problem


def _drawing(language: LoadedModel, pixels: Pixels) -> DrawingModel:
    whole = language.whole
    if not isinstance(whole, JanusForConditionalGeneration):
        raise ValueError("it has no language model of its own")
    inner = whole.model
    config: Any = whole.config.vq_config
    seen: Any = whole.config.vision_config
    count: int = seen.num_image_tokens
    side = config.num_patches * 2 ** (len(config.channel_multiplier) - 1)
    if count != config.num_patches**2 or side > LARGEST_SIDE or config.out_channels != 3:
        what = f"{count} codes, {config.num_patches} a row, {side} pixels, {config.out_channels} channels"
        raise ValueError(f"its picture has {what}: must be a square of at most {LARGEST_SIDE} pixels a side, in colour")
    head, embedding = inner.generation_head, _embedding(whole)
    if embedding.shape[1] != language.config.hidden_size:
        raise ValueError(f"its codes have a width of {embedding.shape[1]}: must be {language.config.hidden_size}")
    if language.device.type == "cpu" and language.dtype == torch.float32:
        store_input_major(head)
    nn.Module.to(inner.vqmodel, language.device, torch.float32)
    begin, bos, padding = _ids(whole.generation_config, language.vocab_size)
    return DrawingModel(language, embedding, head, inner.vqmodel, pixels, count, begin, bos, padding)


@torch.inference_mode()
def _embedding(whole: JanusForConditionalGeneration) -> Tensor:
    """An embedding behind an aligner is an embedding."""
    looked_up: Tensor = whole.model.generation_embeddings.weight
    aligned: Tensor = whole.model.generation_aligner(looked_up)
    return aligned


def _ids(config: GenerationConfig | None, vocab_size: int) -> tuple[int, int, int]:
    """Those of `DrawingModel`. ValueError for one that is not named, or is none."""
    given = getattr(config, "generation_kwargs", None) or {}
    named = {
        "generation_kwargs.boi_token_id": given.get("boi_token_id"),
        "bos_token_id": getattr(config, "bos_token_id", None),
        "pad_token_id": getattr(config, "pad_token_id", None),
    }
    for name, token in named.items():
        if not isinstance(token, int) or not 0 <= token < vocab_size:
            raise ValueError(f"generation_config.json: {name} = {token!r:.80}: must be an id, below {vocab_size}")
    begin, bos, padding = named.values()
    return begin, bos, padding  # type: ignore[return-value]
