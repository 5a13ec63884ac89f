"""vLLM's `LLM` on this engine: change the import, and nothing else.

from max_pipelines.llm import LLM, SamplingParams

with LLM("Qwen/Qwen2.5-0.5B-Instruct") as llm:
    for output in llm.generate(["Hello, my name is"], SamplingParams(temperature=0.8)):
        print(output.outputs[0].text)
"""

from __future__ import annotations

from .adapters import LoRARequest, PromptAdapterRequest
from .async_llm import AsyncLLM
from .beams import BeamSearchOutput, BeamSearchParams, BeamSearchSequence
from .guided import GuidedDecodingParams, StructuredOutputsParams
from .llm import LLM
from .outputs import (
    CompletionOutput,
    Logprob,
    RequestOutput,
)
from .pooling_outputs import (
    EmbeddingOutput,
    EmbeddingRequestOutput,
    PoolingRequestOutput,
    ScoringOutput,
    ScoringRequestOutput,
)
from .pooling_params import PoolingParams
from .prompts import PromptType, TextPrompt, TokensPrompt
from .sampling import RequestOutputKind, SamplingParams

__all__ = [
    "LLM",
    "AsyncLLM",
    "BeamSearchOutput",
    "BeamSearchParams",
    "BeamSearchSequence",
    "CompletionOutput",
    "EmbeddingOutput",
    "EmbeddingRequestOutput",
    "GuidedDecodingParams",
    "LoRARequest",
    "Logprob",
    "PoolingParams",
    "PoolingRequestOutput",
    "PromptAdapterRequest",
    "PromptType",
    "RequestOutput",
    "RequestOutputKind",
    "SamplingParams",
    "ScoringOutput",
    "ScoringRequestOutput",
    "StructuredOutputsParams",
    "TextPrompt",
    "TokensPrompt",
]
