"""`POST /v1/embeddings`."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.types import ASGIApp

from max_interfaces import EmbeddingsGenerationRequest, PipelineTask

from ...client.async_client import NO_OPTIONS
from ...client.embedding import outputs_of, requests_of
from ..exchange import note_tokens
from ..face import Face
from ..json import encode
from ..problems import asked
from ..streaming import turn
from ..whole import Whole, WholeAnswer
from .sampling import TokenId

MOST_TEXTS = 2048  # OpenAI's own bound
Text = Annotated[str, Meta(max_length=2**22)]
Ids = Annotated[list[TokenId], Meta(max_length=2**20)]


class EmbeddingsBody(msgspec.Struct, frozen=True):
    """OpenAI's fields: `input` is a text or token ids, or a list of either. `truncate` leaves out a long text's end.

    Others, such as `user`, are ignored.
    """

    input: Text | Annotated[list[Text | TokenId | Ids], Meta(min_length=1, max_length=2**20)]
    model: Annotated[str, Meta(max_length=256)] | None = None
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Meta(ge=1, le=2**20)] | None = None
    truncate: bool | None = None

    def requests(self, model: str) -> list[EmbeddingsGenerationRequest]:
        """One for each text. ValueError, naming the field, for what cannot be asked for."""
        return requests_of(model, self._texts(), self.dimensions, truncate=bool(self.truncate))

    def _texts(self) -> Sequence[str | tuple[int, ...]]:
        if isinstance(self.input, str):
            return [self.input]
        ids = [entry for entry in self.input if isinstance(entry, int)]
        if ids:
            if len(ids) < len(self.input):
                raise ValueError("input: texts and token ids do not go together in one list")
            return [tuple(ids)]
        if len(self.input) > MOST_TEXTS:
            raise ValueError(f"input: has {len(self.input)} texts, may have at most {MOST_TEXTS}")
        return [entry if isinstance(entry, str) else tuple(entry) for entry in self.input if not isinstance(entry, int)]


class Embedding(msgspec.Struct, frozen=True):
    """One text's vector: numbers, or, in base64, the bytes of little-endian float32."""

    index: int
    embedding: list[float] | str
    object: Literal["embedding"] = "embedding"


class EmbeddingsUsage(msgspec.Struct, frozen=True):
    """Tokens that were read."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsAnswer(msgspec.Struct, frozen=True):
    """All vectors, in the order of their texts."""

    data: list[Embedding]
    model: str
    usage: EmbeddingsUsage
    object: Literal["list"] = "list"


async def embed(request: Request) -> ASGIApp:
    """The vectors; on `/models/{name}/…` that model's, whatever the body says."""
    face = Face.of(request)
    body = await face.read(request, EmbeddingsBody)
    info = face.model(request.path_params.get("name") or body.model or "", PipelineTask.EMBEDDINGS_GENERATION)
    with asked():
        requests = body.requests(info.name)
    return Whole(_answer(face, body, info.name, requests))


async def _answer(
    face: Face, body: EmbeddingsBody, model: str, requests: Sequence[EmbeddingsGenerationRequest]
) -> WholeAnswer:
    outputs = await outputs_of(face.client, requests, NO_OPTIONS)
    read = sum(output.num_prompt_tokens for output in outputs)
    note_tokens(read, 0)
    face.metrics.tokens.labels("input").inc(read)
    data: list[Any] = []  # each encoded by itself: all at once would keep everybody else waiting for half a second
    for number, output in enumerate(outputs):
        data.append(_encoded(number, output.embeddings, in_base64=body.encoding_format == "base64"))
        await turn()
    return WholeAnswer(encode(EmbeddingsAnswer(data, model, EmbeddingsUsage(read, read))))


def _encoded(number: int, vector: NDArray[np.float32], *, in_base64: bool) -> msgspec.Raw:
    return msgspec.Raw(encode(Embedding(number, _base64(vector) if in_base64 else vector.tolist())))


def _base64(vector: NDArray[np.float32]) -> str:
    return base64.b64encode(vector.astype("<f4", copy=False).tobytes()).decode()
