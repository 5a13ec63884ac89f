"""The outputs of a request for text, and what is counted of them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator

from max_interfaces import TextGenerationOutput, TextGenerationRequest

from .exchange import note_tokens
from .face import Face


async def text_outputs(face: Face, request: TextGenerationRequest) -> AsyncGenerator[TextGenerationOutput, None]:
    """What is generated, as it comes. Leaving it cancels the request; RequestFailed as `AsyncClient.stream`."""
    with face.metrics.text_request(request.sampling_params.max_new_tokens) as told:
        told.checked()
        async with contextlib.aclosing(face.client.stream(request)) as outputs:
            async for output in outputs:
                told.heard(output)
                if output.statistics is not None:
                    note_tokens(output.num_prompt_tokens, output.statistics.generated_tokens)
                yield output
