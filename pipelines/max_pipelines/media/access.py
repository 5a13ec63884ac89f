"""Where media may come from, beside what a caller hands over itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Access:
    """Which files and URLs may be read. As it is by default: none.

    paths: files of this machine by their names. For callers in this process only, never for those of a server.
    hosts: whom URLs may name, each as "host" (with the usual port of http or https) or "host:port"; None: anybody.
    private_hosts: those that may be at private addresses (a media server of one's own); they need not be in `hosts`.

    Whoever else a URL names, redirects included, must have public addresses only.
    """

    paths: bool = False
    hosts: frozenset[str] | None = frozenset()
    private_hosts: frozenset[str] = frozenset()

    def fetch(self, url: str, most_bytes: int, seconds: float) -> bytes:
        """The body of an http or https URL. ValueError if it may not be fetched, cannot be, or is too large."""
        raise NotImplementedError


NOTHING = Access()
"""What callers hand over, and nothing else."""

IN_PROCESS = Access(paths=True, hosts=None)
"""Files, and any public URL: for callers who could read them themselves."""
