"""The talker: a language model of codes that reads what the thinker thinks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel, Qwen2ForCausalLM
from transformers.models.qwen2_5_omni.modeling_qwen2_5_omni import Qwen2_5OmniTalkerForConditionalGeneration

from ..language_model import language_model
from ..loading import LoadedModel, describe, store_input_major


@dataclass(frozen=True, slots=True, eq=False)
class Talker:
    """Its language model, whose embedding has the projection from the thinker's width in it, and that projection.

    Ids: `begin_id`, `end_ids`, `pad_id` and `mask_id` are codes that are no sound; `text_end_id` and `text_pad_id` are
    the thinker's, and say that no more text comes.
    """

    model: LoadedModel
    projection: Tensor
    bias: Tensor
    begin_id: int
    end_ids: frozenset[int]
    pad_id: int
    mask_id: int
    text_end_id: int
    text_pad_id: int
    constraint: Codes

    @property
    def embedding(self) -> Tensor:
        """`[codes, hidden]`."""
        weight: Tensor = self.model.module.get_input_embeddings().weight  # type: ignore[assignment]
        return weight

    def project(self, thoughts: Tensor) -> Tensor:
        """From the thinker's width `[tokens, width]` to the talker's, without the bias, which the embedding has."""
        return nn.functional.linear(thoughts.to(self.projection.dtype), self.projection)


class Codes:
    """Allows what sound can be made of, and what ends it."""

    def __init__(self, vocab_size: int, codes: int, end_ids: Sequence[int], begin_id: int) -> None:
        self._allowed: NDArray[np.bool_] = np.zeros(vocab_size, np.bool_)
        self._allowed[:codes] = True
        self._allowed[list(end_ids)] = True
        self._allowed[begin_id] = False
        self._allowed.flags.writeable = False

    def allowed(self, tokens: Sequence[int]) -> NDArray[np.bool_]:
        """The same for any `tokens`. See `TokenConstraint`."""
        return self._allowed


def talker_of(
    name: str,
    talker: Qwen2_5OmniTalkerForConditionalGeneration,
    whole: PreTrainedConfig,
    device: torch.device,
) -> Talker:
    """The talker of a model that is loaded, on a device.

    An embedding behind a projection is an embedding: proj(e + t) = (We + b) + Wt. So the talker is a Qwen2 with
    something added to what it looks up.
    """
    own = talker.config
    projection = talker.thinker_to_talker_proj
    language = _language(talker, projection).to(device)  # type: ignore[arg-type]
    if device.type == "cpu" and language.dtype == torch.float32:
        store_input_major(language)
    ends = frozenset((own.tts_codec_end_token_id, own.tts_codec_pad_token_id))
    codes: int = whole.token2wav_config.dit_config.num_embeds
    model = describe(f"{name} (talker)", language)
    return Talker(
        model,
        projection.weight.detach().to(device),
        projection.bias.detach().to(device),
        own.tts_codec_start_token_id,
        ends,
        own.tts_codec_pad_token_id,
        own.tts_codec_mask_token_id,
        own.tts_text_end_token_id,
        own.tts_text_pad_token_id,
        Codes(model.vocab_size, codes, sorted(ends), own.tts_codec_start_token_id),
    )


def _language(talker: Qwen2_5OmniTalkerForConditionalGeneration, projection: nn.Linear) -> PreTrainedModel:
    looked_up = talker.model.embed_tokens.weight.detach()
    folded = projection(looked_up.to(projection.weight.dtype)).detach()
    talker.model.embed_tokens = nn.Embedding(folded.shape[0], folded.shape[1], _weight=folded)
    return language_model(talker, Qwen2ForCausalLM, talker.model, talker.codec_head)
