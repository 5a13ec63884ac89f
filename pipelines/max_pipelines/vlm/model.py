"""`load`: a model that is ready, and its processor."""

from __future__ import annotations

import threading
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

from ..client import AsyncClient
from ..client.held import Held
from ..config import Config, EngineConfig, ModelConfig, PipelineConfig, WorkersConfig
from ..devices import default_device
from .processors import Processor, processor_of

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

ADAPTER = "adapter"  # what the one of `load` is called
LARGEST_RANK = 4096  # it is the caller's own, and there is no other
MAX_BATCH = 32  # sequences of `batch_generate` at once: mlx-vlm's own number


class Model:
    """A model in a worker of its own, which ends with it. Any thread may use it, several at once.

    `with model:` ends it at the end of the block; so does nobody's holding it any more.
    """

    def __init__(self, served: Config) -> None:
        self._served = served
        self._starting = threading.Lock()
        self._started: Held | None = None
        self.client = AsyncClient.embedded(served)
        self.name = served.model.name
        self.adapter = next(iter(served.engine.adapters), None)

    @property
    def held(self) -> Held:
        """Where its client runs; started when it is first wanted."""
        with self._starting:
            if self._started is None:
                self._started = Held(self.client, "maxpipe-vlm")
            return self._started

    @cached_property
    def config(self) -> PreTrainedConfig:
        """The checkpoint's config, as `apply_chat_template` takes it."""
        from transformers import AutoConfig

        model = self._served.model
        config: PreTrainedConfig = AutoConfig.from_pretrained(
            model.location, revision=model.revision, trust_remote_code=False
        )
        return config

    @property
    def media(self) -> tuple[str, ...]:
        """The kinds of media that it takes beside text, once it runs."""
        return self.client.models[0].media

    @property
    def shared(self) -> bool:
        """Whether the worker is a thread of this process."""
        return self._served.workers.transport == "thread"

    def close(self) -> None:
        """End all that runs, and the worker. Safe to call twice."""
        with self._starting:
            if self._started is not None:
                self._started.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def load(
    path_or_hf_repo: str | Path,
    adapter_path: str | Path | None = None,
    lazy: bool = False,
    revision: str | None = None,
    *,
    strict: bool = True,
    trust_remote_code: bool = False,
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
    device: str | None = None,
    transport: Literal["process", "thread"] = "process",
) -> tuple[Model, Processor]:
    """A model from a folder or the hub, and its processor: for a model that reads text only, its tokenizer.

    `lazy` starts it when it is first used. Weights are always checked, whatever `strict` says, and code from a
    checkpoint is never run. `adapter_path` is the folder of a LoRA adapter, or of a soft prompt, as peft saves it: all
    that the model says is said with it. `dtype` "auto" takes what the checkpoint was saved in; `device` is the first
    GPU, or cpu. `transport` "thread" runs it in this process, which functions as logits processors need.
    FileNotFoundError for a folder without a model or an adapter; ValueError, StartFailed if it cannot be loaded.
    """
    folder = Path(path_or_hf_repo).expanduser()
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise FileNotFoundError(
            f"no config.json in {folder}: name the folder that holds the model's config and weights"
        )
    adapters = {} if adapter_path is None else {ADAPTER: _adapter(adapter_path)}
    served = Config(
        model=ModelConfig(
            name=folder.name[:256] or "model",
            path=str(path_or_hf_repo),
            dtype=dtype,
            device=device or default_device(),
            revision=revision,
        ),
        pipeline=PipelineConfig(kind="text"),
        engine=EngineConfig(max_batch=MAX_BATCH, adapters=adapters, max_adapter_rank=LARGEST_RANK),
        workers=WorkersConfig(transport=transport),
        http=None,
    )
    model = Model(served)
    processor = processor_of(served.model)
    if not lazy:
        _ = model.held
    return model, processor


def _adapter(path: str | Path) -> str:
    """An adapter's folder, wherever the worker runs. FileNotFoundError if there is none in it."""
    folder = Path(path).expanduser().absolute()
    if not (folder / "adapter_config.json").is_file():
        raise FileNotFoundError(f"no adapter_config.json in {folder}: name the folder that peft's save_pretrained made")
    return str(folder)
