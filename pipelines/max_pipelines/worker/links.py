"""The dispatchers that a worker serves, as it knows them."""

from __future__ import annotations

import msgspec

from .sharing import shares


class Link(msgspec.Struct, eq=False):
    """One dispatcher: when it was last heard, what it wants, and what it may give."""

    heard: float = 0.0
    waiting: int = 0
    credits: int = 0
    running: int = 0
    offered: float = -1e9  # when this worker last offered itself because it was asked
    lost: bool = False  # silent for longer than a lease: it has nothing here until it is heard again
    ended: bool = False  # lost, and it said so: it shut down
    refusal: str = ""  # why it does not want this worker, and never will


class Links:
    """All of them, by number. Credits go where the demand is; a lost dispatcher has none."""

    def __init__(self, count: int, total: int, lease_s: float) -> None:
        self._total = total
        self._lease_s = lease_s
        self.all = [Link() for _ in range(count)]
        self.share()

    @property
    def retired(self) -> bool:
        """True once nobody wants this worker any more.

        One that has ended may come back, but is not waited for if no other is left; one that is lost is.
        """
        return all(link.ended or link.refusal for link in self.all)

    @property
    def hopeful(self) -> list[int]:
        """Those that may want this worker, now or once they are back."""
        return [number for number, link in enumerate(self.all) if not link.refusal]

    def share(self) -> list[int]:
        """Split the credits anew; the numbers of the dispatchers whose share has changed."""
        present = [link for link in self.all if not (link.lost or link.refusal)]
        if not present:
            return []
        new = shares(self._total, [link.running + link.waiting for link in present])
        changed = [link for link, credit in zip(present, new, strict=True) if link.credits != credit]
        for link, credit in zip(present, new, strict=True):
            link.credits = credit
        return [number for number, link in enumerate(self.all) if link in changed]

    def hears(self, number: int, now: float) -> None:
        """A dispatcher has said something."""
        link = self.all[number]
        link.heard, link.lost, link.ended = now, False, False

    def retires(self, number: int, reason: str) -> None:
        """A dispatcher has ended, or does not want this worker, for a reason."""
        link = self.all[number]
        link.lost, link.ended, link.refusal, link.credits = True, not reason, reason, 0

    def excuse(self, seconds: float) -> None:
        """For so long this worker did not listen."""
        for link in self.all:
            link.heard += seconds

    def forsaken(self, now: float) -> list[int]:
        """The dispatchers whose lease has ended since the last call."""
        gone = [n for n, link in enumerate(self.all) if not link.lost and link.heard + self._lease_s <= now]
        for number in gone:
            self.all[number].lost, self.all[number].credits = True, 0
        return gone
