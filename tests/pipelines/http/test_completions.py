"""Completions over HTTP, as clients of OpenAI's older API ask for them."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.pipelines.http.asking import COMPLETIONS, answered, prompting, streamed
from tests.pipelines.http.facing import Body, Facing, facing
from tests.pipelines.http.parrot import FAILS, FOR_EVER, parrot
from tests.tiny_text import make_tiny_text, make_tokenizer

pytestmark = pytest.mark.asyncio(loop_scope="module")  # one face for all: loading takes most of the time
SEEDED = {"temperature": 1, "seed": 1}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Facing]:
    async with facing(make_tiny_text(tmp_path_factory.mktemp("tiny"), transport="thread")) as face:
        yield face


async def text_of(served: Facing, **fields: object) -> str:
    (choice,) = (await answered(served, COMPLETIONS, prompting(**fields)))["choices"]
    text: str = choice["text"]
    return text


def texts_of(events: list[Any]) -> list[str]:
    """The text of each choice of a stream."""
    choices = [choice for event in events for choice in event["choices"]]
    count = 1 + max(choice["index"] for choice in choices)
    return ["".join(choice["text"] for choice in choices if choice["index"] == index) for index in range(count)]


async def test_an_answer_has_what_the_sdk_reads(served: Facing) -> None:
    answer = await answered(served, COMPLETIONS, prompting())
    assert re.fullmatch(r"cmpl-\w+", answer["id"])
    assert (answer["object"], answer["model"]) == ("text_completion", "tiny")
    (choice,) = answer["choices"]
    assert choice.keys() == {"index", "text", "logprobs", "finish_reason"}
    assert (choice["index"], choice["logprobs"], choice["finish_reason"]) == (0, None, "length")
    assert (answer["usage"]["prompt_tokens"], answer["usage"]["completion_tokens"]) == (2, 8)


async def test_sixteen_tokens_if_nothing_is_said(served: Facing) -> None:
    body = prompting(ignore_eos=True)
    del body["max_tokens"]
    assert (await answered(served, COMPLETIONS, body))["usage"]["completion_tokens"] == 16


async def test_each_kind_of_prompt(served: Facing) -> None:
    ids = make_tokenizer()("the quick")["input_ids"]
    whole = await text_of(served)
    assert await text_of(served, prompt=ids) == whole
    for prompt in (["the quick", "a list"], [ids, make_tokenizer()("a list")["input_ids"]]):
        answer = await answered(served, COMPLETIONS, prompting(prompt=prompt))
        assert [choice["index"] for choice in answer["choices"]] == [0, 1]
        assert answer["choices"][0]["text"] == whole
        assert answer["choices"][1]["text"] == await text_of(served, prompt="a list")
        assert answer["usage"]["prompt_tokens"] == len(ids) + len(make_tokenizer()("a list")["input_ids"])
        assert answer["usage"]["completion_tokens"] == 16


async def test_several_answers_to_several_prompts(served: Facing) -> None:
    fields: Body = {"prompt": ["the quick", "a list"], "n": 2, **SEEDED}
    whole = await answered(served, COMPLETIONS, prompting(**fields))
    assert [choice["index"] for choice in whole["choices"]] == [0, 1, 2, 3]
    events = await streamed(served, COMPLETIONS, prompting(**fields, stream_options={"include_usage": True}))
    *events, last = events
    assert (last["choices"], last["usage"]) == (
        [],
        {**whole["usage"], "prompt_tokens_details": last["usage"]["prompt_tokens_details"]},
    )
    assert texts_of(events) == [choice["text"] for choice in whole["choices"]]
    assert {event["object"] for event in events} == {"text_completion"}
    order = [event["choices"][0]["index"] for event in events]
    assert order != sorted(order)
    ends = [choice for event in events for choice in event["choices"] if choice["finish_reason"]]
    assert sorted(choice["index"] for choice in ends) == [0, 1, 2, 3]


async def test_the_prompt_first(served: Facing) -> None:
    whole = await text_of(served)
    assert await text_of(served, echo=True) == "the quick" + whole
    assert await text_of(served, echo=True, max_tokens=0) == "the quick"
    assert texts_of(await streamed(served, COMPLETIONS, prompting(echo=True))) == ["the quick" + whole]


async def test_log_probabilities(served: Facing) -> None:
    (choice,) = (await answered(served, COMPLETIONS, prompting(logprobs=2)))["choices"]
    given = choice["logprobs"]
    assert "".join(given["tokens"]) == choice["text"]
    assert [len(given[name]) for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset")] == [8] * 4
    for token, value, top in zip(given["tokens"], given["token_logprobs"], given["top_logprobs"], strict=True):
        assert top[token] == value == max(top.values()) or "\ufffd" in token or not token
    for token, offset in zip(given["tokens"], given["text_offset"], strict=True):
        assert choice["text"][offset:].startswith(token)
    events = await streamed(served, COMPLETIONS, prompting(logprobs=2))
    parts = [event["choices"][0]["logprobs"] for event in events]
    assert {name: [entry for part in parts for entry in part[name] or []] for name in given} == given
    last = make_tokenizer().convert_tokens_to_ids("y")
    (ended,) = (await answered(served, COMPLETIONS, prompting(logprobs=2, stop_token_ids=[last])))["choices"]
    assert (ended["text"], ended["finish_reason"]) == (choice["text"].partition("y")[0], "stop")
    assert "".join(ended["logprobs"]["tokens"]) == ended["text"]
    (alone,) = (await answered(served, COMPLETIONS, prompting(logprobs=0)))["choices"]
    assert (alone["logprobs"]["token_logprobs"], alone["logprobs"]["top_logprobs"]) == (given["token_logprobs"], None)


@pytest.mark.parametrize("fields", [{}, {"n": 2, **SEEDED}, {"stream": True, "n": 2, **SEEDED}])
async def test_those_of_the_prompt_too(fields: Body, served: Facing) -> None:
    body = prompting(echo=True, logprobs=1, max_tokens=3, **fields)
    if "stream" in fields:
        events = await streamed(served, COMPLETIONS, body)
        firsts = {choice["index"]: choice for event in reversed(events) for choice in event["choices"]}.values()
    else:
        firsts = (await answered(served, COMPLETIONS, body))["choices"]
    for choice in firsts:
        given = choice["logprobs"]
        assert (given["tokens"][:2], given["text_offset"][:3]) == (["the", " quick"], [0, 3, 9])
        assert given["token_logprobs"][0] is given["top_logprobs"][0] is None
        assert all(value < 0 for value in given["token_logprobs"][1:])


@pytest.mark.parametrize("stream", [False, True])
async def test_a_text_that_is_only_scored(stream: bool, served: Facing) -> None:
    body = prompting(prompt="the quick brown", echo=True, logprobs=1, max_tokens=0)
    if stream:
        ((choice,),) = [event["choices"] for event in await streamed(served, COMPLETIONS, body)]
    else:
        (choice,) = (await answered(served, COMPLETIONS, body))["choices"]
    assert (choice["text"], choice["finish_reason"]) == ("the quick brown", "length")
    assert "".join(choice["logprobs"]["tokens"]) == "the quick brown"
    more = (await answered(served, COMPLETIONS, body | {"max_tokens": 4}))["choices"][0]["logprobs"]
    assert choice["logprobs"]["token_logprobs"] == more["token_logprobs"][: len(choice["logprobs"]["tokens"])]


async def test_the_best_of_several(served: Facing) -> None:
    answer = await answered(served, COMPLETIONS, prompting(best_of=3, n=2, ignore_eos=True, **SEEDED))
    assert [choice["index"] for choice in answer["choices"]] == [0, 1]
    assert answer["usage"]["completion_tokens"] == 24
    assert await streamed(served, COMPLETIONS, prompting(best_of=1))


@pytest.mark.parametrize(
    ("fields", "status", "says"),
    [
        ({"model": "other"}, 404, "no model 'other' is served here"),
        ({"suffix": "end"}, 422, "suffix: no model here"),
        ({"prompt": ""}, 422, "must not be empty"),
        ({"prompt": []}, 422, "`$.prompt`"),
        ({"prompt": [5, "a"]}, 422, "has something else in it"),
        ({"prompt": ["a", [5]]}, 422, "do not go together"),
        ({"prompt": ["a"] * 65, "n": 2}, 422, "65 prompts make 130 texts, at most 128"),
        ({"prompt": [99_999]}, 422, "99999"),
        ({"logprobs": 21}, 422, "`$.logprobs`"),
        ({"best_of": 1, "n": 2}, 422, "best_of = 1: must be at least n = 2"),
        ({"prompt": ["the quick", "a " * 2000]}, 422, "tokens"),
    ],
)
async def test_what_cannot_be_done(fields: Body, status: int, says: str, served: Facing) -> None:
    answer = await served.post(COMPLETIONS, prompting(**fields))
    assert answer.status_code == status
    assert says in answer.json()["error"]["message"]


async def test_the_best_cannot_be_streamed(served: Facing) -> None:
    answer = await served.post(COMPLETIONS, prompting(best_of=2, stream=True))
    assert (answer.status_code, "best_of = 2" in answer.text) == (422, True)


async def test_one_that_fails_ends_all() -> None:
    async with parrot() as served:
        body = prompting(prompt=["word " * 50 + FAILS, FOR_EVER])
        assert (await served.post(COMPLETIONS, body)).status_code == 424
        answer = await served.post(COMPLETIONS, body | {"stream": True})
        *events, last = [json.loads(line.removeprefix("data: ")) for line in answer.text.split("\n\n")[:-1]]
        assert {event["choices"][0]["index"] for event in events} == {0, 1}
        assert last["error"]["message"] == "it has failed"
        assert not (await served.gauges())["requests"]
