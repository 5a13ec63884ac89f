"""Many texts, each a request of its own, and their vectors in one array."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from max_interfaces import (
    EmbeddingsGenerationOutput,
    EmbeddingsGenerationRequest,
    FailureKind,
    InvalidRequest,
    RequestFailed,
    RequestID,
    RequestOptions,
)

from .gathering import gathered

if TYPE_CHECKING:
    from .async_client import AsyncClient

WINDOW = 512  # texts on their way at once: enough to find some of like length, and few beside what a server takes


async def embedded(
    client: AsyncClient,
    model: str,
    texts: Sequence[str | Sequence[int]],
    dimensions: int | None,
    truncate: bool,
    options: RequestOptions,
) -> NDArray[np.float32]:
    """What `AsyncClient.embed` gives. When one fails, or the caller leaves, all end."""
    requests = requests_of(model, texts, dimensions, truncate=truncate)
    outputs = await outputs_of(client, requests, options)
    vectors = [output.embeddings for output in outputs]
    return np.stack(vectors) if vectors else np.zeros((0, 0), np.float32)


def requests_of(
    model: str, texts: Sequence[str | Sequence[int]], dimensions: int | None, *, truncate: bool
) -> list[EmbeddingsGenerationRequest]:
    """One for each text. InvalidRequest, with its number, for one that cannot be asked for."""
    requests: list[EmbeddingsGenerationRequest] = []
    for number, text in enumerate(texts):
        given = text if isinstance(text, str) else tuple(text)
        try:
            request = EmbeddingsGenerationRequest(RequestID(), model, given, dimensions=dimensions, truncate=truncate)
        except ValueError as problem:
            raise InvalidRequest(_numbered(number, str(problem))) from None
        requests.append(request)
    return requests


async def outputs_of(
    client: AsyncClient, requests: Sequence[EmbeddingsGenerationRequest], options: RequestOptions
) -> list[EmbeddingsGenerationOutput]:
    """The output of each request. InvalidRequest, with its number, for one that cannot be served."""

    async def one(number: int, request: EmbeddingsGenerationRequest) -> EmbeddingsGenerationOutput:
        try:
            return await client.generate(request, options)
        except RequestFailed as problem:
            if problem.failure.kind is FailureKind.INVALID_REQUEST:
                raise InvalidRequest(_numbered(number, problem.failure.message)) from None
            raise

    return await gathered([partial(one, number, request) for number, request in enumerate(requests)], WINDOW)


def _numbered(number: int, problem: str) -> str:
    return f"text number {number}: {problem}"
