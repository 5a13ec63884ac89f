"""What may be asked of a picture."""

from __future__ import annotations

from dataclasses import fields

from max_interfaces import SamplingParams, TextGenerationRequest
from max_interfaces.sampling import DEFAULT_SAMPLING

HEEDED = {"temperature", "top_k", "top_p", "min_p", "typical_p", "seed", "n", "truncate", "detokenize"}
NOTHING_TO_IT = (
    "images", "audios", "videos", "voice", "stop", "logprobs", "response_format", "adapter_id", "prompt_adapter_id",
    "echo", "token_texts",
)  # fmt: skip


def check_drawing(request: TextGenerationRequest, *, draws: bool) -> None:
    """ValueError for a picture of a model that does not draw, or for what cannot be had with one."""
    if request.guidance is None:
        return
    if not draws:
        raise ValueError(f"guidance = {request.guidance}: this model does not draw; leave it out")
    for name in NOTHING_TO_IT:
        if getattr(request, name):
            raise ValueError(f"{name}: cannot be had with a picture, which is drawn of text alone; leave it out")
    for field in fields(SamplingParams):
        value = getattr(request.sampling_params, field.name)
        if field.name not in HEEDED and value != getattr(DEFAULT_SAMPLING, field.name):
            raise ValueError(f"SamplingParams.{field.name} = {value!r:.80}: is nothing to a picture; leave it out")
