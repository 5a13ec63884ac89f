"""Adapters from YAML and from requests, through the pipelines."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from max_engines.engine import Engine
from max_interfaces import (
    Attempt,
    AudioGenerationRequest,
    ConfigError,
    MessageRole,
    RequestID,
    SamplingParams,
    SequenceStart,
    TextGenerationOutput,
    TextGenerationRequest,
    TextGenerationRequestMessage,
)
from max_pipelines.config import Config, parse_config
from max_pipelines.engines import build_generator
from max_pipelines.registry import AnyServed
from max_pipelines.speech.build import build as build_speech
from max_pipelines.text.build import build
from tests.engines.tiny_adapters import EVERYTHING, save_lora, save_soft_prompt
from tests.tiny_text import make_tiny_text

PROMPT = (9, 10, 11, 12)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A tiny model with a LoRA adapter and a soft prompt."""
    place = tmp_path_factory.mktemp("adapters")
    made = make_tiny_text(place / "base")
    base = Path(made.model.path)
    folders = {
        "lora": str(save_lora(place / "lora", base, targets=EVERYTHING)),
        "soft": str(save_soft_prompt(place / "soft", base)),
    }
    return msgspec.structs.replace(made, engine=msgspec.structs.replace(made.engine, adapters=folders))


def outputs_of(served: AnyServed, request: TextGenerationRequest) -> list[TextGenerationOutput]:
    """All that is told of one request. ValueError with the reason if it fails."""
    served.pipeline.admit(Attempt(request))
    told: list[TextGenerationOutput] = []
    while not (told and told[-1].is_done):
        told += [chunk.output for chunk in served.pipeline.execute([request.request_id]) if chunk.output is not None]
    served.pipeline.release(request.request_id)
    if told[-1].failure is not None:
        raise ValueError(told[-1].failure.message)
    return told


def said(
    served: AnyServed, *, n: int = 1, adapter_id: str | None = None, prompt_adapter_id: str | None = None
) -> list[tuple[int, ...]]:
    """The tokens of each answer to one request."""
    params = SamplingParams(temperature=0, max_new_tokens=8, ignore_eos=True, n=n)
    request = TextGenerationRequest(
        RequestID(),
        "m",
        PROMPT,
        sampling_params=params,
        adapter_id=adapter_id,
        prompt_adapter_id=prompt_adapter_id,
    )
    told = outputs_of(served, request)
    return [tuple(token for one in told if one.index == index for token in one.tokens) for index in range(n)]


def direct(config: Config, adapter: str | None, prompt_adapter: str | None = None) -> tuple[int, ...]:
    """What the engine says."""
    engine = build_generator(config).generator
    params = SamplingParams(temperature=0, max_new_tokens=8, ignore_eos=True)
    start = SequenceStart(RequestID(), PROMPT, params, 0, adapter=adapter, prompt_adapter=prompt_adapter)
    engine.add(start)
    tokens: tuple[int, ...] = ()
    while len(tokens) < 8:
        tokens += engine.step([start.request_id])[start.request_id].tokens
    return tokens


def test_requests_choose_what_the_file_names(config: Config) -> None:
    served = build(config)
    try:
        assert served.adapters is not None
        assert list(served.adapters.names) == ["lora", "soft"]
        answers = [
            said(served)[0],
            said(served, adapter_id="lora")[0],
            said(served, adapter_id="soft")[0],
            said(served, prompt_adapter_id="soft")[0],
            said(served, adapter_id="lora", prompt_adapter_id="soft")[0],
        ]
        names = [(None, None), ("lora", None), ("soft", None), ("soft", None), ("lora", "soft")]
        assert answers == [direct(config, *chosen) for chosen in names]
        assert len(set(answers)) == 4
        assert said(served, adapter_id="lora", n=3) == [answers[1]] * 3
        with pytest.raises(ValueError, match=r"^adapter_id = 'x': no adapter .* is loaded \(loaded: lora, soft\)$"):
            said(served, adapter_id="x")
        with pytest.raises(ValueError, match=r"^prompt_adapter_id = 'x': no adapter of that name is loaded"):
            said(served, prompt_adapter_id="x")
        with pytest.raises(ValueError, match="prompt_adapter = 'lora': is a LoRA adapter"):
            said(served, prompt_adapter_id="lora")
        served.adapters.unload("lora")
        with pytest.raises(ValueError, match=r"adapter_id = 'lora': .* \(loaded: soft\)"):
            said(served, adapter_id="lora")
    finally:
        served.close()


def test_what_a_request_was_charged_for_has_no_soft_prompt_in_it(config: Config) -> None:
    served = build(config)
    cached = []
    try:
        for _ in range(2):  # the second time the prompt is in the cache
            params = SamplingParams(temperature=0, max_new_tokens=2, ignore_eos=True)
            request = TextGenerationRequest(RequestID(), "m", PROMPT, sampling_params=params, prompt_adapter_id="soft")
            told = outputs_of(served, request)
            statistics = told[-1].statistics
            assert statistics is not None
            assert told[0].num_prompt_tokens == statistics.prompt_tokens == len(PROMPT)
            cached.append(statistics.cached_tokens)
    finally:
        served.close()
    assert cached == [0, len(PROMPT) - 1]


def changed(config: Config, **engine: object) -> Config:
    return msgspec.structs.replace(config, engine=msgspec.structs.replace(config.engine, **engine))


@pytest.mark.parametrize(
    ("engine", "said"),
    [
        ({"adapters": {"a": "/nowhere"}}, r"adapter 'a': there is no adapter_config\.json in '/nowhere'"),
        ({"max_adapters": 1}, r"adapter 'soft': no room, 1 are there; unload one, or raise engine\.max_adapters = 1"),
        ({"max_adapter_rank": 4}, r"rank 8 of .*: at most 4 \(engine\.max_adapter_rank\)"),
        ({"kind": "reference"}, r"engine\.adapters: engine\.kind = 'reference' takes no adapters; leave them out"),
    ],
)
def test_a_file_whose_adapters_cannot_be_is_refused(engine: dict[str, object], said: str, config: Config) -> None:
    with pytest.raises(ConfigError, match=said):
        build_generator(changed(config, **engine))


@pytest.mark.parametrize("value", ["max_adapters: 0", "max_adapter_rank: 0", "adapters: {'': x}", "adapters: {a: ''}"])
def test_yaml_has_bounds(value: str) -> None:
    with pytest.raises(ConfigError, match=r"engine\.(max_)?adapter"):
        parse_config(f"model: {{name: m}}\npipeline: {{kind: text}}\nengine: {{{value}}}")


@pytest.mark.parametrize(
    ("again", "why"), [(False, "adapter_id = 'lora': no adapter of that name"), (True, "adapter_id: was loaded anew")]
)
def test_who_still_waits_for_a_template_never_runs_with_other_weights(again: bool, why: str, config: Config) -> None:
    served = build(config)
    try:
        assert served.adapters is not None
        messages = (TextGenerationRequestMessage(MessageRole.USER, "hi"),)
        request = TextGenerationRequest(RequestID(), "m", messages=messages, adapter_id="lora")
        served.pipeline.admit(Attempt(request))
        served.adapters.unload("lora")
        if again:
            served.adapters.load("lora", config.engine.adapters["lora"])
        told: list[TextGenerationOutput] = []
        while not told:
            told += [one.output for one in served.pipeline.execute([request.request_id]) if one.output is not None]
        served.pipeline.release(request.request_id)
        assert told[0].failure is not None
        assert why in told[0].failure.message
    finally:
        served.close()


def test_speech_requests_choose_theirs(tiny_voice: Config, tmp_path: Path) -> None:
    lora = save_lora(tmp_path / "lora", Path(tiny_voice.model.path), targets=("q_proj", "up_proj"))
    served = build_speech(changed(tiny_voice, adapters={"hoarse": str(lora)}))
    generator = served.pipeline._generator  # type: ignore[attr-defined]
    assert isinstance(generator, Engine)

    def tokens(adapter: str | None) -> tuple[int, ...]:
        request = AudioGenerationRequest(
            RequestID(), "m", prompt=(3, 4, 5), sampling_params=SamplingParams(max_new_tokens=20), adapter_id=adapter
        )
        served.pipeline.admit(Attempt(request, seed=1))
        ids: tuple[int, ...] = ()
        done = False
        while not done:
            for chunk in served.pipeline.execute([request.request_id]):
                ids += chunk.tokens
                done = done or (chunk.output is not None and chunk.output.is_done)
        served.pipeline.release(request.request_id)
        return ids

    assert tokens("hoarse") != tokens(None)
    assert tokens("hoarse") == tokens("hoarse")
    with pytest.raises(ValueError, match=r"adapter_id = 'x': .* \(loaded: hoarse\)"):
        tokens("x")
