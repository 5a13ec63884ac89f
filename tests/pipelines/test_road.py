"""The whole road on real sockets: what a client sees of its requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from max_interfaces import (
    EmbeddingsGenerationRequest,
    FailureKind,
    GenerationStatus,
    NotServing,
    RequestFailed,
    RequestID,
    RequestOptions,
    StartFailed,
)
from max_interfaces.messages import ModelInfo
from max_pipelines.client import AsyncClient, Client
from max_pipelines.client.speaking import plan
from max_pipelines.config import Limits
from tests.pipelines.processes import MAXPIPE, config, plugins, serving, speech

__all__ = ["plugins"]


@pytest.fixture(params=["process", "thread"])
async def client(request: pytest.FixtureRequest) -> AsyncIterator[AsyncClient]:
    async with AsyncClient.embedded(config(transport=request.param, chunks=5, samples=100)) as client:
        yield client


async def test_outputs_come_in_order_and_the_last_says_so(client: AsyncClient) -> None:
    outputs = [output async for output in client.stream(speech())]
    assert [output.metadata.chunk_id for output in outputs] == [0, 1, 2, 3, 4]
    assert [output.is_done for output in outputs] == [False] * 4 + [True]
    whole = await client.generate(speech())
    assert np.array_equal(whole.audio_data, np.concatenate([output.audio_data for output in outputs]))


async def test_many_at_once_each_get_their_own(client: AsyncClient) -> None:
    whole = await asyncio.gather(*(client.generate(speech()) for _ in range(40)))
    assert {output.audio_data.size for output in whole} == {500}


async def test_what_is_served_is_known(client: AsyncClient) -> None:
    assert client.model().name == "voice"
    with pytest.raises(RequestFailed, match="served: voice"):
        await client.generate(speech(model="nobody's"))


async def test_a_wrong_request_fails_with_the_reason(client: AsyncClient) -> None:
    with pytest.raises(RequestFailed, match="takes AudioGenerationRequest, got EmbeddingsGenerationRequest") as caught:
        await client.generate(EmbeddingsGenerationRequest(RequestID(), "voice", "text"))
    assert caught.value.failure.kind is FailureKind.INVALID_REQUEST


@pytest.mark.parametrize("transport", ["process", "thread"])
async def test_a_live_id_is_refused_and_the_first_goes_on(transport: Literal["process", "thread"]) -> None:
    async with AsyncClient.embedded(config(transport=transport, chunks=100_000, samples=1)) as client:
        request = speech()
        first = client.stream(request)
        assert not (await anext(first)).is_done
        with pytest.raises(RequestFailed) as caught:
            await client.generate(request)
        assert caught.value.failure.kind is FailureKind.DUPLICATE_ID
        assert not (await anext(first)).is_done
        client.cancel(request.request_id)
        assert [output async for output in first][-1].final_status is GenerationStatus.CANCELLED
        assert not (await anext(client.stream(request))).is_done  # now the id is free again


async def test_a_cancelled_stream_ends_with_that_status(plugins: None) -> None:
    async with AsyncClient.embedded(config("paced")) as client:
        request = speech()
        stream = client.stream(request)
        await anext(stream)
        client.cancel(request.request_id)
        last = [output async for output in stream][-1]
        assert last.final_status is GenerationStatus.CANCELLED


async def test_leaving_the_loop_cancels_and_the_id_is_free_at_once(plugins: None) -> None:
    async with AsyncClient.embedded(config("paced", places=1)) as client:
        request = speech()
        for _ in range(3):  # each could not begin if the one before it still had the only place
            async with aclosing(client.stream(request)) as stream:
                assert [(await anext(stream)).metadata.chunk_id for _ in range(3)] == [0, 1, 2]
        async for _ in client.stream(request):
            break  # without aclosing: when the loop collects the iterator
        assert (await anext(client.stream(speech()))).metadata.chunk_id == 0


async def test_a_deadline_ends_a_request(plugins: None) -> None:
    async with AsyncClient.embedded(config("paced")) as client:
        with pytest.raises(RequestFailed) as caught:
            await client.generate(speech(), RequestOptions(deadline_s=0.3))
        assert caught.value.failure.kind is FailureKind.DEADLINE_EXCEEDED


async def test_overload_is_refused_at_once(plugins: None) -> None:
    limits = Limits(max_waiting=0)
    async with AsyncClient.embedded(config("paced", limits=limits, places=1)) as client:
        first = client.stream(speech())
        await anext(first)
        with pytest.raises(RequestFailed) as caught:
            await client.generate(speech())
        assert caught.value.failure.kind is FailureKind.OVERLOADED
        assert caught.value.failure.retry_after


async def test_a_reader_as_fast_as_it_plays_gets_everything(client: AsyncClient) -> None:
    """One chunk an event: the reader decides the pace, and what waits for it is bounded by its request."""
    heard = 0
    player = asyncio.Event()
    async for output in client.stream(speech()):
        asyncio.get_running_loop().call_later(0.01, player.set)
        await player.wait()
        player.clear()
        heard += output.audio_data.size
    assert heard == 500


@pytest.mark.parametrize("transport", ["process", "thread"])
async def test_a_slow_reader_gets_everything(transport: Literal["process", "thread"]) -> None:
    """Its request rests and goes on again and again: the worker is far faster than one output a round trip."""
    limits = Limits(ahead_outputs=4)
    async with AsyncClient.embedded(config(transport=transport, chunks=100, samples=100, limits=limits)) as client:
        numbers = []
        async for output in client.stream(speech()):
            numbers.append(output.metadata.chunk_id)
            await client.report()
        assert numbers == list(range(100))


async def test_what_nobody_reads_is_ended_and_says_why() -> None:
    limits = Limits(ahead_outputs=4, stall_s=2)
    async with AsyncClient.embedded(config(transport="thread", chunks=100_000, samples=1, limits=limits)) as client:
        stream = client.stream(speech())
        await anext(stream)
        at_rest = 0.0
        while (report := await client.report()).gauges["requests"]:
            (worker,) = report.workers
            if worker.steps:
                at_rest = max(at_rest, worker.age_s)
        assert at_rest > 0.5  # while it was live, the worker made no step for so long
        with pytest.raises(RequestFailed, match="nothing of it was read") as caught:
            async for _ in stream:
                pass
        assert caught.value.failure.kind is FailureKind.STALLED


async def test_the_server_says_how_it_is(client: AsyncClient) -> None:
    await asyncio.gather(*(client.generate(speech()) for _ in range(3)))
    with pytest.raises(RequestFailed):
        await client.generate(speech(model="nobody's"))
    report = await client.report()
    assert {name: report.gauges[name] for name in ("admitted", "refused", "requests", "waiting", "bytes")} == {
        "admitted": 3,
        "refused": 1,
        "requests": 0,
        "waiting": 0,
        "bytes": 0,
    }
    (worker,) = report.workers
    assert (worker.ready, worker.running) == (True, 0)


async def test_several_workers_share_the_work_and_clients_a_server(tmp_path: Path) -> None:
    with serving(config(chunks=5, samples=100, count=2), tmp_path) as served:
        assert len(served.workers) == 2
        async with AsyncClient.connect(served.address) as one, AsyncClient.connect(served.address) as two:
            whole = await asyncio.gather(*(client.generate(speech()) for client in (one, two) * 10))
            assert {output.audio_data.size for output in whole} == {500}
        with Client.connect(served.address) as client:
            assert sum(output.audio_data.size for output in client.stream(speech())) == 500


# -- what cannot start -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", ["process", "thread"])
async def test_an_unknown_pipeline_is_named_with_the_nearest(transport: str) -> None:
    wrong = config("trivia", transport=transport)  # type: ignore[arg-type]
    with pytest.raises(StartFailed, match="did you mean `trivial`"):
        await AsyncClient.embedded(wrong).__aenter__()


async def test_a_pipeline_that_cannot_be_built_says_why(plugins: None) -> None:
    with pytest.raises(StartFailed, match="RuntimeError: the weights are upside down"):
        await AsyncClient.embedded(config("broken")).__aenter__()


async def test_nobody_serves_there(tmp_path: Path) -> None:
    with pytest.raises(NotServing, match="maxpipe serve"):
        await AsyncClient.connect(f"ipc://{tmp_path}/nobody").__aenter__()


async def test_serve_says_why_it_cannot_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("model: {name: voice}\npipeline: {kind: trivia}\n")
    arguments = ["serve", str(path), "--address"]
    for address, code, says in (
        (f"ipc://{tmp_path}/road", 1, "did you mean `trivial`?"),
        ("tcp://127.0.0.1:5555", 2, "would not be encrypted"),
    ):
        process = await asyncio.create_subprocess_exec(
            *MAXPIPE, *arguments, address, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
        )
        _, errors = await process.communicate()
        assert process.returncode == code
        assert says in errors.decode()
        assert errors.count(b"\n") == 1
    assert [file.name for file in tmp_path.iterdir()] == ["config.yaml"]


def test_parts_without_a_word_are_left_out_and_those_that_cannot_be_cut_are_refused_at_once() -> None:
    info = ModelInfo("voice", "audio_generation", 16_000, max_words=12, normalizes=True, spells=True)
    assert [part.text for part in plan(info, "Great job! 😀 Done. :-) . . . And bye. 你好。")] == [
        "Great job!",
        "😀 Done.",
        "And bye.",
    ]
    with pytest.raises(ValueError, match="nothing to say that this voice can read"):
        next(plan(info, "😀 你好。"))
    for long, says in (("9" * 40, "12 at most"), ("a" * 3000, "a word of 3000 letters")):
        with pytest.raises(ValueError, match=says):
            next(plan(info, f"All is well. {long}"))


def test_a_model_without_a_sample_rate_cannot_be_spoken_with() -> None:
    with pytest.raises(ValueError, match="no sample rate"):
        next(plan(ModelInfo("echo", "text_generation"), "Hello."))
