"""The trained weights in the form that is served: ``lm/`` for transformers, ``codec/`` for SNAC, ``voice.json``."""

import json
from pathlib import Path

import msgspec
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from torch import nn
from transformers import GenerationConfig, LlamaConfig, PreTrainedTokenizerFast

from max_codecs.constraint import PhaseBounds
from max_codecs.format import SamplingDefaults, SpeechFormat
from max_voices.recipe.autoencoder import (
    ALIGNER_DEPTH,
    ALIGNER_WIDTH,
    CODE_DIM,
    ENCODER_DEPTH,
    ENCODER_WIDTH,
    LATENT,
    STRIDES,
    Autoencoder,
)
from max_voices.recipe.corpus import LONGEST
from max_voices.recipe.flite import PAUSE, SAMPLE_RATE
from max_voices.recipe.layout import (
    AUDIO,
    CODES,
    EOS,
    FIRST_PHONE,
    PAD,
    PHONES,
    SAMPLE_TOKEN,
    SLOTS,
    SOH,
    SPEAKER_TOKENS,
    SPECIALS,
    TOKENS,
    VOCABULARY,
    speech_layout,
)
from max_voices.recipe.model import EPSILON, HEAD, HEADS, HIDDEN, LAYERS, POSITIONS, THETA, WIDTH, Tied
from max_voices.recipe.sound import RATES, Codec
from max_voices.recipe.sound import WIDTH as DECODER_WIDTH
from max_voices.recipe.tools import restore, save

SAMPLING = SamplingDefaults(temperature=0.2, top_p=0.9, max_new_tokens=1500)


def speech_format(speakers: tuple[str, ...]) -> SpeechFormat:
    """What ``voice.json`` holds."""
    return SpeechFormat(
        fade_in=160,  # 10 ms: the decoder begins from nothing, and speech only some 50 ms later
        layout=speech_layout(speakers),
        spell=True,
        full_stop=True,  # behind an open end it stops in mid-word now and then
        max_words=LONGEST,
        sampling=SAMPLING,
        # A little wider than anything the teachers said in 28,000 texts: 54 phone tokens and 10 clauses at most, and
        # between 0.35 P - 0.5 and 0.9 P + 4.7 frames for P phones. So no clause can run away, nor be empty.
        phases=PhaseBounds(
            min_frames=-1.5,
            min_frames_per_phone=0.35,
            max_frames=6.5,
            max_frames_per_phone=0.9,
            max_phones=60,
            max_clauses=12,
            hold_words=True,
        ),
    )


def _tokenizer() -> PreTrainedTokenizerFast:
    """By characters; a special token or a phone is written by its name."""
    audio = {f"<audio_{slot}_{code}>": AUDIO + slot * CODES + code for slot in range(SLOTS) for code in range(CODES)}
    unused = {f"<unused_{number}>": number for number in range(len(TOKENS), AUDIO)}
    core = Tokenizer(models.WordLevel({**TOKENS, **unused, **audio}, unk_token="<pad>"))
    core.normalizer = normalizers.Sequence(
        [normalizers.Lowercase(), normalizers.Replace(Regex("[^a-z ',.?!]"), ""), normalizers.Replace(Regex(" +"), " ")]
    )
    core.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    core.decoder = decoders.Fuse()
    core.add_special_tokens([*SPECIALS, *SPEAKER_TOKENS, SAMPLE_TOKEN])
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=core,
        pad_token="<pad>",
        bos_token="<soh>",
        eos_token="<eos>",
        unk_token="<pad>",
        clean_up_tokenization_spaces=False,
    )


def _half(module_state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().to(torch.float16).contiguous() for name, tensor in module_state.items()}


def export_language(model: Tied, folder: Path) -> None:
    """``lm/``: loads with ``LlamaForCausalLM.from_pretrained``."""
    folder.mkdir(parents=True, exist_ok=True)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        head_dim=HEAD,
        max_position_embeddings=POSITIONS,
        rms_norm_eps=EPSILON,
        rope_parameters={"rope_type": "default", "rope_theta": THETA},
        tie_word_embeddings=True,
        bos_token_id=SOH,
        eos_token_id=EOS,
        pad_token_id=PAD,
        architectures=["LlamaForCausalLM"],
        dtype="float16",
    )
    config.save_pretrained(folder)
    GenerationConfig(  # type: ignore[no-untyped-call]
        bos_token_id=SOH,
        eos_token_id=EOS,
        pad_token_id=PAD,
        do_sample=True,
        temperature=SAMPLING.temperature,
        top_p=SAMPLING.top_p,
        max_new_tokens=1500,
    ).save_pretrained(folder)
    _tokenizer().save_pretrained(folder)
    save_file(_half(model.merged().state_dict()), folder / "model.safetensors", metadata={"format": "pt"})


def export_codec(codec: nn.Module, folder: Path) -> None:
    """``codec/``: quantizer and decoder under the parameter names of ``snac.SNAC``."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "sampling_rate": SAMPLE_RATE,
        "encoder_dim": 8,
        "encoder_rates": list(reversed(RATES)),
        "latent_dim": LATENT,
        "decoder_dim": DECODER_WIDTH,
        "decoder_rates": list(RATES),
        "attn_window_size": None,
        "codebook_size": CODES,
        "codebook_dim": CODE_DIM,
        "vq_strides": list(STRIDES),
        "noise": False,
        "depthwise": True,
        "causal": True,
        "mel_encoder": {"width": ENCODER_WIDTH, "depth": ENCODER_DEPTH},
        "aligner": {
            "stack": {"width": ALIGNER_WIDTH, "depth": ALIGNER_DEPTH},
            "first_phone": FIRST_PHONE,
            "phones": len(PHONES),
            "pause": TOKENS["@" + PAUSE],
        },
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    save_file(_half(codec.state_dict()), folder / "model.safetensors", metadata={"format": "pt"})


def export_listeners(model: Autoencoder, folder: Path) -> None:
    """What hears: the encoder of samples, and the head that tells phones from codes."""
    save_file(_half(model.encoder.state_dict()), folder / "encoder.safetensors", metadata={"format": "pt"})
    save_file(_half(model.phones.state_dict()), folder / "aligner.safetensors", metadata={"format": "pt"})


def write_format(form: SpeechFormat, folder: Path) -> None:
    """``voice.json``."""
    text = msgspec.json.format(msgspec.json.encode(form), indent=2)
    (folder / "voice.json").write_bytes(text + b"\n")


def thaw(folder: Path, work: Path) -> None:
    """The inverse of ``export`` as far as it goes: checkpoints to begin with, whose codes are still to be made."""
    weights = load_file(folder / "lm" / "model.safetensors")
    model = Tied([torch.randn(CODES, CODE_DIM)] * len(STRIDES))
    state = {name.removeprefix("model."): tensor.float() for name, tensor in weights.items()}
    state["plain"] = state.pop("embed_tokens.weight")[:AUDIO]
    model.load_state_dict(model.state_dict() | state)
    save(model, work / "phones.safetensors")
    codec = Codec()
    codec.load_state_dict(load_file(folder / "codec" / "model.safetensors"))
    save(codec.decoder, work / "decoder.safetensors")


def export(work: Path, folder: Path, speakers: tuple[str, ...]) -> None:
    """Everything from the checkpoints in ``work``."""

    codec, listener = Codec(), Autoencoder()
    restore(listener, work / "autoencoder.safetensors")
    codec.load_state_dict(load_file(work / "codec.safetensors"))
    books = [level.codebook.weight.detach() for level in codec.quantizer.levels]
    model = Tied(books)
    model.load_state_dict(load_file(work / "language.safetensors"))
    export_language(model, folder / "lm")
    export_codec(codec, folder / "codec")
    export_listeners(listener, folder / "codec")
    write_format(speech_format(speakers), folder)
    for path in folder.rglob("*.safetensors"):
        path.chmod(0o644)  # safetensors writes them for their owner alone
