"""One sequence of the engine: what it has, and what it still wants."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from torch import Tensor

from max_interfaces.identity import RequestID
from max_interfaces.protocols import PromptReport, SequenceStart
from max_interfaces.status import GenerationStatus
from max_interfaces.text import LogProbabilities

from .adapters import BARE, Chosen
from .added_states import AddedStates
from .beams import BeamSearch
from .hidden_states import Listener
from .kv_format import PINNED, PLAIN, KVFormat, KVPlan
from .log_probabilities import join, prompt_log_probabilities
from .media import TEXT_ALONE, Perceived, Positions
from .prompt_states import PromptStates
from .sampling_row import SamplingRow

NEVER = sys.maxsize
LARGEST_STEP = 2**20  # tokens of one sequence in a step, if it does not say how many


@dataclass(frozen=True, slots=True, eq=False)
class Beginning:
    """What of a sequence another beam can go on from; the fields are the sequence's."""

    output: list[int]
    blocks: list[int]
    computed: int
    keys: list[bytes]
    tail_key: bytes
    published: int
    next_border: int

    @classmethod
    def of(cls, sequence: Sequence) -> Beginning:
        """A copy of what it has."""
        return cls(
            [*sequence.row.output],
            [*sequence.blocks],
            sequence.computed,
            [*sequence.keys],
            sequence.tail_key,
            sequence.published,
            sequence.next_border,
        )


class Sequence:
    """Tokens computed and tokens wanted; there is no prefill and no decode state.

    `computed` tokens have their keys and values in `blocks`, or will have when what is launched has run. Both can be
    thrown away at any time and computed again: only `row.output` and `status` are what the sequence is.
    `cached_tokens` of the prompt were found in the prefix cache. `kv_plan` says how its keys and values are kept,
    `kv_format` how they are now, `block_size` tokens a block. If that has a window, `dropped` blocks behind the first,
    pinned ones are no longer its own.
    The prompt begins with its soft prompt's positions, if it has one; only `row.prompt` is what was asked. `states`
    stand in it in the place of what is looked up; from position `own_from` on nothing but the model makes its rows.
    `turned` are its rotary positions, if they are not one for each token, and the tokens of one of `joint` see each
    other. `listener` is told the hidden states of all its tokens. With `added` ones its output waits for them.

    `committed`, `keys`, `tail_key`, `published` and `next_border` are notes of the `SequenceMemory`, `rank` and `turn`
    of the `Scheduler`.

    A beam search is the sequence of its best beam. Its other beams, which nobody else sees, are sequences, too: `team`
    has room for all, and `rows` are those that are alive, the best first. One that goes beside another is of its team
    and rows, too, with a prompt of its own and as many tokens. Any other sequence has itself in both.
    """

    def __init__(
        self, start: SequenceStart, limit: int, adapters: Chosen = BARE, perceived: Perceived = TEXT_ALONE
    ) -> None:
        self.request_id: RequestID = start.request_id
        self.row = SamplingRow(start)
        self.adapters = adapters
        self.perceived = perceived
        self.states: PromptStates | None = perceived.states if adapters.prompt is None else adapters.prompt.states
        self.own_from = NEVER if adapters.lora is not None else 0 if self.states is None else self.states.end
        self.turned: Positions | None = perceived.positions
        self.joint: tuple[tuple[int, int], ...] = perceived.joint
        self.listener: Listener | None = None
        self.added: AddedStates | None = None
        # With a soft prompt's positions, whose ids nobody looks up.
        self._prompt: tuple[int, ...] = (0,) * adapters.length + start.prompt if adapters.length else start.prompt
        self.prompt_length = len(self._prompt)
        # So many of the first tokens are for others, too.
        self.findable = NEVER if start.shared_prefix is None else adapters.length + start.shared_prefix
        self.priority: int = start.priority
        self.cache_salt: str = f"{adapters.key}/{start.cache_salt}"  # no tenant's name can look like an adapter's key
        self.scores_prompt = start.sampling_params.prompt_logprobs is not None
        self.most_at_once: int = start.sampling_params.prefill_step_size or LARGEST_STEP
        self.kv_plan = KVPlan.of(start.sampling_params, self.prompt_length)
        self.kv_format = self.kv_plan.first
        self.block_size = 1  # the `SequenceMemory` knows
        self.blocks: list[int] = []
        self.dropped = 0
        self.computed = 0
        self.committed = 0  # of these tokens, those computed in a step that succeeded
        self.entry = 0  # how often it has lost its memory
        self.cached_tokens = 0
        self.keys: list[bytes] = []  # of its full blocks, as far as they were needed
        self.tail_key = b""  # of the prompt's last, partial block; made when it is needed
        self.published = 0  # full blocks that have been made findable
        self.next_border = 0  # computed tokens at which there is something to make findable
        self.rank = (0, 0)  # who comes first: the smaller one
        self.turn = 0  # the last step that named it
        self.limit = limit
        self.team: list[Sequence] = [self]
        self.rows: list[Sequence] = [self]
        self.search: BeamSearch | None = None
        self._side_by_side = 0
        self._prompt_scores: list[LogProbabilities] = []
        self._scored = 0  # tokens of the prompt whose followers have theirs
        self.suspect = False  # its keys and values may be NaN
        self.status = self._status()
        self.reported = False
        self.prompt_told = False

    @property
    def known(self) -> int:
        """Tokens in all, prompt and output, whose ids are known."""
        return self.prompt_length + len(self.row.output)

    @property
    def length(self) -> int:
        """The same, and those that have been sampled but not been read yet."""
        return self.prompt_length + len(self.row.output) + self.row.unread

    @property
    def ended(self) -> bool:
        """True if it has all the tokens it may have, though the last may be unread, or has ended otherwise."""
        return self.status is not GenerationStatus.ACTIVE or self.row.position >= self.limit

    @property
    def waits(self) -> bool:
        """True if what is added to its last token has not come yet."""
        return self.added is not None and self.length - self.prompt_length > self.added.count

    @property
    def computes_all(self) -> bool:
        """True if nothing of it may be taken from others: somebody wants what is computed on the way."""
        return self.scores_prompt or (self.listener is not None and self.listener.all)

    @property
    def wanted(self) -> int:
        """Tokens to compute before the next one can be sampled."""
        return self.length - self.computed

    @property
    def running(self) -> bool:
        """True while it holds memory."""
        return bool(self.blocks)

    @property
    def places(self) -> int:
        """How many rows of a step are kept free for it."""
        return len(self.team)

    @property
    def held(self) -> int:
        """How many blocks it has, with all its beams."""
        return len(self.blocks) if len(self.team) == 1 else len({block for row in self.team for block in row.blocks})

    @property
    def speaks(self) -> bool:
        """True if all that is left to compute is one token of each of its rows."""
        if len(self.team) == 1:
            return bool(self.blocks) and self.wanted == 1
        return all(row.blocks and row.wanted == 1 for row in self.rows)

    @property
    def trunk(self) -> int:
        """How many tokens all its rows have in common, from the first on; all that it has if there is one row."""
        if len(self.rows) > 1 and self.search is None:
            return 0
        outputs = [row.row.output for row in self.rows]
        first, last = min(outputs), max(outputs)
        apart = (at for at, (one, other) in enumerate(zip(first, last, strict=True)) if one != other)
        return self.prompt_length + next(apart, len(first))

    @property
    def plain(self) -> bool:
        """True if it keeps all keys and values as the model computes them."""
        return self.kv_format == PLAIN

    @property
    def switches(self) -> int | None:
        """At how many tokens another format begins; None if that is behind it, or never comes."""
        return self.kv_plan.switch if self.kv_format is self.kv_plan.first else None

    @property
    def pinned(self) -> int:
        """Blocks that hold the first tokens, which are never dropped."""
        return -(-PINNED // self.block_size)

    @property
    def last_block(self) -> int:
        """Blocks from its beginning to its end, those that were dropped among them."""
        return len(self.blocks) + self.dropped

    def block(self, index: int) -> int | None:
        """Where block `index` of its text lies; None if it was dropped, or has not been given."""
        if self.dropped and index >= self.pinned:
            index -= self.dropped
            if index < self.pinned:
                return None
        return self.blocks[index] if index < len(self.blocks) else None

    @property
    def side_by_side(self) -> int:
        """How many of its blocks, from the first on, are neighbours in the cache."""
        blocks, count = self.blocks, self._side_by_side
        while count < len(blocks) and (not count or blocks[count] == blocks[count - 1] + 1):
            count += 1
        self._side_by_side = count
        return count

    def join(self, listener: Listener | None, added: AddedStates | None) -> None:
        """Be read by another model, or read one; before its first step."""
        self.listener, self.added = listener, added
        if added is not None:
            self.own_from = NEVER

    def go_beside(self, lead: Sequence) -> None:
        """Have a place in every step in which `lead` has one, and memory when it has; before its first step."""
        lead.team = lead.rows = self.team = [lead, self]

    def tokens(self, first: int, last: int) -> list[int]:
        """Token ids at positions `first` to `last` (excluded)."""
        prompt, output = self._prompt, self.row.output
        if first >= len(prompt):
            return output[first - len(prompt) : last - len(prompt)]
        return [*prompt[first:last], *output[: max(0, last - len(prompt))]]

    def at_once(self, most: int) -> int:
        """How many of its next tokens to compute, up to `most`: those that see each other are, all of them."""
        for first, last in self.joint:
            if self.computed < last:
                return last - self.computed if self.computed >= first else min(most, first - self.computed)
        return most

    def joint_end(self, position: int) -> int | None:
        """Where the run of tokens that see each other ends, if the one at `position` is of such a run."""
        return next((last for first, last in self.joint if first <= position < last), None)

    def let_go(self) -> None:
        """Hold no weights and no states any more: what was planned may keep it for a while, but not them."""
        self.adapters, self.states, self.perceived = BARE, None, TEXT_ALONE
        self.listener = self.added = None

    def prompt_scores(self, first: int, logits: Tensor) -> LogProbabilities | None:
        """Log probabilities of the prompt's ids from position `first` + 1 on, under `logits`; None if all are kept."""
        known, last = max(first, self._scored), first + logits.shape[0]
        if known >= last:
            return None
        return prompt_log_probabilities(logits[known - first :], self.row.prompt[known + 1 : last + 1], self.row.params)

    def keep_scores(self, scores: LogProbabilities | None) -> None:
        """Keep what `prompt_scores` gave, from the prompt's beginning on; a loss of memory does not make it untrue."""
        if scores is not None:
            self._prompt_scores.append(scores)
            self._scored += len(scores.token_log_probabilities)

    def report(self) -> PromptReport:
        """What became of its prompt; to be told once."""
        self.prompt_told = True
        scores, self._prompt_scores = self._prompt_scores, []
        return PromptReport(
            max(0, self.cached_tokens - self.adapters.length), join(scores) if self.scores_prompt else None
        )

    def accept(self, token: int) -> None:
        """Append a sampled token, and see whether it was the last."""
        self.row.output.append(token)
        self.status = self._status()

    def become(self, other: Beginning) -> None:
        """Be as another beam was; the blocks that it had must have been shared."""
        self.row.say([*other.output])
        self.blocks, self.computed = [*other.blocks], other.computed
        self.keys, self.tail_key = [*other.keys], other.tail_key
        self.published, self.next_border = other.published, other.next_border
        self._side_by_side = 0

    def replace_block(self, index: int, block: int) -> None:
        """Have another block with the same content."""
        self.blocks[index] = block
        self._side_by_side = 0

    def keep(self, kv_format: KVFormat, block_size: int) -> None:
        """Keep keys and values so from now on. What else it has of blocks belongs to the format before."""
        self.block_size = block_size
        if kv_format != self.kv_format:
            self.kv_format = kv_format
            self.keys.clear()
            self.tail_key = b""

    def forget(self) -> list[int]:
        """Drop what was computed and return the blocks, which are no longer its own."""
        blocks, self.blocks = self.blocks, []
        self.computed = self.committed = self.published = self.dropped = 0
        self.entry += 1
        self._side_by_side = 0
        return blocks

    def _status(self) -> GenerationStatus:
        output = self.row.output
        if output and output[-1] in self.row.end_ids and len(output) >= self.row.params.min_new_tokens:
            return GenerationStatus.END_OF_SEQUENCE
        if len(output) >= self.limit:
            return GenerationStatus.MAXIMUM_LENGTH
        return GenerationStatus.ACTIVE
