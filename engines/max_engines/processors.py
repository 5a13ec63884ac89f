"""Logits processors of the user: functions under a name, known to the process that registered them and to no other."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from threading import Lock

from torch import Tensor

LogitsProcessor = Callable[[Sequence[int], Sequence[int], Tensor], Tensor]
"""Prompt ids, output ids so far, scores float32[vocab_size] (its own copy) → scores of the same shape."""

_NAME = re.compile(r"[A-Za-z0-9_.:/-]{1,256}")
_lock = Lock()
_known: dict[str, LogitsProcessor] = {}


def register(name: str, processor: LogitsProcessor) -> None:
    """Let requests of this process name `processor` in `SamplingParams.logits_processors`.

    It is called once a step for each sequence that named it, on the engine's thread: it must be quick, and should be
    pure, or a resumed sequence says something else. ValueError for a bad name or one that is taken.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"logits processor {name!r:.80}: a name has 1 to 256 letters, digits or any of _ . : / -")
    with _lock:
        if name in _known:
            raise ValueError(f"logits processor {name!r}: is registered already; unregister it first")
        _known[name] = processor


def unregister(name: str) -> None:
    """Forget a processor. Sequences that named it fail at their next step; nothing happens for an unknown name."""
    with _lock:
        _known.pop(name, None)


def lookup(name: str) -> LogitsProcessor:
    """The processor of that name. ValueError says what to do about an unknown one."""
    with _lock:
        found = _known.get(name)
        names = sorted(_known)
    if found is None:
        raise ValueError(
            f"logits processor {name!r:.80} is not registered in the process that runs the model; known: {names}. "
            "Call max_engines.processors.register there; only the thread transport shares the caller's process"
        )
    return found
