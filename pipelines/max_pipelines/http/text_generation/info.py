"""`GET /info`: what is served, and within what limits."""

from __future__ import annotations

from importlib.metadata import version

from starlette.requests import Request
from starlette.responses import Response

from max_interfaces import PipelineTask

from ..face import Face
from ..json import JsonResponse

TAGS = {
    PipelineTask.TEXT_GENERATION: "text-generation",
    PipelineTask.AUDIO_GENERATION: "text-to-speech",
    PipelineTask.EMBEDDINGS_GENERATION: "feature-extraction",
}


async def info(request: Request) -> Response:
    """The fields of the API's own `/info`; those that nothing here corresponds to are null."""
    face = Face.of(request)
    model, limits = face.client.models[0], face.config.text
    return JsonResponse(
        {
            "model_id": model.name,
            "model_sha": None,
            "model_pipeline_tag": TAGS.get(PipelineTask(model.task)),
            "max_concurrent_requests": face.config.max_connections,
            "max_best_of": limits.max_best_of,
            "max_stop_sequences": limits.max_stop_sequences,
            "max_input_tokens": max(0, model.max_tokens - 1),
            "max_total_tokens": model.max_tokens,
            "validation_workers": 1,
            "max_client_batch_size": 1,
            "router": "maxpipe",
            "version": version("maxpipe"),
            "sha": None,
            "docker_label": None,
        }
    )
