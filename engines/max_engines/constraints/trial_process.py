"""A process that compiles grammars to see whether they compile, and that can be killed.

`python -m max_engines.constraints.trial_process LIMITS`, with `GrammarLimits` in JSON, writes a line when it is ready.
Then each line of standard input is a grammar, as a JSON string, and each line of output is null or why it is refused.
"""

from __future__ import annotations

import ctypes
import json
import resource
import signal
import sys

from llguidance import LLMatcher, LLParserLimits, LLTokenizer

from .limits import GrammarLimits

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(limits: GrammarLimits) -> None:
    """Serve until standard input closes."""
    _die_with_parent()
    _bound_memory(limits.compile_bytes)
    tokens = LLTokenizer("byte")
    _say("ready")
    for line in sys.stdin:
        signal.setitimer(signal.ITIMER_PROF, limits.compile_s)  # of the processor's time; then SIGPROF ends us
        _say(_refusal(json.loads(line), tokens, limits.parser))


def _say(answer: str | None) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def _refusal(source: str, tokens: LLTokenizer, limits: LLParserLimits) -> str | None:
    """None if the grammar compiles and some text begins it, else what is wrong."""
    matcher = LLMatcher(tokens, source, log_level=0, limits=limits)
    if matcher.is_error():
        return matcher.get_error()
    matcher.compute_bitmask()
    reason = matcher.get_error()
    return "no text can match it" if reason.startswith("NoExtension") else reason or None


def _die_with_parent() -> None:
    """Standard input closes with the parent, which ends the loop; in the middle of a grammar the kernel ends us.

    Where it is not Linux's, the timer of the processor's time does.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _bound_memory(most: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":  # macOS knows this limit by name only
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


if __name__ == "__main__":
    main(GrammarLimits(**json.loads(sys.argv[1])))
