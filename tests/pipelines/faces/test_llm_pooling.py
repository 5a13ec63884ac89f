"""`LLM` of models that make vectors: `encode`, `embed`, `score`, held to plain transformers."""

from __future__ import annotations

import asyncio
import json
import math
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    AutoTokenizer,
)

from max_engines.embedding.encoder import Encoder
from max_interfaces import FailureKind, NotServing, RequestFailed
from max_pipelines.client.embedding import WINDOW
from max_pipelines.llm import (
    LLM,
    AsyncLLM,
    EmbeddingRequestOutput,
    LoRARequest,
    PoolingParams,
    PoolingRequestOutput,
    PromptAdapterRequest,
    PromptType,
    RequestOutputKind,
    SamplingParams,
    ScoringRequestOutput,
    TextPrompt,
    TokensPrompt,
)
from max_pipelines.llm.arguments import Arguments
from max_pipelines.llm.tasks import is_for_pooling
from tests.tiny_encoders import CONTEXT, make_encoder, plain
from tests.tiny_text import make_tiny_text

TEXTS = ["the quick brown fox", "a list", "naïve 🦊 中文", "x"]
CLOSE = 1e-5
TOO_LONG = [9] * (CONTEXT + 1)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An encoder that averages its tokens, and a decoder that takes its last one."""
    bert, decoder = tmp_path_factory.mktemp("bert"), tmp_path_factory.mktemp("qwen3")
    return {"bert": make_encoder(bert, "bert"), "qwen3": make_encoder(decoder, "qwen3", "pooling_mode_lasttoken")}


@pytest.fixture(scope="module")
def llms(folders: dict[str, Path]) -> Iterator[dict[str, LLM]]:
    with LLM(str(folders["bert"]), transport="thread") as bert, LLM(str(folders["qwen3"]), transport="thread") as other:
        yield {"bert": bert, "qwen3": other}


@pytest.fixture
def llm(llms: dict[str, LLM]) -> LLM:
    return llms["bert"]


def ids_of(folder: Path, text: str) -> list[int]:
    found: list[int] = AutoTokenizer.from_pretrained(folder).encode(text)
    return found


def by_transformers(folder: Path, ids: list[int], *, normalized: bool = True) -> np.ndarray[Any, Any]:
    with torch.inference_mode():
        hidden = plain(folder)(input_ids=torch.tensor([ids])).last_hidden_state[0]
    vector = hidden[-1] if (folder / "modules.json").exists() else hidden.mean(0)
    made: np.ndarray[Any, Any] = (vector / vector.norm() if normalized else vector).numpy()
    return made


def far(output: EmbeddingRequestOutput, expected: np.ndarray[Any, Any]) -> float:
    return float(np.abs(np.array(output.outputs.embedding) - expected).max())


@pytest.mark.parametrize("kind", ["bert", "qwen3"])
def test_vectors_are_those_of_transformers_in_the_order_of_the_prompts(
    kind: str, llms: dict[str, LLM], folders: dict[str, Path]
) -> None:
    texts = TEXTS * 20
    outputs = llms[kind].encode(texts, use_tqdm=False)
    ids = {text: ids_of(folders[kind], text) for text in TEXTS}
    expected = {text: by_transformers(folders[kind], ids[text]) for text in TEXTS}
    assert [output.prompt_token_ids for output in outputs] == [ids[text] for text in texts]
    assert max(far(output, expected[text]) for output, text in zip(outputs, texts, strict=True)) <= CLOSE
    numbers = [int(output.request_id) for output in outputs]
    assert numbers == list(range(numbers[0], numbers[0] + len(texts)))


def test_a_model_that_generates_can_be_asked_for_vectors_of_last_tokens(tmp_path: Path) -> None:
    folder = make_encoder(tmp_path, "llama")
    with LLM(str(folder), task="embedding", transport="thread") as llm:
        outputs = llm.encode(TEXTS, use_tqdm=False)
    for text, output in zip(TEXTS, outputs, strict=True):
        with torch.inference_mode():
            hidden = plain(folder)(input_ids=torch.tensor([ids_of(folder, text)])).last_hidden_state[0, -1]
        assert far(output, (hidden / hidden.norm()).numpy()) <= CLOSE
    assert not is_for_pooling("auto", str(folder), None)


def test_an_output_has_the_fields_of_vllm(llm: LLM) -> None:
    (output,) = llm.encode("the quick", use_tqdm=False)
    assert isinstance(output, PoolingRequestOutput)
    assert output.finished
    assert (output.error, output.num_cached_tokens) == (None, 0)
    assert output.outputs.hidden_size == len(output.outputs.embedding) == 64
    assert all(isinstance(number, float) for number in output.outputs.embedding)
    assert torch.equal(output.outputs.data, torch.tensor(output.outputs.embedding))
    assert output.outputs.data.dtype == torch.float32


def test_a_bar_is_shown_unless_it_is_not_wanted(llm: LLM, capsys: pytest.CaptureFixture[str]) -> None:
    llm.encode(TEXTS, use_tqdm=True)
    assert f"{len(TEXTS)}/{len(TEXTS)}" in capsys.readouterr().err
    llm.encode(TEXTS, use_tqdm=False)
    assert capsys.readouterr().err == ""


def test_every_way_to_give_a_prompt_is_the_same_prompt(llm: LLM) -> None:
    ids = llm.get_tokenizer().encode("the quick")
    params = PoolingParams(dimensions=8)
    expected = [llm.encode("the quick", params, use_tqdm=False)[0].outputs]
    ways: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        (("the quick", params), {}),
        ((["the quick"], params), {}),
        ((["the quick"], [params]), {}),
        ((TextPrompt(prompt="the quick"),), {"pooling_params": params}),
        ((TokensPrompt(prompt_token_ids=ids),), {"pooling_params": params}),
        (([TextPrompt(prompt="the quick")],), {"pooling_params": [params]}),
        ((ids, params), {}),
        (([ids], params), {}),
        (("the quick", params, ids), {}),
        ((["the quick"], params, [ids]), {}),
        ((None, params, ids), {}),
        ((None, params, [ids], False, None, None), {}),
        ((), {"prompt_token_ids": ids, "pooling_params": params}),
        ((), {"prompt_token_ids": [ids], "pooling_params": params}),
        ((), {"inputs": "the quick", "pooling_params": params}),
        ((), {"inputs": [TokensPrompt(prompt_token_ids=ids)], "pooling_params": params}),
    ]
    for args, kwargs in ways:
        found = llm.encode(*args, **kwargs if len(args) > 3 else kwargs | {"use_tqdm": False})
        assert [output.outputs.embedding for output in found] == [pytest.approx(expected[0].embedding, abs=CLOSE)]
    assert llm.encode([], use_tqdm=False) == []
    assert len(llm.encode(None, None, [ids, ids], use_tqdm=False)) == 2


def test_old_ways_are_warned_of_where_that_is_wanted(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LLM, "DEPRECATE_LEGACY", True)
    with pytest.warns(DeprecationWarning, match="prompt_token_ids"):
        llm.encode(prompt_token_ids=[9, 10], use_tqdm=False)


def test_parameters_are_one_for_all_or_one_for_each(llm: LLM) -> None:
    few = [PoolingParams(dimensions=number) for number in (1, 2, 3, 4)]
    outputs = llm.encode(TEXTS, few, use_tqdm=False)
    assert [output.outputs.hidden_size for output in outputs] == [1, 2, 3, 4]
    with pytest.raises(ValueError, match="pooling_params: 3 of them for 4 prompts"):
        llm.encode(TEXTS, few[:3], use_tqdm=False)


@settings(max_examples=20, deadline=None)
@given(
    ids=st.lists(st.integers(8, 400), min_size=1, max_size=CONTEXT + 40),
    dimensions=st.none() | st.integers(1, 64),
    normalize=st.none() | st.booleans(),
    cut=st.just(-1) | st.integers(1, CONTEXT + 20),
)
def test_parameters_do_what_they_say(
    ids: list[int],
    dimensions: int | None,
    normalize: bool | None,
    cut: int,
    llms: dict[str, LLM],
    folders: dict[str, Path],
) -> None:
    params = PoolingParams(dimensions=dimensions, normalize=normalize, truncate_prompt_tokens=cut)
    (output,) = llms["bert"].encode(ids, params, use_tqdm=False)
    read = ids[: min(CONTEXT, CONTEXT if cut == -1 else cut)]
    expected = by_transformers(folders["bert"], read, normalized=False)[:dimensions]
    if normalize is not False:
        expected = expected / np.linalg.norm(expected)
    assert output.prompt_token_ids == read
    assert far(output, expected) <= CLOSE * max(1.0, float(np.abs(expected).max()))


def test_a_text_that_is_cut_keeps_what_the_tokenizer_puts_behind_it(llm: LLM) -> None:
    ids = llm.get_tokenizer().encode("the quick brown fox " * 60)
    for most in (1, 2, 9, CONTEXT):
        (output,) = llm.embed("the quick brown fox " * 60, truncate_prompt_tokens=most, use_tqdm=False)
        assert output.prompt_token_ids == [*ids[: most - 1], ids[-1]]


def test_parameters_are_refused_by_their_own_names() -> None:
    for fields, words in (
        ({"dimensions": 0}, "PoolingParams.dimensions = 0: must be from 1"),
        ({"truncate_prompt_tokens": 0}, "PoolingParams.truncate_prompt_tokens = 0: must be -1, or from 1"),
        ({"truncate_prompt_tokens": -2}, "truncate_prompt_tokens = -2"),
        ({"normalize": True, "use_activation": False}, "another name of normalize"),
        ({"additional_data": {"a": 1}}, "PoolingParams.additional_data = .*leave it out"),
        ({"softmax": True}, "PoolingParams.softmax = True: leave it out"),
        ({"activation": False}, "PoolingParams.activation = False: leave it out"),
        ({"step_tag_id": 1}, "step_tag_id"),
        ({"returned_token_ids": [1]}, "returned_token_ids"),
        ({"task": "classify"}, "PoolingParams.task = 'classify': can be 'embed'"),
        ({"output_kind": RequestOutputKind.DELTA}, "output_kind"),
    ):
        with pytest.raises(ValueError, match=words):
            PoolingParams(**fields)
    assert PoolingParams(use_activation=False, task="embed").translated()["normalize"] is False
    params = PoolingParams(dimensions=3)
    other = params.clone()
    other.dimensions = 4
    assert params.dimensions == 3


def test_one_bad_prompt_among_sixteen_fails_alone(llm: LLM) -> None:
    prompts: list[Any] = [*["the fox"] * 7, TOO_LONG, *["the fox"] * 7, ""]
    with pytest.warns(UserWarning, match=f"2 of 16 prompts failed: input: has {CONTEXT + 1} tokens, at most {CONTEXT}"):
        outputs = llm.encode(prompts, use_tqdm=False)
    good = [at for at, output in enumerate(outputs) if output.error is None]
    assert good == [*range(7), *range(8, 15)]
    assert outputs[7].outputs.embedding == outputs[15].outputs.embedding == []
    assert outputs[7].prompt_token_ids == TOO_LONG
    assert isinstance(outputs[7].error, ValueError)
    assert isinstance(outputs[15].error, ValueError)
    with pytest.raises(ValueError, match=f"has {CONTEXT + 1} tokens"):
        llm.encode(TOO_LONG)
    with pytest.raises(ValueError, match="dimensions = 65: this model's embeddings have 64"):
        llm.encode("x", PoolingParams(dimensions=65))


def test_embed_is_encode(llm: LLM) -> None:
    few = [PoolingParams(dimensions=4, normalize=False), PoolingParams()]
    for params in (None, few[0], few):
        left, right = llm.embed(TEXTS[:2], pooling_params=params, use_tqdm=False), llm.encode(TEXTS[:2], params)
        for one, other in zip(left, right, strict=True):
            assert one.outputs.embedding == pytest.approx(other.outputs.embedding, abs=CLOSE)


def test_scores_are_cosines_of_one_against_many_and_pair_by_pair(llm: LLM) -> None:
    raw = llm.encode(TEXTS, PoolingParams(normalize=False), use_tqdm=False)
    vectors = [output.outputs.data for output in raw]
    expected = [[float(torch.cosine_similarity(a, b, 0)) for b in vectors] for a in vectors]
    many = llm.score(TEXTS[0], TEXTS, use_tqdm=False)
    assert [output.outputs.score for output in many] == pytest.approx(expected[0], abs=CLOSE)
    pairs = llm.score(TEXTS, TEXTS[::-1], use_tqdm=False)
    assert [one.outputs.score for one in pairs] == pytest.approx([expected[at][3 - at] for at in range(4)], abs=CLOSE)
    (one,) = llm.score([TEXTS[0]], TEXTS[1], use_tqdm=False)
    assert isinstance(one, ScoringRequestOutput)
    assert one.outputs.score == pytest.approx(expected[0][1], abs=CLOSE)
    assert one.prompt_token_ids == [*raw[0].prompt_token_ids, *raw[1].prompt_token_ids]
    assert one.finished
    (few,) = llm.score(TEXTS[0], TEXTS[1], pooling_params=PoolingParams(dimensions=3), use_tqdm=False)
    shorter = float(torch.cosine_similarity(vectors[0][:3], vectors[1][:3], 0))
    assert few.outputs.score == pytest.approx(shorter, abs=CLOSE)
    (long,) = llm.score(TEXTS[0], TEXTS[1], pooling_params=PoolingParams(normalize=False), use_tqdm=False)
    assert long.outputs.score == pytest.approx(expected[0][1], abs=CLOSE)
    (cut,) = llm.score(TEXTS[0], TOO_LONG, truncate_prompt_tokens=5, use_tqdm=False)
    assert len(cut.prompt_token_ids) == len(raw[0].prompt_token_ids[:5]) + 5


def test_a_pair_fails_alone_and_numbers_must_agree(llm: LLM) -> None:
    others: list[PromptType] = ["the", TOO_LONG, "the"]
    with pytest.warns(UserWarning, match="1 of 4 prompts failed"):
        outputs = llm.score("the", others, use_tqdm=False)
    assert [output.error is None for output in outputs] == [True, False, True]
    assert math.isnan(outputs[1].outputs.score)
    assert outputs[0].outputs.score == pytest.approx(1, abs=CLOSE)
    with pytest.warns(UserWarning, match="1 of 3 prompts failed"):
        assert all(isinstance(one.error, ValueError) for one in llm.score(TOO_LONG, ["a", "b"], use_tqdm=False))
    with pytest.raises(ValueError, match="tokens, at most"):
        llm.score("the", TOO_LONG)
    for first, second in (([], ["a"]), (["a", "b"], ["a"]), (["a", "b"], ["a", "b", "c"])):
        with pytest.raises(ValueError, match=f"score: {len(first)} texts against {len(second)}"):
            llm.score(first, second)


def test_adapters_are_refused_by_name(llm: LLM) -> None:
    lora, soft = LoRARequest("a", 1, "folder"), PromptAdapterRequest("a", 1, "folder", 8)
    for call in (llm.encode, llm.embed):
        with pytest.raises(ValueError, match="lora_request: adapters of embedding models are not supported"):
            call("the", lora_request=lora)
        with pytest.raises(ValueError, match="lora_request"):
            call(["the", "a"], lora_request=[None, lora])
        with pytest.raises(ValueError, match="prompt_adapter_request: adapters"):
            call(["the", "a"], prompt_adapter_request=[None, soft])
    with pytest.raises(ValueError, match="lora_request"):
        llm.score("the", "a", lora_request=lora)
    assert len(llm.encode(["the", "a"], lora_request=[None, None], use_tqdm=False)) == 2


@pytest.mark.parametrize("given", [{"multi_modal_data": {"image": b"x"}}, {"mm_processor_kwargs": {"a": 1}}])
def test_media_are_refused_by_name(given: Any, llm: LLM) -> None:
    with pytest.raises(ValueError, match="multi_modal_data, mm_processor_kwargs: this model reads text only"):
        llm.embed([{"prompt": "the", **given}])  # type: ignore[arg-type]


def test_what_pools_does_not_generate_nor_the_other_way_round(llm: LLM, tmp_path: Path) -> None:
    turn = [{"role": "user", "content": "x"}]
    calls: list[Callable[[], object]] = [
        lambda: llm.generate("the"),
        lambda: llm.chat(turn),
        lambda: next(llm.stream("the")),
        lambda: next(llm.stream_chat(turn)),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="this LLM is for pooling"):
            call()
    make_tiny_text(tmp_path)
    with LLM(str(tmp_path), transport="thread") as writing:
        for name in ("encode", "embed"):
            with pytest.raises(ValueError, match=rf"LLM.{name}\(\) is only supported for pooling models"):
                getattr(writing, name)("the")
        with pytest.raises(ValueError, match=r"LLM.score\(\) is only supported for pooling models"):
            writing.score("the", "the")
        assert writing.generate("the", SamplingParams(max_tokens=1), use_tqdm=False)[0].error is None


def test_threads_call_it_side_by_side(llm: LLM, folders: dict[str, Path]) -> None:
    found: dict[str, list[EmbeddingRequestOutput]] = {}

    def ask(text: str) -> None:
        found[text] = llm.encode([text] * 30, use_tqdm=False)

    threads = [threading.Thread(target=ask, args=(text,)) for text in TEXTS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for text in TEXTS:
        expected = by_transformers(folders["bert"], ids_of(folders["bert"], text))
        assert max(far(output, expected) for output in found[text]) <= CLOSE


async def test_what_waits_is_cancelled_or_late_and_the_rest_goes_on(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    at_work, go_on = threading.Event(), threading.Event()
    go_on.set()
    embed = Encoder.embed

    def waiting(self: Encoder, texts: Sequence[Sequence[int]]) -> torch.Tensor:
        at_work.set()
        go_on.wait(30)
        return embed(self, texts)

    monkeypatch.setattr(Encoder, "embed", waiting)
    async with AsyncLLM(str(folders["bert"]), task="embed", transport="thread") as llm:
        go_on.clear()
        at_work.clear()
        first = asyncio.ensure_future(llm.encode("the", use_tqdm=False))
        await asyncio.to_thread(at_work.wait, 30)
        second = asyncio.ensure_future(llm.encode("the", use_tqdm=False))
        while not second.done():
            llm.cancel("1")  # of no effect before it is known
            await asyncio.sleep(0)
        with pytest.raises(RequestFailed) as late:
            await llm.embed("the", deadline_s=1e-3, use_tqdm=False)
        with pytest.warns(UserWarning, match="3 of 3 prompts failed"):
            all_late = await llm.encode(TEXTS[:3], deadline_s=1e-3, use_tqdm=False)
        go_on.set()
        ((output,), (score,)) = await first, await llm.score("the", "the", use_tqdm=False)
        with pytest.raises(RequestFailed) as cancelled:
            await second
    assert cancelled.value.failure.kind is FailureKind.CANCELLED
    assert late.value.failure.kind is FailureKind.DEADLINE_EXCEEDED
    assert all(isinstance(one.error, RequestFailed) for one in all_late)
    assert output.outputs.hidden_size == 64
    assert score.outputs.score == pytest.approx(1, abs=CLOSE)


def test_a_process_of_its_own_and_its_end(folders: dict[str, Path]) -> None:
    folder = folders["qwen3"]
    llm = LLM(str(folder))
    assert far(llm.embed("x", use_tqdm=False)[0], by_transformers(folder, ids_of(folder, "x"))) <= CLOSE
    llm.close()
    with pytest.raises(NotServing):
        llm.encode("x", use_tqdm=False)


def test_without_a_tokenizer_ids_go_in_and_texts_have_bounds(folders: dict[str, Path], llm: LLM) -> None:
    with LLM(str(folders["bert"]), skip_tokenizer_init=True, max_model_len=16, transport="thread") as ids_only:
        (output,) = ids_only.encode([10, 11], use_tqdm=False)
        assert output.outputs.embedding == pytest.approx(llm.encode([10, 11])[0].outputs.embedding, abs=CLOSE)
        with pytest.raises(ValueError, match="give prompt_token_ids"):
            ids_only.encode("the")
        with pytest.raises(ValueError, match="has 17 tokens, at most 16 fit"):
            ids_only.encode([9] * 17)
        (cut,) = ids_only.encode([9] * 17, PoolingParams(truncate_prompt_tokens=-1), use_tqdm=False)
        assert cut.prompt_token_ids == [9] * 16


def written(folder: Path, config: Mapping[str, object] | str, *, modules: bool = False) -> str:
    folder.mkdir()
    (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    if modules:
        (folder / "modules.json").write_text("[]")
    return str(folder)


def test_the_checkpoint_says_what_it_is_for(tmp_path: Path) -> None:
    encoder_decoder = {"architectures": ["BartModel"], "is_encoder_decoder": True}
    for number, (config, pools) in enumerate(
        [
            ({"architectures": ["BertForMaskedLM"]}, True),
            ({"architectures": ["BertModel"]}, True),
            ({"architectures": ["Qwen3Model"]}, True),
            ({"architectures": ["BertForPreTraining"]}, True),
            ({"architectures": ["LlamaForCausalLM"]}, False),
            ({"architectures": ["GPT2LMHeadModel"]}, False),
            ({"architectures": ["T5ForConditionalGeneration"]}, False),
            (encoder_decoder, False),
            ({"architectures": []}, False),
            ({"architectures": 5}, False),
            ({}, False),
            ([], False),
            ("{", False),
        ]
    ):
        folder = written(tmp_path / str(number), config)  # type: ignore[arg-type]
        assert is_for_pooling("auto", folder, None) is pools, config
    saved = written(tmp_path / "saved", {"architectures": ["Qwen3ForCausalLM"]}, modules=True)
    assert is_for_pooling("auto", saved, None)
    assert not is_for_pooling("generate", saved, None)
    assert not is_for_pooling("auto", str(tmp_path / "none"), None)
    for task in ("embed", "embedding", "encode"):
        assert Arguments.of(str(tmp_path / "4"), {"task": task}).config().pipeline.kind == "embeddings"
    classes = written(tmp_path / "classes", {"architectures": ["BertForSequenceClassification"]}, modules=True)
    with pytest.raises(ValueError, match="BertForSequenceClassification tells classes; cross-encoders"):
        LLM(classes)
    assert is_for_pooling("embed", classes, None)


def test_a_model_on_the_hub_is_known_from_its_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    for name, modules in (("embeds", "snapshots"), ("writes", ".no_exist")):
        folder = tmp_path / f"models--someone--{name}"
        for at in ("refs", "snapshots/1", f"{modules}/1"):
            (folder / at).mkdir(parents=True, exist_ok=True)
        (folder / "refs" / "main").write_text("1")
        (folder / "snapshots" / "1" / "config.json").write_text('{"architectures": ["Qwen3ForCausalLM"]}')
        (folder / modules / "1" / "modules.json").write_text("[]")
    assert is_for_pooling("auto", "someone/embeds", None)
    assert not is_for_pooling("auto", "someone/writes", None)
    assert not is_for_pooling("auto", "someone/unknown", None)


def test_arguments_of_models_that_make_vectors(folders: dict[str, Path]) -> None:
    folder = str(folders["bert"])
    config = Arguments.of(folder, {"max_num_batched_tokens": 256, "max_model_len": 64, "dtype": "float32"}).config()
    assert (config.engine.token_budget, config.engine.max_length, config.model.dtype) == (256, 64, "float32")
    for named, words in (
        ({"max_num_seqs": 4}, "max_num_seqs has no effect: max_num_batched_tokens"),
        ({"enable_prefix_caching": True}, "embeddings need no KV cache"),
        ({"kv_cache_dtype": "int8"}, "embeddings need no KV cache"),
        ({"enable_lora": True}, "adapters of embedding models are not supported"),
    ):
        with pytest.warns(UserWarning, match=words):
            Arguments.of(folder, named).config()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Arguments.of(folder, {"enable_lora": False, "kv_cache_dtype": "auto", "block_size": None}).config()
    for named in ({"tensor_parallel_size": 2}, {"quantization": "awq"}, {"cpu_offload_gb": 1}):
        with pytest.raises(ValueError, match=next(iter(named))):
            Arguments.of(folder, named).config()


async def test_what_is_still_to_be_sent_can_be_cancelled(folders: dict[str, Path]) -> None:
    async with AsyncLLM(str(folders["bert"]), task="embed", transport="thread") as llm:
        asked = asyncio.create_task(llm.encode(["the"] * (WINDOW + 1), use_tqdm=False))
        await asyncio.sleep(0)
        llm.cancel(str(WINDOW))
        with pytest.warns(UserWarning, match=f"1 of {WINDOW + 1} prompts failed: cancelled"):
            outputs = await asked
    assert [output.error is None for output in outputs] == [True] * WINDOW + [False]
