"""Embeddings over the whole road: client, dispatcher, workers, encoder. Tiny random weights."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from msgspec import structs
from numpy.typing import NDArray

from max_engines.embedding.encoder import load_encoder
from max_engines.tokenizer import load_tokenizer
from max_interfaces import (
    ConfigError,
    EmbeddingsGenerationRequest,
    FailureKind,
    InvalidRequest,
    RequestFailed,
    RequestID,
    TextGenerationRequest,
)
from max_pipelines.cli import main
from max_pipelines.client import AsyncClient, Client
from max_pipelines.embeddings.build import build
from tests.faults.listening import sends, strike
from tests.pipelines.processes import servers
from tests.tiny_encoders import CONTEXT, make_encoder, serving

TEXTS = ["the quick brown fox", "a list", "naïve 🦊 中文 and " * 5, "x"]
WORDS = "the quick brown fox jumps over the lazy dog and goes home where it is warm".split()  # noqa: SIM905


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_encoder(tmp_path_factory.mktemp("encoder"), "bert", "pooling_mode_mean_tokens")


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[Client]:
    with Client.embedded(serving(folder)) as client:
        yield client


def one_by_one(folder: Path, texts: list[str]) -> NDArray[np.float32]:
    encoder, tokenizer = load_encoder(folder), load_tokenizer(folder)
    vectors = [encoder.embed([tokenizer.encode(text, parse_special_tokens=True)])[0] for text in texts]
    return np.stack([encoder.finished(vector, None) for vector in vectors])


def sentences(count: int) -> list[str]:
    return [" ".join(WORDS[(at * 7 + step) % len(WORDS)] for step in range(1 + at % 23)) for at in range(count)]


def test_many_texts_come_back_in_their_order(client: Client, folder: Path) -> None:
    texts = TEXTS + sentences(300)
    vectors = client.embed(texts)
    assert vectors.shape == (len(texts), 64)
    assert np.abs(vectors - one_by_one(folder, texts)).max() <= 1e-5


def test_ids_are_taken_as_they_are(client: Client, folder: Path) -> None:
    ids = load_tokenizer(folder).encode("the quick", parse_special_tokens=True)
    assert np.abs(client.embed([ids]) - client.embed(["the quick"])).max() <= 1e-6


def test_one_request_says_how_many_tokens_it_had(client: Client) -> None:
    output = client.generate(EmbeddingsGenerationRequest(RequestID(), "tiny", (5, 6, 7)))
    assert (output.num_prompt_tokens, output.embeddings.shape) == (3, (64,))
    assert client.embed([]).shape == (0, 0)


def test_what_cannot_be_embedded_is_refused_with_its_number_and_the_others_may_come_again(client: Client) -> None:
    with pytest.raises(InvalidRequest, match=rf"text number 1: input: has 200 tokens, at most {CONTEXT} fit"):
        client.embed(["fine", (9,) * 200])
    with pytest.raises(InvalidRequest, match=r"text number 0: .*must not be empty"):
        client.embed([""])
    with pytest.raises(InvalidRequest, match="dimensions = 100: this model's embeddings have 64"):
        client.embed(["fine"], dimensions=100)
    with pytest.raises(RequestFailed, match="no adapter 'a' is loaded for 'tiny'; loaded: none") as refused:
        client.generate(EmbeddingsGenerationRequest(RequestID(), "tiny", "fine", "a"))
    assert refused.value.failure.kind is FailureKind.UNKNOWN_MODEL
    assert client.embed(["fine"]).shape == (1, 64)


@pytest.mark.parametrize("field", ["engine.max_batch", "engine.kind", "model.quantization"])
def test_what_embeddings_do_not_heed_is_refused(folder: Path, field: str) -> None:
    section, name = field.split(".")
    value = {"max_batch": 4, "kind": "vllm", "quantization": "int8"}[name]
    config = serving(folder)
    changed = structs.replace(config, **{section: structs.replace(getattr(config, section), **{name: value})})
    with pytest.raises(ConfigError, match=rf"{field}.*: is for models that write"):
        build(changed)


def test_a_long_text_may_be_cut_before_what_ends_every_text(client: Client, folder: Path) -> None:
    long = "fox " * 500
    ids = load_tokenizer(folder).encode(long, parse_special_tokens=True)
    cut = [*ids[: CONTEXT - 1], ids[-1]]
    assert np.abs(client.embed([long], truncate=True) - client.embed([cut])).max() <= 1e-6


def test_fewer_dimensions(client: Client) -> None:
    few = client.embed(["fine"], dimensions=8)
    assert few.shape == (1, 8)
    assert np.linalg.norm(few) == pytest.approx(1)


def test_a_text_model_does_not_embed_and_this_one_does_not_write(client: Client) -> None:
    with pytest.raises(RequestFailed, match="takes EmbeddingsGenerationRequest, got TextGenerationRequest"):
        client.generate(TextGenerationRequest(RequestID(), "tiny", "fine"))


async def test_texts_go_on_elsewhere_when_a_worker_is_killed(folder: Path) -> None:
    texts = sentences(400)
    others = set(servers())
    async with AsyncClient.embedded(serving(folder, count=2)) as client:
        (server,) = set(servers()) - others
        calm = await client.embed(texts)
        embedding = asyncio.ensure_future(client.embed(texts))
        async with asyncio.timeout(30):
            while not any(worker.running for worker in (await client.report()).workers):
                pass  # each report is awaited
        await strike(client, sends(signal.SIGKILL, server))
        assert np.abs(await embedding - calm).max() <= 1e-5


def test_the_command_prints_lines_of_json_or_writes_an_array(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["embed", "the fox", "a list", "--model", str(folder), "--dimensions", "4"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["text"], len(line["embedding"])) for line in lines] == [("the fox", 4), ("a list", 4)]
    file = tmp_path / "vectors.npy"
    assert main(["embed", "the fox", "a list", "--model", str(folder), "-o", str(file)]) == 0
    assert np.load(file).shape == (2, 64)
    assert main(["embed", "the fox", "--model", str(folder), "-o", "vectors.txt"]) == 2
