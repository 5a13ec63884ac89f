"""A model that makes vectors of texts, run on many texts at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import MODEL_MAPPING, AutoModel, PreTrainedModel

from ..loading import DType, context_length, first_line, known_config, load_module, model_source
from .dense import Dense, load_dense
from .pooling import Pooling, cut, pooled
from .recipe import Recipe, read_recipe

NOT_USED = "pooler."  # BERT's own, trained for another task; checkpoints often lack it
PADDING_ERROR = 1e-3  # of the largest number; rounding in float32 is a hundredth of it, Nystromformer's five times
PADDING_ERROR_ROUNDED = 0.1  # in bfloat16 and float16, where many layers of rounding lie between


@dataclass(frozen=True, slots=True, eq=False)
class Encoder:
    """`module` gives a vector for each token, `recipe` makes one for the text, which `layers` map, one after the other.

    No text has over `max_tokens` tokens.
    """

    module: PreTrainedModel
    recipe: Recipe
    layers: tuple[Dense, ...]
    max_tokens: int
    padding: int

    @property
    def hidden_width(self) -> int:
        """How many numbers a token's vector has."""
        return _hidden_width(self.module)

    @property
    def width(self) -> int:
        """How many numbers a text's vector has."""
        return self.layers[-1].out_features if self.layers else self.hidden_width

    @property
    def vocab_size(self) -> int:
        """Ids are below it."""
        return int(self.module.get_input_embeddings().get_parameter("weight").shape[0])

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
        vectors = pooled(output.last_hidden_state, counts, self.recipe.pooling)
        for layer in self.layers:
            vectors = layer(vectors)
        return vectors

    def finished(
        self, vector: Tensor, dimensions: int | None, *, normalized: bool | None = None
    ) -> NDArray[np.float32]:
        """One text's vector as it is given, `normalized` as the recipe says if None.

        ValueError for more dimensions than it has.
        """
        if dimensions is not None and dimensions > self.width:
            raise ValueError(f"dimensions = {dimensions}: this model's embeddings have {self.width}")
        unit = self.recipe.normalized if normalized is None else normalized
        made: NDArray[np.float32] = cut(vector, dimensions, normalized=unit).cpu().numpy()
        return made


def load_encoder(
    path_or_id: str | Path,
    *,
    dtype: DType = "auto",
    device: str = "cpu",
    revision: str | None = None,
    pooling: Pooling | None = None,
    normalized: bool | None = None,
    max_tokens: int | None = None,
) -> Encoder:
    """Load the model at `path_or_id`, a folder or a hub id. `pooling` and `normalized` overrule its own recipe.

    `max_tokens` bounds a text below what the model could read.

    ValueError as `loading.load_model`, for an architecture that gives no vectors of its tokens, and for one whose
    vector of a text is another beside a longer text.
    """
    source = model_source(path_or_id)
    module = load_module(source, _factory, dtype=dtype, device=device, revision=revision, unneeded=NOT_USED)
    recipe = read_recipe(source, module.config, revision)
    recipe = replace(
        recipe,
        pooling=pooling or recipe.pooling,
        normalized=recipe.normalized if normalized is None else normalized,
    )
    layers = _layers(source, recipe, module, revision)
    encoder = Encoder(module, recipe, layers, _most(module, recipe), _padding(module))
    _see_that_padding_changes_nothing(encoder, source)
    return encoder if max_tokens is None else replace(encoder, max_tokens=min(max_tokens, encoder.max_tokens))


def _see_that_padding_changes_nothing(encoder: Encoder, source: str) -> None:
    """ValueError for a model that reads no ids, or that mixes a text with its padding, as FNet and Nystromformer do."""
    name = type(encoder.module).__name__
    try:
        ids = [token for token in range(encoder.vocab_size) if token != encoder.padding][: min(32, encoder.max_tokens)]
        (alone,), (beside, _) = encoder.embed([ids[:3]]), encoder.embed([ids[:3], ids])
    except Exception as problem:  # a model of pictures, or sounds, fails in any way
        reason = f"{type(problem).__name__}: {first_line(problem)}"
        raise ValueError(f"cannot embed texts with {source!r}: {name} does not read token ids ({reason})") from problem
    allowed = PADDING_ERROR if encoder.module.dtype == torch.float32 else PADDING_ERROR_ROUNDED
    if not (alone - beside).abs().max() <= allowed * alone.abs().max():  # nor if one is no number
        raise ValueError(f"cannot embed texts with {source!r}: {name} gives a text another vector beside a longer one")


def _factory(source: str, revision: str | None) -> type[AutoModel]:
    config = known_config(source, revision)
    if config.is_encoder_decoder or type(config) not in MODEL_MAPPING:
        raise ValueError(f"its architecture {config.model_type!r} gives no vector for each token of a text")
    return AutoModel


def _layers(source: str, recipe: Recipe, module: PreTrainedModel, revision: str | None) -> tuple[Dense, ...]:
    layers: list[Dense] = []
    width = _hidden_width(module)
    for folder in recipe.dense:
        layers.append(load_dense(source, folder, width, module.device, revision))
        width = layers[-1].out_features
    return tuple(layers)


def _hidden_width(module: PreTrainedModel) -> int:
    return int(module.config.get_text_config(decoder=True).hidden_size)


def _padding(module: PreTrainedModel) -> int:
    """The id that stands behind shorter texts. RoBERTa must have its own, which its positions do not count."""
    token = getattr(module.config.get_text_config(decoder=True), "pad_token_id", None)
    return token if isinstance(token, int) and token >= 0 else 0


def _most(module: PreTrainedModel, recipe: Recipe) -> int:
    """The most tokens of a text. RoBERTa's positions begin behind its padding's id."""
    text = module.config.get_text_config(decoder=True)
    length = context_length(text)
    embeddings = getattr(getattr(module, "embeddings", None), "position_embeddings", None)
    offset = getattr(embeddings, "padding_idx", None)
    if isinstance(offset, int):
        length -= offset + 1
    return length if recipe.max_tokens is None else min(length, recipe.max_tokens)
