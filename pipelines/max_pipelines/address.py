"""Where a server is: ipc:// within one host, tcp:// with its public key from others. There is no plain tcp://."""

from __future__ import annotations

import contextlib
import ipaddress
import re
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from max_interfaces import ConfigError

from .security.keys import PublicKey

IPC = "ipc://"
TCP = "tcp://"
INPROC = "inproc://"  # a server and its workers as threads; nobody else can reach it
MAX_IPC_PATH = 107  # sun_path of a Unix socket, less its closing zero
MAX_PORT = 2**16 - 1
PRIVATE_PREFIX = "maxpipe-"
HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]{0,253}[A-Za-z0-9])?")  # a name, which libzmq resolves, or IPv4
TCP_PARTS = re.compile(r"tcp://(?P<host>\[[^\[\]]*\]|[^:#\[\]]*):(?P<port>[0-9]{1,5})(#(?P<key>.*))?", re.DOTALL)
LONG_WORD = re.compile(r"[A-Za-z0-9_-]{40,}")  # a key, where none was expected
EVERY_INTERFACE = ("*", "0.0.0.0", "[::]")


@dataclass(frozen=True, slots=True)
class IpcAddress:
    """A socket file, which its folder's permissions protect."""

    endpoint: str

    def __post_init__(self) -> None:
        check_address(self.endpoint)

    def __str__(self) -> str:
        return self.endpoint


@dataclass(frozen=True, slots=True)
class InprocAddress:
    """A server in a thread of this process, and of the same ZeroMQ context."""

    name: str

    def __str__(self) -> str:
        return self.endpoint

    @property
    def endpoint(self) -> str:
        """For libzmq."""
        return f"{INPROC}{self.name}"


@dataclass(frozen=True, slots=True)
class _Tcp:
    """A host and a port, as libzmq wants them. As text it shows no key."""

    host: str
    port: int

    def __str__(self) -> str:
        return self.endpoint

    @property
    def endpoint(self) -> str:
        """For libzmq, on a socket that has been given its keys."""
        return f"{TCP}{self.host}:{self.port}"

    @property
    def ipv6(self) -> bool:
        """Whether the host is an IPv6 address; names are looked up as IPv4."""
        return self.host.startswith("[")


@dataclass(frozen=True, slots=True)
class TcpAddress(_Tcp):
    """A server on another host, and the public key that proves that it is the one."""

    key: PublicKey

    def __post_init__(self) -> None:
        _check_host(self.host, self.port)

    @property
    def full(self) -> str:
        """What people pass on, and `parse_address` reads."""
        return f"{self.endpoint}#{self.key.text}"


@dataclass(frozen=True, slots=True)
class TcpListen(_Tcp):
    """Where a server listens for other hosts: a host or *, and a port, 0 for any that is free."""

    def __post_init__(self) -> None:
        _check_host("localhost" if self.host == "*" else self.host, self.port or 1)

    def served(self, key: PublicKey) -> TcpAddress:
        """The address that clients are given. Who listens on every interface is called by this host's name."""
        host = socket.gethostname() if self.host in EVERY_INTERFACE else self.host
        return TcpAddress(host, self.port, key)


ServerAddress: TypeAlias = IpcAddress | InprocAddress | TcpAddress


def parse_address(text: str) -> IpcAddress | TcpAddress:
    """Where a client or a worker connects: ipc://PATH or tcp://HOST:PORT#KEY. ConfigError says what is wrong."""
    if not text.startswith(TCP):
        return IpcAddress(text)
    host, port, key = _tcp_parts(text)
    if key is None:
        whole = "tcp://HOST:PORT#KEY, as `maxpipe serve` prints it"
        raise ConfigError(f"{TCP}{host}:{port}: the server's public key is missing; give the whole address, {whole}")
    try:
        public = PublicKey.parse(key)
    except ConfigError as problem:
        raise ConfigError(f"{TCP}{host}:{port}#…: {problem}") from None
    return TcpAddress(host, port, public)


def parse_listen(text: str) -> TcpListen:
    """Where a server listens for other hosts: tcp://HOST:PORT, or tcp://*:PORT. ConfigError says what is wrong."""
    host, port, key = _tcp_parts(text)
    if key is not None:
        raise ConfigError(f"{TCP}{host}:{port}#…: to listen, give no key; the server's own is in its key folder")
    return TcpListen(host, port)


def _tcp_parts(text: str) -> tuple[str, int, str | None]:
    parts = TCP_PARTS.fullmatch(text)
    if parts is None:
        raise ConfigError(f"{_shown(text)}: no address; write tcp://HOST:PORT, an IPv6 host in brackets")
    return parts["host"], int(parts["port"]), parts["key"]


def _check_host(host: str, port: int) -> None:
    where = f"{TCP}{host}:{port}"
    if not 1 <= port <= MAX_PORT:
        raise ConfigError(f"{where}: a port is a number from 1 to {MAX_PORT}")
    if host.startswith("[") and host.endswith("]"):
        try:
            ipaddress.IPv6Address(host[1:-1])
        except ValueError:
            raise ConfigError(f"{where}: in the brackets is no IPv6 address") from None
    elif not HOST.fullmatch(host):
        raise ConfigError(f"{where}: {host!r} is no host; write a name, an IPv4 address or [an IPv6 address]")


def _shown(text: str) -> str:
    """Fit for an error, where no key belongs."""
    return LONG_WORD.sub("…", text)


def check_address(address: str) -> str:
    """The ipc address, if a server may listen there. ConfigError says why not."""
    if address.startswith(TCP):
        text = f"{_shown(address)}: tcp is refused here, it would not be encrypted; use ipc:// with a path"
        raise ConfigError(text)
    path = address.removeprefix(IPC)
    # ZeroMQ reads @name as a socket without a file, which no permission protects, and * as any path.
    if not address.startswith(IPC) or not path or path[0] in "@*" or path[-1] == "/" or "\0" in path:
        shown = address if address.startswith(IPC) else _shown(address)
        raise ConfigError(f"{shown}: no address; write ipc:///path/to/socket")
    if len(path.encode()) > MAX_IPC_PATH:
        raise ConfigError(f"{address}: the path is longer than {MAX_IPC_PATH} bytes, the most a socket may have")
    return address


@contextlib.contextmanager
def private_folder() -> Iterator[Path]:
    """A folder that only this user can enter, for a server's socket; gone afterwards."""
    with tempfile.TemporaryDirectory(prefix=PRIVATE_PREFIX) as folder:  # mode 0700
        yield Path(folder)
