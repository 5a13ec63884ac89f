"""A media server on this host, for what tests fetch."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PATIENCE_S = 20.0


@dataclass(slots=True)
class MediaServer:
    """What it answers for each path: a body, where else to look, or raw bytes of an answer; and who has asked.

    `last` are the headers of the last request; `let_go` ends the answers that wait.
    """

    url: str = ""
    host: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    raw: dict[str, bytes] = field(default_factory=dict)
    waits: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    last: dict[str, str] = field(default_factory=dict)
    let_go: threading.Event = field(default_factory=threading.Event)


@contextmanager
def serving_media(context: ssl.SSLContext | None = None) -> Iterator[MediaServer]:
    """One that listens at 127.0.0.1, with TLS if it is given a context."""
    media = MediaServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            media.asked.append(self.path)
            media.last = {name.lower(): value for name, value in self.headers.items()}
            if self.path in media.raw:
                self.wfile.write(media.raw[self.path])
                self.wfile.flush()
                if self.path in media.waits:
                    media.let_go.wait(PATIENCE_S)
                return
            body = media.files.get(self.path)
            if self.path in media.redirects:
                self.send_response(302)
                self.send_header("location", media.redirects[self.path])
                body = b""
            else:
                self.send_response(404 if body is None else 200)
            self.send_header("content-length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    media.host = f"127.0.0.1:{server.server_port}"
    media.url = f"{'http' if context is None else 'https'}://{media.host}"
    serving = threading.Thread(target=server.serve_forever, args=(0.05,))
    serving.start()
    try:
        yield media
    finally:
        media.let_go.set()
        server.shutdown()
        serving.join()
        server.server_close()
