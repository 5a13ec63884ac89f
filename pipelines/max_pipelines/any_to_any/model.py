"""A model that takes and gives several kinds of media, in a worker of its own."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
import torch
from msgspec.structs import replace
from numpy.typing import NDArray
from torch import Tensor

from max_engines.drawing import draws
from max_engines.loading import model_source
from max_engines.omni import without_speech

from ..config import Config, EngineConfig, MediaConfig, ModelConfig, PipelineConfig, WorkersConfig
from ..vlm.model import MAX_BATCH, Model
from .answering import Asked, answers
from .device import device_name
from .modes import checked_mode
from .sampling import Sampling

DTYPES = ("auto", "float32", "bfloat16", "float16")
ATTENTION = ("eager", "sdpa", "flex_attention")  # what changes nothing here; flash attention is warned of
FROM_CONFIG = (
    "do_sample", "temperature", "top_k", "top_p", "min_p", "typical_p", "repetition_penalty", "max_new_tokens",
    "num_beams", "guidance_scale",
)  # fmt: skip
Audio = NDArray[np.float32]


class MultimodalModel:
    """Runs from when it is first used; `with model:` ends it at the end of the block, and so does nobody's holding it.

    Any thread may use it, several at once.
    """

    def __init__(self, served: Config, modalities: tuple[str, ...] = ("text",), silent: str | None = None) -> None:
        """`modalities` are what it can give, `silent` is why it does not speak."""
        self._served = served
        self._modalities = modalities
        self._silent = silent
        self._running: Model | None = None

    @property
    def running(self) -> Model:
        """The model in its worker; started when it is first wanted. StartFailed if it cannot be."""
        if self._running is None:
            self._running = Model(self._served)
        return self._running

    @property
    def served(self) -> Config:
        """What is served, and how."""
        return self._served

    @property
    def device(self) -> torch.device:
        """Where it runs, or will run."""
        return torch.device(self._served.model.device)

    @property
    def output_modalities(self) -> tuple[str, ...]:
        """What it can give: the modes of `generate`."""
        return self._modalities

    @cached_property
    def generation_config(self) -> Mapping[str, Any]:
        """What the checkpoint says of sampling; nothing where it speaks: transformers asks another part of it then."""
        from transformers import GenerationConfig

        model = self._served.model
        if "audio" in self._modalities:
            return {}
        try:
            found = GenerationConfig.from_pretrained(model.location, revision=model.revision or "main")
        except OSError:
            return {}
        return {name: getattr(found, name, None) for name in FROM_CONFIG}

    def to(self, device: str | int | torch.device | None = None) -> Self:
        """Have it run there. ValueError once it runs."""
        name = device_name(device)
        if name.removesuffix(":0") == self._served.model.device.removesuffix(":0"):
            return self
        if self._running is not None:
            raise ValueError(f"device = {device!r}: it runs on {self._served.model.device}; move it before it is used")
        self._served = replace(self._served, model=replace(self._served.model, device=name))
        return self

    def eval(self) -> Self:
        """It is ready for nothing else."""
        return self

    def generate(
        self,
        input_ids: Tensor | Sequence[Sequence[int]],
        attention_mask: Tensor | None = None,
        images: Sequence[Sequence[bytes]] = (),
        audios: Sequence[Sequence[bytes]] = (),
        videos: Sequence[Sequence[bytes]] = (),
        generation_mode: Literal["text", "audio", "image"] | None = None,
        speaker: str | None = None,
        **sampling: Any,
    ) -> Tensor | tuple[Tensor, Tensor | list[Tensor]]:
        """What it says after each row of `input_ids`, int64 `[rows, prompt + new]`, filled up with the padding id.

        `images` and the like, which an `AutoProcessor` gives, belong to each row. With `generation_mode` "audio" also
        the sound, float32 `[samples]`, one for each row if there are several; `speaker` names its voice. With "image"
        the codes of each row's picture alone, int64 `[rows, codes]`. Other keyword arguments are those of `Sampling`;
        `max_new_tokens` binds. ValueError for a mode that the model does not have.
        """
        mode = self.mode(generation_mode)
        rows = _rows(input_ids, attention_mask)
        voice = self.voice(speaker) if mode == "audio" else None
        wanted = Sampling.of(sampling, self.generation_config)
        params, guidance = wanted.of_picture() if mode == "image" else (wanted.params(), None)
        asked = [
            Asked(row, params, voice, _of_row(images, at), _of_row(audios, at), _of_row(videos, at), guidance=guidance)
            for at, row in enumerate(rows)
        ]
        found = answers(self.running, asked)
        if mode == "image":
            return torch.tensor([answer.tokens for answer in found])
        ids = _padded([[*row, *answer.tokens] for row, answer in zip(rows, found, strict=True)], self._padding_id)
        if mode == "text":
            return ids
        sounds = [torch.from_numpy(answer.samples.copy()) for answer in found]
        return ids, sounds[0] if len(sounds) == 1 else sounds

    def mode(self, asked: str | None) -> str:
        """What is to be given: text if nothing is asked. ValueError for a mode that the model does not have."""
        return checked_mode(asked, self.output_modalities, self._silent)

    def voice(self, speaker: str | None) -> str:
        """The voice that is meant: the first, if none is named."""
        self._start()
        voices = self.running.client.models[0].voices
        if speaker is not None and speaker not in voices:
            raise ValueError(f"speaker = {speaker!r:.80}: must be one of {', '.join(voices)}")
        return speaker or voices[0]

    def close(self) -> None:
        """End all that runs, and the worker. Safe to call twice."""
        if self._running is not None:
            self._running.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @cached_property
    def _padding_id(self) -> int:
        from transformers import AutoConfig

        model = self._served.model
        config = AutoConfig.from_pretrained(model.location, revision=model.revision, trust_remote_code=False)
        text = getattr(config, "thinker_config", config).get_text_config()
        return int(getattr(text, "pad_token_id", None) or 0)

    def _start(self) -> None:
        _ = self.running.held


class AutoModelForMultimodalLM:
    """transformers' class of this name: see `from_pretrained`."""

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        dtype: str | torch.dtype | None = "auto",
        torch_dtype: str | torch.dtype | None = None,
        attn_implementation: str | None = None,
        device_map: str | int | torch.device | None = None,
        revision: str | None = None,
        trust_remote_code: bool = False,
        low_cpu_mem_usage: bool = True,
        use_safetensors: bool = True,
        transport: Literal["process", "thread"] = "process",
    ) -> MultimodalModel:
        """A model from a folder or the hub, which begins to run when it is first used.

        `dtype` "auto" takes what the checkpoint was saved in. Flash attention, and other ways to compute the same, are
        not to be had: one warning, and attention is torch's own. Code from a checkpoint is never run, and no weights
        but safetensors are read, whatever is asked. ValueError for a checkpoint, a type or a device that is none.
        """
        _check_attention(attn_implementation)
        if trust_remote_code:
            warnings.warn("trust_remote_code is ignored: code from a checkpoint is never run", stacklevel=2)
        source = model_source(pretrained_model_name_or_path)
        wanted = dtype if torch_dtype is None else torch_dtype
        silent = without_speech(source, revision)
        given = ("image",) if draws(source, revision) else ("audio",) if silent is None else ()
        return MultimodalModel(
            Config(
                model=ModelConfig(
                    name=Path(source).name[:256] or "model",
                    path=source,
                    dtype=_dtype_name(wanted),
                    device=device_name(device_map),
                    revision=revision,
                ),
                pipeline=PipelineConfig(kind="omni" if given else "text"),
                engine=EngineConfig(max_batch=MAX_BATCH),
                workers=WorkersConfig(transport=transport),
                media=MediaConfig(processor_options=True),
                http=None,
            ),
            ("text", *given),
            silent,
        )


def _dtype_name(dtype: str | torch.dtype | None) -> Any:
    name = str(dtype or "auto").removeprefix("torch.")
    if name not in DTYPES:
        raise ValueError(f"dtype = {dtype!r}: must be one of {', '.join(DTYPES)}")
    return name


def _check_attention(name: str | None) -> None:
    """One warning for what is not had, ValueError for what nobody knows."""
    if name is None or name in ATTENTION:
        return
    if not name.startswith(("flash_attention", "kernels-community/")):
        raise ValueError(
            f"attn_implementation = {name!r:.80}: must be flash_attention_2, {', '.join(ATTENTION)} or None"
        )
    warnings.warn(f"attn_implementation = {name!r}: flash attention is not used here, but sdpa", stacklevel=3)


def _rows(ids: Tensor | Sequence[Sequence[int]], mask: Tensor | None) -> list[tuple[int, ...]]:
    """Each prompt without what it was filled up with. ValueError for none."""
    rows = [[int(token) for token in row] for row in ids]
    if mask is not None:
        kept = [[bool(one) for one in row] for row in mask]
        rows = [
            [token for token, there in zip(row, one, strict=True) if there] for row, one in zip(rows, kept, strict=True)
        ]
    if not rows or not all(rows):
        raise ValueError("input_ids: each row needs at least one token")
    return [tuple(row) for row in rows]


def _of_row(given: Sequence[Sequence[bytes]], row: int) -> tuple[bytes, ...]:
    """The files that belong to a row."""
    return tuple(given[row]) if given else ()


def _padded(rows: Sequence[Sequence[int]], filler: int) -> Tensor:
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[filler] * (longest - len(row))] for row in rows])
