"""Peers that send what is no message of ours."""

from __future__ import annotations

from collections import OrderedDict

from max_interfaces.messages import Described

from .events import Action, Cut, Send

REMEMBERED = 4096


class Strangers:
    """A peer is told once what is wrong with its messages, and cut off the next time."""

    def __init__(self) -> None:
        self.refused = 0  # messages, of anybody
        self.cut = 0  # connections
        self._told: OrderedDict[bytes, None] = OrderedDict()

    def unreadable(self, peer: bytes, problem: str, *, cut: bool = False) -> list[Action]:
        """A peer, no worker, has sent what cannot be read, or what it may not send."""
        self.refused += 1
        if cut or peer in self._told:
            self.cut += 1
            return [Cut(peer)]
        self._told[peer] = None
        if len(self._told) > REMEMBERED:
            self._told.popitem(last=False)
        return [Send(peer, Described(problem=problem[:4096]))]
