"""The page at `/`: write, listen, look."""

from __future__ import annotations

from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles

FOLDER = Path(__file__).parent / "page"
SOURCES = ("default-src 'self'", "img-src 'self' data:", "media-src 'self' blob:", "frame-ancestors 'none'")
POLICY = {"content-security-policy": "; ".join(SOURCES), "x-content-type-options": "nosniff"}


async def page(request: Request) -> Response:
    """`GET /`."""
    return FileResponse(FOLDER / "index.html", headers=POLICY)


files = StaticFiles(directory=FOLDER)
