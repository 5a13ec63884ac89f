"""The engine: continuous batching over any causal LM of transformers."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from max_interfaces.identity import RequestID
from max_interfaces.protocols import Feature, SequenceStart, TokenDelta
from max_interfaces.sampling import SamplingParams

from .adapters import AdapterTable, Chosen
from .added_states import AddedStates
from .beam_rules import rule_for
from .beams import BeamSearch, Move
from .blocks import BlockPool
from .compatibility import kv_shape, take_over_attention
from .config import MEASURED_TOKENS, PACED_TOKENS, EngineConfig
from .decode_graphs import CudaRecorder
from .hidden_states import Listener
from .kv_cache import KVCache
from .kv_format import KVPlan
from .launched import Launched
from .loading import LoadedModel
from .media import Encoders, Perceived, Slices
from .pace import Pace, measured
from .rules import SequenceError
from .runner import ModelRunner
from .sampler import Sampler
from .sampling_row import check_start, width_of
from .scheduler import Scheduler
from .sequence import Sequence
from .shortage import Shortage

UNCHANGED = TokenDelta()


@dataclass(frozen=True, slots=True, eq=False)
class Beside:
    """A sequence beside another: a `prompt` of as many ids, whose `listener` is told what comes of them.

    Nothing else of it is told. All else, what is added to its output, too, is the other's.
    """

    prompt: tuple[int, ...]
    listener: Listener


class Engine:
    """A `TokenGenerator` (see `max_interfaces.protocols`): many sequences, one packed forward pass a step.

    The model's attention is the engine's from now on; nobody else may call the module. In float32 on a CPU a
    sequence's tokens are the same alone, in any batch, and after a resume. ValueError, by its name, for an
    architecture that the engine cannot run.
    """

    def __init__(self, model: LoadedModel, config: EngineConfig | None = None) -> None:
        self.config = EngineConfig() if config is None else config
        self._model = model
        shape = kv_shape(model)
        blocks = self.config.blocks_for(shape, model.context_length, model.device)
        cache = KVCache(shape, blocks, self.config.block_size, model.device)
        exact = model.dtype == torch.float32 and model.device.type == "cpu"
        pool = BlockPool(blocks, self.config.max_batch)
        self._scheduler = Scheduler(
            cache, pool, self.config.max_batch, self.config.first_budget(exact), shares=self.config.prefix_caching
        )
        self._runner = ModelRunner(model.module, cache)
        self._sampler = Sampler(self.config.watermark)
        self._overlaps = self.config.overlaps(model.device)
        self._under_way: Launched | None = None
        self._held: dict[RequestID, TokenDelta] = {}
        self._doubted: set[RequestID] = set()  # who may have been at fault in a step that failed
        if self.max_length < 2:
            raise ValueError(
                f"cannot run {model.name!r}: a prompt and an answer need 2 tokens at least "
                f"(context {model.context_length}, memory {self._scheduler.capacity} tokens)"
            )
        most, rank = self.config.max_adapters, self.config.max_adapter_rank
        self.adapters = AdapterTable(model.module, most, rank, self.max_length - 2)
        self._encoders = Encoders(model)
        take_over_attention(model, self._trial_of_both, self.max_length - 1)
        measures = self.config.token_budget is None and not exact
        self._pace = self._measured_pace(MEASURED_TOKENS if measures else PACED_TOKENS)
        if measures:
            self._scheduler.token_budget = max(self.config.max_batch, self._pace.budget)
        if model.device.type == "cuda" and self.config.graphs:
            lanes = min(self.config.max_batch, blocks)
            self._runner.record_decode(CudaRecorder(), lanes, pool.lane_size, self.config.longest_graph)
        self._shortage = Shortage(self._scheduler, model.device)

    @property
    def blocks(self) -> int:
        """Blocks of the KV cache, free or not."""
        return self._scheduler.pool.total

    @property
    def free_blocks(self) -> int:
        """Blocks of the KV cache that nobody holds."""
        return self._scheduler.pool.free

    @property
    def max_length(self) -> int:
        """The most tokens, prompt and output, that one sequence can have; more if it is quantised, or has a window."""
        return self._longest(self._scheduler.capacity)

    def add(
        self,
        start: SequenceStart,
        *,
        perceived: Perceived | None = None,
        listener: Listener | None = None,
        added: AddedStates | None = None,
        beside: Beside | None = None,
    ) -> None:
        """Take a sequence. ValueError, naming the field, for what it cannot do or could never fit.

        `perceived` is there if its media are known already. `listener` is told the hidden states of all that it
        computes; `added` ones belong to its output, which waits for them. A beam search can have neither of the two.
        `beside` goes with it, step by step, and is released with it.
        """
        check_start(start, self._model.vocab_size)
        if start.voice is not None and listener is None:
            raise ValueError(f"SequenceStart.voice = {start.voice!r:.80}: this model does not speak; leave it out")
        if start.guidance is not None:
            raise ValueError(f"SequenceStart.guidance = {start.guidance}: this model does not draw; leave it out")
        if start.request_id in self._scheduler.sequences:
            raise ValueError(f"SequenceStart.request_id = {start.request_id}: is running already")
        adapters = self.adapters.chosen(start)
        room = self._room(start, adapters.length)
        if room < 1:
            soft = f", soft prompt {adapters.length}" if adapters.length else ""
            raise ValueError(
                f"SequenceStart.prompt has {len(start.prompt)} tokens: at most {len(start.prompt) + room - 1} fit "
                f"(context {self._model.context_length}, memory {self._scheduler.capacity} tokens{soft})"
            )
        wanted = start.sampling_params.max_new_tokens
        limit = room if wanted is None else min(wanted, room)
        perceived = self.perceive(start) if perceived is None else perceived
        perceived.check(start.sampling_params, adapters.length)
        sequence = _team(start, limit, adapters, perceived)
        if sequence.search is None:
            sequence.join(listener, added)
        if beside is not None:
            other = Sequence(replace(start, prompt=beside.prompt), limit, adapters)
            other.join(beside.listener, added)
            other.go_beside(sequence)
        self._scheduler.add(sequence)

    def perceive(self, start: SequenceStart) -> Perceived:
        """What the media of a sequence are to the model. ValueError, naming the field, if they do not fit."""
        return self._encoders.perceive(start.prompt, start.media)

    def encoding(self, prompt: tuple[int, ...], media: tuple[Feature, ...]) -> Slices[Perceived]:
        """What `add` would do first of all, in slices between two steps; as long as it is kept, `add` finds it done."""
        return self._encoders.encoding(prompt, media)

    def step(self, active: Collection[RequestID]) -> Mapping[RequestID, TokenDelta]:
        """Move the sequences named by `active` one step; the contract is `TokenGenerator.step`'s.

        A sequence in the midst of its prompt has a delta without tokens. KeyError for an unknown id, SequenceError
        (with the sequence's name) if no token can follow one of them. A step that runs out of memory is taken again
        with less, until it is one of a single token.
        """
        step = self.overlap_step if self._overlaps else self.normal_step
        return self._shortage.run(lambda: step(active))

    def step_s(self) -> float:
        """How long the next step may take, in seconds, if prompts are computed in it; 0 if none are."""
        tokens, longest = self._scheduler.unspoken
        return self._pace.seconds(tokens, longest)

    def normal_step(self, active: Collection[RequestID]) -> Mapping[RequestID, TokenDelta]:
        """Schedule, run, sample, commit: the readable twin of `overlap_step`."""
        launched = self._launch(active, None)
        return self._commit(active, launched)

    def overlap_step(self, active: Collection[RequestID]) -> Mapping[RequestID, TokenDelta]:
        """The same tokens, each a step later: while the device computes this step, the host reads the one before.

        So the device never waits for the host. Where the next token depends on what the last one was, it has to: then
        what is under way is read first, and nothing is launched.

        What fails when it is read was launched for others than those of this step. So it is undone, and all take plain
        steps until each has passed one: an error then is of a sequence in its own step, which halving can find.
        """
        if self._doubted:
            passed = dict(self.normal_step([key for key in active if key not in self._held]))
            self._doubted.difference_update(active)
            return self._due(active, passed)
        earlier = self._under_way
        wait = earlier is not None and self._must_wait(active, earlier)
        self._under_way = None if wait else self._launch(active, earlier)
        if earlier is None:
            return self._due(active, {})
        try:
            deltas = self._commit(active, earlier)
        except Exception as problem:
            self._doubted = set(self._scheduler.sequences)
            self._shortage.eased(problem, earlier.chunks)
            del earlier  # and what it has on the device
        else:
            return self._due(active, deltas)
        return self.overlap_step(active)

    def release(self, request_id: RequestID) -> None:
        """Forget a sequence and free its memory. Safe between steps, also for an unknown id."""
        self._scheduler.release(request_id)
        self._held.pop(request_id, None)
        self._doubted.discard(request_id)
        if not self._scheduler.sequences:
            self._under_way = None
            findings = self._scheduler.audit()
            if findings:
                what = f"{len(findings)} things in the engine's memory were wrong and have been mended"
                warnings.warn(f"{what}: {'; '.join(findings)[:1000]}", stacklevel=2)

    def _longest(self, capacity: int) -> int:
        most = (self._model.context_length, capacity, self.config.max_length)
        return min(length for length in most if length is not None)

    def _room(self, start: SequenceStart, before: int) -> int:
        """How many tokens can follow the prompt, with `before` of a soft one. ValueError for too many beams."""
        length, width = before + len(start.prompt), width_of(start.sampling_params)
        if width == 1:
            return self._longest(self._scheduler.capacity_for(KVPlan.of(start.sampling_params, length))) - length
        if width > self.config.max_batch:
            most = f"this engine has {self.config.max_batch} sequences at once, and each beam is one"
            raise ValueError(f"SamplingParams.beam_width = {width}: {most}")
        room = min(self.max_length, self._scheduler.longest(length, width)) - length
        if room < 1 <= self.max_length - length:
            memory = f"the memory of {self._scheduler.capacity} tokens does not hold as many beams"
            raise ValueError(f"SamplingParams.beam_width = {width}: {memory} after a prompt of {length}")
        return room

    def _must_wait(self, active: Collection[RequestID], earlier: Launched) -> bool:
        """True if a sequence's next token depends on one that has not been read, or nothing is left to launch.

        Of a search nothing may be under way when its beams get others' memory.
        """
        if any(chunk.sequence.search is not None and chunk.sequence.request_id in active for chunk in earlier.chunks):
            return True
        sequences = [s for s in map(self._scheduler.sequences.get, active) if s is not None]
        if len(sequences) < len(active):
            return False  # an unknown one is refused before anything is read
        return any(s.row.unread and s.row.reads_output for s in sequences) or all(s.ended for s in sequences)

    def _launch(self, active: Collection[RequestID], earlier: Launched | None) -> Launched:
        """Give the device a step's work, whose results nobody reads yet; `_commit` undoes what it books if it fails."""
        chunks = self._scheduler.schedule(active)
        if not chunks:
            return Launched((), {}, None)
        scores = self._runner.run(chunks, earlier, replays=not self._doubted)
        rows = [chunk.sequence.row for chunk in scores.chunks if chunk.samples]
        sampled = self._sampler.sample(scores.sampled, rows) if rows else None
        self._scheduler.launched(scores.chunks)
        return Launched(scores.chunks, scores.prompts, sampled, scores.hidden)

    def _commit(self, active: Collection[RequestID], launched: Launched) -> dict[RequestID, TokenDelta]:
        """Read and book what a step has computed. Nothing before this point has changed a sequence's tokens."""
        try:
            tokens = iter([] if launched.sampled is None else launched.sampled.resolve())
            chosen = iter([] if launched.sampled is None else launched.sampled.log_probabilities)
            scored = launched.prompt_scores()
            moves = launched.moves()
        except Exception as problem:
            if self._under_way is not None:
                self._scheduler.undo(self._under_way.chunks)
                self._under_way = None
            self._scheduler.undo(launched.chunks)
            if isinstance(problem, SequenceError):
                self._scheduler.suspect(RequestID(problem.name))
            raise
        deltas: dict[RequestID, TokenDelta] = {}
        for index, chunk in enumerate(launched.chunks):
            token = next(tokens) if chunk.samples else None
            log_probabilities = next(chosen) if chunk.samples else None
            self._scheduler.commit(chunk)
            sequence = chunk.sequence
            sequence.keep_scores(scored.get(chunk))
            if not self._goes_on(sequence):
                continue  # it ended, or was released, after this had been launched
            if sequence.listener is not None:
                sequence.listener.note(chunk.first, launched.hidden[index])
            if token is None or sequence.search is not None:
                deltas[sequence.request_id] = UNCHANGED
                continue
            sequence.accept(token)
            report = None if sequence.prompt_told else sequence.report()
            deltas[sequence.request_id] = TokenDelta((token,), sequence.status, log_probabilities, report)
        for sequence, (search, move) in moves.items():
            if self._goes_on(sequence):
                deltas[sequence.request_id] = self._moved(sequence, search, move)
        self._retire(active, deltas)
        return deltas

    def _goes_on(self, sequence: Sequence) -> bool:
        lead = sequence.team[0]
        return not lead.status.is_done and self._scheduler.sequences.get(lead.request_id) is lead

    def _moved(self, sequence: Sequence, search: BeamSearch, move: Move) -> TokenDelta:
        """Go on with other beams of a search, or end it."""
        search.take(move)
        if move.done:
            sequence.status = move.ended[0].status
        else:
            self._scheduler.branch(sequence, move.beams)
        report = None if sequence.prompt_told else sequence.report()
        return TokenDelta((), sequence.status, None, report, search.best if move.done else ())

    def _due(self, active: Collection[RequestID], deltas: dict[RequestID, TokenDelta]) -> dict[RequestID, TokenDelta]:
        """What may be told now: the token of a sequence that was paused while it was under way waits for its return."""
        named = set(active)
        for request_id in deltas.keys() - named:
            self._held[request_id] = deltas.pop(request_id)
        for request_id in self._held.keys() & named:
            deltas[request_id] = self._held.pop(request_id)
        return deltas

    def _retire(self, active: Collection[RequestID], deltas: dict[RequestID, TokenDelta]) -> None:
        """Take back the memory of those that are done."""
        for request_id in active:
            sequence = self._scheduler.sequences[request_id]
            if sequence.status.is_done and not sequence.reported:
                # One that was accepted complete ends here, without a token of this worker's.
                deltas.setdefault(request_id, TokenDelta((), sequence.status))
                self._scheduler.retire(sequence)

    def _measured_pace(self, most: int) -> Pace:
        """Going by a text of so many tokens, if it may have them."""
        tokens = [token % self._model.vocab_size for token in range(min(most, self.max_length - 1))]
        width = self._model.module.config.get_text_config(decoder=True).hidden_size
        return measured(lambda: self._trial(tokens), len(tokens), width)

    def _trial_of_both(self, tokens: list[int]) -> Tensor:
        """`_trial` with the last token in a chunk of its own: attention of prefill and of decode."""
        budget = self._scheduler.token_budget
        self._scheduler.token_budget = max(1, len(tokens) - 1)
        try:
            return self._trial(tokens)
        finally:
            self._scheduler.token_budget = budget

    def _trial(self, tokens: list[int]) -> Tensor:
        """The logits `[vocabulary]` after some tokens, through the engine's own path, in as many chunks as it takes."""
        start = SequenceStart(RequestID("trial"), tuple(tokens), SamplingParams(), seed=0)
        self.add(start)
        try:
            while True:
                scores = self._runner.run(self._scheduler.schedule([start.request_id]))
                if len(scores.sampled):
                    return scores.sampled[0].cpu()
                self._scheduler.launched(scores.chunks)
        finally:
            self.release(start.request_id)


def _team(start: SequenceStart, limit: int, adapters: Chosen, perceived: Perceived) -> Sequence:
    """A sequence, with one for each of its beams if it is to be searched for."""
    lead, width = Sequence(start, limit, adapters, perceived), width_of(start.sampling_params)
    if start.sampling_params.searches:
        search = BeamSearch(rule_for(start, lead.row.end_ids, limit), start.sampling_params.n)
        team = [lead, *(Sequence(start, limit, adapters, perceived) for _ in range(width - 1))]
        for beam in team:
            beam.team, beam.search = team, search
    return lead
