"""The folder with our key pair, and with the list of the keys that we let in."""

from __future__ import annotations

import os
from pathlib import Path

from max_interfaces import ConfigError

from .allowed import AllowList
from .keys import KeyPair, Secret

SECRET_FILE = "secret"
ALLOWED_FILE = "allowed"
MARK = "maxpipe secret key: "  # so that who takes the file for a public key is told
OTHERS_READ, OTHERS_WRITE = 0o077, 0o022


def default_folder() -> Path:
    """`$XDG_CONFIG_HOME/maxpipe`, or `~/.config/maxpipe`."""
    configured = os.environ.get("XDG_CONFIG_HOME", "")
    base = Path(configured) if os.path.isabs(configured) else Path("~/.config")  # the standard ignores relative ones
    return _expanded(base / "maxpipe")


class KeyFolder:
    """One folder, one key pair, one list of allowed keys."""

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = default_folder() if path is None else _expanded(Path(path))
        self._option = "" if path is None else f" --keys {self.path}"  # for what the user is told to type

    @property
    def allowed_file(self) -> Path:
        """The list of the keys that are let in."""
        return self.path / ALLOWED_FILE

    def allow_list(self) -> AllowList:
        """The list, to be read or changed."""
        return AllowList(self.allowed_file)

    def create(self) -> KeyPair:
        """Make the folder and a key pair in it. ConfigError if there is a key, which would be lost for good."""
        pair = KeyPair.new()
        file = self.path / SECRET_FILE
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._check_folder()
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            raise ConfigError(f"{file}: there is a key already; remove the file to lose it for good") from None
        except OSError as problem:
            raise ConfigError(f"{file}: cannot be created ({problem.strerror})") from None
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as stream:
                stream.write(f"{MARK}{pair.secret.to_file()}\n")
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as problem:  # a full disk
            file.unlink(missing_ok=True)
            raise ConfigError(f"{file}: cannot be written ({problem.strerror})") from None
        return pair

    def load(self) -> KeyPair:
        """Our key pair. ConfigError if there is none, or if others could have read it."""
        file = self.path / SECRET_FILE
        try:
            self._check_folder()
            with open(file, "rb") as stream:
                status = os.fstat(stream.fileno())
                text = stream.read(256)
        except FileNotFoundError:
            raise ConfigError(f"{file}: there is no key; make one with `maxpipe keys new{self._option}`") from None
        except OSError as problem:
            raise ConfigError(f"{file}: cannot be read ({problem.strerror})") from None
        if status.st_mode & OTHERS_READ:
            raise ConfigError(f"{file}: others may read this key; make a new one, or `chmod 600` it if nobody has")
        secret = Secret.parse(text.decode("ascii", "replace").removeprefix(MARK).rstrip("\n"))
        if secret is None:
            raise ConfigError(f"{file}: holds no key; remove it and make one with `maxpipe keys new{self._option}`")
        return KeyPair.of(secret)

    def _check_folder(self) -> None:
        """Who can write into the folder could put other keys there."""
        status = self.path.stat()
        if status.st_mode & OTHERS_WRITE or status.st_uid not in (os.geteuid(), 0):
            raise ConfigError(f"{self.path}: others may write there; `chmod 700` it, as its owner")


def _expanded(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError:
        raise ConfigError(f"{path}: this user has no home folder; say --keys FOLDER") from None
