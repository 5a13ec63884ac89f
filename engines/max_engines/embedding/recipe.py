"""How a checkpoint's vectors are to be made: what sentence-transformers has written beside it, or a default."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MASKED_LM_MAPPING, PreTrainedConfig
from transformers.utils.hub import cached_file

from ..loading import LOAD_ERRORS
from .pooling import Pooling

MODULES = "modules.json"
THEIRS = "sentence_transformers."
KNOWN = ("Transformer", "Pooling", "Dense", "Normalize")  # in this order; Dense may come several times
MODES: Mapping[str, Pooling] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_lasttoken": "last",
}


@dataclass(frozen=True, slots=True)
class Recipe:
    """`pooling` of the tokens' vectors, and whether the result is `normalized`; texts have at most `max_tokens`.

    `dense` are the folders of linear layers in between. With `lowercased` a text is read in lower case.
    """

    pooling: Pooling
    normalized: bool
    max_tokens: int | None = None
    dense: tuple[str, ...] = ()
    lowercased: bool = False


def read_recipe(source: str, config: PreTrainedConfig, revision: str | None = None) -> Recipe:
    """The recipe in a folder or on the hub.

    Without one, a decoder's last token and an encoder's mean, both normalised. ValueError, by its name, for a step that
    we do not have. Source: the files of sentence-transformers (modules.json, 1_Pooling/config.json,
    sentence_bert_config.json).
    """
    modules = read_json(source, MODULES, revision)
    if modules is None:
        return Recipe("last" if is_decoder(config) else "mean", normalized=True)
    kinds = [_kind(source, str(module.get("type", ""))) for module in modules]
    if kinds != sorted(kinds, key=KNOWN.index):
        raise ValueError(f"{source!r} makes its embeddings by {', '.join(kinds)}; known is {', '.join(KNOWN)}")
    folders = [(kind, str(module.get("path", ""))) for kind, module in zip(kinds, modules, strict=True)]
    pooling: Pooling = "mean"
    for kind, folder in folders:
        if kind == "Pooling":
            pooling = _mode(source, read_json(source, f"{folder}/config.json", revision) or {})
    reading = read_json(source, "sentence_bert_config.json", revision) or {}
    most = reading.get("max_seq_length")
    return Recipe(
        pooling,
        "Normalize" in kinds,
        most if isinstance(most, int) else None,
        tuple(folder for kind, folder in folders if kind == "Dense"),
        bool(reading.get("do_lower_case")),
    )


def is_decoder(config: PreTrainedConfig) -> bool:
    """True for a model whose tokens see only what stands before them: its last one alone has seen the text."""
    return type(config) in MODEL_FOR_CAUSAL_LM_MAPPING and type(config) not in MODEL_FOR_MASKED_LM_MAPPING


def _kind(source: str, name: str) -> str:
    """The module's class. A checkpoint's own may be called the same, and do something else."""
    kind = name.rpartition(".")[2]
    if kind not in KNOWN or not name.startswith(THEIRS):
        raise ValueError(f"{source!r} makes its embeddings with a module {name!r}; known are {', '.join(KNOWN)}")
    return kind


def _mode(source: str, given: Mapping[str, Any]) -> Pooling:
    named = [name for name, value in given.items() if name.startswith("pooling_mode_") and value is True]
    named += [f"pooling_mode_{mode}" for mode in [given.get("pooling_mode")] if isinstance(mode, str)]
    found = [MODES.get(name) or MODES.get(f"{name}_token") or MODES.get(f"{name}_tokens") for name in named]
    if len(found) != 1 or found[0] is None:
        raise ValueError(f"{source!r} pools by {', '.join(named) or 'nothing'}; one of mean, last and cls can be had")
    return found[0]


def read_json(source: str, name: str, revision: str | None) -> Any:
    """A file beside the model, None if there is none."""
    try:
        path = cached_file(source, name.strip("/"), revision=revision, _raise_exceptions_for_missing_entries=False)
        return None if path is None else json.loads(Path(path).read_text(encoding="utf-8"))
    except LOAD_ERRORS as problem:
        raise ValueError(f"cannot read {name} of {source!r}: {problem}") from problem
