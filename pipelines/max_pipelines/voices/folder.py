"""The folder with the voices that were added, each a file of its name. Nothing outside it is read or written."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from pathlib import Path

from max_interfaces import ConfigError

from ..codecs import speech_of
from ..config import Config
from .file import SUFFIX, StoredVoice, read_about, read_voice
from .fingerprint import fingerprint

MAX_VOICES = 1024
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def default_folder() -> Path | None:
    """`$XDG_DATA_HOME/maxpipe/voices`, or `~/.local/share/maxpipe/voices`; None for a user without a home."""
    configured = os.environ.get("XDG_DATA_HOME", "")
    base = Path(configured) if os.path.isabs(configured) else Path("~/.local/share")  # it ignores relative ones
    try:
        return (base / "maxpipe" / "voices").expanduser()
    except RuntimeError:
        return None


def folder_of(config: Config) -> VoiceFolder:
    """The folder of the voices that were added to a model. ConfigError if it does not speak."""
    speech = speech_of(config)
    named = speech.voices.folder
    path = default_folder() if named is None else Path(named).expanduser()
    return VoiceFolder(path, fingerprint(config, speech))


def check_name(name: str) -> None:
    """ValueError for what cannot be the name of a voice that is added: it becomes a file's."""
    if not NAME.fullmatch(name):
        raise ValueError(
            f"voice name {name[:80]!r}: must be 1 to 64 letters, digits, - and _ of ASCII, a letter or digit first"
        )


class VoiceFolder:
    """The voices in a folder, which need not exist yet, of those whose tokens have a `fingerprint`.

    Without a folder there are none, and none can be added.
    """

    def __init__(self, path: Path | None, fingerprint: str) -> None:
        self.path = path
        self.fingerprint = fingerprint
        self._listed: tuple[int, tuple[str, ...]] = (-1, ())

    @property
    def names(self) -> tuple[str, ...]:
        """Those that can be used, in order. Read again when the folder has changed."""
        if self.path is None:
            return ()
        try:
            changed = self.path.stat().st_mtime_ns
        except OSError:
            return ()
        if changed != self._listed[0]:
            self._listed = changed, tuple(name for name in self.all if self._is_ours(name))
        return self._listed[1]

    @property
    def all(self) -> tuple[str, ...]:
        """The names of all voice files, also of another codec's."""
        if self.path is None:
            return ()
        try:
            found = (path.stem for path in self.path.iterdir() if path.suffix == SUFFIX)
            return tuple(sorted(name for name in found if NAME.fullmatch(name))[:MAX_VOICES])
        except OSError:
            return ()

    def find(self, name: str) -> StoredVoice | None:
        """The voice of that name; None if there is none. ValueError, with the reason, for one that cannot be used."""
        if self.path is None or not NAME.fullmatch(name):
            return None
        try:
            voice = read_voice(_file(self.path, name))
        except FileNotFoundError:
            return None
        if voice.about.fingerprint != self.fingerprint:
            raise ValueError(f"voice = {name!r}: its sample was encoded for another codec or layout; add it again")
        return voice

    def add(self, name: str, voice: StoredVoice) -> Path:
        """Write a new voice, complete when it appears; the file. ValueError for a bad name or one that is taken."""
        check_name(name)
        path = self._existing()
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if len(self.all) >= MAX_VOICES:
            raise ValueError(f"{path}: holds {MAX_VOICES} voices already; remove one first")
        target = _file(path, name)
        descriptor, partial = tempfile.mkstemp(prefix=".", suffix=".partial", dir=path)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(voice.to_bytes())
                file.flush()
                os.fsync(file.fileno())
            os.link(partial, target)  # unlike a rename, it replaces nothing
        except FileExistsError:
            raise ValueError(
                f"voice name {name!r}: there is such a voice; `maxpipe voices remove {name}` first"
            ) from None
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(partial)
        return target

    def remove(self, name: str) -> None:
        """Delete a voice, whatever codec it is of. ValueError for a name that is none, or that nobody has."""
        check_name(name)
        try:
            _file(self._existing(), name).unlink()
        except FileNotFoundError:
            known = ", ".join(self.all) or "none"
            raise ValueError(f"voice name {name!r}: no such voice was added; there are: {known}") from None

    def _is_ours(self, name: str) -> bool:
        try:
            return read_about(_file(self._existing(), name)).fingerprint == self.fingerprint
        except (OSError, ValueError):
            return False

    def _existing(self) -> Path:
        if self.path is None:
            raise ConfigError("speech.voices.folder: this user has no home folder; name a folder for voices")
        return self.path


def _file(folder: Path, name: str) -> Path:
    return folder / f"{name}{SUFFIX}"
