"""Where a match stands in its text."""

from __future__ import annotations

import re

_BEGINS = re.compile(r"\s*$|\s+[A-Z][a-z]*\s")
# What a sentence begins with that is no name.
_BEGINS_ANOTHER = re.compile(
    r"\s*$|\s+(?:A|An|The|I|He|She|It|We|You|They|His|Her|Its|Our|My|Your|Their|This|That|These|Those|There|Here|Then"
    r"|In|On|At|By|For|From|To|With|After|Before|And|But|Or|So|If|When|While|Where|What|Who|Why|How|Now|No|Not|Yes|As)\b"
)


def ends_sentence(match: re.Match[str]) -> bool:
    """Whether a sentence seems to end behind it."""
    return bool(_BEGINS.match(match.string[match.end() : match.end() + 40]))


def begins_another(match: re.Match[str]) -> bool:
    """Whether nothing is behind it, or what begins a sentence and no name: for what may stand before a name."""
    return bool(_BEGINS_ANOTHER.match(match.string[match.end() : match.end() + 40]))


def apart(match: re.Match[str], words: str) -> str:
    """The words with a space where a letter or a digit is beside the match."""
    start, end = match.span()
    before, after = match.string[max(0, start - 1) : start], match.string[end : end + 1]
    return (" " if before.isalnum() else "") + words + (" " if after.isalnum() else "")
