"""Who is let in, before anything of a request is read or routed."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from max_interfaces import ConfigError

from .problems import HttpProblem

OPEN = ("/health", "/ready")  # whoever watches the server has no key
PAGE, PAGE_BELOW = "/", "/page/"  # the page asks for one; what is posted to it is a request like any other
LOOKS = ("GET", "HEAD")
MAX_KEY = 1024


class Keys:
    """The API keys of a server. Compared by digest and in constant time: how long it takes tells nothing of them."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._digests = [sha256(key.encode()).digest() for key in keys]

    @classmethod
    def load(cls, path: Path) -> Keys:
        """One key a line; what begins with # is no key. ConfigError if there is none, or others may read the file."""
        try:
            lines = path.read_text().split("\n")
            mode = path.stat().st_mode
        except (OSError, UnicodeDecodeError) as problem:
            raise ConfigError(f"{path}: the API keys cannot be read ({problem})") from None
        if mode & 0o077:
            raise ConfigError(f"{path}: others may read the API keys; do `chmod 600 {path}`")
        keys = [key for line in lines if (key := line.strip()) and not key.startswith("#")]
        if not keys:
            raise ConfigError(f"{path}: has no API key in it; write one a line")
        return cls(keys)

    def hold(self, given: str) -> bool:
        """Whether it is one of them."""
        digest = sha256(given[:MAX_KEY].encode(errors="replace")).digest()
        found = [hmac.compare_digest(digest, known) for known in self._digests]  # all of them, always
        return any(found)


class Guard:
    """ASGI middleware: 401 for everybody without a key, unless what is asked for is open to all."""

    def __init__(self, app: ASGIApp, keys: Keys) -> None:
        self._app = app
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "/")
        if is_open(scope.get("method", ""), path) or self._keys.hold(key_of(scope)):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": "an API key is needed"})
        else:
            text = "an API key is needed: send it as `Authorization: Bearer KEY`"
            problem = HttpProblem(401, "authentication", text, {"www-authenticate": "Bearer"})
            await problem.response(path)(scope, receive, send)


def is_open(method: str, path: str) -> bool:
    """Whether it needs no key, whatever the server."""
    return path in OPEN or (method in LOOKS and (path == PAGE or path.startswith(PAGE_BELOW)))


def key_of(scope: Scope) -> str:
    """The key of a request: in `Authorization: Bearer KEY`, or in the text-generation document's `Bearer: KEY`."""
    headers = Headers(scope=scope)
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return key.strip()
    return headers.get("bearer", "").strip()
