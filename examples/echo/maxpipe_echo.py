"""A token engine that says every token of the prompt again, one a step."""

from collections import deque
from collections.abc import Collection, Mapping

from max_interfaces import GenerationStatus, RequestID, SequenceStart, TokenDelta
from max_pipelines.config import Config
from max_pipelines.engines import ServedGenerator


class Echo:
    """Many sequences at once; a sequence is ours from `add` until `release`."""

    def __init__(self) -> None:
        self.left: dict[RequestID, deque[int]] = {}

    def add(self, start: SequenceStart) -> None:
        if start.sampling_params.prompt_logprobs is not None:
            raise ValueError("SamplingParams.prompt_logprobs: echo has no probabilities")  # this request fails so
        said = start.prompt[: start.sampling_params.max_new_tokens]
        self.left[start.request_id] = deque(said[len(start.accepted) :])  # a later attempt goes on

    def step(self, active: Collection[RequestID]) -> Mapping[RequestID, TokenDelta]:
        return {request_id: self.say(self.left[request_id]) for request_id in active}

    def say(self, left: deque[int]) -> TokenDelta:
        tokens = (left.popleft(),) if left else ()
        return TokenDelta(tokens, GenerationStatus.ACTIVE if left else GenerationStatus.MAXIMUM_LENGTH)

    def release(self, request_id: RequestID) -> None:
        self.left.pop(request_id, None)


def build(config: Config) -> ServedGenerator:
    return ServedGenerator(Echo(), vocab_size=2**20, max_length=4096, eos_token_ids=frozenset())
