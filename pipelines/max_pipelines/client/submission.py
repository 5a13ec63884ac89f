"""What the dispatcher is told of a request; the request itself travels beside it, unread."""

from __future__ import annotations

from zlib import crc32

from max_interfaces import AudioGenerationRequest, RequestOptions, TextGenerationRequest
from max_interfaces.messages import Submit
from max_interfaces.wire import AnyRequest

PREFIX = 256  # characters, or ids, of a prompt: less is not worth finding again


def submission(request: AnyRequest, options: RequestOptions, serial: int) -> Submit:
    """The announcement of a client's submission number `serial`."""
    model, seed, prefix, adapters = "", None, 0, ()  # type: str, int | None, int, tuple[str, ...]
    if isinstance(request, AudioGenerationRequest):  # in one function: a client that slept feels each call
        model, seed = request.model, request.sampling_params.seed
        if request.audio_prompt_tokens:
            prefix = crc32(repr(request.audio_prompt_tokens).encode())
        if request.adapter_id is not None:
            adapters = (request.adapter_id,)
    elif isinstance(request, TextGenerationRequest):
        model, seed, adapters = request.model_name, request.sampling_params.seed, adapters_of(request)
        prefix = _prefix_of(request, adapters)
    else:
        model, adapters = request.model_name, adapters_of(request)
    return Submit(
        request.request_id.value,
        model,
        options.deadline_s,
        serial,
        options.priority,
        options.tenant,
        seed,
        prefix,
        adapters,
    )


def adapters_of(request: AnyRequest) -> tuple[str, ...]:
    """The adapters that a request names."""
    beside = request.prompt_adapter_id if isinstance(request, TextGenerationRequest) else None
    return tuple([name for name in (request.adapter_id, beside) if name is not None])


def _prefix_of(request: TextGenerationRequest, adapters: tuple[str, ...]) -> int:
    """A number for how the prompt begins, the same for all that begin alike; 0 if that is all its own."""
    begin = crc32(" ".join(adapters).encode())  # with another adapter nothing is alike
    if request.messages:
        content = request.messages[0].content  # the system's, as a rule
        return crc32(content[:PREFIX].encode(), begin) if isinstance(content, str) else 0
    prompt = request.prompt or ""
    text = prompt[:PREFIX] if isinstance(prompt, str) else repr(prompt[:PREFIX])
    return crc32(text.encode(), begin) if len(prompt) >= PREFIX else 0
