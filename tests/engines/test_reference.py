"""The reference: encoder-decoders, log probabilities, and what it says of a prompt."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

from max_engines.reference import ReferenceEngine
from max_interfaces.status import GenerationStatus
from tests.engines.tiny_models import CONTEXT, VOCAB, generate, load, prompts, run, save_model, start

END = 2
ENCODER_DECODERS: dict[str, tuple[str, dict[str, object]]] = {
    "t5": (
        "T5Config",
        {"d_model": 64, "d_kv": 16, "d_ff": 96, "num_layers": 2, "num_heads": 4, "initializer_factor": 3.0},
    ),
    "bart": (
        "BartConfig",
        {
            "d_model": 64,
            "encoder_layers": 2,
            "decoder_layers": 2,
            "encoder_attention_heads": 4,
            "decoder_attention_heads": 4,
            "encoder_ffn_dim": 96,
            "decoder_ffn_dim": 96,
            "max_position_embeddings": CONTEXT,
            "init_std": 0.3,
            "forced_eos_token_id": None,
        },
    ),
}
IDS = {"vocab_size": VOCAB, "pad_token_id": 0, "eos_token_id": END, "decoder_start_token_id": 0, "bos_token_id": 1}


@pytest.fixture(params=ENCODER_DECODERS)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    config, options = ENCODER_DECODERS[request.param]
    return save_model(tmp_path, config, {**IDS, **options})


def test_an_encoder_decoder_says_what_transformers_says(folder: Path) -> None:
    texts = prompts(3, longest=20)
    module = AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=torch.float32)
    module.generation_config.eos_token_id = None
    expected = []
    for text in texts:
        ids = torch.tensor([text])
        output = module.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=12)
        expected.append(tuple(output[0, 1:].tolist()))  # after the decoder's first token
    reference = ReferenceEngine(load(folder))
    assert generate(reference, [start(text, max_new_tokens=12) for text in texts]) == expected
    assert len(set(expected)) > 1
    resumed = [start(texts[0], max_new_tokens=12, accepted=expected[0][:5])]
    assert generate(reference, resumed) == [expected[0][5:]]


def test_the_output_of_an_encoder_decoder_has_a_context_of_its_own(folder: Path) -> None:
    reference = ReferenceEngine(load(folder))
    with pytest.raises(ValueError, match=r"prompt_logprobs: an encoder-decoder does not score its prompt"):
        reference.add(start([5], prompt_logprobs=1))
    if load(folder).context_length == CONTEXT:
        with pytest.raises(ValueError, match=f"prompt has {CONTEXT + 1} tokens: at most {CONTEXT} fit"):
            reference.add(start([5] * (CONTEXT + 1)))
        reference.add(start([5] * CONTEXT))


def test_log_probabilities_are_the_models_own(checkpoint: Callable[[str], Path]) -> None:
    folder = checkpoint("llama")
    text = prompts(1, longest=20)[0]
    asked = start(text, temperature=0.7, top_k=3, logprobs=2, prompt_logprobs=1, max_new_tokens=6)
    (deltas,) = run(ReferenceEngine(load(folder)), [asked])
    said = [token for delta in deltas for token in delta.tokens]
    module = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.inference_mode():
        scores = torch.log_softmax(module(torch.tensor([[*text, *said]])).logits[0], 1)
    for index, delta in enumerate(deltas):
        row = scores[len(text) + index - 1]
        found = delta.log_probabilities
        assert found is not None
        assert found.token_log_probabilities == pytest.approx([row[said[index]].item()], abs=1e-4)
        assert list(found.top_log_probabilities[0]) == row.topk(2).indices.tolist()
    report = deltas[0].prompt
    assert report is not None
    assert report.log_probabilities is not None
    expected = [scores[index, token].item() for index, token in enumerate(text[1:])]
    assert report.log_probabilities.token_log_probabilities == pytest.approx(expected, abs=1e-4)
    assert report.cached_tokens == 0
    assert all(delta.prompt is None for delta in deltas[1:])


def test_what_is_complete_ends_without_a_word(checkpoint: Callable[[str], Path]) -> None:
    reference = ReferenceEngine(load(checkpoint("llama")))
    full = start([5, 6, 7], accepted=[8, 9], max_new_tokens=2)
    reference.add(full)
    assert reference.step([full.request_id])[full.request_id].status is GenerationStatus.MAXIMUM_LENGTH
    assert reference.step([full.request_id]) == {}
    with pytest.raises(ValueError, match="is running already"):
        reference.add(full)
    with pytest.raises(ValueError, match=f"prompt has {CONTEXT} tokens: at most {CONTEXT - 1} fit"):
        reference.add(start([5] * CONTEXT))
