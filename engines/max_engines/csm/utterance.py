"""One sequence of frames, under way."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate

import msgspec
from torch import Tensor

from max_interfaces.protocols import SequenceStart, TokenConstraint, TokenDelta
from max_interfaces.sampling import SamplingParams
from max_interfaces.status import GenerationStatus

from ..added_states import AddedStates
from ..hidden_states import LastState
from ..media import Perceived
from ..prompt_states import PromptStates
from ..random_stream import child_seed
from ..sampling_row import SamplingRow
from .constraint import CodebookConstraint, CodebookMasks, Mask
from .embeddings import Embeddings
from .ids import FrameIds, Place

DEPTH_SEED = 1  # the backbone has the sequence's own
ACTIVE, ENDED = GenerationStatus.ACTIVE, GenerationStatus.END_OF_SEQUENCE
# A frame is sampled code by code: what is said of ids, or asked of their probabilities, has no meaning for one.
NOT_OF_FRAMES = (
    "stop_token_ids", "allowed_token_ids", "logit_bias", "beam_width", "logprobs", "top_n_tokens", "prompt_logprobs",
    "watermark", "logits_processors",
)  # fmt: skip
UNTOUCHED = SamplingParams()


@dataclass(frozen=True, slots=True, eq=False)
class Read(Perceived):
    """What the backbone reads: `places` grows as the output does."""

    places: list[Place] = field(default_factory=list)

    def note(self, first: int, last: int) -> bytes:
        """The ids at those places."""
        return array("q", [id_ for place in self.places[first:last] for id_ in place]).tobytes()


class Utterance:
    """A sequence: `said` are its ids so far, whole frames but for the one that is `begun`.

    The backbone knows of a frame its first code; `added` are the others', and it waits for them. `ending` is there if
    nothing is left to say of what was accepted. ValueError, naming the field, for what cannot be.
    """

    def __init__(self, start: SequenceStart, ids: FrameIds, embeddings: Embeddings, masks: CodebookMasks) -> None:
        _check(start, ids)
        self.listener = LastState()
        self.added = AddedStates()
        self.said: list[int] = list(start.accepted)
        self.done = False
        self._ids = ids
        self._masks = masks
        self._constraint: TokenConstraint | None = start.constraint
        self._least = start.sampling_params.min_new_tokens
        self._ends = ids.end_id in start.eos_token_ids and not start.sampling_params.ignore_eos
        self._heard: TokenDelta | None = None  # what the backbone told with the first code of the frame under way
        prompt = ids.places(start.prompt, "SequenceStart.prompt")
        frames = self._accepted(start.accepted)
        self.ending = self._ending()
        codes = [ids.codes(frame) or () for frame in frames]
        if codes:
            self.added.extend(embeddings.rest(embeddings.frames(codes)))
        states = PromptStates(range(len(prompt)), embeddings.states(prompt))
        self.read = Read(states, places=[*prompt, *frames])
        constraint = CodebookConstraint(self) if self._constraint is not None or self._least else None
        self.backbone = _backbone(start, ids, prompt, codes, constraint)
        self.row = SamplingRow(_depth(start, codes, constraint))

    @property
    def begun(self) -> bool:
        """True if the frame under way has its first code."""
        return self._heard is not None

    @property
    def first(self) -> int:
        """That code."""
        return self.said[-1] - self._ids.first(0)

    def hear(self, delta: TokenDelta) -> TokenDelta | None:
        """The backbone's news, and what of them can be told now: a code waits for the others of its frame."""
        if not delta.tokens:
            self.done = delta.status is not ACTIVE
            return delta
        self._heard = delta
        self.said.append(self._ids.first(0) + delta.tokens[0])
        return None

    def write(self, code: int) -> None:
        """The next code of the frame under way."""
        self.said.append(self._ids.first(len(self.said) % self._ids.codebooks) + code)
        self.row.output.append(code)

    def take_back(self, count: int) -> None:
        """Its last codes but the first were not written."""
        del self.said[len(self.said) - count :]
        del self.row.output[len(self.row.output) - count :]

    def finish(self, rest: Tensor) -> TokenDelta:
        """The frame is whole, the states of its other codes `rest` `[hidden]`; what is to be told of it.

        If its constraint fails, the frame is still under way.
        """
        frame = tuple(self.said[-self._ids.codebooks :])
        heard = self._heard or TokenDelta()
        if self._ends and self._ids.is_end(frame):
            told = msgspec.structs.replace(heard, tokens=(self._ids.end_id,), status=ENDED)
            self.said[-len(frame) :] = [self._ids.end_id]
        else:
            last = self._ending() if heard.status is ACTIVE else None
            told = msgspec.structs.replace(heard, tokens=frame)
            if last is not None:
                told = msgspec.structs.replace(told, tokens=frame + last.tokens, status=last.status)
        self.read.places.append(frame)
        self.added.extend(rest[None])
        self._heard = None
        self.done = told.status is not ACTIVE
        return told

    def allowed(self) -> Mask | None:
        """Which codes may come next, bool[size]; None for all."""
        whole = None if self._constraint is None else self._constraint.allowed(self.said)
        codebook = len(self.said) % self._ids.codebooks
        like_the_end = (
            codebook > 0
            or not self._ends
            or (len(self.said) >= self._least and (whole is None or bool(whole[self._ids.end_id])))
        )
        return self._masks.of(codebook, whole, like_the_end)

    def _accepted(self, said: Sequence[int]) -> list[Place]:
        """Frames that another worker has told, without the end. ValueError for anything else."""
        if self._ends and said and said[-1] == self._ids.end_id:
            said = said[:-1]
        frames = self._ids.places(said, "SequenceStart.accepted")
        for at, frame in enumerate(frames):
            if frame[0] < self._ids.text_size:
                raise ValueError(f"SequenceStart.accepted: frame {at} is the text {frame[0]}; only codes can be said")
        return frames

    def _ending(self) -> TokenDelta | None:
        """The end, if it has been said, or if nothing else may follow."""
        if not self._ends or not self.said:
            return None
        if self.said[-1] == self._ids.end_id:
            return TokenDelta((), ENDED)
        whole = None if self._constraint is None else self._constraint.allowed(self.said)
        if whole is None or bool(whole[self._ids.first(0) : self._ids.first(1)].any()):
            return None
        return TokenDelta((self._ids.end_id,), ENDED)


def _backbone(
    start: SequenceStart,
    ids: FrameIds,
    prompt: Sequence[Place],
    accepted: Sequence[Sequence[int]],
    constraint: TokenConstraint | None,
) -> SequenceStart:
    """What the backbone is asked: an id of its is the first code of a frame. It never ends by itself."""
    params, ends = start.sampling_params, accumulate(map(len, prompt))
    shared = None if start.shared_prefix is None else sum(end <= start.shared_prefix for end in ends)
    most = None if params.max_new_tokens is None else params.max_new_tokens // ids.codebooks
    return SequenceStart(
        start.request_id,
        tuple([(ids.codes(place) or (ids.filler,))[0] for place in prompt]),
        replace(params, max_new_tokens=most, min_new_tokens=0),
        start.seed,
        constraint=constraint,
        accepted=tuple([codes[0] for codes in accepted]),
        priority=start.priority,
        cache_salt=start.cache_salt,
        shared_prefix=shared,
    )


def _depth(
    start: SequenceStart, accepted: Sequence[Sequence[int]], constraint: TokenConstraint | None
) -> SequenceStart:
    """How the other codes are sampled; penalties are the backbone's alone."""
    params = start.sampling_params
    drawn = SamplingParams(
        temperature=params.temperature,
        top_k=params.top_k,
        top_p=params.top_p,
        min_p=params.min_p,
        typical_p=params.typical_p,
    )
    others = tuple([code for codes in accepted for code in codes[1:]])
    seed = child_seed(start.seed, DEPTH_SEED)
    return SequenceStart(start.request_id, (0,), drawn, seed, constraint=constraint, accepted=others)


def _check(start: SequenceStart, ids: FrameIds) -> None:
    params = start.sampling_params
    for name in ("voice", "adapter", "prompt_adapter"):
        if getattr(start, name) is not None:
            raise ValueError(
                f"SequenceStart.{name} = {getattr(start, name)!r:.80}: this model takes none; leave it out"
            )
    for name in ("media", "bad_words"):
        if getattr(start, name):
            raise ValueError(f"SequenceStart.{name}: this model takes none; leave it out")
    for name in NOT_OF_FRAMES:
        if getattr(params, name) != getattr(UNTOUCHED, name):
            raise ValueError(f"SamplingParams.{name}: has no meaning for a model that writes frames; leave it out")
    if params.max_new_tokens is not None and params.max_new_tokens < ids.codebooks:
        raise ValueError(
            f"SamplingParams.max_new_tokens = {params.max_new_tokens}: must be at least {ids.codebooks}, a frame"
        )
    if start.eos_token_ids - {ids.end_id}:
        others = sorted(start.eos_token_ids - {ids.end_id})
        raise ValueError(f"SequenceStart.eos_token_ids has {others[0]}: this model ends with {ids.end_id} alone")
