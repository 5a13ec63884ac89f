"""What may happen in a world, and how much of it."""

from __future__ import annotations

from dataclasses import dataclass

from max_pipelines.config import Limits

from .network import Losses

WIDE = Limits(ahead_s=1.0, ahead_outputs=64, stall_s=5.0)  # more may wait than ever ask
TIGHT = Limits(ahead_s=1.0, ahead_outputs=64, stall_s=5.0, max_requests=9, max_waiting=4)
NO_LOSSES = Losses()


@dataclass(frozen=True)
class Weather:
    """What may happen. `calm` means that nothing is lost on the way, so that all that can be answered must be."""

    losses: Losses = NO_LOSSES
    crashes: int = 0
    hangs: int = 0
    cuts: int = 0
    cancels: int = 0
    goings: int = 0
    killers: int = 0
    breakers: int = 0
    hangers: int = 0
    adaptations: int = 8
    deadly: float = 0.0  # the share of adapters that kill who loads them
    fragile: float = 0.0  # … that workers which come later cannot load
    slow: float = 0.1  # the share of readers at playing speed
    never: float = 0.05  # … of those that never read
    short: float = 0.05  # … of calls with a short deadline
    rush: float = 0.8  # … of the time of trouble in which all begins
    limits: Limits = WIDE

    @property
    def calm(self) -> bool:
        """Whether every message arrives, and nobody hangs but for a reason of its own."""
        return self.losses == NO_LOSSES and not self.cuts and not self.hangs

    @property
    def answered(self) -> int:
        """How many calls have their whole sound in the end, at least, or were refused in time as there was no room."""
        return 6 if self.calm else 3


WEATHERS = (
    Weather(slow=0.3, never=0.1),
    Weather(crashes=3, cancels=4, fragile=0.3),
    Weather(crashes=2, killers=1, breakers=2, cancels=3),
    Weather(crashes=1, hangs=2, cancels=4, goings=1),
    Weather(Losses(0.01, 0.01, 0.01), crashes=1, hangs=1, cancels=3),
    Weather(Losses(0.03, 0.02, 0.02), crashes=2, cuts=2, cancels=4, goings=1, breakers=1),
    Weather(killers=2, breakers=1, slow=0.3, never=0.1),
    Weather(hangers=1, breakers=1),
    Weather(hangers=2, cancels=3),
    Weather(crashes=1, deadly=0.3, fragile=0.2, adaptations=12),
    Weather(Losses(0.03, 0.02, 0.02), crashes=2, hangs=1, deadly=0.1, fragile=0.1, adaptations=20),
    Weather(crashes=1, cancels=2, adaptations=14, rush=0.2, limits=TIGHT),
    Weather(Losses(0.02, 0.01, 0.01), crashes=2, cancels=2, adaptations=14, rush=0.2, limits=TIGHT),
)
