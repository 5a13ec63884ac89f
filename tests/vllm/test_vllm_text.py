"""Text over the real road, from vLLM's worker and from ours: the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from max_interfaces import FailureKind, GenerationStatus, RequestFailed, RequestID, TextGenerationResponseFormat
from max_interfaces.values import Json
from max_pipelines.client import Client
from max_pipelines.config import Config
from tests.vllm.serving import essence, on_vllm, written

PROMPTS = ["the quick brown fox", "naïve 🦊 中文", '{"name": ', "a list of words"]


@pytest.fixture(scope="module")
def clients(text: Config) -> Iterator[tuple[Client, Client]]:
    """Ours, and vLLM's."""
    with Client.embedded(text) as ours, Client.embedded(on_vllm(text)) as theirs:
        yield ours, theirs


def test_text_is_ours(clients: tuple[Client, Client]) -> None:
    ours, theirs = clients
    for prompt in PROMPTS:
        assert essence(theirs.generate(written(prompt))) == essence(ours.generate(written(prompt)))
    stop = ours.generate(written()).text[5:8]
    assert essence(theirs.generate(written(stop=(stop,)))) == essence(ours.generate(written(stop=(stop,))))


def test_a_grammar_is_ours(clients: tuple[Client, Client]) -> None:
    schema = Json('{"type": "object", "properties": {"age": {"enum": [3, 12]}}, "required": ["age"]}')
    form = TextGenerationResponseFormat("json_schema", schema)
    asked = replace(written(max_new_tokens=60), response_format=form)
    answers = [client.generate(replace(asked, request_id=RequestID())) for client in clients]
    assert essence(answers[0]) == essence(answers[1])
    assert answers[0].final_status is GenerationStatus.END_OF_SEQUENCE


def test_n_is_ours_and_what_cannot_be_done_is_refused(clients: tuple[Client, Client]) -> None:
    ours, theirs = clients
    assert list(map(essence, theirs.generate_all(written(n=2)))) == list(map(essence, ours.generate_all(written(n=2))))
    with pytest.raises(RequestFailed, match=r"SamplingParams.typical_p = 0\.5: .* engine.kind vllm") as caught:
        theirs.generate(written(typical_p=0.5))
    assert caught.value.failure.kind is FailureKind.INVALID_REQUEST
