"""Who runs in a step, with how many tokens, and who gets memory."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Collection
from dataclasses import dataclass

from max_interfaces.identity import RequestID

from .beams import Beam
from .blocks import BlockPool
from .branching import Branching
from .kv_cache import KVCache
from .kv_format import KVPlan
from .memory import Match, SequenceMemory
from .sequence import Sequence
from .switching import Switching


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """The tokens of a sequence from position `first` to `last` (excluded), to be computed in one step.

    If it `samples`, a new token follows. `entry` tells whether the sequence still has the memory it had then. `joint`
    is there if its tokens see each other: they see all before that one.
    """

    sequence: Sequence
    first: int
    last: int
    samples: bool
    entry: int
    joint: int | None = None

    @classmethod
    def next(cls, sequence: Sequence, count: int) -> Chunk:
        """The next `count` tokens."""
        first, last = sequence.computed, sequence.computed + count
        joint = sequence.joint_end(first) if sequence.joint else None
        return cls(sequence, first, last, last == sequence.length, sequence.entry, joint)

    @property
    def count(self) -> int:
        """How many tokens."""
        return self.last - self.first

    @property
    def single(self) -> bool:
        """True for one token that sees those before it alone."""
        return self.last - self.first == 1 and self.joint is None

    @property
    def current(self) -> bool:
        """True if the sequence has not lost its memory since."""
        return self.entry == self.sequence.entry

    @property
    def scored(self) -> int:
        """How many of its tokens, from the first on, are followed by one of the prompt whose score is asked for."""
        if not self.sequence.scores_prompt:
            return 0
        return max(0, min(self.last, self.sequence.prompt_length - 1) - self.first)


class Scheduler:
    """Deals each step's token budget, and the blocks of the KV cache.

    Sequences are ranked by their priority, then by when they were added. Those that want one token have it; the rest
    of the budget goes to prompts in chunks, by rank. A waiting sequence enters when its blocks fit, and those behind
    it wait, too; it throws out others of lower priority, but among equals it waits. Only one whose prefix is just
    being computed, by another one that is in this step, lets others pass, and takes it by reference afterwards.

    When blocks run out, a paused sequence gives its up, or else the one that ranks last; it computes them again
    later. A sequence that nobody behind it can help waits. So of those that have memory and are active the first
    always goes on, unless one before it enters; and if none has memory, the first of those that wait enters: all
    finish. Deadlines are the dispatcher's, which stops between two steps what is late.

    The beams of a search sample in one step, or none of them does; they lose their memory together, and get it back as
    a trunk, the tokens that all have in common, from which they branch again.

    Scheduling moves memory but no token: a step that fails after it has lost nothing. `token_budget` and `batch`, the
    most sequences that a step moves, may change between two schedules; `planned` is the last one.
    """

    def __init__(
        self, cache: KVCache, pool: BlockPool, max_batch: int, token_budget: int, *, shares: bool = True
    ) -> None:
        self.sequences: dict[RequestID, Sequence] = {}
        self.pool = pool
        self._memory = SequenceMemory(cache, pool, shares=shares)
        self._branching = Branching(cache, pool)
        self._switching = Switching(cache, pool)
        self._max_batch = max_batch
        self.token_budget = token_budget
        self.batch = max_batch
        self.planned: list[Chunk] = []
        self._ranked: list[Sequence] = []
        self._added = 0
        self._turn = 0

    @property
    def unspoken(self) -> tuple[int, int]:
        """Tokens that the next step has of sequences that do not speak yet, at most, and how long the longest is."""
        silent = [s for s in self.sequences.values() if not (s.speaks or s.ended)]
        if not silent:  # nearly always
            return 0, 0
        together = max((last - first for s in silent for first, last in s.joint), default=0)
        tokens = min(sum(s.wanted for s in silent), max(self.token_budget, together))
        return tokens, max(s.length for s in silent)

    @property
    def capacity(self) -> int:
        """Tokens that fit in the memory as the model computes them."""
        return self._memory.capacity

    def capacity_for(self, plan: KVPlan) -> int:
        """The most tokens that one sequence can have. ValueError, naming the field, for a plan that cannot be."""
        return self._memory.capacity_for(plan)

    def longest(self, prompt: int, rows: int) -> int:
        """Tokens, prompt and output, that each of so many beams can have."""
        return self._memory.longest(prompt, rows)

    def add(self, sequence: Sequence) -> None:
        """Take a sequence, which waits from now on."""
        self._added += 1
        sequence.rank = (-sequence.priority, self._added)
        for row in sequence.team:
            self._memory.prepare(row)
        self.sequences[sequence.request_id] = sequence
        insort(self._ranked, sequence, key=_rank)

    def schedule(self, active: Collection[RequestID]) -> list[Chunk]:
        """What to compute in this step for the sequences named by `active`. KeyError for an unknown id.

        Chunks of one token come first.
        """
        ready = self._ready(active)
        singles: list[Chunk] = []
        prompts: list[Chunk] = []
        promised: set[bytes] = set()  # keys of the blocks that this step and those after it compute
        budget = self.token_budget - min(self.batch, sum(len(s.rows) for s in ready if s.speaks))
        door_open = True
        for sequence in ready:
            rows, planned = sequence.rows, len(singles) + len(prompts)
            if planned and planned + len(rows) > self.batch:
                break
            if sequence.speaks:
                if not self._grow(sequence):
                    continue
                singles += [Chunk.next(row, 1) for row in rows]
            elif budget > 0 and (sequence.blocks or door_open):
                if not sequence.blocks:
                    match = self._memory.match(sequence)
                    if not promised.isdisjoint(match.wanted):
                        continue
                    if not self._admit(sequence, match):
                        door_open = False  # those behind it would take what it waits for
                        continue
                chunks = self._chunks(sequence, min(budget, sequence.most_at_once))
                if not chunks:
                    continue
                for chunk in chunks:
                    prompts.append(chunk)
                    budget -= chunk.count
            else:
                continue
            if sequence.next_border <= sequence.prompt_length:  # not all of its prompt can be found yet
                promised.update(self._memory.prompt_keys(sequence))
        self.planned = singles + prompts
        return self.planned

    def launched(self, chunks: Collection[Chunk]) -> None:
        """Book chunks as under way: the next step goes on behind them."""
        for chunk in chunks:
            chunk.sequence.computed = chunk.last
            chunk.sequence.row.unread += chunk.samples

    def undo(self, chunks: Collection[Chunk]) -> None:
        """Book chunks as not under way: they have failed. The last that were launched must be undone first."""
        for chunk in chunks:
            chunk.sequence.row.unread -= chunk.samples
            if chunk.current:
                self._memory.take_back(chunk.sequence, chunk.first)

    def commit(self, chunk: Chunk) -> None:
        """Book a chunk as computed: others can use it from now on."""
        chunk.sequence.row.unread -= chunk.samples
        if chunk.current:
            self._memory.commit(chunk.sequence, chunk.last)

    def branch(self, sequence: Sequence, beams: Collection[Beam]) -> None:
        """Go on with other beams of a search, each with a token more."""
        self._branching.branch(sequence.team, tuple(beams))

    def suspect(self, request_id: RequestID) -> None:
        """Note that what a sequence has computed may be no numbers: it is wiped out when it is released."""
        sequence = self.sequences.get(request_id)
        if sequence is not None:
            sequence.suspect = True

    def retire(self, sequence: Sequence) -> None:
        """Free the memory of a sequence that is done, and note that its end has been told."""
        self._drop(sequence)
        sequence.reported = True

    def release(self, request_id: RequestID) -> None:
        """Forget a sequence and free its blocks."""
        sequence = self.sequences.pop(request_id, None)
        if sequence is not None:
            del self._ranked[bisect_left(self._ranked, sequence.rank, key=_rank)]
            if sequence.suspect:
                for row in sequence.team:
                    self._memory.wipe(row)
            else:
                self._drop(sequence)
            for row in sequence.team:
                row.let_go()

    def audit(self) -> list[str]:
        """Check that every block has its owners and nothing else, and mend what does not; what was found, in words."""
        findings = [] if len(self._ranked) == len(self.sequences) else ["a sequence has no rank, or two"]
        self._ranked = sorted(self.sequences.values(), key=_rank)
        return findings + self._memory.audit([row for sequence in self._ranked for row in sequence.team])

    def _ready(self, active: Collection[RequestID]) -> list[Sequence]:
        """The sequences that this step may move, by rank. It costs no sort: each has its turn noted."""
        self._turn = turn = self._turn + 1
        for request_id in active:
            sequence = self.sequences.get(request_id)
            if sequence is None:
                raise KeyError(f"no sequence {request_id}: it was not added, or has been released")
            sequence.turn = turn
        named = [s for s in self._ranked if s.turn == turn]
        return [s for s in named if not (s.ended or s.waits) and (s.blocks or not s.row.unread)]

    def _admit(self, sequence: Sequence, match: Match) -> bool:
        """Give a waiting sequence a place in the batch and blocks for all its tokens, if there is room."""
        running = [s for s in self._ranked if s.blocks]
        paused = [s for s in running if s.turn != self._turn]
        lower = [s for s in running if s.turn == self._turn and s.priority < sequence.priority]
        victims = lower + paused  # the last goes first
        staying = _places(running) - _places(victims)
        if match.source is not None and self._memory.cost(sequence, match) > self.pool.free:
            match = self._memory.without_copy(sequence, match)  # what it would copy is in the way of what it needs
        help_to_come = sum(s.held for s in victims)
        cost = self._memory.cost(sequence, match)
        if staying + sequence.places > self._max_batch or cost + staying > self.pool.free + help_to_come:
            return False  # nobody is thrown out in vain
        # One block per running sequence is left free: else it would be the first to be thrown out again.
        active = staying + _places(lower)
        while staying + _places(victims) + sequence.places > self._max_batch or cost + active > self.pool.free:
            if not victims:
                return False
            victim = victims.pop()
            active -= victim.places * (victim.turn == self._turn)
            self._drop(victim)
            cost = self._memory.cost(sequence, match)
        self._memory.enter(sequence, match)
        return True

    def _chunks(self, sequence: Sequence, budget: int) -> list[Chunk]:
        """What to compute of one that does not speak yet, `budget` tokens at most.

        Of several beams first the trunk, and then of each all but its last token, which they have in one step.
        """
        rows = sequence.rows
        if len(rows) == 1:
            count = self._extend(sequence, sequence.at_once(min(budget, sequence.wanted)))
            return [Chunk.next(sequence, count)] if count else []
        if not all(row.blocks for row in rows):
            trunk = sequence.trunk
            if sequence.computed < trunk:
                return [Chunk.next(sequence, sequence.at_once(min(budget, trunk - sequence.computed)))]
            if not self._make_room(sequence, lambda: self._branching.needed(rows, trunk)):
                return []
            self._branching.spread(rows, trunk)
        chunks: list[Chunk] = []
        for row in rows:
            count = min(budget - sum(chunk.count for chunk in chunks), row.wanted - 1)
            if count > 0:
                chunks.append(Chunk.next(row, count))
        return chunks

    def _grow(self, sequence: Sequence) -> bool:
        """See that each row of a running sequence has a block for its next token, its own."""
        rows = sequence.rows
        if len(rows) == 1:
            return self._extend(sequence, 1) == 1
        wanted = sum(self._memory.missing(row, 1) for row in rows) + self._branching.copies(rows)
        if not wanted:
            return True
        if not self._make_room(sequence, lambda: wanted):
            return False
        self._branching.separate(rows)
        for row in rows:
            self._memory.grow(row, self._memory.missing(row, 1))
        return True

    def _extend(self, sequence: Sequence, count: int) -> int:
        """How many tokens of a running sequence, up to `count`, have memory now, at the expense of others if need be.

        0 if it has to wait.
        """
        if self._switching.due(sequence) and not self._switch(sequence):
            return 0
        count = min(count, self._memory.most(sequence))
        missing = self._memory.missing(sequence, count)
        if missing:
            if not self._make_room(sequence, lambda: missing):
                return 0
            self._memory.grow(sequence, missing)
        return count

    def _switch(self, sequence: Sequence) -> bool:
        """Quantise a running sequence. False if it has to wait."""
        if sequence.committed < sequence.computed:
            return False  # what is under way could be undone, and belongs to the format before
        if not self._make_room(sequence, lambda: self._switching.cost(sequence)):
            return False
        try:
            self._switching.switch(sequence)
        except Exception:
            self._memory.wipe(sequence)  # some layers are of this format, some of that: it begins anew
            raise
        return True

    def _make_room(self, needy: Sequence, blocks: Callable[[], int]) -> bool:
        """Throw others out until as many blocks are free as `needy` needs. False if nobody is left."""
        while blocks() > self.pool.free:
            victim = self._victim(needy)
            if victim is None:
                return False
            self._drop(victim)
        return True

    def _drop(self, sequence: Sequence) -> None:
        for row in sequence.team:
            self._memory.drop(row)

    def _victim(self, needy: Sequence) -> Sequence | None:
        """The last paused sequence, or the last one behind `needy`; None if there is neither."""
        last: Sequence | None = None
        for sequence in reversed(self._ranked):
            if sequence.blocks and sequence is not needy:
                if sequence.turn != self._turn:
                    return sequence
                if last is None and sequence.rank > needy.rank:
                    last = sequence
        return last


def _places(sequences: Collection[Sequence]) -> int:
    return sum(sequence.places for sequence in sequences)


def _rank(sequence: Sequence) -> tuple[int, int]:
    return sequence.rank
