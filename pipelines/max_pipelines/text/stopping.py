"""Stop texts, found in a text that comes in pieces."""

from __future__ import annotations

from collections.abc import Sequence


class StopMatcher:
    """Passes a text on until one of the stop texts is complete; the same result for any split of the text.

    The stop text that is complete first wins, and of several the longest. What may be the beginning of one is held
    back, unless stop texts are to be included: then it is certain, too. `stop` is the one that was found.
    """

    __slots__ = ("_edges", "_given", "_held", "_include", "_stops", "stop")

    def __init__(self, stops: Sequence[str], *, include: bool) -> None:
        self._stops = tuple(dict.fromkeys(stops))
        self._include = include
        self._edges = frozenset(edge for stop in self._stops for edge in (stop[0], stop[-1]))
        self._held = ""
        self._given = 0  # characters of it that were passed on
        self.stop: str | None = None

    def push(self, text: str, *, armed: bool = True) -> str:
        """The text that is certain now. A stop text that becomes complete while not `armed` is ordinary text.

        After a stop was found nothing more may be pushed.
        """
        if not self._held and self._edges.isdisjoint(text):
            return text  # as nearly always: none begins or ends here
        text, known, given = self._held + text, len(self._held), self._given
        self._held, self._given = "", 0
        found = self._first(text, known) if armed else None
        if found is not None:
            begin, self.stop = found
            return text[given : begin + len(self.stop)] if self._include else text[:begin]
        cut = self._beginning(text)
        self._held = text[cut:]
        if not self._include:
            return text[:cut]
        self._given = len(self._held)
        return text[given:]

    def flush(self) -> str:
        """What was held back, for it will be no stop text any more."""
        text, self._held, self._given = self._held[self._given :], "", 0
        return text

    def _first(self, text: str, known: int) -> tuple[int, str] | None:
        """Where the first complete stop text begins; those within the first `known` characters were looked for."""
        best: tuple[int, int, str] | None = None
        for stop in self._stops:
            begin = text.find(stop, max(0, known - len(stop) + 1))
            if begin >= 0 and (best is None or (begin + len(stop), begin) < best[:2]):
                best = begin + len(stop), begin, stop
        return None if best is None else best[1:]

    def _beginning(self, text: str) -> int:
        """Where the longest end of `text` begins that a longer stop text begins with; its length if there is none."""
        first = len(text)
        for stop in self._stops:
            at = text.find(stop[0], max(0, len(text) - len(stop) + 1), first)
            while at >= 0 and not stop.startswith(text[at:]):
                at = text.find(stop[0], at + 1, first)
            if at >= 0:
                first = at
        return first
