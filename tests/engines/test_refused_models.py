"""What the engine cannot run is refused when it is loaded, by its name; the reference runs it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from max_engines.engine import Engine
from max_engines.reference import ReferenceEngine
from tests.engines.tiny_models import (
    EXPERTS,
    PLAIN,
    SMALL,
    VOCAB,
    generate,
    load,
    plain_greedy,
    prompts,
    save_model,
    start,
)

LATENT = {
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 16,
    "head_dim": 8,
}
GROUPS = {"n_routed_experts": 4, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1, "num_key_value_heads": 4}
HIDDEN_WINDOW = {**SMALL, **EXPERTS, "sliding_window": 10}  # in the mask, and not told to the attention
REFUSED: dict[str, tuple[str, dict[str, object], str]] = {
    "MambaForCausalLM": ("MambaConfig", {**PLAIN, "state_size": 8}, "layers of linear_attention"),
    "RwkvForCausalLM": ("RwkvConfig", {**PLAIN, "attention_hidden_size": 64}, "does not take its attention"),
    "BloomForCausalLM": ("BloomConfig", {**PLAIN, "n_layer": 2, "n_head": 4}, "does not take its attention"),
    "FalconForCausalLM": ("FalconConfig", {**PLAIN, "alibi": False}, "does not take its attention"),
    "Llama4ForCausalLM": ("Llama4TextConfig", {**SMALL, **EXPERTS}, "layers of chunked_attention"),
    "DeepseekV3ForCausalLM": (
        "DeepseekV3Config",
        {**SMALL, **EXPERTS, **LATENT, **GROUPS},
        "multi-head latent attention",
    ),
    "GptOssForCausalLM": ("GptOssConfig", {**SMALL, **EXPERTS, "sliding_window": 10}, "needs s_aux"),
    "Qwen2MoeForCausalLM": (
        "Qwen2MoeConfig",
        {**HIDDEN_WINDOW, "use_sliding_window": True, "shared_expert_intermediate_size": 64, "max_window_layers": 1},
        "does not tell its attention the sliding window of layer 0",
    ),
    "PhimoeForCausalLM": ("PhimoeConfig", HIDDEN_WINDOW, "does not tell its attention the sliding window of layer 0"),
    "DiffLlamaForCausalLM": ("DiffLlamaConfig", SMALL, "attends twice in layer 0"),
    "Gemma4ForCausalLM": (
        "Gemma4TextConfig",
        {**SMALL, "vocab_size_per_layer_input": VOCAB},
        "has no one shape of keys and values",
    ),
    "BertLMHeadModel": ("BertConfig", {**PLAIN, "intermediate_size": 96}, "gave other scores than transformers"),
    "T5ForConditionalGeneration": (
        "T5Config",
        {"vocab_size": VOCAB, "d_model": 32, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2},
        "is an encoder-decoder",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_architecture_that_cannot_run_is_refused_by_name_with_what_can(name: str, tmp_path: Path) -> None:
    config, options, reason = REFUSED[name]
    model = load(save_model(tmp_path, config, options))
    for _ in range(2):  # also once it has tried
        with pytest.raises(ValueError, match="cannot run") as caught:
            Engine(model)
    model = load(tmp_path)
    with pytest.raises(ValueError, match=f"the engine cannot run {name}") as caught:
        Engine(model)
    assert reason in str(caught.value)
    assert "it runs causal LMs" in str(caught.value)
    assert "engine.kind: reference" in str(caught.value)


@pytest.mark.parametrize("name", ["MambaForCausalLM", "BloomForCausalLM", "DeepseekV3ForCausalLM"])
def test_the_reference_runs_what_the_engine_does_not(name: str, tmp_path: Path) -> None:
    config, options, _ = REFUSED[name]
    folder = save_model(tmp_path, config, options)
    texts = prompts(2, longest=20)
    reference = ReferenceEngine(load(folder))
    said = generate(reference, [start(text, max_new_tokens=10) for text in texts])
    assert said == plain_greedy(folder, texts, 10)


def test_weights_that_give_no_numbers_are_refused(tmp_path: Path) -> None:
    model = load(save_model(tmp_path, "LlamaConfig", SMALL))
    for weight in model.module.parameters():
        weight.fill_(torch.nan)
    with pytest.raises(ValueError, match="NaN"):
        Engine(model)
