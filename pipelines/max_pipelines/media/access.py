"""Where media may come from, beside what a caller hands over itself."""

from __future__ import annotations

import re
import socket
import time
from dataclasses import dataclass
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from .addresses import is_public
from .exchange import Place, exchange

PORTS = {"http": 80, "https": 443}
HOST = re.compile(r"([a-z0-9_][a-z0-9._-]*|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")
BLANKS = re.compile(r"[\x00-\x20\x7f]")  # urlsplit would drop some of them silently
ASCII = "".join(map(chr, range(0x21, 0x7F)))
REDIRECTS = 3
LONGEST_URL = 8192
LONGEST_SHOWN = 200


@dataclass(frozen=True, slots=True)
class Access:
    """Which files and URLs may be read. As it is by default: none.

    paths: files of this machine by their names. For callers in this process only, never for those of a server.
    hosts: whom URLs may name, each as "host" (with the usual port of http or https) or "host:port"; None: anybody.
    private_hosts: those that may be at private addresses (a media server of one's own); they need not be in `hosts`.

    Whoever else a URL names, redirects included, must have public addresses only. ValueError for a host that is none.
    """

    paths: bool = False
    hosts: frozenset[str] | None = frozenset()
    private_hosts: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        for host in (self.hosts or frozenset()) | self.private_hosts:
            if not HOST.fullmatch(host):
                raise ValueError(f"hosts: {host!r} is no host; write name, name:port or [IPv6 address], in lower case")

    def fetch(self, url: str, most_bytes: int, seconds: float) -> bytes:
        """The body of an http or https URL. ValueError if it may not be fetched, cannot be, or is too large.

        A name is looked up once, and what was looked up is what is judged and connected to. Up to 3 redirects are
        followed, each judged anew. The time runs from the first look-up to the last byte; a look-up that is already
        under way ends by the resolver's own limits.
        """
        deadline = time.monotonic() + seconds
        for _ in range(1 + REDIRECTS):
            place = self._place(url)
            try:
                answer = exchange(place, deadline, most_bytes)
            except (OSError, ValueError) as problem:
                raise ValueError(f"{_shown(place.url)}: {problem}") from problem
            if not answer.redirect:
                return bytes(answer.body)
            url = urljoin(url, answer.redirect)
        raise ValueError(f"{_shown(urlsplit(url))}: more than {REDIRECTS} redirects")

    def _place(self, url: str) -> Place:
        """Where a URL is, if it may be fetched."""
        if self.hosts is not None and not self.hosts | self.private_hosts:
            raise ValueError("URLs are not fetched here; send the file itself, as a data: URL")
        parts, host, port = _parsed(url)
        usual = PORTS[parts.scheme]
        bracketed = f"[{host}]" if ":" in host else host
        names = {f"{bracketed}:{port}", *((bracketed,) if port == usual else ())}
        private = bool(names & self.private_hosts)
        if not private and self.hosts is not None and not names & self.hosts:
            raise ValueError(f"{_shown(parts)}: {bracketed}:{port} is not among the hosts that URLs may name here")
        found = _looked_up(host, port)
        if not private and not all(is_public(str(address[0])) for _, address in found):
            raise ValueError(f"{_shown(parts)}: {host} is at a private address; URLs may name public hosts only")
        target = quote(parts.path or "/", safe=ASCII) + (f"?{quote(parts.query, safe=ASCII)}" if parts.query else "")
        return Place(parts, host, bracketed if port == usual else f"{bracketed}:{port}", target, found)


NOTHING = Access()
"""What callers hand over, and nothing else."""

IN_PROCESS = Access(paths=True, hosts=None)
"""Files, and any public URL: for callers who could read them themselves."""


def _parsed(url: str) -> tuple[SplitResult, str, int]:
    """A URL's parts, its host, in ASCII and lower case, and its port."""
    if len(url) > LONGEST_URL or BLANKS.search(url):
        raise ValueError(f"a URL has at most {LONGEST_URL} characters, none of them blank")
    parts = urlsplit(url)
    if parts.scheme not in PORTS:
        raise ValueError(f"{parts.scheme}: URLs begin with http: or https:")
    if "@" in parts.netloc:
        raise ValueError("a URL with a user name or a password is not fetched")
    try:
        host = (parts.hostname or "").encode("idna").decode().rstrip(".")
        port = PORTS[parts.scheme] if parts.port is None else parts.port
    except ValueError as problem:
        raise ValueError(f"{_shown(parts)}: no host and port ({problem})") from None
    if not host or not port:
        raise ValueError(f"{_shown(parts)}: no host and port")
    return parts, host, port


def _looked_up(host: str, port: int) -> tuple[tuple[socket.AddressFamily, tuple[str | int, ...]], ...]:
    """The addresses of a host, as `socket.connect` takes them."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as problem:
        raise ValueError(f"{host}: its address is not known ({problem})") from None
    of_internet = (socket.AF_INET, socket.AF_INET6)
    return tuple((family, (*address,)) for family, _, _, _, address in found if family in of_internet)


def _shown(parts: SplitResult) -> str:
    """Fit for an error: without a query, which may hold a key."""
    return f"{parts.scheme}://{parts.netloc}{parts.path}"[:LONGEST_SHOWN]
