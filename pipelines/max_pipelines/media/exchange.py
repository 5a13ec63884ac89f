"""One GET over one connection: HTTP/1.1, nothing kept, nothing followed."""

from __future__ import annotations

import socket
import ssl
import time
from dataclasses import dataclass, field
from urllib.parse import SplitResult

import httptools

CHUNK = 2**16
MOST_HEADER_BYTES = 2**16
OK = 200
REDIRECTING = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True, slots=True)
class Place:
    """Where a URL is: its parts, host, Host header, request target, and the addresses to try, looked up already."""

    url: SplitResult
    host: str
    authority: str
    target: str
    addresses: tuple[tuple[socket.AddressFamily, tuple[str | int, ...]], ...]


@dataclass(slots=True)
class Answer:
    """An answer as httptools reads it; `problem` says why the rest of it is not wanted."""

    most_bytes: int
    body: bytearray = field(default_factory=bytearray)
    headers: dict[str, str] = field(default_factory=dict)
    headers_complete: bool = False
    complete: bool = False
    problem: str = ""

    def on_header(self, name: bytes, value: bytes) -> None:
        """By httptools."""
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """By httptools."""
        self.headers_complete = True
        length = self.headers.get("content-length", "")
        if length.isdecimal() and int(length) > self.most_bytes:
            self.problem = f"has {length} bytes, more than {self.most_bytes}"
        if self.headers.get("content-encoding", "identity") != "identity":
            self.problem = "is sent compressed, though that was not asked for"

    def on_body(self, data: bytes) -> None:
        """By httptools."""
        if len(self.body) + len(data) > self.most_bytes:
            self.problem = f"has more than {self.most_bytes} bytes"
        elif not self.problem:
            self.body += data

    def on_message_complete(self) -> None:
        """By httptools."""
        self.complete = True

    @property
    def redirect(self) -> str:
        """Where else it is; "" if this is it."""
        return self.headers.get("location", "")

    @property
    def ends_with_connection(self) -> bool:
        """True if only the end of the connection tells where it ends."""
        return self.headers_complete and not self.headers.keys() & {"content-length", "transfer-encoding"}


def exchange(place: Place, deadline: float, most_bytes: int) -> Answer:
    """Ask for what is there. ValueError for an answer that is neither 200 nor a redirect, too large, or none; OSError
    for a connection that fails. `deadline` is in time.monotonic's seconds."""
    with _connected(place, deadline) as connection:
        connection.sendall(
            f"GET {place.target} HTTP/1.1\r\nHost: {place.authority}\r\nUser-Agent: maxpipe\r\n"
            "Accept: */*\r\nAccept-Encoding: identity\r\nConnection: close\r\n\r\n".encode("ascii")
        )
        answer = Answer(most_bytes)
        parser = httptools.HttpResponseParser(answer)
        taken = 0
        while not answer.complete:
            connection.settimeout(_left(deadline))
            data = connection.recv(CHUNK)
            taken += len(data)
            if not data and answer.ends_with_connection:
                break
            if not data:
                raise ValueError("the connection ended before the answer did")
            _feed(parser, data)
            if answer.headers_complete:
                _check(answer, parser.get_status_code())
                if answer.redirect:
                    break
            elif taken > MOST_HEADER_BYTES:
                raise ValueError(f"its headers have more than {MOST_HEADER_BYTES} bytes")
    return answer


def _connected(place: Place, deadline: float) -> socket.socket:
    """A connection to the first address that takes one; with https, one that has proved its host's name."""
    problem: OSError = OSError("no address")
    for family, address in place.addresses:
        connection = socket.socket(family, socket.SOCK_STREAM)
        try:
            connection.settimeout(_left(deadline))
            connection.connect(address)
            if place.url.scheme == "https":
                connection.settimeout(_left(deadline))
                return ssl.create_default_context().wrap_socket(connection, server_hostname=place.host)
            return connection
        except OSError as failed:
            connection.close()
            problem = failed
    raise problem


def _feed(parser: httptools.HttpResponseParser, data: bytes) -> None:
    try:
        parser.feed_data(data)
    except httptools.HttpParserError as problem:
        raise ValueError(f"the answer is no HTTP ({problem})") from None


def _check(answer: Answer, status: int) -> None:
    """ValueError unless it is what was asked for, or says where that is."""
    if status in REDIRECTING and answer.redirect:
        return
    if status != OK:
        raise ValueError(f"answered {status}")
    answer.headers.pop("location", None)  # of no meaning here
    if answer.problem:
        raise ValueError(answer.problem)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("took too long")
    return left
