"""The whole road of text on real parts: client, dispatcher, worker, engine, tokenizer. Tiny random weights."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from max_engines.random_stream import child_seed
from max_engines.tokenizer import TextTokenizer, load_tokenizer
from max_interfaces import (
    Attempt,
    Chunk,
    FailureKind,
    GenerationStatus,
    MessageRole,
    RequestFailed,
    RequestID,
    SamplingParams,
    TextGenerationOutput,
    TextGenerationRequest,
    TextGenerationRequestMessage,
    TextGenerationResponseFormat,
)
from max_interfaces.values import Json
from max_pipelines.client import AsyncClient, Client
from max_pipelines.client.outputs import join_texts
from max_pipelines.config import Config
from max_pipelines.text.build import build
from tests.engines.beam_tools import by_transformers as beams_of
from tests.tiny_text import CONTEXT, END

PROMPT = "the quick brown fox"
SEARCH = {"beam_width": 4, "n": 3, "max_new_tokens": 30, "echo": True}
SAMPLED = {"temperature": 0.9, "top_p": 0.95, "seed": 5}


def request(prompt: object = PROMPT, **fields: object) -> TextGenerationRequest:
    """Greedy and of 20 tokens unless said otherwise."""
    own = {name: fields.pop(name) for name in list(fields) if name in ("messages", "response_format", "chat_template")}
    params = SamplingParams(**{"temperature": 0.0, "max_new_tokens": 20, **fields})  # type: ignore[arg-type]
    return TextGenerationRequest(RequestID(), "tiny", prompt, sampling_params=params, **own)  # type: ignore[arg-type]


def with_workers(config: Config, **fields: object) -> Config:
    return msgspec.structs.replace(config, workers=msgspec.structs.replace(config.workers, **fields))


@pytest.fixture(scope="module", params=["process", "thread"])
def client(request: pytest.FixtureRequest, tiny_text: Config) -> Iterator[Client]:
    with Client.embedded(with_workers(tiny_text, transport=request.param)) as client:
        yield client


@pytest.fixture(scope="module")
def tokenizer(tiny_text: Config) -> TextTokenizer:
    return load_tokenizer(tiny_text.model.path)


@cache
def plain_model(path: str) -> PreTrainedModel:
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    return model


def by_transformers(config: Config, tokenizer: TextTokenizer, ids: list[int], count: int = 20) -> list[int]:
    """What `generate` of transformers adds, greedily, until the end of the text."""
    output = plain_model(config.model.path).generate(  # type: ignore[operator]
        torch.tensor([ids]), do_sample=False, max_new_tokens=count, pad_token_id=0
    )
    new: list[int] = output[0, len(ids) :].tolist()
    return new


@pytest.mark.parametrize("prompt", [PROMPT, "naïve 🦊 中文", '{"name": '])
def test_greedy_text_is_that_of_transformers(
    prompt: str, client: Client, tiny_text: Config, tokenizer: TextTokenizer
) -> None:
    expected = by_transformers(tiny_text, tokenizer, tokenizer.inner.encode(prompt))
    whole = client.generate(request(prompt))
    assert list(whole.tokens) == expected
    assert whole.text == tokenizer.inner.decode(expected, skip_special_tokens=True)


def test_a_conversation_is_that_of_transformers(client: Client, tiny_text: Config, tokenizer: TextTokenizer) -> None:
    turns = [{"role": "system", "content": "be kind"}, {"role": "user", "content": "where is the fox?"}]
    text = tokenizer.inner.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    assert isinstance(text, str)
    ids = tokenizer.inner.encode(text, add_special_tokens=False)
    messages = tuple(TextGenerationRequestMessage(MessageRole(turn["role"]), turn["content"]) for turn in turns)
    whole = client.generate(request(None, messages=messages))
    assert list(whole.tokens) == by_transformers(tiny_text, tokenizer, ids)
    assert whole.num_prompt_tokens == len(ids)


def test_it_streams_and_the_pieces_are_the_whole(client: Client) -> None:
    outputs = list(client.stream(request(**SAMPLED)))
    assert len(outputs) > 1
    assert [output.is_done for output in outputs] == [False] * (len(outputs) - 1) + [True]
    whole = client.generate(request(**SAMPLED))
    assert whole.text == "".join(output.text for output in outputs)
    assert whole.tokens == tuple(token for output in outputs for token in output.tokens)
    assert whole.statistics is not None
    assert whole.statistics.generated_tokens == len(whole.tokens)
    assert whole.statistics.peak_memory > 2**20


def test_a_stop_text_ends_it(client: Client) -> None:
    free = client.generate(request()).text
    stop = free[len(free) // 2 :][:3]
    ended = client.generate(request(stop=(stop,)))
    assert ended.text == free[: free.index(stop)]
    assert (ended.final_status, ended.stop) == (GenerationStatus.STOP_SEQUENCE, stop)
    assert client.generate(request(stop=(stop,), include_stop_text=True)).text == ended.text + stop


def test_n_texts_are_each_as_if_alone_with_its_seed(client: Client) -> None:
    texts = client.generate_all(request(n=3, **SAMPLED))
    assert [output.index for output in texts] == [0, 1, 2]
    for index, output in enumerate(texts):
        alone = client.generate(request(**{**SAMPLED, "seed": child_seed(5, index)}))
        assert (output.text, output.tokens, output.final_status) == (alone.text, alone.tokens, alone.final_status)
    assert client.generate(request(n=3, **SAMPLED)).tokens == texts[0].tokens


def test_best_of_is_the_likeliest_of_them(client: Client) -> None:
    texts = client.generate_all(request(n=4, logprobs=0, **SAMPLED))

    def mean(output: TextGenerationOutput) -> float:
        assert output.log_probabilities is not None
        return float(np.mean(output.log_probabilities.token_log_probabilities))

    best = client.generate(request(best_of=4, **SAMPLED))
    assert best.tokens == max(texts, key=mean).tokens
    assert best.log_probabilities is None


def test_a_beam_search_is_that_of_transformers(client: Client, tiny_text: Config, tokenizer: TextTokenizer) -> None:
    ids = tokenizer.encode(PROMPT)
    ends = [token for token in range(20, 40) if token not in ids]
    expected = beams_of(Path(tiny_text.model.path), ids, 4, 20, sorted({END, *ends}))
    asked = request(beam_width=4, n=3, logprobs=0, stop_token_ids=tuple(ends))
    found = client.generate_all(asked)
    assert [output.tokens for output in found] == [tokens for tokens, _ in expected[:3]]
    assert [output.score for output in found] == pytest.approx([score for _, score in expected[:3]], abs=1e-4)
    assert [output.index for output in found] == [0, 1, 2]
    for output in found:
        ended = output.tokens[-1] in {END, *ends}
        assert output.text == tokenizer.decode(output.tokens[: -1 if ended else None])
        assert output.final_status.is_done
        assert output.log_probabilities is not None
        scores = output.log_probabilities.token_log_probabilities
        assert sum(scores) / len(scores) == pytest.approx(output.score, abs=1e-4)
    assert found[0].statistics is not None
    assert found[0].statistics.generated_tokens == sum(len(output.tokens) for output in found)
    streamed = list(client.stream(replace(asked, request_id=RequestID())))
    assert [output.text for output in streamed] == [output.text for output in found]  # each comes whole
    plain = client.generate(request(beam_width=1, temperature=1.0))
    assert (plain.tokens, plain.score) == (client.generate(request()).tokens, None)


def test_greedy_n_gives_equal_texts(client: Client) -> None:
    first, second = client.generate_all(request(n=2))
    assert first.text == second.text


def test_echo_log_probabilities_and_prompt_log_probabilities(
    client: Client, tiny_text: Config, tokenizer: TextTokenizer
) -> None:
    ids = tokenizer.encode(PROMPT)
    whole = client.generate(request(echo=True, logprobs=2, prompt_logprobs=0))
    assert whole.text.startswith(PROMPT)
    assert whole.prompt_tokens == tuple(ids)
    with torch.inference_mode():
        logits = plain_model(tiny_text.model.path)(torch.tensor([[*ids, *whole.tokens]])).logits[0].float()
    expected = torch.log_softmax(logits, -1)
    given, of_prompt = whole.log_probabilities, whole.prompt_log_probabilities
    assert given is not None
    assert of_prompt is not None
    rows = expected[len(ids) - 1 : -1]
    chosen = rows.gather(1, torch.tensor(whole.tokens)[:, None])[:, 0]
    np.testing.assert_allclose(given.token_log_probabilities, chosen, atol=1e-4)
    assert all(len(top) >= 2 for top in given.top_log_probabilities)
    following = expected[: len(ids) - 1].gather(1, torch.tensor(ids[1:])[:, None])[:, 0]
    np.testing.assert_allclose(of_prompt.token_log_probabilities, following, atol=1e-4)


def test_a_schema_gives_what_it_asks_for(client: Client) -> None:
    schema = Json(
        '{"type": "object", "properties": {"age": {"enum": [3, 12]}}, "required": ["age"],'
        ' "additionalProperties": false}'
    )
    form = TextGenerationResponseFormat("json_schema", schema)
    answer = client.generate(request(response_format=form, max_new_tokens=60, temperature=1.0, seed=1))
    value = Json(answer.text).value
    assert isinstance(value, dict)
    assert value["age"] in (3, 12)
    assert answer.final_status is GenerationStatus.END_OF_SEQUENCE


HOSTILE = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
HELLO = (TextGenerationRequestMessage(MessageRole.USER, "hello"),)


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (request((7,) * CONTEXT), f"at most {CONTEXT - 1} fit"),
        (request((7, 100_000)), "100000"),
        (request(grammar=Json('{"type": "regex", "value": "("}')), "grammar"),
        (request(None, messages=HELLO, chat_template="{% for %}"), "chat_template"),
        (request(None, messages=HELLO, chat_template=HOSTILE), "took longer"),
        (request(kv_bits=5), "kv_bits"),
        (request(beam_width=40), "beam_width = 40: this engine has 16 sequences"),
        (request(thinking_budget=5, stop_token_ids=(100_000,)), "100000"),
    ],
)
async def test_a_bad_request_fails_alone(bad: TextGenerationRequest, says: str, tiny_text: Config) -> None:
    expected: list[TextGenerationOutput] = []
    async with AsyncClient.embedded(with_workers(tiny_text, transport="thread")) as client:
        expected = [await client.generate(request(seed=seed, temperature=1.0)) for seed in range(3)]
        good = [client.generate(request(seed=seed, temperature=1.0)) for seed in range(3)]
        *texts, failed = await asyncio.gather(*good, client.generate(bad), return_exceptions=True)
    assert isinstance(failed, RequestFailed)
    assert failed.failure.kind is FailureKind.INVALID_REQUEST
    assert says in failed.failure.message
    assert [text.tokens for text in texts if isinstance(text, TextGenerationOutput)] == [one.tokens for one in expected]


def test_a_cancelled_request_ends_and_the_next_one_is_served(client: Client) -> None:
    endless = request(max_new_tokens=400, ignore_eos=True, n=2)
    outputs: list[TextGenerationOutput] = []
    for output in client.stream(endless):
        outputs.append(output)
        if len(outputs) == 3:
            client.cancel(endless.request_id)
    assert outputs[-1].final_status is GenerationStatus.CANCELLED
    assert len(outputs) < 800
    assert client.generate(request()).tokens


@pytest.mark.parametrize("done", [1, 5, 40])
def test_another_worker_goes_on_with_a_text(done: int, tiny_text: Config) -> None:
    """In float32 the tokens are the same, and no text is lost or given twice."""
    long = {"max_new_tokens": 60, "ignore_eos": True, **SAMPLED}
    for fields in ({**long, "stop": ("quick brown",)}, {**long, "n": 3, "echo": True}, {**long, "best_of": 2}, SEARCH):
        asked = request(**fields)
        attempt = Attempt(asked, seed=5)
        expected = join_texts([output_of(chunk) for chunk in chunks_of(tiny_text, attempt)])
        heard = list(itertools.islice(chunks_of(tiny_text, attempt), done))
        if output_of(heard[-1]).is_done:
            continue
        tokens = tuple(token for chunk in heard for token in chunk.tokens)
        rest = chunks_of(tiny_text, msgspec.structs.replace(attempt, number=2, tokens=tokens, next_seq=len(heard)))
        again = join_texts([output_of(chunk) for chunk in (*heard, *rest)])
        assert [one.text for one in again] == [one.text for one in expected]
        assert [one.tokens for one in again] == [one.tokens for one in expected]


def output_of(chunk: Chunk[TextGenerationOutput]) -> TextGenerationOutput:
    """What a chunk shows; text notes no tokens without showing them."""
    assert chunk.output is not None
    return chunk.output


def chunks_of(config: Config, attempt: Attempt[TextGenerationRequest]) -> Iterator[Chunk[TextGenerationOutput]]:
    """What a fresh worker makes of an attempt."""
    served = build(config)
    try:
        served.pipeline.admit(attempt)
        done = False
        while not done:
            for chunk in served.pipeline.execute([attempt.request.request_id]):
                done = output_of(chunk).is_done
                yield chunk
    finally:
        served.pipeline.release(attempt.request.request_id)
        served.close()
