"""A model that makes vectors of texts, run on many texts at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import MODEL_MAPPING, AutoModel, PreTrainedModel

from ..loading import DType, context_length, known_config, load_module, model_source
from .pooling import Pooling, cut, pooled
from .recipe import Recipe, read_recipe

NOT_USED = "pooler."  # BERT's own, trained for another task; checkpoints often lack it


@dataclass(frozen=True, slots=True, eq=False)
class Encoder:
    """`module` gives a vector for each token, `recipe` makes one for the text. No text has over `max_tokens` tokens."""

    module: PreTrainedModel
    recipe: Recipe
    max_tokens: int
    padding: int

    @property
    def width(self) -> int:
        """How many numbers a vector has."""
        return int(self.module.config.get_text_config(decoder=True).hidden_size)

    @torch.inference_mode()
    def embed(self, texts: Sequence[Sequence[int]]) -> Tensor:
        """float32 `[texts, width]` of token ids, before anything is cut or normalised."""
        lengths = [len(ids) for ids in texts]
        longest = max(lengths)
        rows = [[*ids, *[self.padding] * (longest - len(ids))] for ids in texts]
        device = self.module.device
        counts = torch.tensor(lengths, device=device)
        # Without padding no mask is needed, and attention is quicker without.
        mask = None if min(lengths) == longest else (torch.arange(longest, device=device) < counts[:, None]).long()
        output = self.module(input_ids=torch.tensor(rows, device=device), attention_mask=mask)
        return pooled(output.last_hidden_state, counts, self.recipe.pooling)

    def finished(self, vector: Tensor, dimensions: int | None) -> NDArray[np.float32]:
        """One text's vector as it is given. ValueError for more dimensions than it has."""
        if dimensions is not None and dimensions > self.width:
            raise ValueError(f"dimensions = {dimensions}: this model's embeddings have {self.width}")
        made: NDArray[np.float32] = cut(vector, dimensions, normalized=self.recipe.normalized).cpu().numpy()
        return made


def load_encoder(
    path_or_id: str | Path,
    *,
    dtype: DType = "auto",
    device: str = "cpu",
    revision: str | None = None,
    pooling: Pooling | None = None,
    normalized: bool | None = None,
) -> Encoder:
    """Load the model at `path_or_id`, a folder or a hub id. `pooling` and `normalized` overrule its own recipe.

    ValueError as `loading.load_model`, and for an architecture that gives no vectors of its tokens.
    """
    source = model_source(path_or_id)
    module = load_module(source, _factory, dtype=dtype, device=device, revision=revision, unneeded=NOT_USED)
    recipe = read_recipe(source, module.config, revision)
    recipe = Recipe(
        pooling or recipe.pooling, recipe.normalized if normalized is None else normalized, recipe.max_tokens
    )
    text = module.config.get_text_config(decoder=True)
    padding = getattr(text, "pad_token_id", None)
    return Encoder(module, recipe, _most(module, recipe), padding if isinstance(padding, int) and padding >= 0 else 0)


def _factory(source: str, revision: str | None) -> type[AutoModel]:
    config = known_config(source, revision)
    if config.is_encoder_decoder or type(config) not in MODEL_MAPPING:
        raise ValueError(f"its architecture {config.model_type!r} gives no vector for each token of a text")
    return AutoModel


def _most(module: PreTrainedModel, recipe: Recipe) -> int:
    """The most tokens of a text. RoBERTa's positions begin behind its padding's id."""
    text = module.config.get_text_config(decoder=True)
    length = context_length(text)
    embeddings = getattr(getattr(module, "embeddings", None), "position_embeddings", None)
    offset = getattr(embeddings, "padding_idx", None)
    if isinstance(offset, int):
        length -= offset + 1
    return length if recipe.max_tokens is None else min(length, recipe.max_tokens)
