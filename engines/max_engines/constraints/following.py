"""State that follows a growing list of tokens."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence


class Follower(ABC):
    """Keeps a state that is a function of tokens, and computes only what is new.

    Tokens that go on from those of the last call are fed one by one; any others are fed from the start. So a constraint
    is pure to its caller, and cheap for the one caller that matters.
    """

    def __init__(self) -> None:
        self._seen: list[int] = []
        self._begin()

    @abstractmethod
    def _begin(self) -> None:
        """Set the state of no tokens."""

    @abstractmethod
    def _feed(self, tokens: Sequence[int]) -> None:
        """Move the state by the tokens that come next."""

    def _restart(self) -> None:
        """Make the state that of no tokens."""
        self._seen = []
        self._begin()

    def _follow(self, tokens: Sequence[int]) -> bool:
        """Make the state that of `tokens`; False if it was already. If `_feed` raises, it is that of no tokens."""
        given, known = tokens if isinstance(tokens, list) else list(tokens), len(self._seen)
        if given[:known] != self._seen:
            self._restart()
            known = 0
        if known == len(given):
            return False
        fresh = given[known:]
        try:
            self._feed(fresh)
        except BaseException:
            self._restart()
            raise
        self._seen += fresh
        return True
