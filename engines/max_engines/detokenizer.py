"""Token ids to text, piece by piece as they come, never splitting a character.

Nearly every tokenizer's decoder is one of two families, in which the bytes of a text are the bytes of its tokens one
after the other: byte-level BPE (GPT-2, Llama 3, Qwen), and sentencepiece's pieces with byte tokens for what the
vocabulary lacks (Llama 2, Gemma, Phi-3). `TokenPieces` knows those bytes, so a token costs one look-up. Any other
decoder is asked about a short window of ids (`WindowDetokenizer`).
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, Protocol, TypeAlias

from tokenizers import Tokenizer as FastTokenizer
from tokenizers.pre_tokenizers import ByteLevel

Family: TypeAlias = Literal["byte-level", "byte-fallback"]
Piece: TypeAlias = str | bytes  # bytes only where they are no whole characters

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class Detokenizer(Protocol):
    """The text of one sequence of ids. Any split of the ids into calls gives the same text in all."""

    def push(self, token: int) -> str:
        """Take the next id; the text that is now certain, without a character that may still be completed."""
        ...

    def flush(self) -> str:
        """What was held back; bytes that never became a character are U+FFFD. The text ends here."""
        ...


def byte_values() -> dict[str, int]:
    """The byte that each character of a byte-level vocabulary stands for. Source: GPT-2's `bytes_to_unicode`."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [value for value in range(256) if value not in plain]
    table = {chr(value): value for value in plain} | {chr(256 + at): value for at, value in enumerate(others)}
    if set(table) != set(ByteLevel.alphabet()):
        raise RuntimeError("tokenizers has changed its byte-level alphabet")
    return table


class TokenPieces:
    """The bytes that each id adds to a text, found out when an id is first seen.

    `strips` says that the decoder takes one space away from the beginning of a text.
    """

    def __init__(self, inner: FastTokenizer, family: Family, *, strips: bool) -> None:
        self.strips = strips
        self._inner = inner
        self._family = family
        self._values = byte_values()
        added = inner.get_added_tokens_decoder()
        self._special = frozenset(token for token, form in added.items() if form.special)
        self._pieces: tuple[dict[int, Piece], dict[int, Piece]] = ({}, {})

    @classmethod
    def of(cls, inner: FastTokenizer) -> TokenPieces | None:
        """The pieces of a tokenizer; None if its decoder is of neither family."""
        described: dict[str, Any] = json.loads(inner.to_str())["decoder"] or {}
        steps: list[dict[str, Any]] = described["decoders"] if described.get("type") == "Sequence" else [described]
        kinds = [step.get("type") for step in steps]
        if kinds == ["ByteLevel"]:
            return cls(inner, "byte-level", strips=False)
        if kinds[:3] != ["Replace", "ByteFallback", "Fuse"] or steps[0]["pattern"] != {"String": "▁"}:
            return None
        if steps[0]["content"] != " " or kinds[3:] not in ([], ["Strip"]):
            return None
        strip: dict[str, Any] = steps[3] if len(steps) == 4 else {"start": 0, "stop": 0, "content": " "}
        if (strip["content"], strip["stop"]) != (" ", 0) or strip["start"] > 1:
            return None
        return cls(inner, "byte-fallback", strips=strip["start"] == 1)

    def known(self, skip_special_tokens: bool) -> dict[int, Piece]:
        """The pieces found so far; `find` adds to it."""
        return self._pieces[skip_special_tokens]

    def find(self, token: int, skip_special_tokens: bool) -> Piece:
        """The piece of an id. An id that the tokenizer does not know adds nothing, as in transformers."""
        known = self._pieces[skip_special_tokens]
        if token not in known:
            skipped = skip_special_tokens and token in self._special
            data = b"" if skipped else self._bytes(self._inner.id_to_token(token) or "")
            try:
                known[token] = data.decode()
            except UnicodeDecodeError:
                known[token] = data
        return known[token]

    def _bytes(self, name: str) -> bytes:
        if self._family == "byte-level":
            values = [self._values.get(character) for character in name]
            # An added token with other characters, a blank for instance, is written as it is.
            return name.encode() if None in values else bytes(value for value in values if value is not None)
        byte = _BYTE_TOKEN.fullmatch(name)
        return bytes([int(byte[1], 16)]) if byte else name.replace("▁", " ").encode()


class PieceDetokenizer:
    """A `Detokenizer` over known pieces.

    `continues`: the text goes on from a prompt's, so that a space at its beginning is a space. Bytes that are no
    UTF-8 become U+FFFD as Unicode recommends it and byte-level decoders do, one for each longest piece of a character.
    (Where byte tokens fall back, transformers gives up all the neighbouring byte tokens with them; that could be known
    only after the last of these.)
    """

    __slots__ = ("_get", "_pending", "_pieces", "_skip", "_strip")

    def __init__(self, pieces: TokenPieces, *, skip_special_tokens: bool = True, continues: bool = False) -> None:
        self._pieces = pieces
        self._skip = skip_special_tokens
        self._get = pieces.known(skip_special_tokens).get
        self._pending = b""
        self._strip = pieces.strips and not continues

    def push(self, token: int) -> str:
        """The text that `token` makes certain."""
        piece = self._get(token)
        if piece is None:
            piece = self._pieces.find(token, self._skip)
        if self._pending or self._strip or type(piece) is not str:
            return self._joined(piece)
        return piece

    def _joined(self, piece: Piece) -> str:
        data = self._pending + (piece.encode() if isinstance(piece, str) else piece)
        text, consumed = codecs.utf_8_decode(data, "replace", False)
        self._pending = data[consumed:]
        if self._strip and text:
            self._strip = False
            return text.removeprefix(" ")
        return text

    def flush(self) -> str:
        """Bytes that never became a character."""
        text, self._pending = self._pending.decode(errors="replace"), b""
        return text


class WindowDetokenizer:
    """A `Detokenizer` for any decoder: what the last few ids decode to with the next one, less what they did without.

    `decode` gives the text of some ids; `ignored` are ids that have none. `prompt`, the ids that the text goes on
    from, stand before the first window.
    """

    LONGEST = 32  # ids in a window that never becomes whole characters; no character takes more than a few

    __slots__ = ("_decode", "_ignored", "_sent", "_window")

    def __init__(
        self, decode: Callable[[Sequence[int]], str], ignored: frozenset[int], prompt: Sequence[int] = ()
    ) -> None:
        self._decode = decode
        self._ignored = ignored
        self._window: list[int] = list(prompt)
        self._sent = len(decode(self._window)) if prompt else 0

    def push(self, token: int) -> str:
        """The text that `token` makes certain."""
        if token in self._ignored:
            return ""
        self._window.append(token)
        text = self._decode(self._window)
        overlong = len(self._window) > self.LONGEST
        whole = len(text) if overlong else len(text.rstrip("\ufffd"))
        new = text[self._sent : whole]
        self._sent = max(self._sent, whole)
        if overlong or (new and whole == len(text)):
            self._window = [token]
            self._sent = len(self._decode(self._window))
        return new

    def flush(self) -> str:
        """What the window still holds."""
        text = self._decode(self._window)[self._sent :] if self._window else ""
        self._sent += len(text)
        return text


def decoded(detokenizer: Detokenizer, ids: Iterable[int]) -> str:
    """The whole text of `ids`."""
    return "".join([*map(detokenizer.push, ids), detokenizer.flush()])
