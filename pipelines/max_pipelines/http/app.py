"""The ASGI application: which path leads where."""

from __future__ import annotations

from pathlib import Path

from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.types import ASGIApp, ExceptionHandler, Receive, Scope, Send

from max_interfaces import InvalidRequest, NotServing, RequestFailed

from . import adapters, captioned, conversation, health, models, speech, static, voices
from .face import Face
from .guard import Guard, Keys
from .hosts import Hosts, checked_hosts
from .observing import Observing
from .openai import chat, completions, embeddings
from .openapi import document
from .problems import HttpProblem, problem_of
from .text_generation import generate, info, tokenize
from .traces import Tracing


class Root(HTTPEndpoint):
    """The page for who looks, the hosted API for who asks."""

    async def get(self, request: Request) -> Response:
        """The page."""
        return await static.page(request)

    async def post(self, request: Request) -> ASGIApp:
        """How a text goes on, or its sound."""
        return await generate.compatible(request)


class Voices(HTTPEndpoint):
    """The list of the voices, and how it grows."""

    async def get(self, request: Request) -> Response:
        """Which there are."""
        return await voices.voices(request)

    async def post(self, request: Request) -> Response:
        """One more."""
        return await voices.add(request)


ROUTES = (
    Route("/health", health.health, methods=["GET"]),
    Route("/ready", health.ready, methods=["GET"]),
    Route("/v1/models", models.models, methods=["GET"]),
    Route("/v1/models/{name:path}", models.model, methods=["GET"]),
    Route("/v1/chat/completions", chat.chat, methods=["POST"]),
    Route("/v1/completions", completions.complete, methods=["POST"]),
    Route("/v1/embeddings", embeddings.embed, methods=["POST"]),
    Route("/models/{name:path}/v1/chat/completions", chat.chat, methods=["POST"]),
    Route("/models/{name:path}/v1/completions", completions.complete, methods=["POST"]),
    Route("/models/{name:path}/v1/embeddings", embeddings.embed, methods=["POST"]),
    Route("/v1/audio/speech", speech.speak, methods=["POST"]),
    Route("/v1/audio/voices", Voices),
    Route("/v1/audio/voices/{name:path}", voices.remove, methods=["DELETE"]),
    Route("/dev/captioned_speech", captioned.speak, methods=["POST"]),
    Route("/v1/load_lora_adapter", adapters.load, methods=["POST"]),
    Route("/v1/unload_lora_adapter", adapters.unload, methods=["POST"]),
    Route("/metrics", health.metrics, methods=["GET"]),
    Route("/status", health.status, methods=["GET"]),
    Route("/", Root),
    Route("/models/{name:path}", generate.compatible, methods=["POST"]),
    Route("/generate", generate.generate, methods=["POST"]),
    Route("/generate_stream", generate.generate_stream, methods=["POST"]),
    Route("/tokenize", tokenize.tokenize, methods=["POST"]),
    Route("/chat_tokenize", tokenize.chat_tokenize, methods=["POST"]),
    Route("/openapi.json", document.openapi, methods=["GET"]),
    Route("/info", info.info, methods=["GET"]),
    Mount("/page", static.files),
    WebSocketRoute("/v1/audio/speech/stream", conversation.converse),
)
EXPOSED = ("x-request-id", "x-sample-rate")  # what pages of other sites may read of an answer's head


def build_app(face: Face, address: str, tracing: Tracing | None = None) -> ASGIApp:
    """The application of a face that listens at an IP address. ConfigError if its keys cannot be used."""
    config = face.config
    middleware: list[Middleware] = []
    if config.cors_origins:
        cors = Middleware(
            CORSMiddleware, allow_origins=config.cors_origins, allow_headers=["*"], expose_headers=EXPOSED
        )
        middleware.append(cors)
    hosts = checked_hosts(config, address)
    if hosts is not None:
        middleware.append(Middleware(Hosts, names=hosts))
    if config.keys is not None:
        middleware.append(Middleware(Guard, keys=Keys.load(Path(config.keys))))
    handlers: dict[type[Exception] | int, ExceptionHandler] = {
        HTTPException: _refused,
        ClientDisconnect: _gone,
        Exception: _failed,  # and then into the log: the others are nothing of ours
        **dict.fromkeys((HttpProblem, RequestFailed, NotServing, InvalidRequest), _failed),
    }
    app = Starlette(routes=list(ROUTES), middleware=middleware, exception_handlers=handlers)
    app.state.face = face
    return Observing(app, face.metrics, tracing)


class Unsaid(Response):
    """What is said to a client that has gone: nothing, so that no status is counted."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        return


async def _gone(request: Request, error: Exception) -> Response:
    """The client went while its body was read."""
    return Unsaid()


async def _failed(request: Request, error: Exception) -> Response:
    return problem_of(error).response(request.url.path)


async def _refused(request: Request, error: Exception) -> Response:
    """What Starlette refuses by itself: paths and methods that there are not."""
    if not isinstance(error, HTTPException):
        return await _failed(request, error)
    text = f"{request.method} {request.url.path}: {error.detail}"
    return HttpProblem(error.status_code, "not_found", text, error.headers).response(request.url.path)
