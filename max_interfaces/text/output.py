"""What comes back of a request for text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from ..arrays import FLOAT32, UINT8, ArrayOf
from ..audio import SampleRate, Samples
from ..bounds import Bounded, Count, LongText, Position, TokenId, TokenIds
from ..equality import same_fields
from ..identity import RequestID
from ..status import Failure, GenerationStatus
from ..values import FrozenMapping

Seconds = Annotated[float, Meta(ge=0, le=1e9)]
LogProbability = Annotated[float, Meta(ge=-1e9, le=0)]
Score = Annotated[float, Meta(ge=-1e100, le=1e100)]  # a length to the power of -10 makes it large
Pixels = Annotated[NDArray[np.uint8], ArrayOf(kinds="u", ndim=3, max_size=2**26, dtype=UINT8, le=255)]
LogProbabilityRows = Annotated[NDArray[np.float32], ArrayOf(kinds="f", ndim=2, max_size=2**26, dtype=FLOAT32)]


@dataclass(frozen=True, slots=True, eq=False)
class LogProbabilities(Bounded):
    """Natural logarithms of probabilities, one entry a token.

    `token_log_probabilities` of the chosen tokens; `top_log_probabilities` maps the likeliest ids to theirs;
    `all_log_probabilities` float32[tokens, vocab_size] when the whole vocabulary was asked for.
    """

    token_log_probabilities: Annotated[tuple[LogProbability, ...], Meta(max_length=2**20)] = ()
    top_log_probabilities: Annotated[
        tuple[Annotated[Mapping[TokenId, LogProbability], Meta(max_length=2**10)], ...],
        Meta(max_length=2**20),
    ] = ()
    all_log_probabilities: LogProbabilityRows | None = None

    @classmethod
    def joined(cls, pieces: Iterable[LogProbabilities | None]) -> LogProbabilities | None:
        """Those of one piece of a text after the other; None if no piece has any."""
        given = [piece for piece in pieces if piece is not None]
        rows = [piece.all_log_probabilities for piece in given if piece.all_log_probabilities is not None]
        if not given:
            return None
        return cls(
            tuple(value for piece in given for value in piece.token_log_probabilities),
            tuple(top for piece in given for top in piece.top_log_probabilities),
            np.concatenate(rows) if rows else None,
        )

    def __eq__(self, other: object) -> bool:
        return same_fields(self, other)

    def __hash__(self) -> int:
        return hash(self.token_log_probabilities)


Texts = Annotated[tuple[LongText, ...], Meta(max_length=2**20)]
NO_TEXTS: FrozenMapping[int, str] = FrozenMapping({})


@dataclass(frozen=True, slots=True)
class TokenTexts(Bounded):
    """What the ids of an output stand for.

    `tokens`: what each of its tokens adds to the text, "" as long as a character is incomplete; a special token's own
    text, though the text may leave it out. `prompt`: the same for its prompt's ids. `top`: the own text of each id in
    the `top_log_probabilities` of both. `special`: the ids of all these that are special tokens.
    """

    tokens: Texts = ()
    prompt: Texts = ()
    top: Annotated[Mapping[TokenId, LongText], Meta(max_length=2**20)] = NO_TEXTS
    special: TokenIds = ()

    @classmethod
    def joined(cls, pieces: Iterable[TokenTexts | None]) -> TokenTexts | None:
        """Those of one piece of a text after the other; None if no piece has any."""
        given = [piece for piece in pieces if piece is not None]
        if not given:
            return None
        return cls(
            tuple(text for piece in given for text in piece.tokens),
            tuple(text for piece in given for text in piece.prompt),
            FrozenMapping({token: text for piece in given for token, text in piece.top.items()}),
            tuple(dict.fromkeys(token for piece in given for token in piece.special)),
        )


@dataclass(frozen=True, slots=True)
class GenerationStatistics(Bounded):
    """What a request cost. Times in seconds, memory in bytes; all sequences of `n` or `best_of` together.

    `prompt_s` runs from the admission by the worker to the first token, `generation_s` from there to the last.
    """

    prompt_tokens: Count = 0
    cached_tokens: Count = 0
    generated_tokens: Count = 0
    prompt_s: Seconds = 0.0
    generation_s: Seconds = 0.0
    peak_memory: Position = 0

    @property
    def prompt_tokens_per_second(self) -> float:
        """How fast the prompt was read, what came from the cache included; 0 if it took no time."""
        return self.prompt_tokens / self.prompt_s if self.prompt_s else 0.0

    @property
    def generated_tokens_per_second(self) -> float:
        """How fast tokens came after the first one; 0 if it took no time."""
        return max(0, self.generated_tokens - 1) / self.generation_s if self.generation_s else 0.0


@dataclass(frozen=True, slots=True, eq=False)
class TextGenerationOutput(Bounded):
    """New tokens of one request and, if asked for, their text.

    `index` tells the sequences of `n` > 1 apart; `sequence_status` is where this one stands, `final_status` where the
    request does. `stop` is the stop text or id that ended it. `prompt_tokens` and `prompt_log_probabilities` come with
    the first output of a request that asked for them, the ids also for `echo`; `statistics` with its last;
    `token_texts` with each of a request that asked for them. `thinking` says that the prompt has opened a `<think>`
    block, so that the text begins within it. `score` is that of a text of a beam search. Of a text that is spoken
    `audio_data` float32[num_samples] in [-1, 1] is the sound that has become certain, at `sample_rate`; the last output
    comes with the end of the sound. Of a picture `tokens` are the codes, and the last output has it as `image_data`
    uint8[height, width, 3], red first.
    """

    request_id: RequestID
    tokens: TokenIds
    final_status: GenerationStatus
    log_probabilities: LogProbabilities | None = None
    text: LongText = ""
    index: Annotated[int, Meta(ge=0, le=255)] = 0
    num_prompt_tokens: Count = 0
    failure: Failure | None = None
    sequence_status: GenerationStatus = GenerationStatus.ACTIVE
    stop: Annotated[str, Meta(max_length=1024)] | TokenId | None = None
    prompt_tokens: TokenIds = ()
    prompt_log_probabilities: LogProbabilities | None = None
    statistics: GenerationStatistics | None = None
    token_texts: TokenTexts | None = None
    thinking: bool = False
    score: Score | None = None
    audio_data: Samples | None = None
    sample_rate: SampleRate = 0
    image_data: Pixels | None = None

    @property
    def is_done(self) -> bool:
        """True for the last output of a request."""
        return self.final_status.is_done

    def __eq__(self, other: object) -> bool:
        return same_fields(self, other)

    def __hash__(self) -> int:
        return hash((self.request_id, self.tokens, self.final_status, self.index))
