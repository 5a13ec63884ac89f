"""Too little memory makes steps smaller, and fails nobody that fits alone; a device that is gone is said to be."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from max_engines import shortage
from max_engines.config import EngineConfig
from max_engines.device_errors import device_lost, out_of_memory
from max_engines.engine import Engine
from max_engines.launched import Launched
from max_engines.loading import LoadedModel
from max_engines.runner import ModelRunner, Scores
from max_engines.sampled import Sampled
from max_engines.scheduler import Chunk
from max_interfaces import DeviceLost
from max_interfaces.identity import RequestID
from max_interfaces.protocols import SequenceStart, TokenDelta
from tests.engines.tiny_models import Params, again, generate, prompts, start

CONFIG = EngineConfig(max_batch=16, token_budget=64, block_size=8, num_blocks=200)
KINDS: list[Params] = [{}, {"temperature": 1.0, "logprobs": 1}, {"temperature": 0.8, "repetition_penalty": 1.3}]
SHORT = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
    MemoryError(),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."),
    torch.AcceleratorError("CUDA error: out of memory"),
]
GONE = [
    torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
    RuntimeError("CUDA error: device-side assert triggered"),
]
CUDA = torch.device("cuda")


def sixteen() -> list[SequenceStart]:
    return [start(text, seed=i, max_new_tokens=6 + i, **KINDS[i % 3]) for i, text in enumerate(prompts(16))]


class Little:
    """Memory for so many sequences and tokens in a step, and for sequences of so many tokens.

    `computed` are the positions of each sequence that a step has computed.
    """

    def __init__(self, rows: int = 1000, tokens: int = 1000, longest: int = 1000) -> None:
        self.rows, self.tokens, self.longest = rows, tokens, longest
        self.problem: Exception = SHORT[0]
        self.computed: dict[RequestID, list[int]] = defaultdict(list)

    def take(self, chunks: Sequence[Chunk]) -> None:
        if (
            len(chunks) > self.rows
            or sum(chunk.count for chunk in chunks) > self.tokens
            or max(chunk.last for chunk in chunks) > self.longest
        ):
            raise self.problem
        for chunk in chunks:
            self.computed[chunk.sequence.request_id] += range(chunk.first, chunk.last)


@pytest.fixture
def little(monkeypatch: pytest.MonkeyPatch) -> Iterator[Little]:
    """What every engine of the test has; it may warn."""
    memory = Little()
    run = ModelRunner.run

    def bounded(
        runner: ModelRunner, chunks: Sequence[Chunk], earlier: Launched | None = None, replays: bool = True
    ) -> Scores:
        memory.take(chunks)
        return run(runner, chunks, earlier, replays)

    monkeypatch.setattr(ModelRunner, "run", bounded)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "a step ran out of memory")
        yield memory


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("problem", SHORT, ids=lambda problem: type(problem).__name__)
@pytest.mark.parametrize(("rows", "tokens"), [(5, 20), (1, 1), (16, 9), (3, 1000)])
def test_with_little_memory_all_say_the_same(
    rows: int, tokens: int, problem: Exception, overlap: bool, llama: LoadedModel, little: Little
) -> None:
    starts = sixteen()
    expected = generate(Engine(llama, CONFIG), [again(one) for one in starts])
    engine = Engine(llama, EngineConfig(16, 64, 8, 200, overlap=overlap))
    little.rows, little.tokens, little.problem = rows, tokens, problem
    little.computed.clear()

    assert generate(engine, starts) == expected

    assert engine.free_blocks == 200
    for one, said in zip(starts, expected, strict=True):  # each token once
        assert little.computed[one.request_id] == list(range(len(one.prompt) + len(said) - 1))


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_also_while_blocks_are_short_and_more_is_tried_again_soon(
    data: st.DataObject, llama: LoadedModel, little: Little
) -> None:
    count = data.draw(st.integers(1, 7), "sequences")
    join = {i: data.draw(st.integers(0, 12), f"join {i}") for i in range(count)}
    blocks = data.draw(st.sampled_from([17, 24, 64]), "blocks")  # 17 is no more than one of them may need
    overlap = data.draw(st.booleans(), "overlap")
    starts = [start(text, seed=i, max_new_tokens=6 + 4 * i, **KINDS[i % 3]) for i, text in enumerate(prompts(count))]
    little.rows = little.tokens = 1000
    expected = generate(Engine(llama, CONFIG), [again(one) for one in starts])
    engine = Engine(llama, EngineConfig(4, 30, 8, blocks, overlap=overlap))
    little.rows, little.tokens = data.draw(st.integers(1, 4), "rows"), data.draw(st.integers(1, 30), "tokens")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shortage, "RECOVERY_STEPS", 3)
        assert generate(engine, starts, join) == expected
    assert engine.free_blocks == blocks


@pytest.mark.parametrize("overlap", [False, True])
def test_memory_may_be_short_as_a_step_is_read(
    overlap: bool, llama: LoadedModel, little: Little, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = sixteen()
    expected = generate(Engine(llama, CONFIG), [again(one) for one in starts])
    engine = Engine(llama, EngineConfig(16, 64, 8, 200, overlap=overlap))
    resolve = Sampled.resolve

    def bounded(sampled: Sampled) -> list[int]:
        if len(sampled.tokens) > 6:
            raise MemoryError
        return resolve(sampled)

    monkeypatch.setattr(Sampled, "resolve", bounded)
    assert generate(engine, starts) == expected
    assert engine.free_blocks == 200


@pytest.mark.parametrize("overlap", [False, True])
def test_what_does_not_fit_alone_fails_and_the_others_go_on(overlap: bool, llama: LoadedModel, little: Little) -> None:
    """The worker finds it by halving, as any other that breaks a step."""
    starts = [start([5 + i] * 10, max_new_tokens=8 if i % 4 else 40) for i in range(12)]
    expected = generate(Engine(llama, CONFIG), [again(one) for one in starts])
    engine = Engine(llama, EngineConfig(16, 64, 8, 200, overlap=overlap))
    little.longest = 30
    said: dict[RequestID, tuple[int, ...]] = {one.request_id: () for one in starts}
    active, failed = list(said), []

    def step(some: list[RequestID]) -> dict[RequestID, TokenDelta]:
        try:
            return dict(engine.step(some))
        except torch.OutOfMemoryError:
            if len(some) > 1:
                return step(some[: len(some) // 2]) | step(some[len(some) // 2 :])
            failed.append(some[0])
            active.remove(some[0])
            engine.release(some[0])
            return {}

    for one in starts:
        engine.add(one)
    while active:
        for request_id, delta in step(list(active)).items():
            said[request_id] += delta.tokens
            if delta.status.is_done:
                active.remove(request_id)
                engine.release(request_id)
    assert set(failed) == {one.request_id for one in starts[::4]}
    for one, tokens in zip(starts, expected, strict=True):
        assert said[one.request_id] == tokens[: len(said[one.request_id])]
        assert (len(said[one.request_id]) == len(tokens)) == (one.request_id not in failed)
    assert engine.free_blocks == 200


def test_after_some_good_steps_more_is_tried_again(
    llama: LoadedModel, little: Little, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shortage, "RECOVERY_STEPS", 2)
    engine = Engine(llama, CONFIG)
    scheduler = engine._scheduler
    starts = [start([5 + i] * 10, max_new_tokens=80) for i in range(6)]
    for one in starts:
        engine.add(one)
    active = [one.request_id for one in starts]
    engine.step(active)
    little.rows = 3
    engine.step(active)
    assert (scheduler.token_budget, scheduler.batch) == (64, 3)
    little.rows, little.tokens = 1000, 5
    late = start([7] * 90)
    engine.add(late)
    engine.step([late.request_id])
    assert (scheduler.token_budget, scheduler.batch) == (4, 3)
    little.tokens = 1000
    for _ in range(2 * 13):
        engine.step(active)
    assert (scheduler.token_budget, scheduler.batch) == (64, 16)


def test_a_shortage_is_said(llama: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(llama, CONFIG)
    run, failures = ModelRunner.run, [MemoryError("none left")]

    def once(
        runner: ModelRunner, chunks: Sequence[Chunk], earlier: Launched | None = None, replays: bool = True
    ) -> Scores:
        if failures:
            raise failures.pop()
        return run(runner, chunks, earlier, replays)

    monkeypatch.setattr(ModelRunner, "run", once)
    with pytest.warns(UserWarning, match="at most 20 tokens and 16 sequences for now: none left"):
        generate(engine, [start([5] * 40)])


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("problem", GONE, ids=lambda problem: type(problem).__name__)
@pytest.mark.parametrize("where", [(ModelRunner, "run"), (Sampled, "resolve")])
def test_a_device_that_is_gone_is_told_from_a_step_that_failed(
    where: tuple[type, str],
    problem: Exception,
    overlap: bool,
    llama: LoadedModel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = Engine(llama, EngineConfig(overlap=overlap))
    sequence = start([5, 6])
    engine.add(sequence)

    def two_steps() -> None:
        for _ in range(2):
            engine.step([sequence.request_id])

    monkeypatch.setattr(*where, failing(problem))
    with pytest.raises(DeviceLost, match=f"{type(problem).__name__}: CUDA error"):
        two_steps()
    monkeypatch.setattr(*where, failing(RuntimeError("a bug")))
    with pytest.raises(RuntimeError, match="a bug"):
        two_steps()


def failing(problem: Exception) -> Callable[..., None]:
    def fail(*args: object, **options: object) -> None:
        raise problem

    return fail


@pytest.mark.parametrize("problem", [*SHORT[1:], *GONE, RuntimeError("cuDNN error")])
def test_a_gpu_is_asked_whether_it_is_gone(problem: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    assert not device_lost(problem, CUDA)
    monkeypatch.setattr(torch.cuda, "synchronize", failing(GONE[0]))
    assert device_lost(problem, CUDA) == isinstance(problem, RuntimeError)


@pytest.mark.parametrize("problem", [*SHORT, *GONE, ValueError("out of memory")])
def test_a_want_of_memory_is_recognised(problem: Exception) -> None:
    assert out_of_memory(problem) == (problem in SHORT)


def test_torch_says_so_when_there_is_no_memory() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60)
    assert out_of_memory(caught.value)
