"""Tiny random checkpoints of models that see and hear, and what their processors would make of an image or a sound."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
import transformers
from torch import Tensor
from transformers import PreTrainedModel

from max_interfaces.protocols import Feature

Arrays: TypeAlias = dict[str, Tensor]  # by the names of the model's forward
VOCAB = 150
IMAGE, VIDEO, AUDIO, VISION_START, VISION_END, AUDIO_START, AUDIO_END, BEGIN_IMAGE, END_IMAGE = range(140, 149)
PATCH = 8
SIDE = 32  # pixels of an image: 4 x 4 patches
DRAWN, CODES = 16, 40  # tokens of a picture that comes out, and how many there are to choose from
SEEN_BY_GEMMA = 16  # tokens of an image: more than its window, a block, or a chunk of the tests
TEXT: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
TURNED = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [2, 3, 3]}
SEEING = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": SIDE,
    "patch_size": PATCH,
    "initializer_range": 0.3,
}
HEARING = {
    "d_model": 32,
    "encoder_layers": 1,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 64,
    "num_mel_bins": 16,
}


@dataclass(frozen=True)
class Shown:
    """A prompt with its placeholders, and the arrays for them."""

    prompt: tuple[int, ...]
    arrays: Arrays

    @property
    def features(self) -> tuple[Feature, ...]:
        """The arrays as a `SequenceStart` has them."""
        return tuple(Feature.of(name, array.numpy()) for name, array in self.arrays.items())


def made(name: str, **options: object) -> Any:
    """A configuration of transformers; some take names that their types do not have."""
    return getattr(transformers, name)(**options)


def llava_config() -> Any:
    """Llama behind CLIP's encoder."""
    return made(
        "LlavaConfig",
        vision_config={"model_type": "clip_vision_model", **SEEING},
        text_config={"model_type": "llama", **TEXT},
        image_token_id=IMAGE,
        vision_feature_layer=-1,
        initializer_range=0.3,
    )


def qwen2_5_vl_config() -> Any:
    """Qwen2 with positions in three dimensions."""
    return transformers.Qwen2_5_VLConfig(
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "out_hidden_size": 64,
            "patch_size": PATCH,
            "window_size": 32,
            "fullatt_block_indexes": [1],
            "initializer_range": 0.3,
        },
        text_config={**TEXT, "rope_parameters": TURNED},
        image_token_id=IMAGE,
        video_token_id=VIDEO,
        vision_start_token_id=VISION_START,
        vision_end_token_id=VISION_END,
    )


def qwen3_vl_config() -> Any:
    """Qwen3 with positions in three dimensions, and what the encoder saw in its depths added to the first layers."""
    return transformers.Qwen3VLConfig(
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "out_hidden_size": 64,
            "patch_size": PATCH,
            "num_position_embeddings": 16,
            "deepstack_visual_indexes": [0, 1],
            "initializer_range": 0.3,
        },
        text_config={**TEXT, "num_hidden_layers": 3, "head_dim": 16, "rope_parameters": TURNED},
        image_token_id=IMAGE,
        video_token_id=VIDEO,
        vision_start_token_id=VISION_START,
        vision_end_token_id=VISION_END,
    )


def gemma3_config() -> Any:
    """Gemma 3, whose image tokens see each other, also in the layers with a window."""
    return made(
        "Gemma3Config",
        vision_config={"model_type": "siglip_vision_model", **SEEING},
        text_config={
            **TEXT,
            "head_dim": 16,
            "sliding_window": 10,
            "query_pre_attn_scalar": 16,
            "layer_types": ["sliding_attention", "full_attention"],
        },
        mm_tokens_per_image=SEEN_BY_GEMMA,
        image_token_id=IMAGE,
        boi_token_id=BEGIN_IMAGE,
        eoi_token_id=END_IMAGE,
        initializer_range=0.3,
    )


def qwen2_audio_config() -> Any:
    """Qwen2 behind Whisper's encoder."""
    return made(
        "Qwen2AudioConfig",
        audio_config={**HEARING, "max_source_positions": 20},
        text_config={"model_type": "qwen2", **TEXT},
        audio_token_id=AUDIO,
    )


def voxtral_config() -> Any:
    """Llama behind Whisper's encoder, four frames a token."""
    return transformers.VoxtralConfig(
        audio_config={
            "hidden_size": 32,
            "intermediate_size": 128,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "num_mel_bins": 16,
            "max_source_positions": 20,
            "head_dim": 16,
        },
        text_config={"model_type": "llama", **TEXT, "head_dim": 16},
        audio_token_id=AUDIO,
    )


def qwen2_5_omni_config() -> Any:
    """The thinker of Qwen2.5-Omni."""
    thinker = {
        "text_config": {**TEXT, "rope_parameters": TURNED},
        "audio_config": {**HEARING, "output_dim": 64, "max_source_positions": 100, "n_window": 20},
        "vision_config": {
            "depth": 1,
            "embed_dim": 32,
            "hidden_size": 32,
            "intermediate_size": 32,
            "out_hidden_size": 64,
            "num_heads": 2,
            "patch_size": PATCH,
            "fullatt_block_indexes": [0],
        },
        "audio_token_index": AUDIO,
        "image_token_index": IMAGE,
        "video_token_index": VIDEO,
        "audio_start_token_id": AUDIO_START,
        "audio_end_token_id": AUDIO_END,
        "vision_start_token_id": VISION_START,
        "vision_end_token_id": VISION_END,
        "user_token_id": 3,
    }
    return transformers.Qwen2_5OmniConfig(thinker_config=thinker, enable_audio_output=False)


def janus_config() -> Any:
    """Llama behind SigLIP's encoder, which also draws pictures of 4 x 4 tokens and twice as many pixels a side."""
    config: Any = transformers.JanusConfig(
        vision_config={**SEEING, "projection_dim": 64, "num_image_tokens": DRAWN},
        text_config={"model_type": "llama", **TEXT},
        vq_config={
            "embed_dim": 8,
            "num_embeddings": CODES,
            "latent_channels": 32,
            "base_channels": 32,
            "channel_multiplier": [1, 1],
            "num_res_blocks": 1,
            "projection_dim": 64,
            "image_token_embed_dim": 64,
        },
        image_token_id=IMAGE,
        tie_word_embeddings=False,
    )
    config.boi_token_id = BEGIN_IMAGE  # it belongs to the generation config
    return config


def picture(seed: int) -> Tensor:
    """An image as CLIP and SigLIP take it, float32 [1, 3, side, side]."""
    return torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def pixels(count: int) -> Callable[[int], Shown]:
    """An image of `count` tokens."""

    def show(seed: int) -> Shown:
        return Shown((1, *words(seed, 5), *(IMAGE,) * count, *words(seed + 50, 7)), {"pixel_values": picture(seed)})

    return show


def seen_by_gemma(seed: int) -> Shown:
    """Two images, whose tokens see each other."""
    image = (BEGIN_IMAGE, *(IMAGE,) * SEEN_BY_GEMMA, END_IMAGE)
    prompt = (1, *words(seed, 4), *image, *words(seed + 1, 9), *image, *words(seed + 2, 5))
    types = torch.tensor([[int(token == IMAGE) for token in prompt]])
    both = torch.cat((picture(seed), picture(seed + 100)))
    return Shown(prompt, {"pixel_values": both, "token_type_ids": types})


def patches(seed: int, height: int, width: int) -> Tensor:
    """An image as Qwen takes it: float32 [patches, channels * 2 frames * patch * patch]."""
    source = torch.Generator().manual_seed(seed)
    return torch.randn(height * width, 3 * 2 * PATCH * PATCH, generator=source)


def seen_by_qwen(seed: int) -> Shown:
    """An image of height 2 and width 3, after merging, or the other way round, by the seed."""
    height, width = (4, 6) if seed % 2 else (6, 4)
    image = (VISION_START, *(IMAGE,) * (height * width // 4), VISION_END)
    prompt = (*words(seed, 6), *image, *words(seed + 50, 7))
    return Shown(
        prompt,
        {
            "pixel_values": patches(seed, height, width),
            "image_grid_thw": torch.tensor([[1, height, width]]),
            "mm_token_type_ids": torch.tensor([[int(token == IMAGE) for token in prompt]]),
        },
    )


def film(seed: int) -> Shown:
    """A video of two pairs of frames, far apart in time: what follows is further on than there are tokens."""
    prompt = (*words(seed, 6), VISION_START, *(VIDEO,) * 8, VISION_END, *words(seed + 50, 7))
    return Shown(
        prompt,
        {
            "pixel_values_videos": patches(seed, 8, 4),
            "video_grid_thw": torch.tensor([[2, 4, 4]]),
            "second_per_grid_ts": torch.tensor([20.0]),
            "mm_token_type_ids": torch.tensor([[2 * int(token == VIDEO) for token in prompt]]),
        },
    )


def timed_film(seed: int) -> Shown:
    """A video of two pairs of frames as Qwen3-VL reads it: each with its time before it, and in marks of its own."""
    pair = (VISION_START, *(VIDEO,) * 4, VISION_END)
    prompt = (*words(seed, 6), *words(seed + 1, 3), *pair, *words(seed + 2, 3), *pair, *words(seed + 50, 7))
    return Shown(
        prompt,
        {
            "pixel_values_videos": patches(seed, 8, 4),
            "video_grid_thw": torch.tensor([[2, 4, 4]]),
            "mm_token_type_ids": torch.tensor([[2 * int(token == VIDEO) for token in prompt]]),
        },
    )


def mel(seed: int, frames: int) -> Tensor:
    """A sound's mel spectrogram, float32 [1, bins, frames]."""
    return torch.randn(1, 16, frames, generator=torch.Generator().manual_seed(seed))


def heard_by_qwen(seed: int) -> Shown:
    """40 frames, of which 32 are sound: 8 tokens."""
    mask = torch.zeros(1, 40, dtype=torch.int64)
    mask[:, :32] = 1
    prompt = (*words(seed, 5), *(AUDIO,) * 8, *words(seed + 50, 6))
    return Shown(prompt, {"input_features": mel(seed, 40), "feature_attention_mask": mask})


def heard_by_voxtral(seed: int) -> Shown:
    """40 frames: 5 tokens."""
    return Shown((1, *words(seed, 5), *(AUDIO,) * 5, *words(seed + 50, 6)), {"input_features": mel(seed, 40)})


def perceived_by_omni(seed: int) -> Shown:
    """A sound of 8 tokens and an image of 6."""
    image, sound = seen_by_qwen(seed), heard_by_qwen(seed)
    told = (AUDIO_START, *(AUDIO,) * 8, AUDIO_END)
    prompt = (*words(seed, 4), *told, *image.prompt)
    arrays = {name: image.arrays[name] for name in ("pixel_values", "image_grid_thw")}
    return Shown(prompt, {**arrays, **sound.arrays})


def words(seed: int, count: int) -> list[int]:
    """Random ids of text."""
    source = np.random.default_rng(seed)
    return [int(token) for token in source.integers(3, 139, count)]


MODELS: dict[str, tuple[Callable[[], Any], Callable[[int], Shown]]] = {
    "llava": (llava_config, pixels(16)),
    "qwen2.5-vl": (qwen2_5_vl_config, seen_by_qwen),
    "qwen2.5-vl-film": (qwen2_5_vl_config, film),
    "qwen3-vl": (qwen3_vl_config, seen_by_qwen),
    "qwen3-vl-film": (qwen3_vl_config, timed_film),
    "gemma3": (gemma3_config, seen_by_gemma),
    "qwen2-audio": (qwen2_audio_config, heard_by_qwen),
    "voxtral": (voxtral_config, heard_by_voxtral),
    "qwen2.5-omni": (qwen2_5_omni_config, perceived_by_omni),
    "janus": (janus_config, pixels(16)),
}


def save_multimodal(folder: Path, name: str, change: Callable[[Any], None] | None = None) -> Path:
    """Write the checkpoint of one of `MODELS`, its configuration changed, with the same weights each time."""
    config = MODELS[name][0]()
    if change is not None:
        change(config)
    torch.manual_seed(0)
    module: PreTrainedModel = _class_of(config)(config)
    for weight in module.parameters():  # scores far apart, and pictures that can be told apart
        if weight.dim() > 1:
            weight.data.normal_(0, 0.2)
    speaking = getattr(module, "thinker", module)
    speaking.get_input_embeddings().get_parameter("weight").data.mul_(0.2)
    if name == "janus":
        ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
        begin = {"boi_token_id": config.boi_token_id}
        module.generation_config = made("GenerationConfig", guidance_scale=5, generation_kwargs=begin, **ids)
    module.save_pretrained(folder)
    return folder


def _class_of(config: Any) -> Any:
    return transformers.MODEL_FOR_MULTIMODAL_LM_MAPPING[type(config)]


def plain_multimodal(folder: Path) -> PreTrainedModel:
    """The model as transformers runs it; of Qwen2.5-Omni the thinker."""
    kind = _class_of(transformers.AutoConfig.from_pretrained(folder))
    if kind is transformers.Qwen2_5OmniForConditionalGeneration:
        kind = transformers.Qwen2_5OmniThinkerForConditionalGeneration
    module: PreTrainedModel = kind.from_pretrained(folder, dtype=torch.float32)
    module.generation_config.eos_token_id = None
    module.train(False)
    return module


def said_by_transformers(module: PreTrainedModel, shown: Shown, count: int) -> tuple[int, ...]:
    """What transformers' own `generate` says greedily."""
    ids = torch.tensor([shown.prompt])
    options = {"attention_mask": torch.ones_like(ids), "do_sample": False, "max_new_tokens": count}
    output: Tensor = module.generate(input_ids=ids, **options, **shown.arrays)  # type: ignore[operator]
    return tuple(output[0, len(shown.prompt) :].tolist())
