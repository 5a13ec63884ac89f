"""The way between two parties: what is said arrives a little later, in order; or not, or twice, or much later."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from .clock import Clock

LONGEST_TRANSIT_S = 0.004
DELAY_S = 1.5  # at most, for what is delayed


@dataclass(frozen=True)
class Losses:
    """How likely each of what can become of a message is."""

    drop: float = 0.0
    repeat: float = 0.0
    delay: float = 0.0


class Network:
    """Every message is a chance for a fault. Each pair of parties has a way of its own, which may be cut for a time."""

    def __init__(self, clock: Clock, chance: random.Random, losses: Losses) -> None:
        self._clock = clock
        self._chance = chance
        self.losses = losses
        self._arrivals: dict[tuple[str, str], float] = {}
        self._cut: dict[str, float] = {}
        self.messages = 0

    def cut(self, party: str, seconds: float) -> None:
        """Nothing reaches or leaves a party for so long."""
        self._cut[party] = self._clock.now + seconds

    def send(self, source: str, target: str, deliver: Callable[[], None]) -> None:
        """Let a message travel."""
        self.messages += 1
        clock, chance, losses = self._clock, self._chance, self.losses
        if max(self._cut.get(source, 0.0), self._cut.get(target, 0.0)) > clock.now:
            return
        draw = chance.random()
        if draw < losses.drop:
            return
        way = (source, target)
        arrival = max(self._arrivals.get(way, 0.0), clock.now + chance.random() * LONGEST_TRANSIT_S)
        if draw < losses.drop + losses.delay:
            clock.at(arrival + chance.random() * DELAY_S, deliver)  # and those behind it overtake it
            return
        self._arrivals[way] = arrival
        clock.at(arrival, deliver)
        if draw < losses.drop + losses.delay + losses.repeat:
            clock.at(arrival + chance.random() * DELAY_S, deliver)
