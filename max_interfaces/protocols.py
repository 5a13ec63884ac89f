"""The protocols that make maxpipe pluggable. One page: a reader may stop here.

Each docstring states the contract: who owns what, when a call is safe, what it raises. The frozen values in between
declare their bounds and do not check them, for a step makes thousands of them; whatever crosses a border is checked.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Generic, Protocol, TypeVar, runtime_checkable

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from .arrays import FLOAT32, INT64, ArrayOf
from .bounds import Count, Name, Position, Seed, TokenId, TokenIds
from .identity import RequestID
from .options import DEFAULT_OPTIONS, Priority, RequestOptions, Tenant
from .sampling import SamplingParams
from .status import GenerationStatus
from .text import Guidance, LogProbabilities, Pixels, Score

RequestT = TypeVar("RequestT")
OutputT = TypeVar("OutputT")
PipelineRequestT = TypeVar("PipelineRequestT")
PipelineOutputT = TypeVar("PipelineOutputT")
PutT = TypeVar("PutT", contravariant=True)
GetT = TypeVar("GetT", covariant=True)

FLOATS = ArrayOf(kinds="f", ndim=1, max_size=2**26, dtype=FLOAT32)
INTEGERS = ArrayOf(kinds="biu", ndim=1, max_size=2**26, dtype=INT64)
Frames = Annotated[NDArray[np.int64], ArrayOf(kinds="i", ndim=2, max_size=2**20, dtype=INT64)]


class Attempt(msgspec.Struct, Generic[RequestT], frozen=True, eq=False):
    """A request on its way into a pipeline, complete: the same attempt gives the same output in any process.

    `seed` is set even where the request has none. On a later attempt, after a worker was lost, `tokens` are the
    ids generated so far, `next_sample` the samples and `next_seq` the outputs that the caller has; those samples began
    with number `first_sample`.
    """

    request: RequestT
    seed: Seed = 0
    number: Count = 1
    tokens: TokenIds = ()
    next_sample: Position = 0
    next_seq: Count = 0
    options: RequestOptions = DEFAULT_OPTIONS
    first_sample: Position = 0


class Chunk(msgspec.Struct, Generic[OutputT], frozen=True, eq=False):
    """One output of a pipeline, with what another worker needs to go on from it.

    `tokens` are all new ids since the request's last chunk; its `samples` begin at `first_sample`. Without an `output`
    it only notes tokens that have nothing to show yet, so that they need not be generated again if this worker is lost.
    """

    request_id: RequestID
    output: OutputT | None
    tokens: TokenIds = ()
    first_sample: Position = 0
    samples: Count = 0


class Output(Protocol):
    """What every output has in common."""

    @property
    def final_status(self) -> GenerationStatus:
        """Where the request stands."""
        ...

    @property
    def is_done(self) -> bool:
        """True for the last output of a request."""
        ...


class Pipeline(Protocol[PipelineRequestT, PipelineOutputT]):
    """What a worker runs: one model, many requests at once. One thread calls it.

    A request's state belongs to the pipeline from `admit` until `release`.
    """

    def admit(self, attempt: Attempt[PipelineRequestT]) -> None:
        """Take a request. ValueError, with the reason, if it could never be served."""
        ...

    def execute(self, active: Collection[RequestID]) -> Sequence[Chunk[PipelineOutputT]]:
        """Move the requests named by `active` one step; return what became ready, in order, maybe nothing.

        Admitted ids left out are paused and keep their state. A chunk whose output `is_done` is the last of its
        request; that of one that cannot go on has the status `failed` and says why. An exception means that the step
        failed as a whole and changed nothing, so that it can be repeated with fewer ids; DeviceLost, that no step will
        succeed any more.
        """
        ...

    def release(self, request_id: RequestID) -> None:
        """Forget a request and free what it holds. Safe between steps, also for an unknown id."""
        ...


class TokenConstraint(Protocol):
    """Which tokens may come next. Grammar, speech phase and slot order, thinking budget: all are one of these."""

    def allowed(self, tokens: Sequence[int]) -> NDArray[np.bool_] | None:
        """Mask over the vocabulary, bool[vocab_size], True where allowed; None allows everything.

        `tokens` are the ids generated so far, without the prompt. Pure: the same tokens give the same mask,
        so that a request can be rebuilt from its tokens in another process. The caller must not write to the
        mask, and an implementation returns the same array object for the same state, so that a device copy
        can be kept. At least one entry is True.
        """
        ...


class Tokenizer(Protocol):
    """Text to token ids and back."""

    @property
    def eos_token_ids(self) -> frozenset[int]:
        """Ids that end a text."""
        ...

    def encode(self, text: str, *, add_special_tokens: bool = True, parse_special_tokens: bool = False) -> list[int]:
        """Token ids of `text`. Special tokens written out in it are plain characters unless they are to be parsed."""
        ...

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """The text of `ids`."""
        ...


@dataclass(frozen=True, slots=True)
class StreamStart:
    """Where a stream of sound begins: at its first frame, or in the middle, rebuilt from tokens.

    A frame is the smallest set of codes that stands for a whole number of samples, `AudioCodec.frame_samples`.
    `history` int64[frames, codes_per_frame] are the last frames before those that will be pushed, the first of
    them the stream's frame number `history_frame` (0 at the start of the sound). Samples before `next_sample`
    have been heard and are not given again.
    """

    seed: Seed = 0
    history: Frames | None = None
    history_frame: Position = 0
    next_sample: Position = 0


class CodecStream(Protocol):
    """The decoder's state for one sound. One thread owns it; dropping it frees everything."""

    def push(self, frames: NDArray[np.int64]) -> NDArray[np.float32]:
        """Take frames int64[frames, codes_per_frame]; return the samples float32[n] that are now certain.

        The first push of a stream opened with a history returns the history's unheard samples too. Any split
        of the same frames into pushes gives the same samples in all.
        """
        ...

    def flush(self) -> NDArray[np.float32]:
        """The samples that were held back for look-ahead, float32[n]. The stream takes no more frames."""
        ...


class AudioCodec(Protocol):
    """Codes to sound. Stateful per stream; look-ahead and context are computed from the configuration."""

    @property
    def sample_rate(self) -> int:
        """Samples per second."""
        ...

    @property
    def frame_samples(self) -> int:
        """Samples that one frame stands for."""
        ...

    @property
    def codes_per_frame(self) -> int:
        """Codes in one frame, over all codebooks."""
        ...

    @property
    def lookahead_frames(self) -> int:
        """Frames that must follow a frame before its samples are certain, once a stream is under way. 0 for a causal
        codec. A stream's first samples may take more.
        """
        ...

    @property
    def context_frames(self) -> int:
        """Frames before a frame that its samples depend on: what a stream needs to be rebuilt exactly.

        More than any sound has for a codec that looks back to the beginning.
        """
        ...

    def open(self, start: StreamStart) -> CodecStream:
        """Begin a stream, or rebuild one from its last frames. ValueError for a history of the wrong shape."""
        ...


class SpeechEncoder(Protocol):
    """Sound to codes, the way back of an `AudioCodec`: for samples of a voice. No stream, for a sample is short."""

    @property
    def sample_rate(self) -> int:
        """Samples per second that it wants."""
        ...

    @property
    def codes_per_frame(self) -> int:
        """Codes in one frame, over all codebooks."""
        ...

    def encode(self, samples: NDArray[np.float32]) -> NDArray[np.int64]:
        """Samples float32[n] in [-1, 1] to frames int64[frames, codes_per_frame], the last one filled up with silence.

        ValueError for no samples, or for another shape.
        """
        ...


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
    higher `priority` gets memory first. Prefixes are shared only between sequences of one `cache_salt`.
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


class TokenGenerator(Protocol):
    """The engine: many sequences, one batch. One thread calls it.

    A sequence belongs to the generator from `add` until `release`.
    """

    def add(self, start: SequenceStart) -> None:
        """Take a sequence. ValueError if it could never fit (prompt too long for the context or the memory)."""
        ...

    def step(self, active: Collection[RequestID]) -> Mapping[RequestID, TokenDelta]:
        """Move the sequences named by `active` one step: prefill those that need it, decode the others.

        Ids left out are paused and keep what they hold. A sequence that waits for memory has no entry.
        Idempotent on error: a step that raises has changed nothing and can be repeated with fewer ids. DeviceLost if
        no step will succeed any more.
        """
        ...

    def release(self, request_id: RequestID) -> None:
        """Forget a sequence and free its memory. Safe between steps, also for an unknown id."""
        ...


class Adapters(Protocol):
    """What changes a generator's model for single sequences. Called between steps, by the thread that takes them."""

    @property
    def names(self) -> Collection[str]:
        """What is loaded, and may be named by a new sequence."""
        ...

    def number(self, name: str) -> int:
        """Which loading a name stands for, 0 for none: a name may come back with other weights."""
        ...

    def load(self, name: str, path: str) -> None:
        """Load the folder at `path`, as peft saves it. AdapterRefused, with its status, if that cannot be."""
        ...

    def unload(self, name: str) -> None:
        """Take a name away. Sequences that run with it go on to their end, and its memory is free after the last.

        AdapterRefused for a name that is not loaded.
        """
        ...


@runtime_checkable
class PushQueue(Protocol[PutT]):
    """The sending end of a bounded queue."""

    def put_nowait(self, item: PutT) -> None:
        """Queue `item`, or raise `queue.Full` at once."""
        ...


@runtime_checkable
class PullQueue(Protocol[GetT]):
    """The receiving end of a queue."""

    def get_nowait(self) -> GetT:
        """The oldest item, or raise `queue.Empty` at once."""
        ...
