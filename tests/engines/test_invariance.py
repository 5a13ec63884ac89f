"""In float32 on a CPU a row's scores are the same to the last bit, whatever else is computed beside it.

It holds for models whose widths are multiples of 32: torch computes the rest of a vector loop with other code. It
was measured with MKL; another library may need other numbers in `attention` and `loading`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from max_engines.config import EngineConfig
from max_engines.engine import Engine
from max_engines.loading import load_model, store_input_major
from max_engines.sampled import Sampled
from max_engines.sampler import Sampler
from max_engines.sampling_row import SamplingRow
from tests.engines.tiny_models import again, generate, load, prompts, save_checkpoint, start

Seen = dict[tuple[int, ...], set[bytes]]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """The scores after every prompt and output that any engine has computed, as bytes."""
    patterns: Seen = defaultdict(set)
    sample = Sampler.sample

    def spy(sampler: Sampler, logits: Tensor, rows: Sequence[SamplingRow]) -> Sampled:
        for scores, row in zip(logits, rows, strict=True):
            patterns[*row.prompt, *row.output].add(scores.clone().numpy().tobytes())
        return sample(sampler, logits, rows)

    monkeypatch.setattr(Sampler, "sample", spy)
    return patterns


@pytest.mark.parametrize("architecture", ["llama", "llama-multi-head", "qwen3", "mistral-window", "gemma2", "gemma3"])
def test_alone_in_a_batch_in_chunks_preempted_and_resumed(
    architecture: str, checkpoint: Callable[[str], Path], seen: Seen
) -> None:
    model = load(checkpoint(architecture))
    starts = [start(text, seed=i, temperature=i % 3 / 2, max_new_tokens=40) for i, text in enumerate(prompts(7))]
    roomy = Engine(model, EngineConfig())
    tight = Engine(model, EngineConfig(max_batch=5, token_budget=13, num_blocks=9))
    alone = [generate(roomy, [again(s)])[0] for s in starts]
    assert generate(roomy, [again(s) for s in starts]) == alone
    assert generate(roomy, [again(s) for s in starts[3:]], join={i: 3 * i for i in range(4)}) == alone[3:]
    assert generate(tight, [again(s) for s in starts]) == alone
    for sequence, tokens in zip(starts, alone, strict=True):
        for count in (1, 17, 39, 40):
            assert generate(roomy, [again(sequence, tokens[:count])]) == [tokens[count:]]
    assert sum(len(patterns) > 1 for patterns in seen.values()) == 0
    assert len(seen) == 7 * 40


def test_the_shape_of_the_embedded_voice(tmp_path: Path, seen: Seen) -> None:
    save_checkpoint(
        tmp_path, "llama", hidden_size=256, intermediate_size=704, num_attention_heads=4, num_key_value_heads=4,
        head_dim=64, initializer_range=0.05,
    )  # fmt: skip
    engine = Engine(load(tmp_path))
    starts = [start(text, temperature=1.0, max_new_tokens=30) for text in prompts(9, longest=100)]
    alone = [generate(engine, [again(s)])[0] for s in starts]
    assert generate(engine, [again(s) for s in starts]) == alone
    for sequence, tokens in zip(starts, alone, strict=True):
        assert generate(engine, [again(sequence, tokens[:21])]) == [tokens[21:]]
    assert sum(len(patterns) > 1 for patterns in seen.values()) == 0


@pytest.mark.parametrize("architecture", ["llama", "mistral-window", "gemma3"])
def test_with_shared_prefixes_forks_and_preemption(
    architecture: str, checkpoint: Callable[[str], Path], seen: Seen
) -> None:
    model = load(checkpoint(architecture))
    opening = prompts(1, seed=3)[0] * 80
    texts = [opening[:shared] + own for shared, own in zip((70, 70, 64, 33, 9, 70), prompts(6, 20), strict=True)]
    starts = [start(text, seed=i, temperature=1.0, max_new_tokens=25) for i, text in enumerate(texts)]
    children = [start(texts[0], seed=i, temperature=1.0, max_new_tokens=25) for i in range(1, 5)]
    alone = [generate(Engine(model, EngineConfig(block_size=8)), [again(s)])[0] for s in (*starts, *children)]
    roomy = Engine(model, EngineConfig(block_size=8))
    tight = Engine(model, EngineConfig(max_batch=5, token_budget=29, block_size=8, num_blocks=24))
    for engine in (roomy, tight, roomy, tight):
        assert generate(engine, [again(s) for s in (*starts, *children)]) == alone
    assert generate(roomy, [again(s, tokens[:9]) for s, tokens in zip(starts, alone, strict=False)]) == [
        tokens[9:] for tokens in alone[: len(starts)]
    ]
    assert sum(len(patterns) > 1 for patterns in seen.values()) == 0


@pytest.mark.parametrize(("inputs", "outputs"), [(64, 64), (256, 704), (704, 256), (1024, 512), (3072, 256)])
@pytest.mark.parametrize("bias", [False, True])
def test_a_linear_layer_gives_a_row_the_same_in_any_batch(inputs: int, outputs: int, bias: bool) -> None:
    layer = nn.Sequential(nn.Linear(inputs, outputs, bias=bias)).requires_grad_(False)
    rows = torch.randn(130, inputs, generator=torch.Generator().manual_seed(1))
    expected_values = layer(rows)
    store_input_major(layer)
    expected = layer(rows[:2])[0]
    torch.testing.assert_close(expected, expected_values[0])
    for count in (2, 3, 5, 9, 16, 17, 31, 33, 64, 100, 128):
        for first in (0, count // 2, count - 1):
            batch = torch.cat((rows[130 - first :], rows[:1], rows[1 : count - first]))
            assert torch.equal(layer(batch)[first], expected)


def test_bfloat16_runs_and_keeps_to_the_prompt(checkpoint: Callable[[str], Path]) -> None:
    engine = Engine(load_model(checkpoint("gemma2"), dtype="bfloat16"))
    outputs = generate(engine, [start(text, temperature=0.5, max_new_tokens=9) for text in prompts(4)])
    assert [len(tokens) for tokens in outputs] == [9] * 4
