"""What a token generator is given, and what it gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from ..arrays import FLOAT32, INT64, ArrayOf
from ..bounds import Count, Name, Position, Seed, TokenId, TokenIds
from ..identity import RequestID
from ..options import Priority, Tenant
from ..sampling import SamplingParams
from ..status import GenerationStatus
from ..text import Guidance, LogProbabilities, Pixels, Score
from .constraint import TokenConstraint

FLOATS = ArrayOf(kinds="f", ndim=1, max_size=2**26, dtype=FLOAT32)
INTEGERS = ArrayOf(kinds="biu", ndim=1, max_size=2**26, dtype=INT64)


@dataclass(frozen=True, slots=True, eq=False)
class Feature:
    """What a model's processor made of images or sounds, under the `name` by which the model's forward takes it.

    `values` in the order of an array of `shape`, that of a batch of one prompt: floats (`pixel_values`,
    `input_features`) or integers (`image_grid_thw`, `token_type_ids`, masks).
    """

    name: Name
    shape: Annotated[tuple[Position, ...], Meta(max_length=8)]
    values: Annotated[NDArray[np.float32], FLOATS] | Annotated[NDArray[np.int64], INTEGERS]

    @classmethod
    def of(cls, name: str, array: NDArray[np.generic]) -> Feature:
        """An array of any shape. ValueError, naming it, for one that cannot be."""
        bound = FLOATS if array.dtype.kind == "f" else INTEGERS
        return cls(name, array.shape, bound.check(f"Feature {name}", array.reshape(-1)))

    @property
    def array(self) -> NDArray[np.float32] | NDArray[np.int64]:
        """The values in their shape."""
        return self.values.reshape(self.shape)


@dataclass(frozen=True, slots=True, eq=False)
class SequenceStart:
    """One sequence for a token generator, complete: the same start gives the same tokens in any process.

    `prompt` int ids; `accepted` are ids generated for it earlier, by another worker, which the constraint,
    the penalties and the random stream count as generated. `seed` keys the counter-based random stream:
    position i of the output always uses hash(seed, i). `bad_words` are runs of ids that must not be completed. A
    higher `priority` gets memory first. Prefixes are shared only between sequences of one `cache_salt`; if
    `shared_prefix` is given, at most so many of the prompt's first ids, for all else is said once.
    `adapter` names what is loaded in the generator's `Adapters`, a LoRA adapter or a soft prompt; `prompt_adapter` a
    soft prompt beside a LoRA adapter. Who has begun keeps the weights that the name stood for then. `media` are what
    stands in the place of the prompt's image and audio tokens, all of it. With a `voice` the text is spoken while it is
    generated, by a model that speaks; its first `next_sample` samples have been heard. With `guidance` a picture is
    drawn of it, by a model that draws: the ids are those of the picture.
    """

    request_id: RequestID
    prompt: TokenIds
    sampling_params: SamplingParams
    seed: Seed
    eos_token_ids: Annotated[frozenset[TokenId], Meta(max_length=1024)] = frozenset()
    constraint: TokenConstraint | None = None
    accepted: TokenIds = ()
    bad_words: Annotated[tuple[TokenIds, ...], Meta(max_length=4096)] = ()
    priority: Priority = 0
    cache_salt: Tenant = ""
    adapter: Name | None = None
    prompt_adapter: Name | None = None
    media: Annotated[tuple[Feature, ...], Meta(max_length=64)] = ()
    voice: Name | None = None
    next_sample: Position = 0
    guidance: Guidance | None = None
    shared_prefix: Count | None = None


@dataclass(frozen=True, slots=True, eq=False)
class PromptReport:
    """What became of a prompt: how many of its tokens came from the prefix cache, and, if `prompt_logprobs` asked,
    the log probabilities of its ids from the second on.
    """

    cached_tokens: Count = 0
    log_probabilities: LogProbabilities | None = None


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A whole text that a beam search has found: its ids, its score, and how it ended.

    `score` is the sum of the log probabilities after the rules on scores, divided by length ** `length_penalty`, the
    length being what the `beam_rule` counts.
    `log_probabilities`, the model's own, are there if `logprobs` or `top_n_tokens` asked.
    """

    tokens: TokenIds
    score: Score
    status: GenerationStatus
    log_probabilities: LogProbabilities | None = None


class TokenDelta(msgspec.Struct, frozen=True):
    """What one engine step did for one sequence: the new ids in order, and where it stands now.

    An end-of-sequence id is counted as generated and is the last of `tokens`. `log_probabilities` has an entry for
    each of `tokens`, if `logprobs` or `top_n_tokens` asked; `prompt` comes once, with the first token. A beam search
    has no `tokens`: its last delta has the `n` best `hypotheses`, the best first, or all if there are fewer. `samples`
    float32[n] of a text that is spoken are what has become certain of its sound; its status tells the end of the sound,
    and an end-of-sequence id, which has no text, comes with it. A `picture`, uint8 [height, width, 3], comes with the
    last delta of one that is drawn, when all its ids have come.
    """

    tokens: TokenIds = ()
    status: GenerationStatus = GenerationStatus.ACTIVE
    log_probabilities: LogProbabilities | None = None
    prompt: PromptReport | None = None
    hypotheses: Annotated[tuple[Hypothesis, ...], Meta(max_length=64)] = ()
    samples: Annotated[NDArray[np.float32], FLOATS] | None = None
    picture: Pixels | None = None
