"""What `load` gives beside the model: the processor of one that sees or hears, else its tokenizer."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias, cast

from max_interfaces.text import MediaKind

from ..config import ModelConfig
from ..engines import build_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, ProcessorMixin

Processor: TypeAlias = "PreTrainedTokenizerBase | ProcessorMixin"


def processor_of(model: ModelConfig) -> Processor:
    """That of a checkpoint. ConfigError if not even its tokenizer can be loaded."""
    from max_engines.media.processing import open_processor

    try:
        return open_processor(model.location, model.revision)
    except ValueError:  # it reads text alone, or cannot see here: the worker says why when it is shown something
        return build_tokenizer(model).inner


def tokenizer_of(processor: Processor) -> PreTrainedTokenizerBase:
    """The tokenizer in it, or itself."""
    return cast("PreTrainedTokenizerBase", getattr(processor, "tokenizer", processor))


def takes(processor: Processor, kind: MediaKind) -> bool:
    """Whether it has a part for media of a kind."""
    from max_engines.media import processor as media

    return media.takes(processor, kind)
