"""Compiling a grammar where it can do no harm first."""

from __future__ import annotations

import json
from dataclasses import asdict

from ..guarded_process import GuardedProcess, ProcessDied
from .limits import GrammarLimits

MIB = 2**20


class Trial:
    """Tries grammars, one at a time, in a `GuardedProcess`: see there for which thread may call what."""

    def __init__(self, limits: GrammarLimits) -> None:
        self._limits = limits
        self._process = GuardedProcess("max_engines.constraints.trial_process", json.dumps(asdict(limits)))
        self.kill = self._process.kill
        self.close = self._process.close

    def refusal(self, source: str) -> str | None:
        """None if the grammar compiles within the limits, else the reason."""
        try:
            answer = self._process.ask(json.dumps(source).encode(), self._limits.compile_s)
        except ProcessDied as problem:
            if problem.late:
                return f"takes longer than {self._limits.compile_s:g} s to compile"
            if problem.aborted:
                return f"takes more than {self._limits.compile_bytes // MIB} MiB to compile"
            return f"the process that compiles grammars {problem}"
        reason = json.loads(answer)
        return None if reason is None else str(reason)
