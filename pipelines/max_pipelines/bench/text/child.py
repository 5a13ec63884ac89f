"""A contender's own process: `python -m max_pipelines.bench.text.child KIND SETUP`, jobs in, arrival times out.

One line of JSON each way, on standard input and output; what a library prints goes to standard error.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext
from typing import Protocol

import msgspec

from .messages import Answer, Facts, Job, Setup


class Runner(Protocol):
    """A loaded model that answers jobs."""

    def facts(self) -> Facts:
        """What it is."""
        ...

    def run(self, job: Job) -> Answer:
        """All prompts of a job at once."""
        ...


def _ours(setup: Setup) -> AbstractContextManager[Runner]:
    from .ours import Ours

    return nullcontext(Ours(setup))


def _road(setup: Setup) -> AbstractContextManager[Runner]:
    from .road import Road

    return closing(Road(setup))  # it has processes and a folder of its own


def _generate(setup: Setup) -> AbstractContextManager[Runner]:
    from .transformers_peers import Generate

    return nullcontext(Generate(setup))


def _generate_batch(setup: Setup) -> AbstractContextManager[Runner]:
    from .transformers_peers import GenerateBatch

    return nullcontext(GenerateBatch(setup))


RUNNERS: dict[str, Callable[[Setup], AbstractContextManager[Runner]]] = {
    "ours": _ours,
    "road": _road,
    "generate": _generate,
    "generate_batch": _generate_batch,
}


def main(kind: str, setup: bytes) -> None:
    """Load, say so, and answer jobs until standard input ends."""
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)
        with RUNNERS[kind](msgspec.json.decode(setup, type=Setup)) as runner:
            answers.write(msgspec.json.encode(runner.facts()) + b"\n")
            answers.flush()
            for line in sys.stdin.buffer:
                answer = runner.run(msgspec.json.decode(line, type=Job))
                answers.write(msgspec.json.encode(answer) + b"\n")
                answers.flush()
    os._exit(0)  # a thread of continuous batching would go on for ever


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2].encode())
