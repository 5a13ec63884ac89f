"""What the tests of constraints need: small tokenizers of both kinds, and a model that says anything it may."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from max_engines.constraints.compiling import Compiling, GrammarCompiler
from max_engines.constraints.grammar import Grammar
from max_engines.constraints.matching import CompiledGrammar
from max_engines.constraints.vocabulary import Vocabulary
from max_interfaces.protocols import TokenConstraint
from max_interfaces.values import Json

PADDING = 9  # ids of the model that the tokenizer does not know
PATIENCE_S = 60.0  # for what takes milliseconds on a machine that is not busy
SPECIAL = ["<unk>", "<s>", "</s>", "<|turn|>", "<|assistant|>"]
END_IDS = frozenset({2, 3})
ADDED = ["<think>", "</think>", "    "]


def byte_level(more: Iterable[str] = ()) -> PreTrainedTokenizerFast:
    """As GPT-2's: each byte is a character of an alphabet of its own. `more` tokens are never made by encoding."""
    merges = [("a", "b"), ("Ġ", "a"), ("Ċ", "Ċ"), ("{", '"'), ('"', ":"), ('"', "}"), ("Ã", "©"), ("1", "2")]
    pieces = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet()), *(first + second for first, second in merges)]
    pieces += [piece for piece in more if piece not in pieces]
    tokenizer = Tokenizer(models.BPE({piece: id_ for id_, piece in enumerate(pieces)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return _with_added(tokenizer)


def byte_fallback() -> PreTrainedTokenizerFast:
    """As Llama 2's: pieces of text, ▁ for a blank, and a token <0x..> for each byte besides."""
    merges = [("a", "b"), ("▁", "a"), ("▁", "▁"), ("{", '"'), ('"', ":"), ('"', "}"), ("1", "2")]
    letters = [*'▁{}[]:,"abcdeé0123456789-.\\truefalsn', *(first + second for first, second in merges)]
    pieces = dict.fromkeys([*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), *letters])
    vocabulary = {piece: id_ for id_, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    strip = decoders.Strip(" ", 1, 0)
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), strip])
    return _with_added(tokenizer)


def _with_added(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.add_tokens([AddedToken(text, special=False, normalized=False) for text in ADDED])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>")  # type: ignore[no-untyped-call]


def vocabulary_of(tokenizer: PreTrainedTokenizerFast, end_ids: frozenset[int] = END_IDS) -> Vocabulary:
    return Vocabulary.of(tokenizer, size=len(tokenizer) + PADDING, end_ids=end_ids)


def ids_of(tokenizer: PreTrainedTokenizerFast, *pieces: str) -> list[int]:
    """The ids of tokens by their names."""
    known = tokenizer.get_vocab()
    return [known[piece] for piece in pieces]


def text_of(tokenizer: PreTrainedTokenizerFast, ids: Sequence[int]) -> str:
    """The text of `ids` without their end; the letter before keeps a decoder from taking a leading blank off."""
    (before,) = ids_of(tokenizer, "a")
    return str(tokenizer.decode([before, *(id_ for id_ in ids if id_ not in END_IDS)], skip_special_tokens=False))[1:]


def asked(kind: str, value: object) -> Json:
    """`SamplingParams.grammar`."""
    return Json.of({"type": kind, "value": value})


def ended(compiler: GrammarCompiler, compiling: Compiling) -> CompiledGrammar:
    """The compiled grammar, when it is ready."""
    for _ in range(int(PATIENCE_S)):
        compiled = compiling.poll()
        if compiled is not None:
            return compiled
        compiler.wait(1.0)
    raise TimeoutError("the grammar neither compiled nor failed")


def compiled(compiler: GrammarCompiler, kind: str, value: object) -> CompiledGrammar:
    grammar = Grammar.requested(asked(kind, value))
    if grammar is None:
        raise ValueError("this is no grammar")
    return ended(compiler, compiler.submit(grammar))


def said(constraint: TokenConstraint, seed: int, *, patience: int = 60, most: int = 600) -> list[int]:
    """Tokens of a model that says anything it may, and after `patience` tokens what brings it to an end.

    The last one is an end id, unless `most` were not enough.
    """
    source = random.Random(seed)
    tokens: list[int] = []
    while len(tokens) < most:
        ids = [int(id_) for id_ in np.flatnonzero(mask_of(constraint, tokens))]
        ends = [id_ for id_ in ids if id_ in END_IDS]
        if ends and (len(tokens) >= patience or len(ids) == len(ends) or source.random() < 0.3):
            return [*tokens, source.choice(ends)]
        others = [id_ for id_ in ids if id_ not in END_IDS]
        tokens.append(others[-1] if len(tokens) >= patience and source.random() < 0.5 else source.choice(others))
    return tokens


def mask_of(constraint: TokenConstraint, tokens: Sequence[int]) -> NDArray[np.bool_]:
    mask = constraint.allowed(tokens)
    if mask is None:
        raise ValueError("this constraint allows everything")
    return mask
