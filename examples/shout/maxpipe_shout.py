"""A pipeline that says every word of the prompt again, one a step, louder."""

from collections.abc import Collection, Sequence

from max_interfaces import (
    Attempt,
    Chunk,
    GenerationStatus,
    PipelineTask,
    RequestID,
    TextGenerationOutput,
    TextGenerationRequest,
)
from max_pipelines.config import Config
from max_pipelines.registry import ServedPipeline


class Shout:
    """Many requests at once; a request's words are ours from `admit` until `release`."""

    def __init__(self, mark: str) -> None:
        self.mark = mark
        self.words: dict[RequestID, list[str]] = {}

    def admit(self, attempt: Attempt[TextGenerationRequest]) -> None:
        prompt = attempt.request.prompt
        words = prompt.split() if isinstance(prompt, str) else []
        if not words:
            raise ValueError("prompt: shout needs words")  # this request fails, with these words
        self.words[attempt.request.request_id] = words[len(attempt.tokens) :]  # a later attempt goes on

    def execute(self, active: Collection[RequestID]) -> Sequence[Chunk[TextGenerationOutput]]:
        return [self.shout(request_id) for request_id in active]

    def shout(self, request_id: RequestID) -> Chunk[TextGenerationOutput]:
        word = self.words[request_id].pop(0).upper() + self.mark + " "
        status = GenerationStatus.ACTIVE if self.words[request_id] else GenerationStatus.END_OF_SEQUENCE
        output = TextGenerationOutput(request_id, (len(word),), status, text=word)
        return Chunk(request_id, output, output.tokens)

    def release(self, request_id: RequestID) -> None:
        self.words.pop(request_id, None)


def build(config: Config) -> ServedPipeline[TextGenerationRequest, TextGenerationOutput]:
    mark = str(config.pipeline.options.get("mark", "!"))
    return ServedPipeline(Shout(mark), TextGenerationRequest, PipelineTask.TEXT_GENERATION, max_requests=8)
