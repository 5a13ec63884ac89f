"""A whole Qwen2.5-Omni of tiny random weights, which speaks audibly, as a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import Qwen2_5OmniConfig, Qwen2_5OmniForConditionalGeneration

VOCAB = 320
AUDIO, IMAGE, VIDEO, AUDIO_START, AUDIO_END, VISION_START, VISION_END = range(300, 307)
CODES, CODE_START, CODE_END, CODE_PAD, CODE_MASK = 64, 60, 61, 62, 63
SPEAKERS = ("Chelsie", "Ethan")
ROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}
TEXT: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 512,
    "rope_parameters": ROPE,
}
PLACES = {
    "audio_token_index": AUDIO,
    "image_token_index": IMAGE,
    "video_token_index": VIDEO,
    "audio_start_token_id": AUDIO_START,
    "audio_end_token_id": AUDIO_END,
    "vision_start_token_id": VISION_START,
    "vision_end_token_id": VISION_END,
}
THINKER = {
    "text_config": {**TEXT, "vocab_size": VOCAB, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0},
    "audio_config": {
        "d_model": 32,
        "encoder_layers": 1,
        "encoder_attention_heads": 2,
        "encoder_ffn_dim": 32,
        "num_mel_bins": 16,
        "output_dim": 32,
        "max_source_positions": 100,
        "n_window": 20,
    },
    "vision_config": {
        "depth": 1,
        "embed_dim": 32,
        "hidden_size": 32,
        "intermediate_size": 32,
        "out_hidden_size": 32,
        "num_heads": 2,
        "patch_size": 8,
        "fullatt_block_indexes": [0],
    },
    "user_token_id": 307,
    **PLACES,
}
TALKER = {
    **TEXT,
    "vocab_size": CODES,
    "embedding_size": 32,
    "head_dim": 16,
    "tts_text_start_token_id": 310,
    "tts_text_end_token_id": 311,
    "tts_text_pad_token_id": 312,
    "tts_codec_start_token_id": CODE_START,
    "tts_codec_end_token_id": CODE_END,
    "tts_codec_pad_token_id": CODE_PAD,
    "tts_codec_mask_token_id": CODE_MASK,
    "pad_token_id": CODE_PAD,
    **PLACES,
}
SOUND = {
    "dit_config": {
        "hidden_size": 32,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "head_dim": 16,
        "emb_dim": 16,
        "block_size": 8,
        "look_ahead_layers": [2],
        "look_backward_layers": [0, 3],
        "num_embeds": 65,
        "mel_dim": 8,
        "enc_emb_dim": 8,
        "enc_dim": 8,
        "enc_channels": [8, 8, 8, 8, 24],
        "enc_attention_channels": 4,
        "enc_se_channels": 4,
        "max_position_embeddings": 1024,
    },
    "bigvgan_config": {
        "mel_dim": 8,
        "upsample_initial_channel": 64,
        "resblock_kernel_sizes": [3],
        "resblock_dilation_sizes": [[1, 3, 5]],
    },
}


def tiny_omni(change: Callable[[Any], None] | None = None) -> Qwen2_5OmniForConditionalGeneration:
    """The model, with the same weights each time, its scores far apart and its sound loud."""
    torch.manual_seed(0)
    config = Qwen2_5OmniConfig(thinker_config=THINKER, talker_config=TALKER, token2wav_config=SOUND)
    if change is not None:
        change(config)
    model = Qwen2_5OmniForConditionalGeneration(config)
    for name, weight in model.named_parameters():
        if weight.dim() > 1:
            fan: float = weight[0].numel() ** -0.5
            quiet = 0.75 if "bigvgan" in name else 1.0  # else all of it would be clipped
            weight.data.normal_(0, 0.3 if name.startswith(("thinker", "talker")) else quiet * fan)
        elif name.startswith("talker") and name.endswith("bias"):
            weight.data.normal_(0, 0.3)
    model.talker.codec_head.weight.data[[CODE_END, CODE_PAD]] *= 0.8  # it has something to say
    model.train(False)
    model.speaker_map = {name: speaker(number) for number, name in enumerate(SPEAKERS)}
    return model


def speaker(number: int) -> dict[str, int | Tensor]:
    """A voice, as a checkpoint's file has it."""
    source = torch.Generator().manual_seed(number)
    return {
        "bos_token": 310 + 3 * number,
        "cond": torch.randn(1, 8, generator=source),
        "ref_mel": torch.randn(1, 20, 8, generator=source),
    }


def save_omni(folder: Path, change: Callable[[Any], None] | None = None) -> Path:
    """Write it out as it is published; the voices' file is what transformers' `load_speakers` reads."""
    model = tiny_omni(change)
    model.save_pretrained(folder)
    torch.save(model.speaker_map, folder / "spk_dict.pt")
    return folder
