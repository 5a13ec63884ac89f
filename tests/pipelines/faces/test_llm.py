"""vLLM's `LLM` on this engine: the same calls, and what its users have asked for in vain."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from msgspec.structs import asdict
from transformers import AutoModelForCausalLM, AutoTokenizer

from max_interfaces import FailureKind, NotServing, RequestFailed
from max_pipelines.config import EngineConfig
from max_pipelines.engines import OF_VLLM
from max_pipelines.llm import (
    LLM,
    AsyncLLM,
    GuidedDecodingParams,
    LoRARequest,
    RequestOutput,
    RequestOutputKind,
    SamplingParams,
    TextPrompt,
    TokensPrompt,
)
from max_pipelines.llm.arguments import Arguments
from max_pipelines.many import WINDOW
from tests.tiny_text import make_tiny_text

GREEDY = SamplingParams(temperature=0, max_tokens=8)
PROMPTS = ["the quick", "a list of", "naïve 🦊"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("tiny")
    make_tiny_text(path)
    return str(path)


@pytest.fixture(scope="module")
def llm(folder: str) -> Iterator[LLM]:
    with LLM(folder, transport="thread") as llm:
        yield llm


def by_transformers(folder: str, prompt: str, count: int) -> list[int]:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = torch.tensor([tokenizer.encode(prompt)])
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    made = model.generate(ids, do_sample=False, max_new_tokens=count, pad_token_id=0)  # type: ignore[misc]
    found: list[int] = made[0, ids.shape[1] :].tolist()
    return found


def texts(llm: LLM, *args: Any, **kwargs: Any) -> list[str]:
    return [output.outputs[0].text for output in llm.generate(*args, **kwargs | {"use_tqdm": False})]


def test_results_are_those_of_transformers_in_the_order_of_the_prompts(llm: LLM, folder: str) -> None:
    outputs = llm.generate(PROMPTS, GREEDY, use_tqdm=False)
    assert [output.prompt for output in outputs] == PROMPTS
    for output in outputs:
        (one,) = output.outputs
        assert list(one.token_ids) == by_transformers(folder, str(output.prompt), 8)
        assert one.text == llm.get_tokenizer().decode(list(one.token_ids), skip_special_tokens=True)
        assert output.prompt_token_ids == tuple(llm.get_tokenizer().encode(str(output.prompt)))
        assert one.finish_reason in ("length", "stop")
        assert output.finished
        assert output.metrics is not None


def test_every_way_to_give_a_prompt_is_the_same_prompt(llm: LLM) -> None:
    ids = llm.get_tokenizer().encode("the quick")
    expected = texts(llm, "the quick", GREEDY)
    assert texts(llm, ["the quick"], GREEDY) == expected
    assert texts(llm, TextPrompt(prompt="the quick"), GREEDY) == expected
    assert texts(llm, [TokensPrompt(prompt_token_ids=ids)], GREEDY) == expected
    assert texts(llm, prompt_token_ids=ids, sampling_params=GREEDY) == expected
    assert texts(llm, None, GREEDY, [ids]) == expected
    assert texts(llm, inputs="the quick", sampling_params=GREEDY) == expected
    assert texts(llm, [ids], GREEDY) == expected


def test_parameters_are_one_for_all_or_one_for_each(llm: LLM) -> None:
    few = [SamplingParams(temperature=0, max_tokens=number) for number in (1, 2, 3)]
    outputs = llm.generate(PROMPTS, few, use_tqdm=False)
    assert [len(output.outputs[0].token_ids) for output in outputs] == [1, 2, 3]
    with pytest.raises(ValueError, match="sampling_params: 2 of them for 3 prompts"):
        llm.generate(PROMPTS, few[:2], use_tqdm=False)
    with pytest.raises(ValueError, match="sampling_params: 0 of them for 3 prompts"):
        llm.generate(PROMPTS, [], use_tqdm=False)
    with pytest.raises(ValueError, match="priority: 0 of them for 3 prompts"):
        llm.generate(PROMPTS, few, use_tqdm=False, priority=[])
    assert llm.generate([], [], use_tqdm=False, priority=[]) == []
    assert len(llm.generate("the", use_tqdm=False)[0].outputs[0].token_ids) <= 16


def test_log_probabilities_have_ids_scores_ranks_and_texts(llm: LLM) -> None:
    params = SamplingParams(temperature=0, max_tokens=3, logprobs=2, prompt_logprobs=1)
    (output,) = llm.generate("the quick", params, use_tqdm=False)
    (one,) = output.outputs
    assert one.logprobs is not None
    for token, row in zip(one.token_ids, one.logprobs, strict=True):
        assert row[token].rank == 1
        assert len(row) == 2
        assert row[token].decoded_token == llm.get_tokenizer().decode([token])
    assert one.cumulative_logprob == pytest.approx(
        sum(row[token].logprob for token, row in zip(one.token_ids, one.logprobs, strict=True))
    )
    assert output.prompt_logprobs is not None
    assert output.prompt_logprobs[0] is None
    assert output.prompt_token_ids is not None
    assert all(
        row is not None and token in row
        for token, row in zip(output.prompt_token_ids[1:], output.prompt_logprobs[1:], strict=True)
    )


def test_several_texts_of_one_prompt(llm: LLM) -> None:
    (output,) = llm.generate("the", SamplingParams(n=3, max_tokens=6, seed=1), use_tqdm=False)
    assert [one.index for one in output.outputs] == [0, 1, 2]
    assert len({one.text for one in output.outputs}) > 1


def test_one_bad_prompt_among_sixteen_fails_alone(llm: LLM) -> None:
    prompts: list[Any] = [*["the fox"] * 7, [9] * 600, *["the fox"] * 8]
    with pytest.warns(UserWarning, match="1 of 16 prompts failed: prompt: has 600 tokens, at most 511 fit"):
        outputs = llm.generate(prompts, GREEDY, use_tqdm=False)
    assert [output.error is None for output in outputs] == [True] * 7 + [False] + [True] * 8
    assert outputs[7].outputs[0].finish_reason == "error"
    assert isinstance(outputs[7].error, ValueError)
    assert len({outputs[0].outputs[0].text, outputs[15].outputs[0].text}) == 1
    with pytest.raises(ValueError, match="has 600 tokens"):
        llm.generate([9] * 600, GREEDY)


def test_threads_call_it_side_by_side(llm: LLM) -> None:
    found: dict[str, list[str]] = {}

    def ask(prompt: str) -> None:
        found[prompt] = texts(llm, [prompt] * 5, GREEDY)

    threads = [threading.Thread(target=ask, args=(prompt,)) for prompt in PROMPTS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {prompt: texts(llm, prompt, GREEDY) * 5 for prompt in PROMPTS}


def test_a_call_that_is_interrupted_leaves_nothing_behind(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    endless = SamplingParams(max_tokens=400, ignore_eos=True)
    from concurrent.futures import Future

    real = Future.result

    def interrupted(self: Future[object], timeout: float | None = None) -> object:
        monkeypatch.setattr(Future, "result", real)
        raise KeyboardInterrupt

    monkeypatch.setattr(Future, "result", interrupted)
    with pytest.raises(KeyboardInterrupt):
        llm.generate(["the"] * 20, endless, use_tqdm=False)
    assert len(llm.generate("the", GREEDY, use_tqdm=False)) == 1
    client = llm._llm._client
    for _ in range(500):
        if not llm._held.run(client.report()).gauges["requests"]:
            return
    pytest.fail("requests of the interrupted call are still running")


@pytest.mark.parametrize("kind", RequestOutputKind)
def test_streams_give_all_so_far_or_what_is_new_or_all_at_the_end(kind: RequestOutputKind, llm: LLM) -> None:
    params = SamplingParams(temperature=0, max_tokens=8, output_kind=kind)
    shown = [output.outputs[0] for output in llm.stream("the quick", params)]
    whole = llm.generate("the quick", GREEDY, use_tqdm=False)[0].outputs[0]
    if kind is RequestOutputKind.DELTA:
        assert "".join(one.text for one in shown) == whole.text
        assert [token for one in shown for token in one.token_ids] == list(whole.token_ids)
    else:
        assert len(shown) == (1 if kind is RequestOutputKind.FINAL_ONLY else 8)
        assert (shown[-1].text, shown[-1].token_ids) == (whole.text, whole.token_ids)
    assert shown[-1].finish_reason == whole.finish_reason


def test_a_stream_that_is_left_early_ends(llm: LLM) -> None:
    stream = llm.stream("the", SamplingParams(max_tokens=400, ignore_eos=True))
    first = next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert not first.finished
    assert texts(llm, "the quick", GREEDY)


def test_a_request_can_be_cancelled_and_has_a_deadline(llm: LLM) -> None:
    shown: list[RequestOutput] = []
    for output in llm.stream("the", SamplingParams(max_tokens=400, ignore_eos=True)):
        if not shown:
            llm.cancel(output.request_id)
        shown.append(output)
    assert shown[-1].outputs[0].finish_reason == "abort"
    with pytest.raises(RequestFailed) as late:
        llm.generate("the", SamplingParams(max_tokens=400, ignore_eos=True), deadline_s=1e-3)
    assert late.value.failure.kind is FailureKind.DEADLINE_EXCEEDED


def test_runs_repeat_and_requests_differ(folder: str) -> None:
    params = SamplingParams(max_tokens=8)
    runs = []
    for seed in (0, 0, 1):
        with LLM(folder, seed=seed, transport="thread") as llm:
            runs.append(texts(llm, ["the"] * 4, params))
    assert runs[0] == runs[1] != runs[2]
    assert len(set(runs[0])) > 1


def test_conversations_go_through_the_template(llm: LLM) -> None:
    turn = [{"role": "user", "content": "where is the fox?"}]
    tokenizer = llm.get_tokenizer()
    filled = tokenizer.apply_chat_template(turn, add_generation_prompt=True, tokenize=False)
    one, *_ = llm.chat(turn, GREEDY, use_tqdm=False)
    assert one.prompt == filled
    assert list(one.prompt_token_ids or ()) == tokenizer.encode(filled, add_special_tokens=False)  # no second begin
    two = llm.chat([turn, turn], GREEDY, use_tqdm=False)
    assert [other.outputs[0].text for other in two] == [one.outputs[0].text] * 2
    own = llm.chat(turn, GREEDY, use_tqdm=False, chat_template="{{ messages[0].content }}")
    assert own[0].prompt == "where is the fox?"
    streamed = [*llm.stream_chat(turn, GREEDY)]
    assert streamed[-1].outputs[0].text == one.outputs[0].text
    with pytest.raises(ValueError, match="excludes add_generation_prompt"):
        llm.chat(turn, GREEDY, continue_final_message=True)
    with pytest.raises(ValueError, match="reads text only"):
        llm.chat([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}], GREEDY)


def test_answers_have_the_form_that_is_asked_for(llm: LLM) -> None:
    choice = GuidedDecodingParams(choice=["yes", "no"])
    params = SamplingParams(guided_decoding=choice)
    assert texts(llm, ["x"] * 3, params)[0] in ("yes", "no")
    assert texts(llm, "x", SamplingParams(), guided_options_request={"guided_regex": "[0-9]{3}"})[0].isdigit()
    with pytest.raises(ValueError, match="give one of json, regex"):
        GuidedDecodingParams(regex="a", choice=["b"])
    with pytest.raises(ValueError, match="leave one out"):
        llm.generate("x", params, guided_options_request={"regex": "a"})


def test_functions_as_logits_processors_of_both_kinds(llm: LLM) -> None:
    def only_nine(output: list[int], scores: torch.Tensor) -> torch.Tensor:
        return torch.full_like(scores, -torch.inf).index_fill_(0, torch.tensor([9]), 0.0)

    def last_of_prompt(prompt: list[int], output: list[int], scores: torch.Tensor) -> torch.Tensor:
        return torch.full_like(scores, -torch.inf).index_fill_(0, torch.tensor([prompt[-1]]), 0.0)

    for processor, token in ((only_nine, 9), (last_of_prompt, 12)):
        params = SamplingParams(max_tokens=3, logits_processors=[processor])
        (output,) = llm.generate([10, 11, 12], params, use_tqdm=False)
        assert list(output.outputs[0].token_ids) == [token] * 3


def test_without_a_tokenizer_ids_go_in_and_come_out(folder: str, llm: LLM) -> None:
    with LLM(folder, skip_tokenizer_init=True, transport="thread") as ids_only:
        (output,) = ids_only.generate([10, 11], GREEDY, use_tqdm=False)
        assert output.outputs[0].token_ids == llm.generate([10, 11], GREEDY, use_tqdm=False)[0].outputs[0].token_ids
        assert (output.prompt, output.outputs[0].text) == (None, "")
        with pytest.raises(ValueError, match="give prompt_token_ids"):
            ids_only.generate("the", GREEDY)
        with pytest.raises(ValueError, match="no tokenizer"):
            ids_only.get_tokenizer()


def test_a_process_of_its_own_and_its_end(folder: str) -> None:
    llm = LLM(folder)
    assert texts(llm, "the quick", GREEDY)
    with pytest.raises(ValueError, match='give transport="thread"'):
        llm.generate("x", SamplingParams(logits_processors=[lambda ids, scores: scores]))
    llm.close()
    llm.close()
    with pytest.raises(NotServing):
        llm.generate("x")


async def test_the_asynchronous_twin(folder: str) -> None:
    async with AsyncLLM(folder, transport="thread") as llm:
        (output,) = await llm.generate("the quick", GREEDY, use_tqdm=False)
        shown = [one async for one in llm.stream("the quick", GREEDY)]
    assert shown[-1].outputs[0].text == output.outputs[0].text


async def test_what_is_still_to_be_sent_can_be_cancelled(folder: str) -> None:
    async with AsyncLLM(folder, transport="thread") as llm:
        one = SamplingParams(temperature=0, max_tokens=1, ignore_eos=True)
        asked = asyncio.create_task(llm.generate(["the"] * (WINDOW + 2), one, use_tqdm=False))
        await asyncio.sleep(0)
        llm.cancel(str(WINDOW + 1))
        outputs = await asked
        assert [output.outputs[0].finish_reason for output in outputs] == ["length"] * (WINDOW + 1) + ["abort"]
        (again,) = await llm.generate("the", one, use_tqdm=False)
    assert again.outputs[0].finish_reason == "length"


def test_a_process_that_was_forked_is_told_so_and_leaves_it_alone(folder: str) -> None:
    program = f"""
import os, signal, sys
from max_pipelines.llm import LLM, SamplingParams

with LLM({folder!r}) as llm:
    child = os.fork()
    if not child:
        signal.alarm(30)
    try:
        llm.generate("the", SamplingParams(max_tokens=1), use_tqdm=False)
    except Exception as problem:
        print(problem)
    if child:
        print(os.waitpid(child, 0)[1])
        print(len(llm.generate("the", SamplingParams(max_tokens=1), use_tqdm=False)))
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    why = "what this belongs to was opened before this process was forked; open one in it"
    assert ended.stdout.splitlines() == [why, "0", "1"]


def test_arguments_by_position_and_unknown_ones(folder: str) -> None:
    with pytest.raises(TypeError, match="unknown argument 'max_modl_len'; did you mean 'max_model_len'"):
        LLM(folder, max_modl_len=8)
    with pytest.warns(DeprecationWarning, match="by their names"), pytest.raises(ValueError, match="tokenizer_mode"):
        LLM(folder, None, "other")
    assert [*inspect.signature(LLM.__init__).parameters][1:4] == ["model", "tokenizer", "tokenizer_mode"]
    assert LLM.DEPRECATE_INIT_POSARGS
    assert not LLM.DEPRECATE_LEGACY


def test_engine_arguments_reach_the_config(folder: str) -> None:
    given = {
        "max_model_len": 64, "max_num_seqs": 5, "max_num_batched_tokens": 128, "block_size": 16,
        "enable_prefix_caching": False, "enforce_eager": True, "max_seq_len_to_capture": 99,
        "disable_async_output_proc": True, "revision": "main", "device": "cpu",
    }  # fmt: skip
    config = Arguments.of(folder, given).config()
    engine = config.engine
    assert (engine.max_length, engine.max_batch, engine.token_budget, engine.block_size) == (64, 5, 128, 16)
    assert (engine.prefix_caching, engine.eager, engine.eager_above, engine.overlap) == (False, True, 99, False)
    assert (config.model.revision, config.model.tokenizer_revision) == ("main", "main")
    several = Arguments.of(folder, {"tensor_parallel_size": 2, "max_model_len": 64, "device": "cpu"}).config().engine
    assert (several.kind, several.options, several.max_length) == ("vllm", {"tensor_parallel_size": 2}, 64)
    changed = {name for name, value in asdict(several).items() if value != getattr(EngineConfig(), name)}
    assert changed == {"kind", "max_batch", "options", "max_length"} < OF_VLLM
    on_gpu = Arguments.of(folder, {"device": "cuda:0", "gpu_memory_utilization": 0.5, "cpu_offload_gb": 2}).config()
    assert (on_gpu.engine.memory_utilization, on_gpu.model.cpu_offload_gb) == (0.5, 2)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"max_model_len": 0}, "LLM: max_model_len: .*>= 2"),
        ({"max_num_seqs": 10**9}, "LLM: max_num_seqs: .*<= 4096"),
        ({"max_num_batched_tokens": "many"}, "LLM: max_num_batched_tokens: "),
        ({"revision": ""}, "LLM: revision: "),
    ],
)
def test_what_is_out_of_bounds_is_refused_by_the_callers_names(
    folder: str, arguments: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        LLM(folder, **arguments)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"swap_space": 8}, "swap_space has no effect"),
        ({"disable_custom_all_reduce": True}, "disable_custom_all_reduce has no effect"),
        ({"guided_decoding_backend": "outlines"}, "there is one backend"),
        ({"max_loras": 4}, "max_loras has no effect: enable_lora is off"),
        ({"max_prompt_adapters": 4}, "max_prompt_adapters has no effect: enable_prompt_adapter is off"),
        ({"max_cpu_loras": 4, "enable_lora": True}, "max_cpu_loras has no effect"),
        ({"cpu_offload_gb": 1, "device": "cpu"}, "cpu_offload_gb has no effect: on a CPU"),
        ({"trust_remote_code": True}, "never run"),
    ],
)
def test_what_has_no_effect_is_warned_of_once(given: dict[str, Any], words: str, folder: str) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Arguments.of(folder, given).config()
    assert [str(one.message) for one in caught if words in str(one.message)] == [str(one.message) for one in caught]
    assert len(caught) == 1


def test_arguments_that_cannot_be_had_are_refused(folder: str) -> None:
    for given, words in (
        ({"load_format": "pt"}, "load_format = 'pt': can be 'auto' or 'safetensors'"),
        ({"hf_overrides": {"a": 1}}, "hf_overrides"),
        ({"gpu_memory_utilization": 2.0}, "must be in"),
        ({"dtype": "int3"}, "dtype"),
        ({"quantization": "bitsandbytes"}, "quantization = 'bitsandbytes': must be None or one of awq, .*int4"),
        ({"cpu_offload_gb": -1}, "cpu_offload_gb = -1: must be between"),
        ({"tensor_parallel_size": 2, "cpu_offload_gb": 1, "device": "cuda"}, "neither adapters nor cpu_offload_gb"),
        ({"task": "classify"}, "task = 'classify': can be 'auto' or 'generate' or 'embed'"),
        ({"pipeline_parallel_size": 2}, "pipeline_parallel_size"),
    ):
        with pytest.raises(ValueError, match=words):
            Arguments.of(folder, given).config()


def test_a_sequence_is_no_longer_than_max_model_len(folder: str) -> None:
    with LLM(folder, max_model_len=32, transport="thread") as llm:
        (output,) = llm.generate("the", SamplingParams(max_tokens=100, ignore_eos=True), use_tqdm=False)
        assert len(output.prompt_token_ids or ()) + len(output.outputs[0].token_ids) == 32


def test_parameters_are_refused_by_their_own_names() -> None:
    for fields, words in (
        ({"max_tokens": 0}, "SamplingParams.max_tokens = 0"),
        ({"min_tokens": 9, "max_tokens": 4}, r"SamplingParams.min_tokens = 9: must be at most max_tokens = 4"),
        ({"truncate_prompt_tokens": 0}, "truncate_prompt_tokens"),
        ({"temperature": -1}, "temperature"),
        ({"top_p": 0}, "top_p"),
    ):
        with pytest.raises(ValueError, match=words):
            SamplingParams(**fields)  # type: ignore[arg-type]
    assert SamplingParams(temperature=1e-6).translated().greedy
    assert SamplingParams.from_optional(n=None, top_k=3).top_k == 3
    with pytest.raises(ValueError, match="lora_int_id"):
        LoRARequest("a", 0, "path")
    for path in ("~nobody-of-that-name/x", "\ud800"):
        with pytest.raises(ValueError, match="the adapter's folder"):
            _ = LoRARequest("a", 1, path).folder


def test_an_empty_prompt_of_a_list_fails_by_name(llm: LLM) -> None:
    with pytest.warns(UserWarning, match="1 of 2 prompts failed: .*must not be empty"):
        outputs = llm.generate(["", "the"], GREEDY, use_tqdm=False)
    assert [output.error is None for output in outputs] == [False, True]


def test_keys_and_values_of_8_bits(folder: str, llm: LLM) -> None:
    with LLM(folder, kv_cache_dtype="int8", transport="thread") as small:
        assert small.generate("the quick", GREEDY, use_tqdm=False)[0].outputs[0].token_ids
        assert small._llm._arguments.kv_bits == 8
    assert SamplingParams().translated(kv_bits=8).quantized_kv_start == 0
    with pytest.raises(ValueError, match="kv_cache_dtype = 'int3'"):
        LLM(folder, kv_cache_dtype="int3")


async def test_a_twin_that_is_not_open_says_so(folder: str) -> None:
    with pytest.raises(NotServing):
        await AsyncLLM(folder).generate("the", use_tqdm=False)


def test_prompts_that_are_none_are_refused(llm: LLM, tmp_path: Path) -> None:
    for prompts, words in (
        ({"other": "x"}, "it needs prompt or prompt_token_ids"),
        ({"prompt": "x", "multi_modal_data": {"image": 1}}, "reads text only"),
        ({"encoder_prompt": "x"}, "encoder_prompt"),
    ):
        with pytest.raises((ValueError, TypeError), match=words):
            llm.generate(prompts)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="not both"):
        llm.generate("x", inputs="y")
