"""In float32 on a CPU a row's scores are the same to the last bit, whatever else is computed beside it.

It holds for models whose widths are multiples of 32: torch computes the rest of a vector loop with other code. Where
nothing is compiled it was measured with MKL, on Intel's and AMD's processors; another library may need other numbers in
`attention` and `loading`.
"""

from __future__ import annotations

import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from max_engines import least_rows as least_rows_module
from max_engines.config import EngineConfig
from max_engines.engine import Engine
from max_engines.kernels import kernels_for
from max_engines.least_rows import _least_rows, least_rows
from max_engines.linear import Projection
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


@pytest.fixture(params=["compiled", "torch"])
def operations(request: pytest.FixtureRequest, without_compiled: Callable[[], None]) -> None:
    """With the compiled operations, and with torch's own in their place."""
    if request.param == "torch":
        without_compiled()
        with warnings.catch_warnings(action="ignore"):  # that is said once
            assert kernels_for(torch.float32, torch.device("cpu")) is None
    elif kernels_for(torch.float32, torch.device("cpu")) is None:
        pytest.skip("nothing was compiled")


@pytest.mark.usefixtures("operations")
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


@pytest.mark.usefixtures("operations")
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


RESUMED = ["llama-multi-query", "qwen2-mixed-windows", "phi3-window", "mixtral", "qwen3-moe", "gpt2", "olmo2"]
PUBLISHED = ["gemma-2-2b-it", "llama-3.1-8b"]  # heads of 256 and 128


@pytest.mark.usefixtures("operations")
@pytest.mark.parametrize("architecture", [*RESUMED, *PUBLISHED])
def test_a_prompt_with_what_was_said_scores_as_it_did_token_by_token(
    architecture: str, checkpoint: Callable[[str], Path], seen: Seen
) -> None:
    """A request that another worker goes on with after a failure: there all of it is prefill, beside other requests."""
    model = load(checkpoint(architecture))
    starts = [start(text, seed=i, temperature=1.0, max_new_tokens=24) for i, text in enumerate(prompts(4, longest=40))]
    first = Engine(model, EngineConfig(max_batch=8, num_blocks=64))
    said = [generate(first, [one])[0] for one in starts]
    for count in (1, 8, 23):
        other = Engine(model, EngineConfig(max_batch=8, token_budget=33, num_blocks=64))
        resumed = [again(one, tokens[:count]) for one, tokens in zip(starts, said, strict=True)]
        assert generate(other, resumed, join={0: 0, 1: 0, 2: 1, 3: 2}) == [tokens[count:] for tokens in said]
    assert sum(len(patterns) > 1 for patterns in seen.values()) == 0
    assert len(seen) == 4 * 24


@pytest.mark.usefixtures("operations")
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
    """Torch's product does from `least_rows` on, and a `Projection` if it says so from one row on."""
    layer = nn.Linear(inputs, outputs, bias=bias).requires_grad_(False)
    rows = torch.randn(130, inputs, generator=torch.Generator().manual_seed(1))
    expected_values = layer(rows)
    store_input_major(layer)
    projection = Projection(layer)
    least = 1 if projection.row_by_row else least_rows()
    counts = (1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 16, 17, 31, 33, 64, 100, 128)
    for multiply, fewest in ((layer, least_rows()), (projection, least)):
        expected = multiply(rows[:fewest])[0]
        torch.testing.assert_close(expected, expected_values[0])
        for count in (count for count in counts if count >= fewest):
            for first in (0, count // 2, count - 1):
                batch = torch.cat((rows[130 - first :], rows[:1], rows[1 : count - first]))
                assert torch.equal(multiply(batch)[first], expected)


def test_how_many_rows_it_takes_is_tried_quickly_and_small() -> None:
    """On one thread 2 with MKL on Intel's processors, 4 on AMD's: small steps are filled up to it."""
    _least_rows.cache_clear()
    before = time.thread_time()
    assert 1 <= least_rows() <= 16
    assert time.thread_time() - before < 0.2


def test_a_product_that_never_agrees_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(least_rows_module, "linear", lambda rows, weight: torch.rand(len(rows), weight.shape[0]))
    _least_rows.cache_clear()
    with pytest.warns(UserWarning, match="may change in the last bit"):
        assert least_rows() == 1
    _least_rows.cache_clear()


def test_bfloat16_runs_and_keeps_to_the_prompt(checkpoint: Callable[[str], Path]) -> None:
    engine = Engine(load_model(checkpoint("gemma2"), dtype="bfloat16"))
    outputs = generate(engine, [start(text, temperature=0.5, max_new_tokens=9) for text in prompts(4)])
    assert [len(tokens) for tokens in outputs] == [9] * 4
