"""The list of the keys that a server lets in: a text file, one key a line, `KEY role name`."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import NamedTuple, TypeAlias

from max_interfaces import ConfigError

from .keys import PublicKey

MAX_FILE_BYTES = 2**20  # some ten thousand keys; who needs more needs another tool
SETTLED_NS = 2_000_000_000  # coarser than any file system's clock
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,39}")  # shorter than any key, so that none is taken for a name
LINE = "expected KEY, client or worker, and a name"
OTHERS_WRITE = 0o022
Stamp: TypeAlias = tuple[int, int, int, int, int]


class Role(Enum):
    """What somebody may do: ask for work (a client), or do it as well (a worker, or whoever is on this host)."""

    CLIENT = "client"
    WORKER = "worker"
    LOCAL = "local"


@dataclass(frozen=True, slots=True)
class Allowed:
    """A key that is let in, as what, and what its owner is called."""

    key: PublicKey
    role: Role
    name: str


class _Reading(NamedTuple):
    stamp: Stamp | None
    settled: bool  # the file was at rest when it was read: another stamp will tell of any change
    text: str
    by_key: Mapping[str, Allowed]


class AllowList:
    """The file, read again whenever it has changed. Without a file nobody is let in.

    `find` may be called from several threads. `on_problem` is told, once, why a file cannot be used; until that is
    mended nobody is let in. It may not raise: that would end the thread that checks keys.
    """

    def __init__(self, path: Path, on_problem: Callable[[str], None] = lambda _: None) -> None:
        self.path = path
        self._on_problem = on_problem
        self._problem = ""
        self._reading = _Reading(None, False, "", {})

    def find(self, key: str) -> Allowed | None:
        """Who has this key, by its text. Never raises; a file that has just changed counts at once."""
        reading = self._reading
        if not reading.settled or _stamp_of(self.path) != reading.stamp:
            reading = self._reading = self._read_again()
        return reading.by_key.get(key)

    def allowed(self) -> tuple[Allowed, ...]:
        """All of them, in the file's order. ConfigError names the file and the line that cannot be read."""
        return _parsed(self.path, self._read()[1])

    def allow(self, key: PublicKey, role: Role, name: str) -> None:
        """Let a key in. ConfigError if the name is no name, or it or the key is on the list already."""
        if role is Role.LOCAL or not NAME.fullmatch(name):
            raise ConfigError("a name has up to 40 letters, digits, . _ @ or -, and begins with a letter or a digit")
        with self._locked():
            text = self._read()[1]
            for other in _parsed(self.path, text):
                if name == other.name:
                    raise ConfigError(f"{self.path}: a key is called {name} already; revoke it, or use another name")
                if key == other.key:
                    raise ConfigError(f"{self.path}: this key is allowed already, as {other.role.value} {other.name}")
            if text and not text.endswith("\n"):
                text += "\n"
            self._write(f"{text}{key.text} {role.value} {name}\n")

    def revoke(self, name: str) -> None:
        """Let a key in no longer. ConfigError if nobody has this name."""
        with self._locked():
            text = self._read()[1]
            if name not in [entry.name for entry in _parsed(self.path, text)]:
                raise ConfigError(f"{self.path}: no key has this name; `maxpipe keys list` shows those that are there")
            self._write("\n".join(line for line in text.split("\n") if _is_note(line) or line.split()[2] != name))

    # -- the file ------------------------------------------------------------------------------------------------

    def _read_again(self) -> _Reading:
        before = self._reading  # another thread may be here, too
        try:
            stamp, text = self._read()
            by_key = before.by_key
            if text != before.text:
                by_key = {entry.key.text: entry for entry in _parsed(self.path, text)}
        except ConfigError as problem:
            if self._problem != str(problem):
                self._problem = str(problem)
                self._on_problem(f"{problem}; nobody is let in over tcp until that is mended")
            return _Reading(None, False, "", {})
        self._problem = ""
        settled = stamp is not None and time.time_ns() - stamp[0] > SETTLED_NS
        return _Reading(stamp, settled, text, by_key)

    def _read(self) -> tuple[Stamp | None, str]:
        """The text, and the stamp it had before it was read; a file that is not there is an empty one."""
        try:
            with open(self.path, "rb") as stream:
                status = os.fstat(stream.fileno())
                content = stream.read(MAX_FILE_BYTES + 1)
        except FileNotFoundError:
            return None, ""
        except OSError as problem:
            raise ConfigError(f"{self.path}: cannot be read ({problem.strerror})") from None
        if status.st_mode & OTHERS_WRITE:
            raise ConfigError(f"{self.path}: others may write there; `chmod 600 {self.path}`")
        if len(content) > MAX_FILE_BYTES:
            raise ConfigError(f"{self.path}: is longer than {MAX_FILE_BYTES} bytes")
        try:
            return _stamp(status), content.decode("utf-8")
        except UnicodeDecodeError:
            raise ConfigError(f"{self.path}: is no UTF-8 text") from None

    def _write(self, text: str) -> None:
        """All of it or nothing: a reader sees the old list or the new one."""
        descriptor, temporary = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}-")  # mode 0600
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, self.path)
        except OSError as problem:
            os.unlink(temporary)
            raise ConfigError(f"{self.path}: cannot be written ({problem.strerror})") from None

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One change at a time."""
        try:
            folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as problem:
            text = f"{self.path.parent}: no folder for keys ({problem.strerror}); `maxpipe keys new` makes one"
            raise ConfigError(text) from None
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)


def _parsed(file: Path, text: str) -> tuple[Allowed, ...]:
    """Every line's key. Two lines with one key or one name would leave open which of them counts."""
    found: list[Allowed] = []
    seen: set[PublicKey | str] = set()
    for number, line in enumerate(text.split("\n"), 1):
        if _is_note(line):
            continue
        try:
            entry = _entry(line.split())
        except ConfigError as problem:
            raise ConfigError(f"{file}: line {number}: {problem}") from None
        if entry.key in seen or entry.name in seen:
            raise ConfigError(f"{file}: line {number}: {entry.name}: this key or this name is on the list twice")
        seen |= {entry.key, entry.name}
        found.append(entry)
    return tuple(found)


def _is_note(line: str) -> bool:
    return not line.strip() or line.lstrip().startswith("#")


def _entry(words: list[str]) -> Allowed:
    """A line's words. Errors never repeat a word that could be a key."""
    if len(words) != 3 or words[1] not in (Role.CLIENT.value, Role.WORKER.value) or not NAME.fullmatch(words[2]):
        raise ConfigError(LINE)
    return Allowed(PublicKey.parse(words[0]), Role(words[1]), words[2])


def _stamp(status: os.stat_result) -> Stamp:
    """Changes with the file's content. ctime, as nobody can set it."""
    return status.st_ctime_ns, status.st_mtime_ns, status.st_size, status.st_ino, status.st_dev


def _stamp_of(path: Path) -> Stamp | None:
    try:
        return _stamp(os.stat(path))
    except OSError:
        return None
