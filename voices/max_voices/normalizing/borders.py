"""Where a match stands in its text."""

from __future__ import annotations

import re

_BEGINS = re.compile(r"\s*$|\s+[A-Z][a-z]*\s")


def ends_sentence(match: re.Match[str]) -> bool:
    """Whether a sentence seems to end behind it."""
    return bool(_BEGINS.match(match.string[match.end() : match.end() + 40]))


def apart(match: re.Match[str], words: str) -> str:
    """The words with a space where a letter or a digit is beside the match."""
    start, end = match.span()
    before, after = match.string[max(0, start - 1) : start], match.string[end : end + 1]
    return (" " if before.isalnum() else "") + words + (" " if after.isalnum() else "")
