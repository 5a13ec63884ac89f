"""CURVE keys: 32 bytes each. People see public ones as 43 characters of base64url; secret ones nobody sees.

ZeroMQ's own notation, z85, has characters that shells, YAML and URLs take for theirs.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import NoReturn, Self

import zmq
from zmq.utils import z85

from max_interfaces import ConfigError

KEY_BYTES = 32
TEXT = re.compile(r"[A-Za-z0-9_-]{43}")
OLDEST_LIBZMQ = (4, 3, 5)  # before it: CVE-2019-13132, CVE-2020-15166 and others, all before a peer has shown its key


@dataclass(frozen=True, slots=True, repr=False)
class PublicKey:
    """A public key. It is no secret, yet neither logs nor errors need it: only `text` shows it."""

    raw: bytes

    def __post_init__(self) -> None:
        if len(self.raw) != KEY_BYTES:
            raise ConfigError(f"a public key has {KEY_BYTES} bytes, not {len(self.raw)}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """The key that `maxpipe keys show` prints. ConfigError, which does not repeat the text: it may be a secret."""
        raw = _decoded(text)
        if raw is None:
            raise ConfigError("that is no public key: 43 letters, digits, - or _, as `maxpipe keys show` prints them")
        return cls(raw)

    @property
    def text(self) -> str:
        """As people pass it on."""
        return _encoded(self.raw)

    def __repr__(self) -> str:
        return "PublicKey(…)"


class Secret:
    """A secret key. It leaves by `reveal` alone; printing, formatting and copying to other processes do not show it."""

    __slots__ = ("_raw",)

    def __init__(self, raw: bytes) -> None:
        if len(raw) != KEY_BYTES:
            raise ConfigError(f"a secret key has {KEY_BYTES} bytes")
        self._raw = raw

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """What `to_file` has written; None for anything else."""
        raw = _decoded(text)
        return None if raw is None else cls(raw)

    def reveal(self) -> bytes:
        """The key itself, for libzmq."""
        return self._raw

    def to_file(self) -> str:
        """For a file that its owner alone can read."""
        return _encoded(self._raw)

    def __repr__(self) -> str:
        return "Secret(…)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret key is not copied to other processes; they read it from its folder")


@dataclass(frozen=True, slots=True)
class KeyPair:
    """Who somebody is: the public key that others know them by, and the secret one that proves it."""

    public: PublicKey
    secret: Secret

    @classmethod
    def new(cls) -> Self:
        """A new pair. Neither half begins with -: a command line would take that for an option, and repeat it."""
        require_curve()
        while True:
            _, secret = zmq.curve_keypair()
            pair = cls.of(Secret(z85.decode(secret)))
            if "-" not in (pair.public.text[0], pair.secret.to_file()[0]):
                return pair

    @classmethod
    def of(cls, secret: Secret) -> Self:
        """The pair of a secret key."""
        return cls(PublicKey(z85.decode(zmq.curve_public(z85.encode(secret.reveal())))), secret)


def require_curve() -> None:
    """ConfigError unless the libzmq below us can encrypt, and has no holes that are known."""
    check_libzmq(zmq.zmq_version_info(), zmq.has("curve"))


def check_libzmq(version: tuple[int, int, int], curve: bool) -> None:
    """ConfigError unless a libzmq of this version, with CURVE or without, may serve over tcp."""
    if not curve:
        raise ConfigError("tcp is refused: libzmq was built without CURVE, so it cannot encrypt; install pyzmq's wheel")
    if version < OLDEST_LIBZMQ:
        found, needed = (".".join(map(str, each)) for each in (version, OLDEST_LIBZMQ))
        raise ConfigError(f"tcp is refused: libzmq {found} has known holes; {needed} or newer is needed, update pyzmq")


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode("ascii").rstrip("=")


def _decoded(text: str) -> bytes | None:
    """The bytes, if this is their one notation: the last character has two bits that must be zero."""
    if not TEXT.fullmatch(text):
        return None
    raw = base64.urlsafe_b64decode(text + "=")
    return raw if _encoded(raw) == text else None
