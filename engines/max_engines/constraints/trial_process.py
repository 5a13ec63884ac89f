"""The process in which grammars are tried: `python -m max_engines.constraints.trial_process LIMITS`.

LIMITS are `GrammarLimits` in JSON. A line of input is a grammar, as a JSON string; a line of output is null, or a
string: why it is refused.
"""

from __future__ import annotations

import json
import sys

from llguidance import LLMatcher, LLTokenizer

from ..guarded_process import serve_lines
from .limits import GrammarLimits


def main(limits: GrammarLimits) -> None:
    """Serve until standard input closes."""
    tokens, parser = LLTokenizer("byte"), limits.parser

    def answer(line: bytes) -> bytes:
        matcher = LLMatcher(tokens, json.loads(line), log_level=0, limits=parser)
        return json.dumps(_refusal(matcher)).encode()

    serve_lines(answer, memory=limits.compile_bytes, seconds=limits.compile_s)


def _refusal(matcher: LLMatcher) -> str | None:
    """None if the grammar compiled and some text begins it, else what is wrong."""
    if matcher.is_error():
        return matcher.get_error()
    matcher.compute_bitmask()
    reason = matcher.get_error()
    return "no text can match it" if reason.startswith("NoExtension") else reason or None


if __name__ == "__main__":
    main(GrammarLimits(**json.loads(sys.argv[1])))
