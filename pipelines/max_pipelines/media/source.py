"""The bytes of a file, however a caller names it."""

from __future__ import annotations

import base64
import binascii
import os
import re
import stat
from pathlib import Path
from urllib.parse import unquote_to_bytes

from .access import Access
from .items import FileItem, Readable
from .limits import MediaLimits

SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
DATA = "data:"
CHUNK = 2**20
BLANKS = str.maketrans("", "", " \t\r\n")


def read_file(item: FileItem, limits: MediaLimits, access: Access) -> bytes:
    """All its bytes. ValueError if they are too many, or none, or may not be read; OSError is one, too.

    A str is taken as a URL, a data: URL, the name of a file that exists, or base64, whichever fits first.
    """
    data = _read(item, limits, access)
    if not data:
        raise ValueError("is empty")
    return data


def _read(item: FileItem, limits: MediaLimits, access: Access) -> bytes:
    if isinstance(item, bytes | bytearray | memoryview):
        limits.check_bytes(memoryview(item).nbytes)
        return bytes(item)
    if isinstance(item, os.PathLike):
        if not access.paths:
            raise ValueError("files are not read by their names here; send the file itself")
        return _read_path(Path(item), limits)
    if isinstance(item, str):
        return _read_text(item, limits, access)
    if hasattr(item, "read"):
        return _read_all(item, limits)
    raise ValueError(f"{type(item).__name__} is no path, bytes, file, URL or array")


def _read_text(text: str, limits: MediaLimits, access: Access) -> bytes:
    if SCHEME.match(text):
        return access.fetch(text, limits.bytes, limits.fetch_seconds)
    if text[: len(DATA)].lower() == DATA:
        return _data_url(text[len(DATA) :], limits)
    if access.paths and _is_file(text):
        return _read_path(Path(text), limits)
    try:
        return _base64(text, limits)
    except binascii.Error:
        forms = "URL, data: URL, base64 or existing file" if access.paths else "URL, data: URL or base64"
        raise ValueError(f"{text[:80]!r} is no {forms}") from None


def _is_file(name: str) -> bool:
    try:
        return os.path.exists(name)
    except ValueError:  # a zero byte
        return False


def _read_path(path: Path, limits: MediaLimits) -> bytes:
    """A regular file: a pipe or a device might have no end."""
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ValueError(f"{path} is no regular file")
            limits.check_bytes(status.st_size)
            return _read_all(file, limits)
    except OSError as problem:
        raise ValueError(f"{path} cannot be read ({problem.strerror})") from None


def _open_at_once(name: str, flags: int) -> int:
    """Without waiting for somebody to write into a pipe."""
    return os.open(name, flags | os.O_NONBLOCK)


def _read_all(file: Readable, limits: MediaLimits) -> bytes:
    """What is left of an open file, in pieces, so that no more is held than is allowed."""
    data = bytearray()
    while piece := file.read(min(CHUNK, limits.bytes + 1 - len(data))):
        if not isinstance(piece, bytes):
            raise ValueError("is a file of text; open it with mode 'rb'")
        data += piece
        limits.check_bytes(len(data))
    return bytes(data)


def _data_url(rest: str, limits: MediaLimits) -> bytes:
    """data:[type][;base64],data"""
    head, comma, body = rest.partition(",")
    if not comma:
        raise ValueError("a data: URL is data:TYPE;base64,DATA; this one has no comma")
    if head.lower().endswith(";base64"):
        try:
            return _base64(body, limits)
        except binascii.Error as problem:
            raise ValueError(f"a data: URL whose base64 cannot be read ({problem})") from None
    limits.check_bytes(len(body) // 3)  # at the least: %XX is one byte
    data = unquote_to_bytes(body)
    limits.check_bytes(len(data))
    return data


def _base64(text: str, limits: MediaLimits) -> bytes:
    limits.check_bytes(len(text) * 3 // 4 - 2 - text.count("\n") - text.count("\r"))  # before it is decoded
    try:
        data = base64.b64decode(text.translate(BLANKS).encode("ascii"), validate=True)
    except UnicodeEncodeError:
        raise binascii.Error("a character that is not of base64") from None
    limits.check_bytes(len(data))
    return data
