"""A checkpoint's processor, which makes ids and features of a text with images and sounds: transformers' own.

Nothing here needs torchvision. Without it transformers takes its processors of images on pillow, and refuses those of
videos, and with them every processor that has one: so these are put together here, with our own of films where there is
one, or refuse videos alone. Voxtral's, which takes sounds only through a package of Mistral's, has a call of ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn, TypeAlias

from transformers import (
    PROCESSOR_MAPPING,
    AutoFeatureExtractor,
    AutoImageProcessor,
    AutoTokenizer,
    BatchFeature,
    PreTrainedConfig,
    ProcessorMixin,
    VoxtralConfig,
    VoxtralProcessor,
)
from transformers.utils.hub import PushToHubMixin
from transformers.video_processing_utils import VideoProcessorMixin

from max_interfaces.protocols import Feature

from ..loading import LOAD_ERRORS, first_line, known_config, model_source, quiet
from .films import Qwen3Films, QwenFilms
from .voxtral import PromptedVoxtral

Factory: TypeAlias = type[AutoImageProcessor | AutoFeatureExtractor | AutoTokenizer]
PARTS: dict[str, Factory] = {
    "image_processor": AutoImageProcessor,
    "feature_extractor": AutoFeatureExtractor,
    "tokenizer": AutoTokenizer,
}
VIDEOS = "video_processor"
FILMS: dict[str, type[QwenFilms]] = {  # by the class of the whole processor
    "Qwen2VLProcessor": QwenFilms,
    "Qwen2_5_VLProcessor": QwenFilms,
    "Qwen2_5OmniProcessor": QwenFilms,
    "Qwen3VLProcessor": Qwen3Films,
}
OF_TEXT = ("input_ids", "attention_mask")


class NoVideos(PushToHubMixin):  # it is written out like other parts
    """Stands where a processor has one of videos. What is asked of it without a video are its sizes."""

    model_input_names: tuple[str, ...] = ()

    def __init__(self, images: object, why: str) -> None:
        """`why` is what videos are refused with."""
        self.merge_size = getattr(images, "merge_size", 1)
        self.temporal_patch_size = getattr(images, "temporal_patch_size", 1)
        self._why = why

    def to_dict(self) -> dict[str, object]:
        """Nothing that would be saved."""
        return {}

    def __call__(self, *_: object, **__: object) -> NoReturn:
        """ValueError."""
        raise ValueError(f"videos: {self._why}; give images")


class WithoutTorchvision:
    """Comes before a processor's own class, whose check of its parts knows none of videos without torchvision."""

    def check_argument_for_proper_class(self, name: str, argument: object) -> type:
        """The argument's class."""
        return type(argument)


def open_processor(path_or_id: str | Path, revision: str | None = None) -> ProcessorMixin:
    """The processor of a checkpoint. ValueError for one that has none, or that cannot be read."""
    source = model_source(path_or_id)
    try:
        with quiet():
            config = known_config(source, revision)
            processor = _opened(source, _class_for(config), revision)
            if isinstance(processor, PromptedVoxtral) and isinstance(config, VoxtralConfig):
                processor.listen(config)
            return processor
    except LOAD_ERRORS as problem:
        raise ValueError(f"cannot read the processor of {source!r}: {first_line(problem)}") from problem


def prompt_of(batch: BatchFeature) -> tuple[tuple[int, ...], tuple[Feature, ...]]:
    """Ids and features of what a processor has made of one text, with `return_tensors="np"`.

    ValueError for a batch of several: features belong to a batch, and no more to a text of it.
    """
    arrays: Mapping[str, object] = batch.data
    ids = batch["input_ids"]
    if len(ids) != 1:
        raise ValueError(f"a batch of {len(ids)} texts: process them one by one")
    features = tuple(Feature.of(name, batch[name]) for name in arrays if name not in OF_TEXT)
    return tuple(int(token) for token in ids[0]), features


def _class_for(config: PreTrainedConfig) -> type[ProcessorMixin]:
    found: object = PROCESSOR_MAPPING.get(type(config), None)
    if not isinstance(found, type) or not issubclass(found, ProcessorMixin):
        raise ValueError(f"its architecture {config.model_type!r} has no processor of images or sounds")
    return PromptedVoxtral if found is VoxtralProcessor else found


def _opened(source: str, kind: type[ProcessorMixin], revision: str | None) -> ProcessorMixin:
    names: list[str] = kind.get_attributes()  # type: ignore[no-untyped-call]
    parts = {name: _part(name, source, revision) for name in names if name != VIDEOS}
    if VIDEOS in names:
        parts[VIDEOS] = _films(source, kind, revision, parts.get("image_processor"))
        kind = type(kind.__name__, (WithoutTorchvision, kind), {"__init__": vars(kind)["__init__"]})
    options, _ = kind.get_processor_dict(source, revision=revision)
    processor: ProcessorMixin = kind.from_args_and_dict([parts[name] for name in names], options)
    return processor


def _films(source: str, kind: type[ProcessorMixin], revision: str | None, images: object) -> QwenFilms | NoVideos:
    """What makes features of films, with the checkpoint's settings, or what says why nothing does."""
    films = FILMS.get(kind.__name__)
    if films is None:
        return NoVideos(images, "transformers' processor of them needs torchvision")
    settings, _ = VideoProcessorMixin.get_video_processor_dict(source, revision=revision or "main")
    try:
        return films(settings)
    except ValueError as problem:
        return NoVideos(images, str(problem))


def _part(name: str, source: str, revision: str | None) -> object:
    if name not in PARTS:
        raise ValueError(f"its processor has a {name}, which is not known")
    part: object = PARTS[name].from_pretrained(source, revision=revision, trust_remote_code=False)
    return part
