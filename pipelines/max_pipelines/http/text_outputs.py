"""The outputs of a request for text, and what is counted of them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable

from max_interfaces import TextGenerationOutput, TextGenerationRequest

from .exchange import note_tokens
from .face import Face


def _any(output: TextGenerationOutput) -> None:
    """Every output is in order."""


async def text_outputs(
    face: Face, request: TextGenerationRequest, check: Callable[[TextGenerationOutput], None] = _any
) -> AsyncGenerator[TextGenerationOutput, None]:
    """What is generated, as it comes. Leaving it cancels the request; RequestFailed as `AsyncClient.stream`.

    What `check` raises for an output is the request's failure, and is counted as one.
    """
    with face.metrics.text_request(request.sampling_params.max_new_tokens) as told:
        told.checked()
        async with contextlib.aclosing(face.client.stream(request)) as outputs:
            async for output in outputs:
                check(output)
                told.heard(output)
                if output.statistics is not None:
                    note_tokens(output.num_prompt_tokens, output.statistics.generated_tokens)
                yield output
