"""Our engine at the end of the whole road: client, dispatcher, worker, text pipeline, and text back, token by token."""

from __future__ import annotations

import asyncio
import time
from importlib.metadata import version
from typing import Literal, cast

from max_interfaces import RequestID, SamplingParams, TextGenerationRequest

from ...client import AsyncClient
from ...config import Config, EngineConfig, ModelConfig, PipelineConfig, WorkersConfig
from .messages import Answer, Facts, Job, Setup

MODEL = "bench"
GPU_SHARE = 0.8  # of what is free once the model is loaded, for the KV cache


class Road:
    """An embedded server, and a client that reads every stream as it comes."""

    def __init__(self, setup: Setup) -> None:
        cuda = setup.device.startswith("cuda")
        dtype = cast(Literal["float32", "bfloat16", "float16"], setup.dtype)
        self._client = AsyncClient.embedded(
            Config(
                model=ModelConfig(name=MODEL, path=setup.model, dtype=dtype, device=setup.device),
                pipeline=PipelineConfig(kind="text"),
                engine=EngineConfig(max_batch=setup.requests, kv_memory=GPU_SHARE if cuda else None),
                workers=WorkersConfig(threads=setup.threads),
            )
        )
        self._loop = asyncio.Runner()
        self._loop.run(self._client.__aenter__())

    def facts(self) -> Facts:
        """Its version."""
        return Facts(f"maxpipe {version('maxpipe')}")

    def run(self, job: Job) -> Answer:
        """A token has come when the client has the output that holds it."""
        return self._loop.run(self._all(job))

    def close(self) -> None:
        """End the server."""
        self._loop.run(self._client.__aexit__(None, None, None))
        self._loop.close()

    async def _all(self, job: Job) -> Answer:
        begin = time.perf_counter()
        return Answer(list(await asyncio.gather(*(self._one(prompt, job.new_tokens, begin) for prompt in job.prompts))))

    async def _one(self, prompt: list[int], new_tokens: int, begin: float) -> list[float]:
        params = SamplingParams(temperature=0, max_new_tokens=new_tokens, ignore_eos=True)
        request = TextGenerationRequest(RequestID(), MODEL, tuple(prompt), sampling_params=params)
        times: list[float] = []
        async for output in self._client.stream(request):
            times.extend([time.perf_counter() - begin] * len(output.tokens))
        return times
