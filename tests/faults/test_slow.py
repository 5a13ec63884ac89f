"""A model that is far too large for its machine: its steps are slow, and nobody is taken for hung."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from max_interfaces import RequestID, SamplingParams, TextGenerationRequest
from max_pipelines.client import AsyncClient
from max_pipelines.config import Config, EngineConfig, Limits, ModelConfig, PipelineConfig, WorkersConfig
from tests.faults.listening import workers_of
from tests.pipelines.processes import servers

VOCAB = 512
PROMPT = 4096  # tokens, all in one step: seconds of work, where a canary's one takes milliseconds
CALLERS = 3


@pytest.fixture
def slow(tmp_path: Path) -> Config:
    """Sixty million weights in float32 on one core, and a step as long as the longest prompt."""
    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=4,
        num_attention_heads=16,
        num_key_value_heads=16,
        max_position_embeddings=2 * PROMPT,
    )
    LlamaForCausalLM(shape).save_pretrained(tmp_path)
    return Config(
        http=None,
        model=ModelConfig(name="slow", path=str(tmp_path), dtype="float32", tokenizer="none"),
        pipeline=PipelineConfig(kind="text"),
        engine=EngineConfig(max_batch=CALLERS, token_budget=PROMPT, prefix_caching=False),
        workers=WorkersConfig(count=1),
        limits=Limits(),
    )


@pytest.mark.soak
async def test_a_prompt_that_takes_longer_than_a_hang_costs_no_worker_its_life(slow: Config) -> None:
    """Nothing of the kind was ever seen of this worker when the first prompt comes."""

    async def ask(number: int) -> float:
        begun = time.monotonic()
        prompt = tuple((number + at) % VOCAB for at in range(PROMPT - 8))
        params = SamplingParams(max_new_tokens=4, ignore_eos=True)
        request = TextGenerationRequest(RequestID(), "slow", prompt, sampling_params=params)
        output = await client.generate(request)
        assert len(output.tokens) == 4
        return time.monotonic() - begun

    async with AsyncClient.embedded(slow) as client:
        (server,) = servers()
        before = workers_of(server)
        took = await asyncio.gather(*(ask(number) for number in range(CALLERS)))
        gauges = (await client.report()).gauges
        assert workers_of(server) == before
    print(f"prompts answered after {', '.join(f'{one:.1f}' for one in sorted(took))} s; {gauges['resumed']} resumed")
    assert (gauges["lost_workers"], gauges["resumed"]) == (0, 0)
    if min(took) <= slow.limits.silence_s:
        pytest.skip("this machine is so fast that nobody could be taken for hung")
