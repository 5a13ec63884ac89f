"""By which names a server may be called: what keeps pages of other sites from reaching one on this host.

A page may let its own site's name lead to 127.0.0.1 and then asks us as if we were that site (DNS rebinding): neither
CORS nor the Origin header helps, since to the browser it is one site. The Host header still has the site's name.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection

from starlette.types import ASGIApp, Receive, Scope, Send

from ..config import HttpConfig
from .problems import HttpProblem

OPEN = ("/health", "/ready")  # who watches a server calls it by any name, and learns nothing


def checked_hosts(config: HttpConfig, address: str) -> frozenset[str] | None:
    """The names beside this host's own that a server at an address may be called by, None where any will do.

    Any will do for a server that asks for keys or that others reach anyway, unless `hosts` says otherwise.
    """
    if not config.hosts and (config.keys is not None or not _is_loopback(address)):
        return None
    return frozenset(_name_in(host) for host in config.hosts)


class Hosts:
    """ASGI middleware: 403 for who calls the server by a name that is neither this host's own nor one of `names`."""

    def __init__(self, app: ASGIApp, names: Collection[str]) -> None:
        self._app = app
        self._names = names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or scope["path"] in OPEN or self._serves(scope):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": "the server is not called that"})
        else:
            text = "this server is not called what the Host header says: ask localhost, or name it in `http.hosts`"
            await HttpProblem(403, "unknown_host", text).response(scope["path"])(scope, receive, send)

    def _serves(self, scope: Scope) -> bool:
        """Whether each Host header will do, and there is one."""
        given = [value for name, value in scope["headers"] if name == b"host"]
        return bool(given) and all(self._is_ours(_name_in(value.decode("latin-1"))) for value in given)

    def _is_ours(self, name: str) -> bool:
        return name == "localhost" or name in self._names or _is_loopback(name)


def _name_in(host: str) -> str:
    """A Host header without its port: a name in small letters, or an address without brackets."""
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdigit() and ":" not in name else host).removesuffix(".")


def _is_loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
