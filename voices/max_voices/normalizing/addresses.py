"""Where something is to be reached: URLs, e-mail addresses, telephone numbers."""

from __future__ import annotations

import re

from max_voices.normalizing.numbers import cardinal, one_by_one

_ENDINGS = "com|org|net|edu|gov|info|dev|app|io|ai|tv|uk|eu|de|fr|ca|au|jp|ch|nl|nz|ie"  # none that is a word, too
_AS_LETTERS = frozenset(
    [
        "io",
        "ai",
        "tv",
        "uk",
        "us",
        "eu",
        "de",
        "fr",
        "ca",
        "au",
        "jp",
        "ch",
        "nl",
        "nz",
        "ie",
        "www",
        "http",
        "https",
        "html",
        "php",
        "pdf",
        "ftp",
    ]
)
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_REST = r"(?:[:/?#][^\s<>\"]{0,2000})?"

# Each begins where a word does, and runs have bounds: a long text without any costs no more than its length.
EMAIL = re.compile(rf"(?<![\w.+-])[A-Za-z0-9_.+-]{{1,64}}@(?:{_LABEL}\.){{1,8}}[A-Za-z]{{2,24}}(?![\w@])")
URL = re.compile(
    rf"(?<![\w@.-])(?:(?:https?|ftp)://(?:{_LABEL}\.){{0,8}}{_LABEL}{_REST}"
    rf"|(?:www\.(?:{_LABEL}\.){{1,8}}[A-Za-z]{{2,24}}|(?:{_LABEL}\.){{1,8}}(?:{_ENDINGS}))(?![\w-]){_REST})",
    re.IGNORECASE,
)
PHONE = re.compile(
    r"(?<![\w.,/+-])(?:"
    r"(?:(?:\+[0-9]{1,3}|1)[ .-]?)?(?:\([0-9]{2,4}\)[ .-]?|[0-9]{3}[ .-])[0-9]{3}[ .-][0-9]{4}"
    r"|\+[0-9]{1,3}(?:[ .-]?[0-9]{2,4}){2,5}"
    r"|[0-9]{3}-[0-9]{4})(?![\w/-]|[.,][0-9])"
)
_NAMES = {
    ".": "dot", "/": "slash", "-": "dash", "_": "underscore", "@": "at", ":": "colon", "?": "question mark",
    "=": "equals", "&": "and", "#": "hash", "%": "percent", "+": "plus", "~": "tilde",
}  # fmt: skip


def email(match: re.Match[str]) -> str:
    """bob.smith@example.com: bob dot smith at example dot com."""
    return _spoken(match[0])


def url(match: re.Match[str]) -> str:
    """Without its scheme; marks at its end belong to the sentence."""
    bare = match[0].rstrip(".,;:!?)]}'\"…")
    end = match[0][len(bare) :]
    return _spoken(re.sub(r"^[a-z]+://", "", bare, flags=re.IGNORECASE).rstrip("/")) + end


def phone(match: re.Match[str]) -> str:
    """Digit by digit, with a comma between its groups."""
    groups = ", ".join(one_by_one(group) for group in re.findall(r"[0-9]+", match[0]))
    return f"plus {groups}" if match[0].startswith("+") else groups


def _spoken(address: str) -> str:
    pieces = re.findall(r"[A-Za-z]+|[0-9]+|[^A-Za-z0-9]", address)
    return " ".join(spoken for piece in pieces if (spoken := _piece(piece)))


def _piece(piece: str) -> str:
    if piece.lower() in _AS_LETTERS:
        return " ".join(piece)
    if piece.isascii() and piece.isdigit():
        return cardinal(piece) if len(piece) < 4 else one_by_one(piece)
    return piece if piece.isalpha() else _NAMES.get(piece, "")
