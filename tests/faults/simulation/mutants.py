"""Small wrongs that somebody might do to the dispatcher, one at a time: each must make the simulation complain."""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGE = "max_pipelines.server"


@dataclass(frozen=True)
class Mutant:
    """In class `kind` of a module of the server's, the lines `old` become `new`, blanks at their ends aside."""

    name: str
    module: str
    kind: str
    old: str
    new: str = ""

    @contextlib.contextmanager
    def alive(self) -> Iterator[None]:
        """The class has the wrong in it meanwhile. ValueError if what was to be changed is no longer there."""
        kind = getattr(sys.modules[f"{PACKAGE}.{self.module}"], self.kind)
        right = {name: value for name, value in vars(kind).items() if inspect.isfunction(value)}
        wrong = vars(self._mutated())
        try:
            for name in right:
                setattr(kind, name, wrong[name])
            yield
        finally:
            for name, value in right.items():
                setattr(kind, name, value)

    def _mutated(self) -> type:
        """The class as it is in a copy of its module that has the wrong in it."""
        source = inspect.getsource(sys.modules[f"{PACKAGE}.{self.module}"])
        if source.count(self.old) != 1:
            raise ValueError(f"{self.name}: {self.old!r} stands {source.count(self.old)} times in {self.module}")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "mutant.py"
            path.write_text(source.replace(self.old, self.new))
            spec = importlib.util.spec_from_file_location(f"{PACKAGE}.mutant_{self.module}", path)
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        mutated: type = getattr(module, self.kind)
        return mutated


MUTANTS = (
    Mutant(
        "a lost worker's requests are forgotten",
        "placement",
        "Placement",
        "if request not in failed:",
        "if not lost:",
    ),
    Mutant(
        "a killer is never blamed",
        "placement",
        "Placement",
        "request.broken += request.suspect or len(unproven) == 1",
        "request.broken += 0",
    ),
    Mutant(
        "a trial ends by time though its worker is silent",
        "placement",
        "Placement",
        "before = min(now, worker.heard) - TRIAL_S",
        "before = now - TRIAL_S",
    ),
    Mutant(
        "suspects that have broken a worker are tried beside others",
        "roster",
        "Roster",
        "        if request.broken:\n            return not worker.unproven\n",
    ),
    Mutant(
        "a resumed request begins its sound anew",
        "placement",
        "Placement",
        "            request.next_sample,\n",
        "            0,\n",
    ),
    Mutant(
        "a resumed request counts its outputs anew",
        "placement",
        "Placement",
        "            request.next_seq,\n",
        "            0,\n",
    ),
    Mutant(
        "an ended request keeps its credit",
        "ledger",
        "Ledger",
        "worker.running.discard(request.request_id)",
        "pass",
    ),
    Mutant(
        "what an earlier attempt still says is passed on",
        "worker_messages",
        "WorkerMessages",
        "                or request.attempt != head.attempt\n"
        "                or request.next_seq != head.seq\n"
        "                or len(request.tokens) != head.first_token\n",
    ),
    Mutant(
        "tokens that were noted are forgotten",
        "worker_messages",
        "WorkerMessages",
        "                request.tokens.extend(note.tokens)\n",
    ),
    Mutant(
        "what a worker has lost is not missed",
        "worker_messages",
        "WorkerMessages",
        "request.missing += counts",
        "request.missing += 0",
    ),
    Mutant(
        "a request is ended twice",
        "placement",
        "Placement",
        "                actions.append(Send(request.peer, ended))\n",
        "                actions += [Send(request.peer, ended)] * 2\n",
    ),
    Mutant("any number may wait", "admission", "Admission", "if theirs >= SHARE", "if theirs < 0 and theirs >= SHARE"),
    Mutant("any number may live", "admission", "Admission", "if len(ledger.requests) >= limits.max_requests", "if 0"),
    Mutant("deadlines are not kept", "dispatcher", "Dispatcher", "self._ledger.late(now)", "self._ledger.late(0.0)"),
    Mutant("leases are not kept", "dispatcher", "Dispatcher", "in self._ledger.silent(now):", "in ():"),
    Mutant(
        "a reader that is behind does not rest",
        "reading",
        "Reading",
        "            request.resting = True\n",
        "            request.resting = False\n",
    ),
    Mutant(
        "a reader of whom nothing is heard is not asked again",
        "dispatcher",
        "Dispatcher",
        "            actions += self._reading.ask_again()\n",
    ),
    Mutant("a request goes to a worker that stands by", "roster", "Roster", "if worker.standby or not", "if not"),
    Mutant(
        "a cancelled request runs on",
        "placement",
        "Placement",
        "                actions.append(self._stop(request, request.worker, now))\n"
        "            self._ledger.close(request)",
        "                pass\n            self._ledger.close(request)",
    ),
    Mutant(
        "an adapter is loaded by all before one has tried it",
        "adapters",
        "AdapterBook",
        "if wanted.tried or wanted.trial == worker.peer)",
        "if wanted)",
    ),
    Mutant(
        "a worker that has not heard of an adapter is not told again",
        "adapters",
        "AdapterBook",
        "if alive.revision < self.revision else []",
        "if not self.revision else []",
    ),
    Mutant(
        "what an adapter breaks is tried on the others",
        "adapters",
        "AdapterBook",
        "if broken and told and",
        "if broken and not told and",
    ),
    Mutant(
        "a request whose adapter was unloaded waits for it",
        "adapters",
        "AdapterBook",
        "if wanted is None or wanted.adapter.generation != adapter.generation:",
        "if wanted is None and not request.adapters:",
    ),
    Mutant(
        "a worker is not told which adapters a request runs with",
        "placement",
        "Placement",
        "            tuple([adapter.generation for adapter in request.adapters]) if request.adapters else (),\n",
    ),
    Mutant(
        "a question about adapters that comes again is another",
        "adapters",
        "AdapterBook",
        "if asker in self._outcomes:",
        "if asker in self._wanted:",
    ),
)

# The control: the same way, with nothing wrong in it.
CONTROLS = tuple(
    Mutant(f"{kind} is as it was", module, kind, f"class {kind}:", f"class {kind}:")
    for module, kind in sorted({(mutant.module, mutant.kind) for mutant in MUTANTS})
)
