"""vLLM's arguments of `LLM`, as a config of ours."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import msgspec

from max_interfaces import ConfigError

from ..config import Config, EngineConfig, MediaConfig, ModelConfig, PipelineConfig, WorkersConfig, parse_config
from ..devices import default_device
from .adapter_limits import NAMES, SWITCHES, AdapterLimits
from .media import MediaRules
from .quantization import OF_CHECKPOINTS, when_loaded
from .tasks import POOLING_NO_EFFECT, POOLING_ONLY, POOLS, is_for_pooling

MAX_BATCH = 64  # sequences at once, where `max_num_seqs` does not say: a batch's throughput is what is wanted here
NO_EFFECT = {  # accepted, with the reason why they change nothing
    "swap_space": "sequences that lose their memory are computed again, so nothing is swapped",
    "disable_custom_all_reduce": "the torch engine runs on one device",
    "guided_decoding_backend": "there is one backend, llguidance",
    "enable_chunked_prefill": "prompts are always read in chunks, beside what is being written",
    "disable_log_stats": "",
    "worker_use_ray": "workers are processes of their own",
    "distributed_executor_backend": "workers are processes of their own",
    "max_cpu_loras": "max_loras are kept, and others are read from their folders",
    "download_dir": "set HF_HOME for another place",
    "max_logprobs": "up to 1,024, or all by -1",
    "num_scheduler_steps": "a step makes one token for each sequence",
    "preemption_mode": "sequences that lose their memory are computed again",
    "served_model_name": "nothing is served to others",
}
SILENT = ("disable_log_stats",)
DEFAULTS = {
    "swap_space": 4,
    "disable_custom_all_reduce": False,
    "enable_chunked_prefill": True,
    "enable_lora": False,
    "enable_prompt_adapter": False,
    "kv_cache_dtype": "auto",
}
ONLY = {  # what can be given, and nothing else
    "pipeline_parallel_size": (1,),
    "load_format": ("auto", "safetensors"),
    "tokenizer_mode": ("auto", "slow"),
    "task": ("auto", *POOLS),
}
ENGINE = {  # what the engine's section calls them
    "max_num_seqs": "max_batch",
    "max_num_batched_tokens": "token_budget",
    "block_size": "block_size",
    "max_model_len": "max_length",
    "enable_prefix_caching": "prefix_caching",
}
KV_BITS = {"auto": None, "fp8": 8, "fp8_e4m3": 8, "fp8_e5m2": 8, "int8": 8, "int4": 4}
OURS = ("transport", "device", "start_timeout_s", "threads")  # that vLLM does not have, or has otherwise
OTHERS = (
    "kv_cache_dtype", "load_format", "hf_overrides", "task", "pipeline_parallel_size", "limit_mm_per_prompt",
    "mm_processor_kwargs",
)  # fmt: skip


@dataclass(frozen=True)
class Arguments:
    """What `LLM` is given. `more` are the keyword arguments beyond the document's own.

    TypeError for one that nobody knows, with the nearest name; ValueError for one that cannot be had.
    """

    model: str
    tokenizer: str | None = None
    tokenizer_mode: str = "auto"
    skip_tokenizer_init: bool = False
    trust_remote_code: bool = False
    tensor_parallel_size: int = 1
    dtype: str = "auto"
    quantization: str | None = None
    revision: str | None = None
    tokenizer_revision: str | None = None
    seed: int | None = 0
    gpu_memory_utilization: float = 0.9
    swap_space: float = 4
    cpu_offload_gb: float = 0
    enforce_eager: bool | None = None
    max_context_len_to_capture: int | None = None
    max_seq_len_to_capture: int = 8192
    disable_custom_all_reduce: bool = False
    disable_async_output_proc: bool = False
    more: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, model: str, given: Mapping[str, Any]) -> Self:
        """From keyword arguments, those of the document and all others."""
        own = {name: value for name, value in given.items() if name in cls.__dataclass_fields__ and name != "more"}
        return cls(model, **own, more={name: value for name, value in given.items() if name not in own})

    def __post_init__(self) -> None:
        known = [*NO_EFFECT, *ENGINE, *NAMES, *OURS, *OTHERS]
        for name in self.more:
            if name not in known:
                near = get_close_matches(name, [*known, *self.__dataclass_fields__], 1)
                raise TypeError(f"LLM: unknown argument {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))

    @property
    def kv_bits(self) -> int | None:
        """The bits of a number in the KV cache, None for those of the model; vLLM's 8-bit floats are integers here."""
        kind = self.more.get("kv_cache_dtype", "auto")
        if kind not in KV_BITS:
            raise ValueError(f"kv_cache_dtype = {kind!r}: must be one of {', '.join(KV_BITS)}")
        return KV_BITS[kind]

    @property
    def adapters(self) -> AdapterLimits:
        """What may be loaded of adapters."""
        return AdapterLimits() if self.pools else AdapterLimits.of(self.more)

    @property
    def media(self) -> MediaRules:
        """What may stand beside a prompt. ValueError for a limit that is none."""
        return MediaRules(self.more.get("limit_mm_per_prompt") or {}, self.more.get("mm_processor_kwargs") or {})

    @property
    def own_quantization(self) -> str | None:
        """How the checkpoint has to be quantised, None if that is for itself, or for vLLM's engine, to say."""
        return self.quantization if self.quantization in OF_CHECKPOINTS and not self._several else None

    @property
    def _several(self) -> bool:
        return self.tensor_parallel_size > 1

    @cached_property
    def pools(self) -> bool:
        """Whether the model makes vectors, and does not write. ValueError for one that does neither."""
        return is_for_pooling(self.more.get("task") or "auto", self.model, self.revision)

    def config(self) -> Config:
        """The config of a server for one caller. Warns of what has no effect."""
        device = self.more.get("device") or default_device()
        self._check()
        self._warn(device)
        return _within_bounds(
            Config(
                model=self._model(device),
                pipeline=PipelineConfig(kind="embeddings" if self.pools else "text"),
                engine=self._engine(device),
                workers=WorkersConfig(**self._workers()),
                http=None,
                media=MediaConfig(processor_options=True),
            )
        )

    def _model(self, device: str) -> ModelConfig:
        return ModelConfig(
            name=Path(self.model).name[:256] or "model",
            path=self.model,
            dtype=_dtype(self.dtype),
            device=device,
            tokenizer="none" if self.skip_tokenizer_init else self.tokenizer,
            tokenizer_mode="slow" if self.tokenizer_mode == "slow" else "auto",
            revision=self.revision,
            tokenizer_revision=self.tokenizer_revision or (None if self.tokenizer else self.revision),
            quantization="none" if self._several else when_loaded(self.quantization),
            cpu_offload_gb=0.0 if device == "cpu" else self.cpu_offload_gb,
        )

    def _engine(self, device: str) -> EngineConfig:
        given = {ours: self.more[theirs] for theirs, ours in ENGINE.items() if self.more.get(theirs) is not None}
        if self.pools:
            return EngineConfig(**{name: given[name] for name in ("token_budget", "max_length") if name in given})
        if self._several:
            given |= {"kind": "vllm", "options": self._options()}
        else:
            given["eager_above"] = self.max_context_len_to_capture or self.max_seq_len_to_capture
        if device != "cpu":
            given["memory_utilization"] = self.gpu_memory_utilization
        return EngineConfig(
            **{
                "max_batch": MAX_BATCH,
                "eager": bool(self.enforce_eager),
                "overlap": False if self.disable_async_output_proc else None,
                **given,
                **self.adapters.engine,
            }
        )

    def _options(self) -> dict[str, Any]:
        """vLLM's own."""
        given = {"tensor_parallel_size": self.tensor_parallel_size, "quantization": self.quantization}
        return {name: value for name, value in given.items() if value is not None}

    def _workers(self) -> dict[str, Any]:
        return {name: self.more[name] for name in ("transport", "threads", "start_timeout_s") if name in self.more}

    def _check(self) -> None:
        self._check_possible(ONLY)
        if self.pools:
            self._check_possible(POOLING_ONLY)
        if not 0 < self.gpu_memory_utilization <= 1:
            raise ValueError(f"gpu_memory_utilization = {self.gpu_memory_utilization}: must be in (0, 1]")
        if not 0 <= self.cpu_offload_gb <= 4096:
            raise ValueError(f"cpu_offload_gb = {self.cpu_offload_gb}: must be between 0 and 4096")
        if self._several and (self.adapters.engine or self.cpu_offload_gb):
            several = f"tensor_parallel_size = {self.tensor_parallel_size}"
            raise ValueError(f"{several}: has neither adapters nor cpu_offload_gb; leave those out, or take one device")
        if self.more.get("hf_overrides"):
            raise ValueError("hf_overrides: a checkpoint's config is used as it is; change config.json in a copy of it")

    def _check_possible(self, choices: Mapping[str, Sequence[object]]) -> None:
        for name, possible in choices.items():
            given = self.more.get(name, getattr(self, name, possible[0]))
            if given is not None and given not in possible:
                raise ValueError(f"{name} = {given!r}: can be {' or '.join(map(repr, possible))}")

    def _warn(self, device: str) -> None:
        warn_if_trusted(self.trust_remote_code)
        if self.max_context_len_to_capture is not None:
            text = "max_context_len_to_capture is deprecated; use max_seq_len_to_capture"
            warnings.warn(text, DeprecationWarning, stacklevel=5)
        given = {name: getattr(self, name) for name in ("swap_space", "disable_custom_all_reduce")} | dict(self.more)
        for name, reason in (NO_EFFECT | (POOLING_NO_EFFECT if self.pools else {})).items():
            if name in given and name not in SILENT and given[name] not in (None, DEFAULTS.get(name)):
                warnings.warn(f"{name} has no effect: {reason}", stacklevel=5)
        for name, switch in SWITCHES.items():
            if given.get(name) is not None and not given.get(switch):
                warnings.warn(f"{name} has no effect: {switch} is off", stacklevel=5)
        if self.cpu_offload_gb > 0 and device == "cpu":
            warnings.warn("cpu_offload_gb has no effect: on a CPU all weights are in main memory", stacklevel=5)


def _within_bounds(config: Config) -> Config:
    """ValueError, by the caller's own names, for what is out of bounds: what was not read, nobody has checked."""
    try:
        return parse_config(msgspec.yaml.encode(config), "LLM")
    except ConfigError as problem:
        text = str(problem)
    for theirs, ours in ENGINE.items():
        text = text.replace(f"engine.{ours}", theirs)
    raise ValueError(re.sub(r"\b(model|engine|workers)\.", "", text))


def warn_if_trusted(trusted: bool) -> None:
    """Say that no checkpoint is, to a caller who allows its code."""
    if trusted:
        warnings.warn("trust_remote_code: code from a checkpoint is never run", stacklevel=5)


def _dtype(name: str) -> Literal["auto", "float32", "bfloat16", "float16"]:
    names: dict[str, Literal["auto", "float32", "bfloat16", "float16"]] = {
        "auto": "auto",
        "float32": "float32",
        "float": "float32",
        "bfloat16": "bfloat16",
        "float16": "float16",
        "half": "float16",
    }
    short = str(name).removeprefix("torch.")
    if short not in names:
        raise ValueError(f"dtype = {name!r}: must be one of {', '.join(names)}")
    return names[short]
