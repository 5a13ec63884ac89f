"""The calls of the documents of vLLM's `LLM` and of mlx-vlm's functions, each argument by its name there.

Only the import is another, and a tiny checkpoint's path stands where a model's name would. Values are those of the
documents' signatures.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

from max_pipelines.llm import LLM, RequestOutput, SamplingParams, TextPrompt, TokensPrompt
from max_pipelines.llm.arguments import Arguments
from max_pipelines.llm.asks import options_of
from max_pipelines.vlm import apply_chat_template, batch_generate, generate, load, stream_generate
from max_pipelines.vlm.options import Options
from tests.tiny_text import make_tiny_text, make_tokenizer

PROMPT, OTHER = "the quick", "a list of"
FEW = SamplingParams(temperature=0, max_tokens=4)
SYSTEM = {"role": "system", "content": "be quick"}
USER = {"role": "user", "content": "where is the fox?"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("tiny")
    make_tiny_text(path)
    return str(path)


# -- vllm.LLM ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def llm(folder: str) -> Iterator[LLM]:
    """The constructor as the document writes it."""
    with LLM(
        model=folder,
        tokenizer=None,
        tokenizer_mode="auto",
        skip_tokenizer_init=False,
        trust_remote_code=False,
        tensor_parallel_size=1,
        dtype="auto",
        quantization=None,
        revision=None,
        tokenizer_revision=None,
        seed=0,
        gpu_memory_utilization=0.9,
        swap_space=4,
        cpu_offload_gb=0,
        enforce_eager=None,
        max_context_len_to_capture=None,
        max_seq_len_to_capture=8192,
        disable_custom_all_reduce=False,
        disable_async_output_proc=False,
    ) as llm:
        yield llm


def test_the_constructor_is_quiet_about_its_defaults(llm: LLM) -> None:
    assert isinstance(llm, LLM)  # warnings are errors here


def ids(llm: LLM, text: str) -> list[int]:
    found: list[int] = llm.get_tokenizer().encode(text)
    return found


def answers(outputs: Sequence[RequestOutput]) -> list[str]:
    return [output.outputs[0].text for output in outputs]


def test_every_overload_of_generate(llm: LLM) -> None:
    one, two = ids(llm, PROMPT), ids(llm, OTHER)
    first, second = answers(llm.generate(prompts=[PROMPT, OTHER], sampling_params=FEW, use_tqdm=False))
    assert answers(llm.generate(PROMPT, FEW, None, False, None)) == [first]
    assert answers(llm.generate([PROMPT, OTHER], [FEW, FEW], None, False, [None, None])) == [first, second]
    assert answers(llm.generate(None, FEW, prompt_token_ids=one, use_tqdm=False, lora_request=None)) == [first]
    assert answers(llm.generate(None, FEW, prompt_token_ids=[one, two], use_tqdm=False)) == [first, second]
    (default,) = llm.generate(None, None, one, False, None)
    assert len(default.outputs[0].token_ids) <= 16, "vLLM's own default"
    given: list[Any] = [PROMPT, TextPrompt(prompt=OTHER), TokensPrompt(prompt_token_ids=one), two]
    assert answers(llm.generate(given, sampling_params=FEW, use_tqdm=False, lora_request=None)) == [
        first, second, first, second,
    ]  # fmt: skip
    assert answers(llm.generate(inputs=given[:2], sampling_params=FEW, use_tqdm=False)) == [first, second]


def test_chat_with_every_kind_of_message(llm: LLM) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "find", "arguments": "{}"}}
    conversation: list[Mapping[str, Any]] = [
        SYSTEM,
        USER,
        {"role": "assistant", "content": "wait", "tool_calls": [call]},
        {"role": "tool", "content": "at home", "tool_call_id": "1"},
        {"role": "function", "content": "warm", "name": "find"},
        {"role": "user", "content": [{"type": "text", "text": "so?"}]},
    ]
    (output,) = llm.chat(
        messages=conversation,
        sampling_params=FEW,
        use_tqdm=False,
        lora_request=None,
        chat_template=None,
        add_generation_prompt=True,
        continue_final_message=False,
        tools=None,
    )
    assert output.prompt is not None
    for said in ("system\nbe quick", "assistant\nwait", "tool\nat home", "function\nwarm", "user\nso?"):
        assert f"<|start|>{said}<|turn|>" in output.prompt
    assert output.prompt.endswith("<|start|>assistant\n")


def test_chat_with_tools_and_a_message_that_goes_on(llm: LLM) -> None:
    find = {"type": "function", "function": {"name": "find", "parameters": {"type": "object", "properties": {}}}}
    (offered,) = llm.chat([USER], FEW, use_tqdm=False, tools=[find])
    assert '"name": "find"' in str(offered.prompt)
    begun = [USER, {"role": "assistant", "content": "it is"}]
    template = "{% for message in messages %}{{ message.role + message.content }}{% endfor %}"
    given: dict[str, Any] = {"add_generation_prompt": False, "continue_final_message": True, "use_tqdm": False}
    (went_on,) = llm.chat(begun, FEW, chat_template=template, **given)
    assert went_on.prompt == "userwhere is the fox?assistantit is"
    several = llm.chat([[USER], begun[:1]], [FEW, FEW], use_tqdm=False)
    assert len(set(answers(several))) == 1


def test_a_bar_is_shown_unless_it_is_not_wanted(llm: LLM, capsys: pytest.CaptureFixture[str]) -> None:
    llm.generate([PROMPT, OTHER], FEW, use_tqdm=True)
    assert "Processed prompts: 100%" in capsys.readouterr().err
    llm.chat([[USER], [USER]], FEW, use_tqdm=True)
    assert "2/2" in capsys.readouterr().err
    llm.generate([PROMPT, OTHER], FEW, use_tqdm=False)
    llm.chat([USER], FEW, use_tqdm=False)
    assert capsys.readouterr().err == ""


def test_the_old_way_is_warned_of_where_the_flag_says_so(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LLM, "DEPRECATE_LEGACY", True)
    with pytest.warns(DeprecationWarning, match="prompt_token_ids"):
        llm.generate(prompt_token_ids=[9, 10], sampling_params=FEW, use_tqdm=False)
    llm.generate(PROMPT, FEW, use_tqdm=False)


def test_positions_are_not_warned_of_where_the_flag_says_so(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LLM, "DEPRECATE_INIT_POSARGS", False)
    with LLM(folder, None, "auto", transport="thread") as llm:
        assert answers(llm.generate(PROMPT, FEW, use_tqdm=False))


def test_a_tokenizer_of_another_folder_and_other_numbers(folder: str, tmp_path: Any) -> None:
    other = make_tokenizer()
    other.chat_template = "{{ messages[0].content }}!"
    other.save_pretrained(tmp_path)
    with LLM(folder, tokenizer=str(tmp_path), tokenizer_mode="slow", dtype="bfloat16", transport="thread") as llm:
        (output,) = llm.chat([USER], FEW, use_tqdm=False)
    assert output.prompt == "where is the fox?!"
    assert output.outputs[0].token_ids


@pytest.mark.parametrize(
    ("given", "meant"),
    [("auto", "auto"), ("half", "float16"), ("float16", "float16"), ("float", "float32"), ("float32", "float32"),
     ("bfloat16", "bfloat16")],
)  # fmt: skip
def test_the_names_of_numbers(given: str, meant: str, folder: str) -> None:
    model = Arguments.of(folder, {"dtype": given, "tokenizer_mode": "slow"}).config().model
    assert (model.dtype, model.tokenizer_mode) == (meant, "slow")


def test_the_older_name_of_the_captured_length_counts_and_is_warned_of(folder: str) -> None:
    with pytest.warns(DeprecationWarning, match="use max_seq_len_to_capture"):
        config = Arguments.of(folder, {"max_context_len_to_capture": 77}).config()
    assert config.engine.eager_above == 77


def test_prompts_are_read_in_chunks_also_where_that_is_not_wanted(folder: str) -> None:
    with pytest.warns(UserWarning, match="enable_chunked_prefill has no effect: prompts are always read in chunks"):
        Arguments.of(folder, {"enable_chunked_prefill": False}).config()


def test_what_is_taken_in_silence_changes_nothing(folder: str) -> None:
    assert Arguments.of(folder, {"disable_log_stats": True}).config() == Arguments.of(folder, {}).config()


def test_a_lower_priority_is_more_urgent(llm: LLM) -> None:
    assert options_of(None, -3).priority > options_of(None, 0).priority > options_of(None, 5).priority
    assert len(llm.generate([PROMPT, OTHER], FEW, use_tqdm=False, priority=[1, 0])) == 2
    with pytest.raises(ValueError, match="priority: 1 of them for 2 prompts"):
        llm.generate([PROMPT, OTHER], FEW, use_tqdm=False, priority=[1])


# -- mlx_vlm -----------------------------------------------------------------------------------------------------------


def test_the_generate_family(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    model, processor = load(path_or_hf_repo=folder, adapter_path=None, lazy=False, revision=None, strict=True)
    with model:
        prompt = apply_chat_template(
            processor=processor,
            config=model.config,
            prompt="where is the fox?",
            add_generation_prompt=True,
            return_messages=False,
            num_images=0,
            num_audios=0,
            enable_thinking=False,
        )
        options = {**documented(), "max_tokens": 4}
        result = generate(model, processor, prompt, image=None, audio=None, video=None, verbose=True, **options)
        assert result.text in capsys.readouterr().out
        texts = [one.text for one in stream_generate(model, processor, prompt, image=None, audio=None, **options)]
        assert "".join(texts) == result.text
        batch = batch_generate(
            model,
            processor,
            images=None,
            audios=None,
            prompts=[prompt, prompt],
            max_tokens=4,
            verbose=False,
            group_by_shape=True,
            track_image_sizes=True,
        )
        assert batch.texts == [result.text] * 2
        assert batch.stats.generation_tokens == 8
        assert batch.image_sizes is None
        with pytest.raises(ValueError, match="image: this model reads text only"):
            generate(model, processor, prompt, image=["cat.jpg"])
        with pytest.raises(ValueError, match="audio: this model reads text only"):
            next(iter(stream_generate(model, processor, prompt, audio=["bark.wav"])))
        with pytest.raises(ValueError, match="images: this model reads text only"):
            batch_generate(model, processor, ["cat.jpg", "dog.jpg"], None, [prompt, prompt])


def documented() -> dict[str, Any]:
    """Every keyword argument of the document with its default there."""
    return {
        "max_tokens": 256,
        "temperature": 0.0,
        "top_p": 1.0,
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": None,
        "repetition_context_size": 20,
        "resize_shape": None,
        "kv_bits": None,
        "kv_group_size": 64,
        "max_kv_size": None,
        "prefill_step_size": 2048,
        "eos_tokens": None,
        "skip_special_tokens": False,
        "enable_thinking": False,
        "thinking_budget": None,
    }


def test_what_is_left_out_is_as_documented() -> None:
    """But `max_tokens`: the library's own 2,048, where the page says 256."""
    ours = {field.name: field.default for field in dataclasses.fields(Options)}
    assert {name: ours[name] for name in documented()} == documented() | {"max_tokens": 2048}


def test_nothing_of_it_warns(folder: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Arguments.of(folder, {}).config()
        Options.of(documented())
