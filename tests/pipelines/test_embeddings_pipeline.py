"""Who is embedded when, what is refused at the door, and what a step that fails leaves behind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers.processors import TemplateProcessing

from max_engines.embedding.encoder import Encoder, load_encoder
from max_engines.pace import Pace
from max_engines.tokenizer import load_tokenizer
from max_interfaces import Attempt, DeviceLost, EmbeddingsGenerationRequest, GenerationStatus, RequestID, RequestOptions
from max_pipelines.embeddings.batching import Batching, batching
from max_pipelines.embeddings.pipeline import EmbeddingsPipeline
from tests.tiny_encoders import CONTEXT, VOCAB, make_encoder
from tests.tiny_text import BEGIN, END

LONG, SHORT = (9,) * CONTEXT, (9, 10)
ONE_LONG = Batching(CONTEXT, Pace(0.001, 64))


@dataclass(frozen=True, slots=True, eq=False)
class Failing(Encoder):
    """Raises each of these once, before it embeds."""

    problems: list[Exception] = field(default_factory=list)

    def embed(self, texts: Sequence[Sequence[int]]) -> torch.Tensor:
        if self.problems:
            raise self.problems.pop(0)
        return Encoder.embed(self, texts)


class Spoilt(Encoder):
    """The first vector of each batch is no numbers."""

    def embed(self, texts: Sequence[Sequence[int]]) -> torch.Tensor:
        vectors = Encoder.embed(self, texts).clone()
        vectors[0] = torch.nan
        return vectors


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_encoder(tmp_path_factory.mktemp("encoder"), "bert")


@pytest.fixture(scope="module")
def encoder(folder: Path) -> Encoder:
    return load_encoder(folder)


@pytest.fixture
def pipeline(encoder: Encoder, folder: Path) -> EmbeddingsPipeline:
    return EmbeddingsPipeline(encoder, load_tokenizer(folder), ONE_LONG)


def failing(encoder: Encoder, problem: Exception) -> Failing:
    return Failing(encoder.module, encoder.recipe, encoder.layers, encoder.max_tokens, encoder.padding, [problem])


def ask(pipeline: EmbeddingsPipeline, given: str | tuple[int, ...], priority: int = 0) -> RequestID:
    request = EmbeddingsGenerationRequest(RequestID(), "tiny", given)
    pipeline.admit(Attempt(request, options=RequestOptions(priority=priority)))
    return request.request_id


def step(pipeline: EmbeddingsPipeline, active: list[RequestID]) -> list[RequestID]:
    """Who gets a vector; they are no longer active."""
    chunks = pipeline.execute(active)
    assert all(chunk.output is not None and chunk.output.embeddings.size == 64 for chunk in chunks)
    done = [chunk.request_id for chunk in chunks]
    active[:] = [request_id for request_id in active if request_id not in done]
    return done


def test_a_queue_of_long_texts_does_not_keep_a_short_one_waiting(pipeline: EmbeddingsPipeline) -> None:
    active = [ask(pipeline, LONG) for _ in range(8)]
    first, short = active[0], ask(pipeline, SHORT)
    active.append(short)
    assert step(pipeline, active) == [first]
    assert step(pipeline, active) == [short]


def test_short_texts_that_keep_coming_do_not_keep_a_long_one_waiting(pipeline: EmbeddingsPipeline) -> None:
    long = ask(pipeline, LONG)
    active = [long]
    for _ in range(2):
        active += [ask(pipeline, SHORT) for _ in range(200)]
        if long in step(pipeline, active):
            return
    pytest.fail("the long text still waits")


def test_texts_of_like_length_share_a_step(pipeline: EmbeddingsPipeline) -> None:
    oldest = ask(pipeline, SHORT)
    others = [ask(pipeline, (9,) * length) for length in (100, 3, 90, 2)]
    active = [oldest, *others]
    assert set(step(pipeline, active)) == {oldest, others[1], others[3]}


def test_a_higher_priority_goes_first(pipeline: EmbeddingsPipeline) -> None:
    active = [ask(pipeline, LONG) for _ in range(3)]
    urgent = [ask(pipeline, LONG, priority=5) for _ in range(2)]
    active += urgent
    assert step(pipeline, active) + step(pipeline, active) == urgent


def test_who_rests_is_left_out_and_kept(pipeline: EmbeddingsPipeline) -> None:
    resting, other = ask(pipeline, SHORT), ask(pipeline, SHORT)
    assert step(pipeline, [other]) == [other]
    assert step(pipeline, [resting, other]) == [resting]
    assert pipeline.execute([resting]) == []


def test_an_id_that_the_model_does_not_have_is_refused_by_its_number(pipeline: EmbeddingsPipeline) -> None:
    with pytest.raises(ValueError, match=rf"input: has the token id {VOCAB}, this model's end at {VOCAB - 1}"):
        ask(pipeline, (9, VOCAB))
    last = ask(pipeline, (9, VOCAB - 1))
    assert step(pipeline, [last]) == [last]


def test_a_step_that_fails_can_be_repeated(encoder: Encoder, folder: Path) -> None:
    failed = failing(encoder, RuntimeError("no memory"))
    pipeline = EmbeddingsPipeline(failed, load_tokenizer(folder), ONE_LONG)
    active = [ask(pipeline, SHORT) for _ in range(4)]
    with pytest.raises(RuntimeError, match="no memory"):
        pipeline.execute(active)
    assert step(pipeline, active[:2]) + step(pipeline, active[2:]) == active


def test_a_device_that_is_lost_is_said_to_be(encoder: Encoder, folder: Path) -> None:
    lost = failing(encoder, RuntimeError("CUDA error: an illegal memory access was encountered"))
    pipeline = EmbeddingsPipeline(lost, load_tokenizer(folder), ONE_LONG)
    active = [ask(pipeline, SHORT)]
    with pytest.raises(DeviceLost, match="illegal memory access"):
        pipeline.execute(active)


def test_a_vector_that_is_no_numbers_fails_alone(encoder: Encoder, folder: Path) -> None:
    spoilt = Spoilt(encoder.module, encoder.recipe, encoder.layers, encoder.max_tokens, encoder.padding)
    pipeline = EmbeddingsPipeline(spoilt, load_tokenizer(folder), ONE_LONG)
    chunks = pipeline.execute([ask(pipeline, SHORT), ask(pipeline, SHORT)])
    statuses = [chunk.output.final_status for chunk in chunks if chunk.output is not None]
    assert statuses == [GenerationStatus.FAILED, GenerationStatus.END_OF_SEQUENCE]


def test_how_long_a_step_may_take_goes_by_the_longest_text(pipeline: EmbeddingsPipeline) -> None:
    assert pipeline.step_s() == pytest.approx(CONTEXT * 0.001)  # a full batch of short ones
    short, long = ask(pipeline, SHORT), ask(pipeline, LONG)
    assert pipeline.step_s() == pytest.approx(CONTEXT * 0.001 * 3)  # its attention is as wide as two layers' products
    pipeline.release(long)
    assert pipeline.step_s() < CONTEXT * 0.001 * 1.1
    pipeline.release(short)


def test_the_pace_is_measured_unless_the_budget_is_given(encoder: Encoder) -> None:
    measured = batching(encoder)
    assert measured.pace.token_s > 0
    assert measured.pace.width == 64
    assert 256 <= measured.token_budget <= 512  # on a CPU
    assert batching(encoder, 70).token_budget == 70


def test_a_text_is_read_in_lower_case_where_the_checkpoint_says_so(folder: Path, tmp_path: Path) -> None:
    cased = make_encoder(tmp_path, "bert", "pooling_mode_mean_tokens")
    (cased / "sentence_bert_config.json").write_text('{"do_lower_case": true}')
    pipeline = EmbeddingsPipeline(load_encoder(cased), load_tokenizer(cased), ONE_LONG)
    chunks = pipeline.execute([ask(pipeline, "The Fox"), ask(pipeline, "the fox")])
    first, second = (chunk.output.embeddings for chunk in chunks if chunk.output is not None)
    assert np.array_equal(first, second)


@pytest.mark.parametrize("most", [1, 2, 3, 6])
def test_a_text_is_cut_to_as_little_as_a_request_says_its_end_last(most: int, encoder: Encoder, folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    tokenizer.inner._tokenizer.post_processor = TemplateProcessing(  # two ids behind every text, as XLNet has them
        single="<s> $A </s> </s>", special_tokens=[("<s>", BEGIN), ("</s>", END)]
    )
    pipeline = EmbeddingsPipeline(encoder, tokenizer, ONE_LONG)
    for asked in ("the quick brown fox", tuple(range(20, 40))):
        request = EmbeddingsGenerationRequest(
            RequestID(), "tiny", asked, truncate=True, max_tokens=most, return_prompt=True
        )
        pipeline.admit(Attempt(request))
        (chunk,) = pipeline.execute([request.request_id])
        ids = tuple(tokenizer.encode(asked)) if isinstance(asked, str) else asked
        kept = min(2, most) if isinstance(asked, str) else 0
        assert chunk.output is not None
        assert chunk.output.prompt_tokens == (*ids[: most - kept], *ids[len(ids) - kept :])
        assert chunk.output.num_prompt_tokens == most
    with pytest.raises(ValueError, match=f"input: has 20 tokens, at most {most} fit"):
        pipeline.admit(Attempt(EmbeddingsGenerationRequest(RequestID(), "tiny", (9,) * 20, max_tokens=most)))
