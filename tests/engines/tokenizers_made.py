"""Small tokenizers of each family of decoders, made here."""

from __future__ import annotations

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from max_engines.tokenizer import TextTokenizer
from tests.tiny_text import make_tokenizer

BLANK = "▁"
WORDS = ["the", "fox", "naïve", "中文", "🦊", ",", ".", "a", "b", "<", "|", "0", "x"]


def byte_level() -> TextTokenizer:
    """Byte-level BPE, as GPT-2, Llama 3 and Qwen have it."""
    return TextTokenizer(make_tokenizer())


def byte_fallback(*, strips: bool) -> TextTokenizer:
    """Pieces with blanks, and a token for each byte: Llama 2 strips the first blank, Gemma does not."""
    names = ["<unk>", "<s>", "</s>", *(f"<0x{value:02X}>" for value in range(256))]
    names += [BLANK, BLANK * 2, *WORDS, *(BLANK + word for word in WORDS)]
    inner = Tokenizer(
        models.BPE({name: at for at, name in enumerate(names)}, [], unk_token="<unk>", byte_fallback=True)
    )
    inner.normalizer = normalizers.Sequence([normalizers.Replace(" ", BLANK)])
    steps = [decoders.Replace(BLANK, " "), decoders.ByteFallback(), decoders.Fuse()]
    inner.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)] if strips else steps)
    return _wrapped(inner, "<unk>")


def metaspace() -> TextTokenizer:
    """Pieces with blanks and no bytes, as T5 has them."""
    names = ["<unk>", "<s>", "</s>", BLANK, *WORDS, *(BLANK + word for word in WORDS)]
    inner = Tokenizer(models.WordLevel({name: at for at, name in enumerate(names)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Metaspace()
    inner.decoder = decoders.Metaspace()
    return _wrapped(inner, "<unk>")


def word_piece() -> TextTokenizer:
    """Words, and continuations with ##, as BERT has them."""
    names = ["[UNK]", "<s>", "</s>", *WORDS, *("##" + word for word in WORDS)]
    inner = Tokenizer(models.WordPiece({name: at for at, name in enumerate(names)}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.decoder = decoders.WordPiece(cleanup=False)
    return _wrapped(inner, "[UNK]")


def _wrapped(inner: Tokenizer, unknown: str) -> TextTokenizer:
    inner.add_special_tokens([AddedToken(name, special=True) for name in ("<s>", "</s>")])
    fast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", unk_token=unknown
    )
    return TextTokenizer(fast)
