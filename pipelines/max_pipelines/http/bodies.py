"""The body of a request: JSON of a known shape, within limits."""

from __future__ import annotations

import asyncio
from typing import TypeVar

import msgspec
from starlette.requests import Request

from .problems import VALIDATION, HttpProblem

StructT = TypeVar("StructT", bound=msgspec.Struct)


async def read(request: Request, kind: type[StructT], max_bytes: int, timeout_s: float) -> StructT:
    """The body as a Struct. HttpProblem: 415 for another content type, 413 for a body over the limit, 408 for one that
    does not come, 400 for what is no JSON, 422 for what has another shape. ClientDisconnect if the client goes before.
    """
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given != "application/json":
        text = f"content-type: {given or 'none'}; send the body as application/json"
        raise HttpProblem(415, VALIDATION, text)
    return shaped(await received(request, max_bytes, timeout_s), kind)


async def received(request: Request, max_bytes: int, timeout_s: float) -> bytes:
    """The body's bytes. HttpProblem 413 for more than the limit, 408 for what does not come."""
    try:
        async with asyncio.timeout(timeout_s):
            return await _whole(request, max_bytes)
    except TimeoutError:
        raise HttpProblem(408, "timeout", f"the body did not come within {timeout_s:g} s") from None


def shaped(body: bytes | msgspec.Raw, kind: type[StructT]) -> StructT:
    """JSON as a Struct. HttpProblem 400 for what is none, 422 for what has another shape."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as problem:
        raise HttpProblem(422, VALIDATION, f"Input validation error: {problem}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise HttpProblem(400, VALIDATION, f"the body is no JSON: {problem}") from None


async def _whole(request: Request, max_bytes: int) -> bytes:
    too_large = HttpProblem(413, VALIDATION, f"the body has more than {max_bytes} bytes, the most that is taken")
    size = request.headers.get("content-length", "0")
    if size.isdecimal() and int(size) > max_bytes:
        raise too_large
    pieces: list[bytes] = []
    received = 0
    async for piece in request.stream():
        received += len(piece)
        if received > max_bytes:
            raise too_large
        pieces.append(piece)
    return b"".join(pieces)
