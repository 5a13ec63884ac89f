"""How a server is told to end."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field


@dataclass(slots=True)
class Stopping:
    """How the server is told to end, by descriptors that become readable.

    `parents`: any of them ends it at once, nobody is left. `signals` (-1 for none): drain first; a second byte ends
    it at once.
    """

    parents: tuple[int, ...] = ()
    signals: int = -1
    drain_until: float = field(default=math.inf, init=False)
    draining: bool = field(default=False, init=False)
    over: bool = field(default=False, init=False)
    hurry: bool = field(default=False, init=False)  # workers are killed, not asked

    def signalled(self, now: float, drain_s: float) -> None:
        """Each byte is a signal."""
        signals = len(os.read(self.signals, 64)) + self.draining
        if signals > 1:
            self.over = self.hurry = True
        self.draining = True
        self.drain_until = min(self.drain_until, now + drain_s)
