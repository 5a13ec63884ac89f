"""Hugging Face's text-generation API, as its document describes it, over real sockets and a tiny model."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from msgspec.structs import replace

from max_pipelines.config import HttpConfig, Limits, TextLimits
from max_pipelines.http.face import Face
from max_pipelines.http.text_generation.parameters import Parameters, sampling_of
from tests.pipelines.http.facing import PATIENCE_S, Body, Facing, facing
from tests.pipelines.http.parrot import CANCELS, FAILS, FOR_EVER, parrot
from tests.tiny_text import CONTEXT, make_tiny_text

pytestmark = pytest.mark.asyncio(loop_scope="module")
PROMPT = "the quick brown"
PATHS = ("/", "/generate", "/models/tiny")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Facing]:
    async with facing(make_tiny_text(tmp_path_factory.mktemp("tiny"), transport="thread")) as face:
        yield face


def body(inputs: str = PROMPT, **parameters: object) -> Body:
    return {"inputs": inputs, "parameters": {"max_new_tokens": 6} | parameters}


async def answered(served: Facing, asked: Body, path: str = "/generate", **headers: str) -> Any:
    answer = await served.post(path, asked, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def streamed(served: Facing, asked: Body, path: str = "/generate_stream") -> list[Any]:
    answer = await served.post(path, asked)
    assert answer.headers["content-type"] == "text/event-stream", answer.text
    *lines, end = answer.text.split("\n\n")
    assert end == ""
    assert all(line.startswith("data:{") for line in lines)
    return [json.loads(line.removeprefix("data:")) for line in lines]


# -- the document's two tables ---------------------------------------------------------------------------------------

TOKEN = {"id": int, "text": str, "logprob": float, "special": bool}
PREFILL = {"id": int, "text": str, "logprob": (float, type(None))}
TEXT = {
    "finish_reason": str,
    "generated_tokens": int,
    "seed": (int, type(None)),
    "prefill": [PREFILL],
    "tokens": [TOKEN],
    "top_tokens": [[TOKEN]],
}
WHOLE = {
    "generated_text": str,
    "details": TEXT | {"best_of_sequences": [TEXT | {"generated_text": str}]},
}
EVENT = {
    "index": int,
    "token": TOKEN,
    "top_tokens": [TOKEN],
    "generated_text": (str, type(None)),
    "details": ({"finish_reason": str, "generated_tokens": int, "input_length": int, "seed": (int, type(None))}, None),
}


def check(value: Any, table: Any, where: str = "$") -> None:
    """Each field of the table is there with its type, and no other."""
    if isinstance(table, tuple) and isinstance(table[0], dict):
        table = None if value is None else table[0]
    if isinstance(table, dict):
        assert value.keys() == table.keys(), where
        for name, part in table.items():
            check(value[name], part, f"{where}.{name}")
    elif isinstance(table, list):
        assert value, where
        for at, item in enumerate(value):
            check(item, table[0], f"{where}[{at}]")
    elif table is None:
        assert value is None, where
    else:
        assert isinstance(value, table), where


async def test_a_whole_answer_has_the_fields_of_the_document(served: Facing) -> None:
    wanted: Body = {"details": True, "decoder_input_details": True, "top_n_tokens": 2, "best_of": 2, "do_sample": True}
    check(await answered(served, body(**wanted)), WHOLE)


async def test_an_event_has_the_fields_of_the_document(served: Facing) -> None:
    events = await streamed(served, body(details=True, top_n_tokens=2, seed=1, do_sample=True))
    for event in events:
        check(event, EVENT)
    assert [event["index"] for event in events] == list(range(1, 7))
    assert [event["generated_text"] is None for event in events] == [True] * 5 + [False]
    last = events[-1]
    assert last["details"] == {"finish_reason": "length", "generated_tokens": 6, "input_length": 3, "seed": 1}
    assert last["generated_text"] == "".join(event["token"]["text"] for event in events)


async def test_what_nobody_asked_for_is_left_out(served: Facing) -> None:
    assert (await answered(served, body())).keys() == {"generated_text"}
    details = (await answered(served, body(details=True)))["details"]
    assert "top_tokens" not in details
    assert "best_of_sequences" not in details
    assert details["prefill"] == []
    assert details["seed"] is None, "nothing was drawn"
    (*_, last) = await streamed(served, body())
    assert last.keys() == {"index", "token", "generated_text", "details"}
    assert last["details"] is None


async def test_the_first_token_of_a_prompt_has_no_log_probability(served: Facing) -> None:
    prefill = (await answered(served, body(decoder_input_details=True)))["details"]["prefill"]
    assert [token["logprob"] is None for token in prefill] == [True, False, False]
    assert "".join(token["text"] for token in prefill) == PROMPT


async def test_the_best_has_the_highest_mean_log_probability(served: Facing) -> None:
    wanted: Body = {"best_of": 4, "do_sample": True, "details": True, "temperature": 2.0}
    details = (await answered(served, body(**wanted)))["details"]

    def mean(text: Any) -> float:
        return float(sum(token["logprob"] for token in text["tokens"]) / len(text["tokens"]))

    ranked = [details, *details["best_of_sequences"]]
    assert len(ranked) == 4
    assert sorted(ranked, key=mean, reverse=True) == ranked


# -- what is asked for -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS)
async def test_an_object_or_a_list_of_one(path: str, served: Facing) -> None:
    answer = await answered(served, body(return_full_text=False), path)
    whole = await answered(served, body())
    assert answer == (whole if path == "/generate" else [whole])


@pytest.mark.parametrize("path", PATHS)
async def test_the_body_may_ask_for_events_everywhere(path: str, served: Facing) -> None:
    assert len(await streamed(served, body() | {"stream": True}, path)) == 6


async def test_the_prompt_stands_before_the_answer_as_it_was_given(served: Facing) -> None:
    long = "some words in front, " + PROMPT
    bare = (await answered(served, body(long, truncate=3)))["generated_text"]
    full = (await answered(served, body(long, truncate=3, return_full_text=True)))["generated_text"]
    assert full == long + bare
    assert (await answered(served, body(long, truncate=3), "/"))[0]["generated_text"] == full, "the hosted API's habit"
    (*_, last) = await streamed(served, body(long, truncate=3, return_full_text=True))
    assert last["generated_text"] == full


async def test_no_parameters_at_all_are_sampled_and_empty_ones_are_not(served: Facing) -> None:
    drawn = {(await answered(served, {"inputs": PROMPT}))["generated_text"] for _ in range(3)}
    assert len(drawn) > 1
    greedy = {(await answered(served, body(), **{"x-use-cache": "false"}))["generated_text"] for _ in range(3)}
    assert len(greedy) == 1


@pytest.mark.parametrize("implied", [{"temperature": 0.9}, {"top_k": 5}, {"top_p": 0.9}, {"typical_p": 0.9}])
async def test_a_parameter_of_sampling_asks_for_sampling(implied: Body, served: Facing) -> None:
    details = (await answered(served, body(details=True, **implied)))["details"]
    assert isinstance(details["seed"], int)
    again = (await answered(served, body(details=True, seed=details["seed"], **implied)))["details"]
    assert again == details, "the seed that it tells is the one that it used"


async def test_every_parameter_of_sampling_reaches_the_engine() -> None:
    given: Body = {
        "frequency_penalty": 0.5, "max_new_tokens": 7, "repetition_penalty": 1.5, "seed": 3, "temperature": 0.7,
        "top_k": 5, "top_p": 0.9, "truncate": 4, "typical_p": 0.8, "watermark": True,
    }  # fmt: skip
    params = sampling_of(msgspec.convert(given, Parameters))
    assert {name: getattr(params, name) for name in given} == given


async def test_a_stop_text_ends_it_and_is_in_it(served: Facing) -> None:
    whole = await answered(served, body(max_new_tokens=20, details=True, ignored="yes"))
    stop = next(token["text"] for token in whole["details"]["tokens"][3:] if len(token["text"].strip()) > 1)
    cut = await answered(served, body(max_new_tokens=20, details=True, stop=[stop]))
    assert cut["details"]["finish_reason"] == "stop_sequence"
    assert cut["generated_text"].endswith(stop)
    assert whole["generated_text"].startswith(cut["generated_text"])


async def test_a_grammar_holds(served: Facing) -> None:
    schema = {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"], "additionalProperties": False}
    for grammar in (
        {"type": "json", "value": schema},
        {"type": "json", "value": json.dumps(schema)},
        {"type": "json_schema", "value": {"name": "n", "schema": schema}},
    ):
        answer = await answered(served, body(max_new_tokens=100, grammar=grammar))
        assert json.loads(answer["generated_text"])["a"] in (1, 2)
    three = {"type": "regex", "value": "[0-9]{3}"}
    answer = await answered(served, body(max_new_tokens=20, details=True, grammar=three))
    assert answer["generated_text"].isdecimal()
    assert answer["details"]["finish_reason"] == "eos_token", "behind it nothing else may come"


REFUSED: list[tuple[Body, str]] = [
    ({"best_of": 2}, "you must use sampling when `best_of` is > 1"),
    ({"best_of": 2, "do_sample": True, "seed": 1}, "`seed` must not be set when `best_of` > 1"),
    ({"best_of": 9, "do_sample": True}, "`best_of` must be > 0 and <= 8. Given: 9"),
    ({"temperature": 0}, "`temperature` must be strictly positive"),
    ({"repetition_penalty": 0}, "`repetition_penalty` must be strictly positive"),
    ({"frequency_penalty": 2.5}, "`frequency_penalty` must be >= -2.0 and <= 2.0"),
    ({"top_p": 1.0}, "`top_p` must be > 0.0 and < 1.0"),
    ({"typical_p": 0}, "`typical_p` must be > 0.0 and < 1.0"),
    ({"top_k": 0}, "`top_k` must be strictly positive"),
    ({"max_new_tokens": 0}, "`max_new_tokens` must be strictly positive"),
    ({"stop": ["a"] * 17}, "`stop` supports up to 16 stop sequences. Given: 17"),
    ({"top_n_tokens": 21}, "`top_n_tokens` must be >= 0 and <= 20. Given: 21"),
    ({"truncate": 0}, f"`truncate` must be strictly positive and less than {CONTEXT - 1}. Given: 0"),
    ({"max_new_tokens": 10_000}, f"`inputs` tokens + `max_new_tokens` must be <= {CONTEXT}."),
    ({"max_new_tokens": CONTEXT - 2}, "Given: 3 `inputs` tokens and 510 `max_new_tokens`"),
    ({"grammar": {"type": "regex", "value": "("}}, "grammar"),
    ({"grammar": {"type": "lyric", "value": "x"}}, "grammar"),
    ({"adapter_id": "mine"}, "adapter_id"),
]


@pytest.mark.parametrize(("wrong", "message"), REFUSED)
@pytest.mark.parametrize("stream", [False, True])
async def test_what_is_wrong_is_said_in_the_words_of_the_api(
    wrong: Body, message: str, stream: bool, served: Facing
) -> None:
    if stream and "best_of" in wrong:
        message = "" if wrong["best_of"] == 9 else "`best_of` != 1 is not supported when streaming tokens"
    answer = await served.post("/generate", body(**wrong) | {"stream": stream})
    assert answer.status_code == 422, "also for events: nothing has been sent yet"
    said = answer.json()
    assert said["error_type"] == "validation"
    assert said["error"].startswith("Input validation error: ")
    assert message in said["error"]


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ({"inputs": ""}, 422),
        ({}, 422),
        ({"inputs": 5}, 422),
        ({"inputs": "x", "parameters": {"max_new_tokens": -1}}, 422),
        ({"inputs": "x", "parameters": {"stop": "a"}}, 422),
        ({"inputs": "x", "parameters": {"decoder_input_details": True}, "stream": True}, 422),
        ({"inputs": "word " * 3000, "parameters": {}}, 422),
    ],
)
async def test_bodies_of_another_shape(sent: Body, status: int, served: Facing) -> None:
    answer = await served.post("/generate", sent)
    assert answer.status_code == status
    assert answer.json()["error_type"] == "validation"


async def test_an_unknown_model(served: Facing) -> None:
    answer = await served.post("/models/someone/else", body())
    assert (answer.status_code, answer.json()["error_type"]) == (404, "unknown_model")


@pytest.mark.parametrize("end", [FAILS, CANCELS])
async def test_every_other_end_is_an_error(end: str) -> None:
    async with parrot() as served:
        whole = await served.post("/generate", body("words " + end))
        assert whole.status_code >= 424
        assert whole.json()["error_type"] in ("generation", "incomplete_generation")
        events = (await served.post("/generate_stream", body("words " + end))).text.split("\n\n")
        assert "error_type" in json.loads(events[-2].partition("data:")[2])


async def test_who_leaves_cancels() -> None:
    async with parrot() as served:
        asked = asyncio.ensure_future(served.post("/generate", body("words " + FOR_EVER)))
        while not (await served.gauges())["requests"]:
            pass
        asked.cancel()
        while (await served.gauges())["requests"]:
            pass


async def test_who_leaves_a_stream_cancels() -> None:
    async with parrot() as served:
        asked = body("words " + FOR_EVER)
        async with served.asks.stream("POST", "/generate_stream", json=asked) as answer:
            await anext(answer.aiter_lines())
            assert (await served.gauges())["requests"] == 1
        while (await served.gauges())["requests"]:
            pass


async def test_a_stream_that_is_cut_short_gives_no_whole_text() -> None:
    async with parrot() as served:
        *events, last = (await served.post("/generate_stream", body("words " + CANCELS))).text.strip().split("\n\n")
    assert events
    assert all(json.loads(event.removeprefix("data:"))["generated_text"] is None for event in events)
    assert json.loads(last.partition("data:")[2])["error_type"] == "incomplete_generation"


# -- headers ---------------------------------------------------------------------------------------------------------


async def test_what_it_took_stands_in_the_headers(served: Facing) -> None:
    headers = (await served.post("/generate", body(), headers={"x-use-cache": "0"})).headers
    assert headers["x-compute-type"] == "cpu+optimized"
    assert headers["x-compute-characters"] == str(len(PROMPT))
    assert (headers["x-prompt-tokens"], headers["x-generated-tokens"]) == ("3", "6")
    times = ("total", "validation", "queue", "inference")
    assert all(headers[f"x-{name}-time"].isdecimal() for name in times)
    assert float(headers["x-compute-time"]) > 0
    assert headers["x-time-per-token"].isdecimal()


async def test_what_is_deterministic_is_answered_from_the_cache(served: Facing) -> None:
    async def ask(asked: Body, **headers: str) -> tuple[str, str]:
        answer = await served.post("/generate", asked, headers=headers)
        return answer.headers["x-cache"], answer.text

    asked = body("a prompt of its own")
    first, again = await ask(asked), await ask(asked)
    assert (first[0], again[0]) == ("miss", "hit")
    assert first[1] == again[1]
    assert (await ask(asked, **{"x-use-cache": "false"}))[0] == "miss"
    assert (await ask(asked | {"options": {"use_cache": False}}))[0] == "miss"
    for other in (body("a prompt of its own", max_new_tokens=7), body("another"), body("a prompt of its own", seed=1)):
        assert (await ask(other))[0] == "miss"
    for drawn in (body(do_sample=True), body(do_sample=True)):
        assert (await ask(drawn))[0] == "miss", "another one would be drawn"
    assert [(await ask(body(do_sample=True, seed=5)))[0] for _ in range(2)] == ["miss", "hit"]


async def test_a_model_that_is_loading_is_waited_for_if_that_is_asked(tmp_path_factory: pytest.TempPathFactory) -> None:
    config = make_tiny_text(tmp_path_factory.mktemp("tiny"), transport="thread")
    async with facing(config, HttpConfig(text=TextLimits(wait_for_model_s=0.1)), opened=False) as served:
        answer = await served.post("/generate", body())
        assert answer.status_code == 503
        assert answer.json()["estimated_time"] > 0
        assert "tiny" in answer.json()["error"]
        limited = await served.post("/generate", body(), headers={"x-wait-for-model": "true"})
        assert limited.status_code == 503
    async with facing(config, opened=False) as served:
        waiting = asyncio.ensure_future(served.post("/generate", body(), headers={"x-wait-for-model": "true"}))
        await served.face.open()
        assert (await waiting).status_code == 200


async def test_who_leaves_while_a_model_is_loading_is_not_waited_for(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    config = make_tiny_text(tmp_path_factory.mktemp("tiny"), transport="thread")
    waits = asyncio.Event()
    plain = Face.wait_loaded

    async def watched(face: Face, seconds: float = 0.0) -> None:
        if seconds > 1:
            waits.set()
        await plain(face, seconds)

    monkeypatch.setattr(Face, "wait_loaded", watched)
    caplog.set_level(logging.INFO, "max_pipelines.http.requests")
    async with facing(config, opened=False) as served, asyncio.timeout(PATIENCE_S):
        asked = asyncio.ensure_future(served.post("/generate", body(), headers={"x-wait-for-model": "true"}))
        await waits.wait()
        asked.cancel()
        while not any(record.exchange.client_left for record in caplog.records if hasattr(record, "exchange")):
            await served.asks.get("/info")


# -- the other paths -------------------------------------------------------------------------------------------------


async def test_the_tokens_of_a_text(served: Facing) -> None:
    source = "Grüße 🦊 <|turn|> the fox"
    tokens = await answered(served, {"inputs": source}, "/tokenize")
    data = source.encode()
    assert all(data[token["start"] : token["stop"]].decode() == token["text"] for token in tokens)
    assert [token["start"] for token in tokens[1:]] == [token["stop"] for token in tokens[:-1]]
    assert tokens[-1]["stop"] == len(data)


async def test_the_tokens_of_a_conversation(served: Facing) -> None:
    asked = {"messages": [{"role": "user", "content": "hi"}]}
    answer = await answered(served, asked, "/chat_tokenize")
    assert answer["templated_text"] == "<s><|start|>user\nhi<|turn|>\n<|start|>assistant\n"
    assert "".join(token["text"] for token in answer["tokenize_response"]) == answer["templated_text"]


async def test_info(served: Facing) -> None:
    info = (await served.asks.get("/info")).json()
    assert (info["model_id"], info["model_pipeline_tag"]) == ("tiny", "text-generation")
    assert (info["max_input_tokens"], info["max_total_tokens"]) == (CONTEXT - 1, CONTEXT)


async def test_an_overloaded_server_says_when_to_come_again(tmp_path_factory: pytest.TempPathFactory) -> None:
    config = make_tiny_text(tmp_path_factory.mktemp("tiny"), transport="thread", max_batch=1)
    async with facing(replace(config, limits=Limits(max_waiting=0))) as served:
        answers = await asyncio.gather(*(served.post("/generate", body(max_new_tokens=200)) for _ in range(8)))
    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused
    assert all(answer.json()["error_type"] == "overloaded" and "retry-after" in answer.headers for answer in refused)
