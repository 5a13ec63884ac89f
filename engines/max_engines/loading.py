"""Causal language models from a folder or the hub, through transformers: safetensors only, remote code never."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMultimodalLM,
    AutoModelForSeq2SeqLM,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2_5OmniThinkerForConditionalGeneration,
)
from transformers.utils import logging as transformers_logging

from .checkpoints import open_quantized, own_quantization
from .language_model import language_class, language_model
from .weights import PLAIN, WeightOptions

DType: TypeAlias = Literal["auto", "float32", "bfloat16", "float16"]
LOAD_ERRORS = (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError)  # what transformers raises
CONVERT = "if you trust it, convert it: AutoModelForCausalLM.from_pretrained(OLD).save_pretrained(NEW)"
Factory: TypeAlias = type[
    AutoModelForCausalLM | AutoModelForMultimodalLM | AutoModelForSeq2SeqLM | AutoModel | PreTrainedModel
]
FactoryOf: TypeAlias = Callable[[str, str | None], Factory]
_DTYPES: Mapping[str, torch.dtype | str] = {
    "auto": "auto",
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


@dataclass(frozen=True, slots=True, eq=False)
class LoadedModel:
    """A causal LM ready to run, and the facts about it that do not need torch to be understood.

    `whole` is the model that sees or hears, if `module` is the language model of one.
    """

    name: str
    module: PreTrainedModel
    vocab_size: int
    context_length: int
    eos_token_ids: frozenset[int]
    whole: PreTrainedModel | None = None

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.module.device

    @property
    def dtype(self) -> torch.dtype:
        """What the weights are."""
        return self.module.dtype

    @property
    def is_encoder_decoder(self) -> bool:
        """True if the prompt goes into an encoder, and the output begins with a token of its own."""
        return bool(self.module.config.is_encoder_decoder)

    @property
    def config(self) -> PreTrainedConfig:
        """The configuration of the language model, also where it is one part of several."""
        config: PreTrainedConfig = self.module.config.get_text_config(decoder=True)
        return config


def load_model(
    path_or_id: str | Path,
    *,
    dtype: DType = "auto",
    device: str = "cpu",
    revision: str | None = None,
    trust_remote_code: bool = False,
    weights: WeightOptions = PLAIN,
) -> LoadedModel:
    """Load the causal LM (or encoder-decoder) at `path_or_id`, a folder or a hub id, ready for inference.

    `dtype` "auto" takes what the checkpoint was saved in, `revision` is a branch, a tag or a commit on the hub. Code
    from a checkpoint is never run: `trust_remote_code` is accepted with a warning, for callers that say it always.
    Weights that the checkpoint has quantised become floats (`checkpoints`); `weights` says what they become then.
    ValueError, with what to do, for a folder without a model, a device that is not there, weights that are not
    safetensors, are missing or hold NaN or infinite numbers, quantisation that is not known or not possible, and an
    architecture that is no language model or that needs the checkpoint's own code.
    """
    if trust_remote_code:
        warnings.warn("trust_remote_code is ignored: code from a checkpoint is never run", stacklevel=2)
    source = model_source(path_or_id)
    target = _device(device)
    weights.check(target)
    return prepared(source, _read(source, _factory, dtype, revision), target, weights)


def prepared(source: str, read: PreTrainedModel, device: torch.device, weights: WeightOptions) -> LoadedModel:
    """A module that has been read, ready for inference on a device, its weights as they are to be."""
    kind = language_class(read.config)
    module = read if kind is None else language_model(read, kind)
    weights.apply(module, device)
    read.train(False).to(device)
    if module.device.type == "cpu" and module.dtype == torch.float32:
        store_input_major(module)
    return describe(source, module, None if kind is None else read)


def load_module(
    source: str,
    factory_of: FactoryOf,
    *,
    dtype: DType = "auto",
    device: str = "cpu",
    revision: str | None = None,
    unneeded: str = "",
) -> PreTrainedModel:
    """The module of a `model_source`, made by the class of transformers that `factory_of` names for it.

    Weights whose names begin with `unneeded` may be missing. ValueError as `load_model`.
    """
    target = _device(device)
    loaded: PreTrainedModel = _read(source, factory_of, dtype, revision, unneeded).train(False).to(target)
    return loaded


def _read(
    source: str, factory_of: FactoryOf, dtype: DType, revision: str | None, unneeded: str = ""
) -> PreTrainedModel:
    """The module on the CPU, of a checkpoint that has all weights, all of them numbers."""
    if dtype not in _DTYPES:
        raise ValueError(f"dtype = {dtype!r}: must be one of {', '.join(_DTYPES)}")
    _see_that_safetensors_are_there(source)
    try:
        with quiet():
            module, found = _opened(source, factory_of(source, revision), _DTYPES[dtype], revision)
    except LOAD_ERRORS as problem:
        reason = first_line(problem)
        if "use_safetensors" in reason:  # a repository on the hub with pickles alone
            reason = f"it has no safetensors, and nothing else is read; {CONVERT}"
        raise ValueError(f"cannot load the model {source!r}: {reason}") from problem
    missing = sorted(name for name in found["missing_keys"] if not unneeded or not name.startswith(unneeded))
    if missing:
        raise ValueError(f"cannot load the model {source!r}: it lacks {len(missing)} weights, such as {missing[0]}")
    module.requires_grad_(False)
    _see_that_weights_are_numbers(source, module)
    return module


def _opened(
    source: str, factory: Factory, dtype: torch.dtype | str, revision: str | None
) -> tuple[PreTrainedModel, dict[str, set[str]]]:
    """The module on the CPU, and what transformers found out about its weights."""
    own = own_quantization(source, revision)
    if own is not None:
        return open_quantized(source, factory, own, dtype, revision)
    opened: tuple[PreTrainedModel, dict[str, set[str]]] = factory.from_pretrained(  # type: ignore[assignment]
        source,
        dtype=dtype,
        use_safetensors=True,
        trust_remote_code=False,
        low_cpu_mem_usage=True,
        output_loading_info=True,
        revision=revision,  # type: ignore[arg-type]
    )
    return opened


def describe(name: str, module: PreTrainedModel, whole: PreTrainedModel | None = None) -> LoadedModel:
    """The facts about a module that is already in memory."""
    text = module.config.get_text_config(decoder=True)
    head = module.get_output_embeddings()  # type: ignore[no-untyped-call]
    return LoadedModel(
        name=name,
        module=module,
        vocab_size=head.weight.shape[0] if head is not None else text.vocab_size,
        context_length=context_length(text),
        eos_token_ids=_eos_token_ids(module),
        whole=whole,
    )


def store_input_major(module: nn.Module) -> None:
    """Lay out the weights of linear layers, routers and experts `[in, out]` in memory; shapes stay what they are.

    MKL's float32 product then takes one and the same path from `least_rows` to 128 rows, so that a row's result
    does not depend on how many others there are, and is up to 1.7 times as fast (256 → 704, 16 rows, one core: 35 µs
    for 57 µs).
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear) or hasattr(layer, "num_experts"):
            for weight in layer.parameters(recurse=False):
                if weight.dim() > 1:  # a tied embedding shares the parameter, and follows
                    weight.data = weight.data.transpose(-1, -2).contiguous().transpose(-1, -2)


def model_source(path_or_id: str | Path, files: Sequence[str] = ("config.json",)) -> str:
    """The folder or hub id as transformers takes it; ValueError for a path at which there is none of the `files`."""
    path = Path(path_or_id).expanduser()
    if path.is_dir():
        if not any((path / name).is_file() for name in files):
            raise ValueError(f"no config.json in {path}: name the folder that holds the model's config and weights")
        return str(path)
    name = str(path_or_id)
    if isinstance(path_or_id, Path) or name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ValueError(f"no model folder at {path}: check the path, or name a model on the hub as owner/name")
    return name


def _factory(source: str, revision: str | None) -> Factory:
    """Which of transformers' factories makes the model. ValueError if none does without the checkpoint's own code."""
    config = known_config(source, revision)
    if config.is_encoder_decoder and type(config) in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING:
        return AutoModelForSeq2SeqLM
    if language_class(config) is not None:
        # Of a model that speaks, too, the part that makes text: the rest has weights of its own.
        return (
            Qwen2_5OmniThinkerForConditionalGeneration
            if hasattr(config, "thinker_config")
            else AutoModelForMultimodalLM
        )
    if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING:
        return AutoModelForCausalLM
    raise ValueError(f"its architecture {config.model_type!r} is no causal language model")


def known_config(source: str, revision: str | None = None) -> PreTrainedConfig:
    """The config of an architecture that transformers has. ValueError for one that needs the checkpoint's own code."""
    raw, _ = PreTrainedConfig.get_config_dict(source, revision=revision)
    kind = raw.get("model_type")
    if kind in CONFIG_MAPPING:
        config: PreTrainedConfig = AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=False)
        return config
    if "auto_map" in raw:
        raise ValueError(f"its architecture {kind!r} needs code from the checkpoint, and such code is never run")
    raise ValueError(f"this version of transformers does not know its architecture {kind!r}")


def _see_that_safetensors_are_there(source: str) -> None:
    """ValueError for a folder whose weights are pickled: reading a pickle runs whatever it says."""
    folder = Path(source)
    if folder.is_dir() and not any(folder.glob("*.safetensors")):
        pickled = sorted(path.name for path in (*folder.glob("*.bin"), *folder.glob("*.pt"), *folder.glob("*.pth")))
        if pickled:
            raise ValueError(
                f"cannot load the model {source!r}: {pickled[0]} is a pickle, and only safetensors are read; {CONVERT}"
            )
        raise ValueError(f"cannot load the model {source!r}: there is no *.safetensors in the folder")


def _see_that_weights_are_numbers(source: str, module: PreTrainedModel) -> None:
    """ValueError, with its name, for a weight that holds NaN or an infinity: it would spoil only some requests."""
    for name, weight in module.named_parameters():
        if not bool(torch.stack(torch.aminmax(weight)).isfinite().all()):
            raise ValueError(
                f"cannot load the model {source!r}: its weight {name} holds NaN or infinite numbers as {weight.dtype}"
            )


def context_length(config: PreTrainedConfig) -> int:
    """The most tokens of a sequence; 2**20 for a model that says nothing."""
    length: int = getattr(config, "max_position_embeddings", None) or 2**20
    rope = getattr(config, "rope_parameters", None) or {}
    for kind in (rope, *(value for value in rope.values() if isinstance(value, dict))):  # some have one a layer type
        if kind.get("rope_type") == "longrope":
            # Beyond its first length transformers turns every position of a batch by other frequencies, those of keys
            # in a cache excepted: a sequence's tokens would depend on the others, and on when it grew too long.
            length = min(length, kind.get("original_max_position_embeddings") or length)
    return length


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError as problem:
        raise ValueError(f"device = {name!r}: must be cpu, cuda or cuda:N") from problem
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"device = {name!r}: must be cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device = {name!r}: this machine has {torch.cuda.device_count()} CUDA devices; use cpu")
    return device


def _eos_token_ids(module: PreTrainedModel) -> frozenset[int]:
    """Union over the generation config, the config and the text config: each names some checkpoints' ids alone."""
    ids: set[int] = set()
    for config in (module.generation_config, module.config, module.config.get_text_config(decoder=True)):
        value = getattr(config, "eos_token_id", None)
        ids.update([value] if isinstance(value, int) else value or [])
    return frozenset(ids)


def first_line(problem: BaseException) -> str:
    """What an exception says, in one line."""
    lines = str(problem).strip().splitlines()
    return lines[0] if lines else type(problem).__name__


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bar and no chatter while loading: a worker's standard error is for errors."""
    verbosity = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(logging.ERROR)
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]
