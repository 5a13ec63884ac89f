"""`LLM` with adapters: loaded when they are first used, chosen by each prompt, unloaded when others want their room."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from max_engines.engine import Engine
from max_interfaces import LoRAResponse
from max_pipelines.client import AsyncClient
from max_pipelines.llm import LLM, AsyncLLM, BeamSearchParams, LoRARequest, PromptAdapterRequest, SamplingParams
from max_pipelines.llm.adapter_limits import ANYWHERE, MOST
from max_pipelines.llm.arguments import Arguments
from tests.engines.tiny_adapters import adapted, load_all, save_lora, save_soft_prompt
from tests.engines.tiny_models import generate, load
from tests.tiny_text import make_tiny_text

COUNT = 8
GREEDY = SamplingParams(temperature=0, max_tokens=COUNT, ignore_eos=True)
LENGTH = 5  # virtual tokens
PROMPT = "the quick"


@dataclass(frozen=True)
class Made:
    """A model's folder and those of its adapters; and what the engine itself says with them."""

    base: Path
    folders: dict[str, Path]

    def lora(self, name: str, number: int = 1) -> LoRARequest:
        return LoRARequest(name, number, str(self.folders[name]))

    def soft(self, name: str = "soft") -> PromptAdapterRequest:
        return PromptAdapterRequest(name, 1, str(self.folders[name]), LENGTH)

    def direct(self, prompt: str, *chosen: tuple[str | None, str | None]) -> list[tuple[int, ...]]:
        """What the engine says to a prompt, with each choice of a LoRA adapter and a soft prompt."""
        engine = Engine(load(self.base))
        load_all(engine, self.folders)
        ids = AutoTokenizer.from_pretrained(self.base).encode(prompt)
        starts = [adapted(ids, lora, soft, max_new_tokens=COUNT) for lora, soft in chosen]
        return [tuple(tokens) for tokens in generate(engine, starts)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    place = tmp_path_factory.mktemp("adapters")
    make_tiny_text(base := place / "base")
    folders = {name: save_lora(place / name, base, seed=seed) for seed, name in enumerate("abc", 1)}
    return Made(base, {**folders, "soft": save_soft_prompt(place / "soft", base, length=LENGTH)})


@pytest.fixture(scope="module")
def llm(made: Made) -> Iterator[LLM]:
    with opened(made, max_loras=2) as llm:
        yield llm


def opened(made: Made, **arguments: Any) -> LLM:
    return LLM(str(made.base), transport="thread", enable_lora=True, enable_prompt_adapter=True, **arguments)


def tokens(llm: LLM, *args: Any, **kwargs: Any) -> list[tuple[int, ...]]:
    outputs = llm.generate(*args, **kwargs | {"use_tqdm": False})
    return [tuple(output.outputs[0].token_ids) for output in outputs]


class Calls:
    """What a client is asked to load (+) and unload (-), in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made: list[str] = []
        really_load, really_unload = AsyncClient.load_adapter, AsyncClient.unload_adapter

        async def load(client: AsyncClient, name: str, path: str, *, model: str) -> LoRAResponse:
            self.made.append(f"+{name}")
            return await really_load(client, name, path, model=model)

        async def unload(client: AsyncClient, name: str, *, model: str) -> LoRAResponse:
            self.made.append(f"-{name}")
            return await really_unload(client, name, model=model)

        monkeypatch.setattr(AsyncClient, "load_adapter", load)
        monkeypatch.setattr(AsyncClient, "unload_adapter", unload)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    return Calls(monkeypatch)


def test_each_prompt_of_a_list_has_its_own_as_in_the_engine(made: Made, llm: LLM) -> None:
    plain, a, b = made.direct(PROMPT, (None, None), ("a", None), ("b", None))
    assert len({plain, a, b}) == 3
    lora = [made.lora("a", 1), None, made.lora("b", 2), made.lora("a", 1)]
    outputs = llm.generate([PROMPT] * 4, GREEDY, lora_request=lora, use_tqdm=False)
    assert [tuple(output.outputs[0].token_ids) for output in outputs] == [a, plain, b, a]
    assert [output.lora_request for output in outputs] == lora
    assert tokens(llm, [PROMPT] * 2, GREEDY, lora_request=made.lora("b")) == [b, b]
    with pytest.raises(ValueError, match="lora_request: 1 of them for 2 prompts"):
        llm.generate([PROMPT] * 2, GREEDY, lora_request=[made.lora("a")])


def test_soft_prompts_alone_and_with_a_lora_adapter(made: Made, llm: LLM) -> None:
    plain, soft, both = made.direct(PROMPT, (None, None), (None, "soft"), ("a", "soft"))
    assert len({plain, soft, both}) == 3
    assert tokens(llm, PROMPT, GREEDY, prompt_adapter_request=made.soft()) == [soft]
    loras, softs = [made.lora("a"), None, None], [made.soft(), made.soft(), None]
    assert tokens(llm, [PROMPT] * 3, GREEDY, lora_request=loras, prompt_adapter_request=softs) == [both, soft, plain]


def test_streams_and_conversations_have_them_too(made: Made, llm: LLM) -> None:
    *_, last = llm.stream(PROMPT, GREEDY, lora_request=made.lora("a"), prompt_adapter_request=made.soft())
    assert [tuple(last.outputs[0].token_ids)] == made.direct(PROMPT, ("a", "soft"))
    turn = [{"role": "user", "content": "where is the fox?"}]
    (answer,) = llm.chat(turn, GREEDY, use_tqdm=False, lora_request=made.lora("b"))
    assert answer.prompt_token_ids is not None
    expected = tokens(llm, list(answer.prompt_token_ids), GREEDY, lora_request=made.lora("b"))
    assert [tuple(answer.outputs[0].token_ids)] == expected != tokens(llm, list(answer.prompt_token_ids), GREEDY)
    *_, last = llm.stream_chat(turn, GREEDY, lora_request=made.lora("b"))
    assert [tuple(last.outputs[0].token_ids)] == expected


def test_searches_have_them_too(made: Made, llm: LLM) -> None:
    """One beam, by sums and past any end, is greedy."""
    params = BeamSearchParams(1, COUNT, ignore_eos=True, length_penalty=0.0)
    loras = [made.lora("a"), None]
    outputs = llm.beam_search([PROMPT] * 2, params, loras)
    found = [output.sequences[0] for output in outputs]
    assert [tuple(one.tokens[-COUNT:]) for one in found] == made.direct(PROMPT, ("a", None), (None, None))
    assert [one.lora_request for one in found] == loras


def test_several_calls_at_once_load_it_once(made: Made, calls: Calls) -> None:
    async def ask() -> list[tuple[int, ...]]:
        async with AsyncLLM(str(made.base), transport="thread", enable_lora=True) as llm:
            asked = [llm.generate([PROMPT] * 3, GREEDY, use_tqdm=False, lora_request=made.lora("a")) for _ in range(3)]
            answers = await asyncio.gather(*asked)
        return [tuple(output.outputs[0].token_ids) for outputs in answers for output in outputs]

    assert asyncio.run(ask()) == made.direct(PROMPT, ("a", None)) * 9
    assert calls.made == ["+a"]


def test_the_least_recently_used_makes_room(made: Made, calls: Calls) -> None:
    with opened(made, max_loras=2) as llm:
        expected = dict(zip("abc", made.direct(PROMPT, *((name, None) for name in "abc")), strict=True))
        for name in "abacb":
            assert tokens(llm, PROMPT, GREEDY, lora_request=made.lora(name)) == [expected[name]]
        assert calls.made == ["+a", "+b", "-b", "+c", "-a", "+b"]


def test_of_more_than_fit_each_is_loaded_once_for_a_list(made: Made, calls: Calls) -> None:
    names = "abcab" * 3
    expected = dict(zip("abc", made.direct(PROMPT, *((name, None) for name in "abc")), strict=True))
    with opened(made, max_loras=1, max_num_seqs=2) as llm:
        asked = [made.lora(name) for name in names]
        assert tokens(llm, [PROMPT] * len(names), GREEDY, lora_request=asked) == [expected[name] for name in names]
    assert calls.made == ["+a", "-a", "+b", "-b", "+c"]


async def test_one_in_use_is_waited_for(made: Made, calls: Calls) -> None:
    endless = SamplingParams(max_tokens=400, ignore_eos=True)
    async with AsyncLLM(str(made.base), transport="thread", enable_lora=True, max_loras=1) as llm:
        running = llm.stream(PROMPT, endless, lora_request=made.lora("a"))
        await anext(running)
        waiting = asyncio.create_task(llm.generate(PROMPT, GREEDY, use_tqdm=False, lora_request=made.lora("b")))
        async for _ in running:
            assert calls.made == ["+a"]
        (output,) = await waiting
    assert calls.made == ["+a", "-a", "+b"]
    assert [tuple(output.outputs[0].token_ids)] == made.direct(PROMPT, ("b", None))


async def test_who_waits_for_its_adapter_can_be_cancelled(made: Made, calls: Calls) -> None:
    endless = SamplingParams(max_tokens=400, ignore_eos=True)
    async with AsyncLLM(str(made.base), transport="thread", enable_lora=True, max_loras=1) as llm:
        running = llm.stream(PROMPT, endless, lora_request=made.lora("a"))
        await anext(running)
        whole = asyncio.create_task(llm.generate(PROMPT, GREEDY, use_tqdm=False, lora_request=made.lora("b")))
        shown = asyncio.ensure_future(anext(llm.stream(PROMPT, GREEDY, lora_request=made.lora("b"))))
        await asyncio.wait([whole, shown], timeout=0.01)
        for number in "12" * 2:  # again is of no effect
            llm.cancel(number)
        ended = [*await whole, await shown]
        assert [one.outputs[0].finish_reason for one in ended] == ["abort"] * 2
        assert all(one.finished and not one.outputs[0].token_ids for one in ended)
        assert calls.made == ["+a"]
        await running.aclose()
        (output,) = await llm.generate(PROMPT, GREEDY, use_tqdm=False, lora_request=made.lora("b"))
    assert [tuple(output.outputs[0].token_ids)] == made.direct(PROMPT, ("b", None))


async def test_a_caller_who_leaves_while_it_loads_leaves_it_to_the_next(made: Made, calls: Calls) -> None:
    async with AsyncLLM(str(made.base), transport="thread", enable_lora=True, max_loras=1) as llm:
        left = asyncio.create_task(llm.generate(PROMPT, GREEDY, use_tqdm=False, lora_request=made.lora("a")))
        while not calls.made:
            await asyncio.wait([left], timeout=0.001)
        left.cancel()
        with pytest.raises(asyncio.CancelledError):
            await left
        outputs = [
            (await llm.generate(PROMPT, GREEDY, use_tqdm=False, lora_request=made.lora(name)))[0] for name in "ab"
        ]
    assert [tuple(one.outputs[0].token_ids) for one in outputs] == made.direct(PROMPT, ("a", None), ("b", None))
    assert calls.made == ["+a", "-a", "+b"]


async def test_one_that_cannot_be_loaded_and_is_wanted_no_more_takes_nothing_with_it(
    made: Made, calls: Calls, tmp_path: Path
) -> None:
    faults: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, fault: faults.append(fault))
    bad = LoRARequest("bad", 1, str(tmp_path))
    async with AsyncLLM(str(made.base), transport="thread", enable_lora=True, max_loras=1) as llm:
        left = asyncio.create_task(llm.generate(PROMPT, GREEDY, use_tqdm=False, lora_request=bad))
        while not calls.made:
            await asyncio.wait([left], timeout=0.001)
        left.cancel()
        (output,) = await llm.generate(PROMPT, GREEDY, use_tqdm=False, lora_request=made.lora("b"))
    assert [tuple(output.outputs[0].token_ids)] == made.direct(PROMPT, ("b", None))
    assert (calls.made, faults) == (["+bad", "+b"], [])


def test_what_is_no_adapter_fails_alone_and_may_be_mended(made: Made, llm: LLM, tmp_path: Path) -> None:
    bad = LoRARequest("bad", 1, str(tmp_path / "bad"))
    with pytest.raises(ValueError, match=r"adapter 'bad': there is no folder '.*bad'"):
        llm.generate(PROMPT, GREEDY, use_tqdm=False, lora_request=bad)
    (tmp_path / "bad").mkdir()
    with pytest.warns(UserWarning, match=r"1 of 2 prompts failed: adapter 'bad': there is no adapter_config\.json"):
        outputs = llm.generate([PROMPT] * 2, GREEDY, use_tqdm=False, lora_request=[bad, made.lora("a")])
    assert [type(output.error) for output in outputs] == [ValueError, type(None)]
    assert [tuple(outputs[1].outputs[0].token_ids)] == made.direct(PROMPT, ("a", None))
    shutil.copytree(made.folders["b"], other := tmp_path / "other")
    assert tokens(llm, PROMPT, GREEDY, lora_request=LoRARequest("bad", 1, str(other))) == made.direct(
        PROMPT, ("b", None)
    )


def test_a_folder_that_cannot_be_looked_at_fails_alone(made: Made, llm: LLM) -> None:
    bad = LoRARequest("long", 1, str(made.base / ("x" * 300)))
    with pytest.warns(UserWarning, match=r"1 of 2 prompts failed: adapter 'long': '.* cannot be read: File name too"):
        outputs = llm.generate([PROMPT] * 2, GREEDY, use_tqdm=False, lora_request=[bad, made.lora("a")])
    assert [type(output.error) for output in outputs] == [ValueError, type(None)]


def test_a_name_is_one_folders(made: Made, llm: LLM, tmp_path: Path) -> None:
    twice = [made.lora("a"), LoRARequest("a", 2, str(made.folders["b"]))]
    with pytest.raises(ValueError, match=r"adapter 'a': is the one in '.*/a'; give the one in '.*/b' another name"):
        llm.generate([PROMPT] * 2, GREEDY, lora_request=twice)
    for name in "abc":  # by now the first one has been unloaded
        llm.generate(PROMPT, GREEDY, use_tqdm=False, lora_request=made.lora(name))
    with pytest.raises(ValueError, match="adapter 'a': is the one in"):
        next(llm.stream(PROMPT, GREEDY, lora_request=twice[1]))
    soft = PromptAdapterRequest("a", 1, str(made.folders["soft"]), LENGTH)
    with pytest.raises(ValueError, match="adapter 'a': is the one in"):
        llm.generate(PROMPT, GREEDY, prompt_adapter_request=soft)
    (tmp_path / "link").symlink_to(made.folders["a"])
    assert tokens(llm, PROMPT, GREEDY, lora_request=LoRARequest("a", 9, str(tmp_path / "link")))


def test_what_is_off_or_too_large_is_refused_by_name(made: Made) -> None:
    with LLM(str(made.base), transport="thread") as plain:
        with pytest.raises(ValueError, match=r"lora_request = 'a': LoRA is off; give LLM\(…, enable_lora=True\)"):
            plain.generate([PROMPT] * 2, GREEDY, lora_request=[None, made.lora("a")])
        with pytest.raises(ValueError, match=r"prompt_adapter_request = 'soft': soft prompts are off; .*enable_prompt"):
            plain.generate(PROMPT, GREEDY, prompt_adapter_request=made.soft())
        with pytest.raises(ValueError, match="LoRA is off"):
            next(plain.stream(PROMPT, GREEDY, lora_request=made.lora("a")))
    with opened(made, max_lora_rank=4, max_prompt_adapter_token=LENGTH - 1) as small:
        with pytest.raises(ValueError, match=r"adapter 'a': .*rank 8 of .*: at most 4"):
            small.generate(PROMPT, GREEDY, use_tqdm=False, lora_request=made.lora("a"))
        with pytest.raises(ValueError, match=r"has 5 virtual tokens, at most 4 \(max_prompt_adapter_token\)"):
            small.generate(PROMPT, GREEDY, prompt_adapter_request=made.soft())


def test_in_a_process_of_its_own(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(made.base.parent)
    with LLM(str(made.base), enable_lora=True) as llm:
        assert tokens(llm, PROMPT, GREEDY, lora_request=LoRARequest("a", 1, "a")) == made.direct(PROMPT, ("a", None))


def settings(given: dict[str, Any]) -> tuple[object, ...]:
    engine = Arguments.of("/m", given).config().engine
    return engine.adapter_folder, engine.max_adapters, engine.max_adapter_rank


def test_arguments_reach_the_engine() -> None:
    given = {"enable_lora": True, "max_loras": 3, "max_lora_rank": 16}
    assert settings(given) == (ANYWHERE, 6, 16)
    assert settings({**given, "enable_prompt_adapter": True, "max_prompt_adapters": 2}) == (ANYWHERE, 10, 16)
    assert settings({})[0] is None


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"enable_lora": True, "max_loras": 0}, f"max_loras = 0: must be a whole number from 1 to {MOST}"),
        ({"enable_lora": True, "max_lora_rank": 1.5}, "max_lora_rank = 1.5: must be a whole number"),
        ({"enable_prompt_adapter": True, "max_prompt_adapters": MOST + 1}, "max_prompt_adapters = 257"),
        ({"enable_prompt_adapter": True, "max_prompt_adapter_token": 0}, "max_prompt_adapter_token = 0"),
        ({"enable_lora": True, "tensor_parallel_size": 2}, "tensor_parallel_size = 2: has neither adapters nor"),
    ],
)
def test_arguments_out_of_bounds(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Arguments.of("/m", given).config()


@pytest.mark.parametrize("fields", [("soft", 0, "path", 5), ("soft", 1, "", 5)])
def test_a_soft_prompt_has_a_number_and_a_folder(fields: Sequence[Any]) -> None:
    with pytest.raises(ValueError, match="PromptAdapterRequest"):
        PromptAdapterRequest(*fields)
