"""Tiny random checkpoints that see and hear with all that is published beside them: tokenizer, processor, template."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from max_engines.media.processing import open_processor, prompt_of
from max_engines.media.processor import MediaProcessor
from max_engines.tokenizer import load_tokenizer
from max_pipelines.config import Config, EngineConfig, ModelConfig, PipelineConfig, WorkersConfig
from max_pipelines.media import Sound
from max_pipelines.media.encoded import png as png_of
from max_pipelines.media.encoded import wav as wav_of
from max_pipelines.media.limits import DEFAULT_LIMITS
from max_pipelines.text.seeing import Seeing
from tests.engines.tiny_multimodal import DRAWN, PATCH, SEEN_BY_GEMMA, SIDE, Shown, save_multimodal
from tests.engines.tiny_omni import save_omni
from tests.tiny_text import make_tokenizer

RATE = 16_000
TOKENS = {"image": "<img>", "video": "<vid>", "audio": "<snd>", "boi": "<b>", "eoi": "<e>"}
TOKENS |= {"vision_bos": "<vb>", "vision_eos": "<ve>", "audio_bos": "<ab>", "audio_eos": "<ae>"}
TOKENS = {f"{name}_token": text for name, text in TOKENS.items()}
QWEN = {"patch_size": PATCH, "min_pixels": 256, "max_pixels": 2048}
CHECKPOINTS: dict[str, tuple[str, str, dict[str, Any]]] = {  # the class, a text, and options of the image processor
    "llava": ("CLIP", "see <img> there", {"size": {"shortest_edge": SIDE}, "crop_size": SIDE}),
    "qwen2.5-vl": ("Qwen2VL", "see <vb><img><ve> there", QWEN),
    "qwen3-vl": ("Qwen2VL", "see <vb><img><ve> there", QWEN),
    "gemma3": ("Gemma3", "see <b> there", {"size": {"height": SIDE, "width": SIDE}}),
    "janus": ("Janus", "see <img> there", {"size": {"height": SIDE, "width": SIDE}}),
    "qwen2-audio": ("", "hear <ab><snd><ae> there", {}),
    "voxtral": ("", "hear <ab><snd> there", {}),
    "qwen2.5-omni": (
        "Qwen2VL",
        "see <vb><img><ve> and hear <ab><snd><ae>",
        {"patch_size": PATCH, "min_pixels": 256, "max_pixels": 2048},
    ),
}
OF_FILMS: dict[str, dict[str, Any]] = {  # where it is not that of images
    "qwen3-vl": {
        "video_processor_type": "Qwen3VLVideoProcessor",
        "patch_size": PATCH,
        "size": {"shortest_edge": 256, "longest_edge": 8192},
    }
}
PLACES = {  # what stands in a conversation for an image and a sound
    "llava": ("<img>", ""),
    "qwen2.5-vl": ("<vb><img><ve>", ""),
    "qwen3-vl": ("<vb><img><ve>", ""),
    "gemma3": ("<b>", ""),
    "janus": ("<img>", ""),
    "qwen2-audio": ("", "<ab><snd><ae>"),
    "voxtral": ("", "<ab><snd>"),
    "qwen2.5-omni": ("<vb><img><ve>", "<ab><snd><ae>"),
}
TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}{{ '<|start|>' + message.role + '\\n' }}"
    "{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content %}"
    "{% if part['type'] == 'text' %}{{ part.text }}"
    "{% elif part['type'] == 'image' %}{{ 'IMAGE' }}{% elif part['type'] == 'audio' %}{{ 'AUDIO' }}"
    "{% elif part['type'] == 'video' %}{{ '<vb><vid><ve>' }}{% endif %}"
    "{% endfor %}{% endif %}{{ '<|turn|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start|>assistant\\n' }}{% endif %}"
)


def image(seed: int, height: int = 50, width: int = 70) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)


def sound(seed: int) -> NDArray[np.float32]:
    """0.4 s."""
    return (np.random.default_rng(seed).standard_normal(RATE * 2 // 5) * 0.1).astype(np.float32)


def save_with_processor(
    path: Path, name: str, grow: Callable[[Any], None] = lambda config: None, *, seconds: float = 0.4
) -> Path:
    """Write one of `CHECKPOINTS` as it would be published, with the same weights each time, its config `grow`n.

    It hears so many `seconds` of a sound.
    """
    plain = make_tokenizer()
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=plain.backend_tokenizer, bos_token="<s>", pad_token="<pad>", extra_special_tokens=TOKENS
    )
    seen, heard = PLACES[name]
    tokenizer.chat_template = TEMPLATE.replace("IMAGE", seen).replace("AUDIO", heard)
    tokenizer.save_pretrained(path)
    kind, _, of_images = CHECKPOINTS[name]
    parts: dict[str, Any] = {}
    if "<snd>" in CHECKPOINTS[name][1]:
        hearing: Any = transformers.WhisperFeatureExtractor
        parts |= hearing(feature_size=16, chunk_length=seconds).to_dict()
    if kind:
        parts |= getattr(transformers, f"{kind}ImageProcessorPil")(**of_images).to_dict()
    (path / "preprocessor_config.json").write_text(json.dumps(parts))
    if name in OF_FILMS:
        (path / "video_preprocessor_config.json").write_text(json.dumps(OF_FILMS[name]))
    options = {"llava": {"patch_size": PATCH, "vision_feature_select_strategy": "default"}}
    options["llava"]["num_additional_image_tokens"] = 1
    options["gemma3"] = {"image_seq_length": SEEN_BY_GEMMA}
    options["janus"] = {"num_image_tokens": DRAWN}
    if name in options:
        (path / "processor_config.json").write_text(json.dumps(options[name]))

    def change(config: Any) -> None:
        grow(config)
        config = getattr(config, "thinker_config", config)
        config.get_text_config().vocab_size = len(tokenizer)
        set_placeholders(config, tokenizer)

    return save_multimodal(path, name, change)


def set_placeholders(config: Any, tokenizer: PreTrainedTokenizerFast) -> None:
    """Have a configuration name the tokenizer's ids."""
    for token, text in TOKENS.items():
        short = token.removesuffix("_token")
        for field in (f"{token}_id", f"{token}_index", f"{short}_id"):
            if hasattr(config, field):
                setattr(config, field, tokenizer.convert_tokens_to_ids(text))


def save_speaking(path: Path) -> Path:
    """Write a whole Qwen2.5-Omni, which speaks, as it would be published."""
    save_with_processor(path, "qwen2.5-omni", seconds=1)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(path)

    def change(config: Any) -> None:
        config.thinker_config.get_text_config().vocab_size = len(tokenizer)
        set_placeholders(config.thinker_config, tokenizer)
        set_placeholders(config.talker_config, tokenizer)

    return save_omni(path, change)


def serving(path: Path, *, transport: Literal["process", "thread"] = "process", count: int = 1) -> Config:
    """The config that serves a checkpoint."""
    return Config(
        http=None,
        model=ModelConfig(name="tiny", path=str(path), dtype="float32"),
        pipeline=PipelineConfig(kind="text"),
        engine=EngineConfig(max_batch=32),
        workers=WorkersConfig(count=count, transport=transport),
    )


def serving_checkpoint(
    folder: Path, name: str, grow: Callable[[Any], None] = lambda config: None, **workers: Any
) -> Config:
    """Write one of `CHECKPOINTS`, its config `grow`n; return the config that serves it."""
    return serving(save_with_processor(folder, name, grow), **workers)


def png(seed: int, height: int = 50, width: int = 70) -> bytes:
    """An image as a file."""
    return png_of(image(seed, height, width))


def wav(seed: int) -> bytes:
    """A sound as a file."""
    return wav_of(Sound(sound(seed), RATE))


def film_seen(folder: Path, text: str, *films: bytes, **asked: Any) -> Shown:
    """What a checkpoint's processor makes of a text with films, of which as many frames are seen as are `asked` for."""
    processor, tokenizer = MediaProcessor.open(folder), load_tokenizer(folder)
    seeing, _ = Seeing.of(asked)
    seen = [seeing.read(film, processor, DEFAULT_LIMITS, "film") for film in films]
    ids, features = processor.process(text, partial(tokenizer.encode, parse_special_tokens=True), films=seen)
    return Shown(ids, {feature.name: torch.tensor(feature.array) for feature in features})


def shown_by_transformers(folder: Path, text: str, images: Sequence[Any], sounds: Sequence[Any]) -> Shown:
    """What the checkpoint's own processor makes of a text with placeholders."""
    given: dict[str, Any] = {"images": list(images)} if images else {}
    if sounds:
        given |= {"audio": list(sounds), "sampling_rate": RATE}
    ids, features = prompt_of(open_processor(folder)(text=text, return_tensors="np", **given))
    return Shown(ids, {feature.name: torch.tensor(feature.array) for feature in features})
