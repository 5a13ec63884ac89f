"""A whole Qwen2.5-Omni from a folder or the hub."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel, Qwen2_5OmniConfig, Qwen2_5OmniForConditionalGeneration
from transformers.models.qwen2_5_omni.modeling_qwen2_5_omni import Qwen2_5OmniToken2WavModel

from ..loading import DType, LoadedModel, known_config, load_module, model_source, prepared
from ..weights import PLAIN, WeightOptions
from .speakers import Speaker, read_speakers, without_voices
from .talker import Talker, talker_of


@dataclass(frozen=True, slots=True, eq=False)
class OmniModel:
    """What thinks, what speaks, what makes sound of that, and the voices by their names, the default first."""

    thinker: LoadedModel
    talker: Talker
    token2wav: Qwen2_5OmniToken2WavModel
    speakers: Mapping[str, Speaker]


class WithoutSpeakers(Qwen2_5OmniForConditionalGeneration):  # type: ignore[no-untyped-call]
    """The voices are read here, where a file that is none is refused by name."""

    @classmethod
    def from_pretrained(cls, *args: Any, **options: Any) -> Any:
        """What any other model of transformers does."""
        return super(Qwen2_5OmniForConditionalGeneration, cls).from_pretrained(*args, **options)


def without_speech(path_or_id: str | Path, revision: str | None = None) -> str | None:
    """Why `load_omni` does not read a checkpoint; None if it does. ValueError if there is none."""
    source = model_source(path_or_id)
    config = known_config(source, revision)
    return without_voices(source, revision) if _speaks(config) else _of_text(config)


def load_omni(
    path_or_id: str | Path,
    *,
    dtype: DType = "auto",
    device: str = "cpu",
    revision: str | None = None,
    weights: WeightOptions = PLAIN,
) -> OmniModel:
    """Load thinker, talker, token2wav and voices. ValueError as `load_model`, and for a model that does not speak.

    What makes sound is in float32, whatever `dtype` says, as in transformers; `weights` are for the thinker.
    """
    source = model_source(path_or_id)
    target = torch.device(device)
    weights.check(target)
    whole = load_module(source, _factory, dtype=dtype, device="cpu", revision=revision)
    thinker = prepared(source, whole.get_submodule("thinker"), target, weights)  # type: ignore[arg-type]
    talker = talker_of(source, whole.get_submodule("talker"), whole.config, target)  # type: ignore[arg-type]
    token2wav: Qwen2_5OmniToken2WavModel = whole.get_submodule("token2wav")  # type: ignore[assignment]
    nn.Module.to(token2wav, target, torch.float32)
    speakers = read_speakers(source, revision, thinker.vocab_size)
    return OmniModel(thinker, talker, token2wav, {name: voice.to(target) for name, voice in speakers.items()})


def _factory(source: str, revision: str | None) -> type[PreTrainedModel]:
    config = known_config(source, revision)
    if not _speaks(config):
        raise ValueError(_of_text(config))
    return WithoutSpeakers


def _of_text(config: PreTrainedConfig) -> str:
    return f"its architecture {config.model_type!r} does not speak"


def _speaks(config: PreTrainedConfig) -> bool:
    return isinstance(config, Qwen2_5OmniConfig) and config.enable_audio_output
