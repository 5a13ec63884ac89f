"""Kills and cancels with vLLM in the workers: as with our own engine, and none of vLLM's processes stays behind."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from max_interfaces import AudioGenerationRequest, GenerationStatus, RequestID, SamplingParams
from max_pipelines.client import AsyncClient, Client
from max_pipelines.config import Config, load_config
from tests.faults.listening import busiest, workers_of
from tests.pipelines.processes import Watch, children, command_of, servers
from tests.vllm.serving import essence, on_vllm, written

VOICE = Path(__file__).parents[2] / "configs" / "speech.yaml"
SENTENCES = ["The quick brown fox jumps.", "Good morning to you all.", "It rains again.", "One, two, three, four."]
READY_S = 300.0
Sounds = list[tuple[NDArray[np.float32], int]]  # each with its number of tokens


@pytest.fixture(scope="module")
def voice() -> Config:
    return msgspec.structs.replace(load_config(VOICE), http=None)


def spoken(text: str) -> AudioGenerationRequest:
    return AudioGenerationRequest(RequestID(), "maxpipe-voice", text, sampling_params=SamplingParams(temperature=0))


async def all_spoken(client: AsyncClient) -> Sounds:
    """The sound of each sentence and its number of tokens, all asked for at once."""
    outputs = await asyncio.gather(*(client.generate(spoken(sentence)) for sentence in SENTENCES))
    return [(output.audio_data, output.steps_executed) for output in outputs]


@pytest.fixture(scope="module")
def sounds(voice: Config) -> Sounds:
    """What our engine says."""

    async def listen() -> Sounds:
        async with AsyncClient.embedded(voice) as client:
            return await all_spoken(client)

    return asyncio.run(listen())


def check_same(heard: Sounds, expected: Sounds) -> None:
    """The codec makes the same sound of the same tokens, whatever its chunks, to within float32's last bits."""
    for (samples, tokens), (others, count) in zip(heard, expected, strict=True):
        assert tokens == count
        assert samples.size == others.size
        np.testing.assert_allclose(samples, others, atol=1e-4)


async def standing_by(client: AsyncClient) -> None:
    """Wait until the second worker is ready."""
    async with asyncio.timeout(READY_S):
        while not any(worker.ready and worker.standby for worker in (await client.report()).workers):
            await asyncio.sleep(0.1)


def shared() -> set[str]:
    """Names of memory that processes share."""
    return {path.name for path in Path("/dev/shm").iterdir() if "vllm" in path.name}


def below(pid: int) -> list[int]:
    """All processes under one."""
    return [found for child in children(pid) for found in (child, *below(child))]


async def test_the_embedded_voice_survives_a_kill(voice: Config, sounds: Sounds) -> None:
    async with AsyncClient.embedded(on_vllm(voice, standby=1)) as client:
        check_same(await all_spoken(client), sounds)
        await standing_by(client)
        (server,) = servers()
        listening = [client.stream(spoken(sentence)) for sentence in SENTENCES]
        first = [await anext(stream) for stream in listening]
        os.kill(workers_of(server)[await busiest(client)], signal.SIGKILL)
        heard = []
        for begin, stream in zip(first, listening, strict=True):
            outputs = [begin, *[output async for output in stream]]
            samples = np.concatenate([output.audio_data for output in outputs])
            heard.append((samples, sum(output.steps_executed for output in outputs)))
        gauges = (await client.report()).gauges
    assert (gauges["lost_workers"], gauges["resumed"] > 0) == (1, True)
    check_same(heard, sounds)


async def test_a_cancel_frees_what_it_held(text: Config) -> None:
    async with AsyncClient.embedded(on_vllm(text)) as client:

        async def at_rest() -> int:
            """Free blocks, once nobody asks for anything."""
            async with asyncio.timeout(READY_S):
                while True:
                    report = await client.report()
                    free = report.workers[0].gauges.get("free_blocks")
                    if free is not None and not report.gauges["requests"]:
                        return free
                    await asyncio.sleep(0.1)

        await client.generate(written(max_new_tokens=2))
        before = await at_rest()
        asked = written(max_new_tokens=450, ignore_eos=True)
        stream = client.stream(asked)
        await anext(stream)
        client.cancel(asked.request_id)
        *_, last = [output async for output in stream]
        assert last.final_status is GenerationStatus.CANCELLED
        async with asyncio.timeout(READY_S):
            while await at_rest() != before:
                await asyncio.sleep(0.1)
        assert essence(await client.generate(written())) == essence(await client.generate(written()))


async def test_with_two_processes_a_model_one_of_which_is_killed(text: Config) -> None:
    """The other ends as well, the worker with them; what it was about goes on with the next one's processes."""
    with Client.embedded(text) as ours:
        expected = essence(ours.generate(written(max_new_tokens=450, ignore_eos=True)))
    async with AsyncClient.embedded(on_vllm(text, standby=1, tensor_parallel_size=2)) as client:
        await standing_by(client)
        (server,) = servers()
        stream = client.stream(written(max_new_tokens=450, ignore_eos=True))
        outputs = [await anext(stream)]
        lost = workers_of(server)[await busiest(client)]
        tensor = [pid for pid in below(lost) if "VLLM::Worker" in command_of(pid)]
        assert len(tensor) == 2
        watch = Watch(lost, *below(lost))
        os.kill(tensor[1], signal.SIGKILL)
        outputs += [output async for output in stream]
        assert (await client.report()).gauges["lost_workers"] == 1
        await asyncio.to_thread(watch.wait_gone)
        last = Watch(*below(server))
    await asyncio.to_thread(last.wait_gone)
    tokens = tuple(token for output in outputs for token in output.tokens)
    said = "".join(output.text for output in outputs)
    assert (tokens, said, outputs[-1].final_status, outputs[-1].stop) == expected


async def test_a_killed_worker_takes_its_processes_with_it(text: Config) -> None:
    before = shared()
    async with AsyncClient.embedded(on_vllm(text, tensor_parallel_size=2)) as client:
        await client.generate(written())
        (server,) = servers()
        ((_, worker),) = workers_of(server).items()
        watch = Watch(*below(worker))
        stream = client.stream(written(max_new_tokens=450, ignore_eos=True))
        await anext(stream)
        os.kill(worker, signal.SIGKILL)
        await asyncio.to_thread(watch.wait_gone)
        await stream.aclose()
        assert shared() <= before
