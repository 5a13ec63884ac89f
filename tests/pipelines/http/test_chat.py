"""Chats over HTTP, as clients of OpenAI's API ask for them."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from max_pipelines.config import Limits
from tests.pipelines.http.asking import CHAT, COLOUR, PAINT, WIPE, answered, asking, streamed
from tests.pipelines.http.facing import PATIENCE_S, Body, Facing, facing
from tests.pipelines.http.parrot import CANCELS, FAILS, FOR_EVER, parrot
from tests.tiny_text import make_tiny_text

pytestmark = pytest.mark.asyncio(loop_scope="module")  # one face for all: loading takes most of the time
DEEP: Body = {"a": json.loads("[" * 800 + "]" * 800)}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Facing]:
    async with facing(make_tiny_text(tmp_path_factory.mktemp("tiny"), transport="thread")) as face:
        yield face


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def parroting() -> AsyncIterator[Facing]:
    async with parrot() as face:
        yield face


def saying(text: str, **fields: object) -> Body:
    return asking(messages=[{"role": "user", "content": text}], **fields)


async def test_an_answer_has_what_the_sdk_reads(served: Facing) -> None:
    answer = await answered(served, CHAT, asking(temperature=0, user="me", unheard_of={"a": 1}, stop=None))
    assert re.fullmatch(r"chatcmpl-\w+", answer["id"])
    assert (answer["object"], answer["model"], answer["system_fingerprint"]) == ("chat.completion", "tiny", "maxpipe")
    assert isinstance(answer["created"], int)
    (choice,) = answer["choices"]
    assert (choice["index"], choice["finish_reason"], choice["logprobs"]) == (0, "length", None)
    assert choice["message"].keys() == {"role", "content", "refusal"}
    usage = answer["usage"]
    assert (usage["completion_tokens"], usage["total_tokens"]) == (8, usage["prompt_tokens"] + 8)
    again = await answered(served, CHAT, asking(temperature=0))
    assert again["choices"] == answer["choices"]
    assert again["usage"]["prompt_tokens_details"]["cached_tokens"] > 0


async def test_a_stream_says_the_same(served: Facing) -> None:
    whole = await answered(served, CHAT, asking(seed=-5))
    chunks = await streamed(served, CHAT, asking(seed=-5, stream_options={"include_usage": True}))
    assert {(chunk["object"], chunk["id"]) for chunk in chunks} == {("chat.completion.chunk", chunks[0]["id"])}
    *chunks, last = chunks
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == 8
    assert all(chunk["usage"] is None for chunk in chunks)
    choices = [chunk["choices"][0] for chunk in chunks]
    assert choices[0]["delta"] == {"role": "assistant", "content": ""}
    assert "".join(choice["delta"].get("content", "") for choice in choices) == text_of(whole)
    assert [choice["finish_reason"] for choice in choices] == [None] * (len(choices) - 1) + ["length"]
    assert choices[-1]["delta"] == {}
    plain = await streamed(served, CHAT, asking())
    assert all("usage" not in chunk for chunk in plain)


def text_of(answer: Any, index: int = 0) -> str:
    text: str = answer["choices"][index]["message"]["content"]
    return text


async def test_several_answers_come_together(served: Facing) -> None:
    whole = await answered(served, CHAT, asking(n=3, seed=1))
    assert [choice["index"] for choice in whole["choices"]] == [0, 1, 2]
    chunks = await streamed(served, CHAT, asking(n=3, seed=1))
    choices = [chunk["choices"][0] for chunk in chunks]
    for index in range(3):
        mine = [choice for choice in choices if choice["index"] == index]
        assert mine[0]["delta"]["role"] == "assistant"
        assert "".join(choice["delta"].get("content", "") for choice in mine) == text_of(whole, index)
        assert Counter(choice["finish_reason"] for choice in mine)["length"] == 1
    order = [choice["index"] for choice in choices]
    assert order != sorted(order)


async def test_log_probabilities(served: Facing) -> None:
    fields = asking(temperature=0, logprobs=True, top_logprobs=2)
    whole = await answered(served, CHAT, fields)
    tokens = whole["choices"][0]["logprobs"]["content"]
    assert len(tokens) == 8
    assert "".join(token["token"] for token in tokens) == text_of(whole)
    for token in tokens:
        first, second = token["top_logprobs"]
        assert token["logprob"] == first["logprob"] >= second["logprob"]
        assert token["bytes"] == (None if "\ufffd" in token["token"] else list(token["token"].encode()))
    chunks = await streamed(served, CHAT, fields)
    given = [choice["logprobs"] for chunk in chunks for choice in chunk["choices"] if choice["logprobs"]]
    assert [token for logprobs in given for token in logprobs["content"]] == tokens
    ended = await answered(served, CHAT, asking(logprobs=True, response_format={"type": "regex", "value": "[ab]{3}"}))
    assert ended["choices"][0]["finish_reason"] == "stop"
    assert "".join(token["token"] for token in ended["choices"][0]["logprobs"]["content"]) == text_of(ended)
    (alone,) = (await answered(served, CHAT, asking(logprobs=True)))["choices"]
    assert all(token["top_logprobs"] == [] for token in alone["logprobs"]["content"])


@pytest.mark.parametrize(
    "form",
    [
        {"type": "json_schema", "json_schema": {"name": "colour", "schema": COLOUR, "strict": True}},
        {"type": "json_schema", "value": {"name": "colour", "schema": COLOUR}},
        {"type": "json_object", "value": COLOUR},
        {"type": "json", "value": json.dumps(COLOUR)},
        {"type": "regex", "value": r'\{"colour": "(red|blue)"\}'},
    ],
)
async def test_the_form_that_is_asked_for(form: Body, served: Facing) -> None:
    answer = await answered(served, CHAT, asking(response_format=form, max_tokens=200))
    assert json.loads(text_of(answer))["colour"] in ("red", "blue")
    assert answer["choices"][0]["finish_reason"] == "stop"


async def test_any_object_and_any_text(served: Facing) -> None:
    answer = await answered(served, CHAT, asking(response_format={"type": "json_object"}))
    assert text_of(answer).lstrip().startswith("{")
    assert await answered(served, CHAT, asking(response_format={"type": "text"}, tools=[PAINT]))


@pytest.mark.parametrize(
    "choice",
    ["required", "paint", {"type": "function", "function": {"name": "paint"}}, {"function": {"name": "paint"}}],
)
async def test_a_tool_that_has_to_be_called(choice: object, served: Facing) -> None:
    tools = [PAINT] if choice == "required" else [WIPE, PAINT]
    fields = asking(tools=tools, tool_choice=choice, parallel_tool_calls=False, max_tokens=200, seed=3)
    (whole,) = (await answered(served, CHAT, fields))["choices"]
    assert whole["finish_reason"] == "tool_calls"
    assert whole["message"]["content"] is None
    (call,) = whole["message"]["tool_calls"]
    assert (call["type"], call["function"]["name"]) == ("function", "paint")
    assert json.loads(call["function"]["arguments"])["colour"] in ("red", "blue")
    chunks = await streamed(served, CHAT, fields)
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    begins, *more = [made for delta in deltas for made in delta.get("tool_calls", [])]
    assert (begins["index"], begins["type"], begins["function"]) == (0, "function", {"name": "paint", "arguments": ""})
    assert all(part.keys() == {"index", "function"} for part in more)
    assert len(more) > 2
    assert "".join(part["function"]["arguments"] for part in more) == call["function"]["arguments"]
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"
    assert not any(delta.get("content") for delta in deltas)


async def test_several_calls_and_schemas_that_refer_to_themselves(served: Facing) -> None:
    own = {"$defs": {"C": {"enum": ["red"]}}, "properties": {"c": {"$ref": "#/$defs/C"}}, "required": ["c"]}
    tool = {"type": "function", "function": {"name": 'näh "x"', "parameters": own | {"additionalProperties": False}}}
    fields = asking(tools=[tool, WIPE], tool_choice="required", max_tokens=400, seed=2)
    (choice,) = (await answered(served, CHAT, fields))["choices"]
    for call in choice["message"]["tool_calls"][:-1]:
        expected = {"c": "red"} if call["function"]["name"] == 'näh "x"' else {}
        assert json.loads(call["function"]["arguments"]) == expected
    assert len({call["id"] for call in choice["message"]["tool_calls"]}) == len(choice["message"]["tool_calls"]) > 1


async def test_a_call_of_its_own_accord(parroting: Facing) -> None:
    text = '<think>\nred?</think>\nI paint.<tool_call>\n{"name": "paint", "arguments": {"colour": "red"}}\n</tool_call>'
    (choice,) = (await answered(parroting, CHAT, saying(text, tools=[PAINT])))["choices"]
    message = choice["message"]
    assert (message["reasoning_content"], message["content"]) == ("red?", "I paint.")
    assert message["tool_calls"][0]["function"] == {"name": "paint", "arguments": '{"colour": "red"}'}
    assert choice["finish_reason"] == "tool_calls"
    deltas = [chunk["choices"][0]["delta"] for chunk in await streamed(parroting, CHAT, saying(text, tools=[PAINT]))]
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == "red?"
    assert "".join(delta.get("content", "") for delta in deltas) == "I paint."
    assert sum("tool_calls" in delta for delta in deltas) == 2
    for fields in ({}, {"tools": [PAINT], "tool_choice": "none"}, {"tools": [WIPE]}):
        (choice,) = (await answered(parroting, CHAT, saying(text, **fields)))["choices"]
        assert choice["message"]["content"].startswith("I paint.<tool_call>")
        assert (choice["finish_reason"], "tool_calls" in choice["message"]) == ("stop", False)


async def test_a_block_that_the_template_has_opened(served: Facing) -> None:
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "<think>"}]
    # Greedy: of sampled answers one in twenty ends at once, with nothing thought.
    body = asking(messages=messages, continue_final_message=True, stop="</think>", temperature=0)
    answer = await answered(served, CHAT, body)
    assert answer["choices"][0]["message"]["content"] == ""
    assert answer["choices"][0]["message"]["reasoning_content"]


async def test_messages_of_all_kinds(served: Facing) -> None:
    called = {"id": "call_1", "type": "function", "function": {"name": "paint", "arguments": '{"colour": "red"}'}}
    messages: list[Body] = [
        {"role": "developer", "content": "Be kind."},
        {"role": "system", "content": [{"type": "text", "text": "Be "}, {"type": "text", "text": "brief."}]},
        {"role": "user", "content": "hi", "name": "ann"},
        {"role": "assistant", "content": None, "tool_calls": [called], "reasoning_content": "Hm."},
        {"role": "tool", "content": "done", "tool_call_id": "call_1"},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}], "tool_calls": []},
        {"role": "function", "name": "paint", "content": "done"},
    ]
    assert await answered(served, CHAT, asking(messages=messages, chat_template_kwargs={"enable_thinking": False}))


async def test_an_answer_that_goes_on(served: Facing) -> None:
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "It is "}]
    fields = asking(messages=messages, continue_final_message=True, temperature=0)
    alone, echoed = await answered(served, CHAT, fields), await answered(served, CHAT, fields | {"echo": True})
    assert text_of(echoed) == "It is " + text_of(alone)


async def test_what_ends_it(served: Facing) -> None:
    whole = text_of(await answered(served, CHAT, asking(temperature=0, max_tokens=30)))
    cut = whole[5:7]
    answer = await answered(served, CHAT, asking(temperature=0, max_completion_tokens=30, max_tokens=1, stop=["", cut]))
    assert text_of(answer) == whole[: whole.index(cut)]
    assert answer["choices"][0]["finish_reason"] == "stop"
    biased = await answered(served, CHAT, asking(logit_bias={"75": 100}, logprobs=True, repetition_penalty=1.0))
    assert len({token["token"] for token in biased["choices"][0]["logprobs"]["content"]}) == 1


@pytest.mark.parametrize(
    ("fields", "status", "says"),
    [
        ({"model": "other"}, 404, "no model 'other' is served here"),
        ({"messages": []}, 422, "`$.messages`"),
        ({"messages": [{"role": "nobody", "content": ""}]}, 422, "Invalid enum value 'nobody'"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 422, "has no image_url"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, 422, "has no text"),
        ({"temperature": -1}, 422, "`$.temperature`"),
        ({"n": 1000}, 422, "`$.n`"),
        ({"min_tokens": 9}, 422, "min_new_tokens = 9"),
        ({"top_logprobs": 2}, 422, "top_logprobs = 2: needs logprobs = true"),
        ({"tool_choice": "required"}, 422, "there are no tools"),
        ({"tools": [PAINT], "tool_choice": "bake"}, 422, "no tool is called 'bake'; there are: paint"),
        ({"tools": [PAINT], "response_format": {"type": "json_object"}}, 422, "exclude each other"),
        ({"response_format": {"type": "xml"}}, 422, "type 'xml' is unknown"),
        ({"response_format": {"type": "regex", "value": "("}}, 422, "SamplingParams.grammar"),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": 5}}}, 422, "is no JSON schema"),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": []}}]}, 422, "tools.f.parameters"),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": DEEP}}]}, 422, "nested too deep"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"function": {"arguments": "{"}}]}]}, 422, "no JSON"),
        ({"messages": [{"role": "user", "content": "a " * 2000}]}, 422, "tokens"),
        ({"continue_final_message": True, "add_generation_prompt": True}, 422, "continue_final_message"),
        ({"chat_template_kwargs": {"messages": 1}}, 422, "chat_template_options.messages"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_what_cannot_be_done(fields: Body, status: int, says: str, stream: bool, served: Facing) -> None:
    answer = await served.post(CHAT, asking(**fields, stream=stream))
    assert answer.status_code == status
    assert says in answer.json()["error"]["message"]
    assert answer.json()["error_type"] in ("validation", "unknown_model", "tool_error")


@pytest.mark.parametrize(("text", "status", "kind"), [(FAILS, 424, "generation"), (CANCELS, 503, "unavailable")])
async def test_no_other_end_is_one(text: str, status: int, kind: str, parroting: Facing) -> None:
    answer = await parroting.post(CHAT, saying("said " + text))
    assert (answer.status_code, answer.json()["error_type"]) == (status, kind)
    streams = await parroting.post(CHAT, saying("said " + text, stream=True))
    assert streams.status_code == 200
    *chunks, last = [json.loads(line.removeprefix("data: ")) for line in streams.text.split("\n\n")[:-1]]
    assert last["error_type"] == kind
    assert last["error"]["code"] == status
    assert all(choice["finish_reason"] is None for chunk in chunks for choice in chunk["choices"])


@pytest.mark.parametrize("stream", [False, True])
async def test_who_leaves_has_nothing_made_for_them_any_more(stream: bool, parroting: Facing) -> None:
    asked = asyncio.ensure_future(parroting.post(CHAT, saying(FOR_EVER, stream=stream)))
    async with asyncio.timeout(PATIENCE_S):
        while not (await parroting.gauges())["requests"]:
            await asyncio.sleep(0.01)
        asked.cancel()
        while (await parroting.gauges())["requests"]:
            await asyncio.sleep(0.01)


async def test_overload_is_said_at_once() -> None:
    async with (
        parrot(Limits(max_requests=1)) as served,
        served.asks.stream("POST", CHAT, json=saying(FOR_EVER, stream=True)) as answer,
    ):
        pieces = answer.aiter_raw()
        await anext(pieces)
        for stream in (False, True):
            refused = await served.post(CHAT, saying("hi", stream=stream))
            assert (refused.status_code, refused.json()["error_type"]) == (429, "overloaded")
            assert int(refused.headers["retry-after"]) >= 1


async def test_the_model_in_the_path(served: Facing) -> None:
    assert await answered(served, "/models/tiny/v1/chat/completions", asking(model="whatever"))
    refused = await served.post("/models/some/other/v1/chat/completions", asking())
    assert (refused.status_code, refused.json()["error"]["type"]) == (404, "unknown_model")
