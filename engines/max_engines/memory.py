"""Which blocks of the KV cache each sequence has, and which of them others can use, too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from .blocks import BlockPool
from .kv_cache import KVCache
from .kv_format import PINNED, KVFormat, KVPlan
from .sequence import NEVER, Sequence


@dataclass(frozen=True, slots=True)
class Match:
    """What the cache holds of a sequence's beginning.

    `blocks` are full and can be taken by reference; `dropped` more, behind the pinned ones, are of no use to it any
    more. The sequence would write into the one after them, so it copies `source`, if there is one. `tokens` of them
    need not be computed. `wanted` are keys that would have saved more.
    """

    blocks: tuple[int, ...] = ()
    source: int | None = None
    tokens: int = 0
    wanted: tuple[bytes, ...] = ()
    dropped: int = 0


class SequenceMemory:
    """Gives blocks to sequences, finds their prefixes, and takes blocks back.

    A block is findable when all its tokens have been computed, in a step that succeeded; so is the last, partial one
    of a prompt. A sequence that enters has its prefix found and always computes one token at least, whose scores it
    needs. It shares blocks with those of its own format only.

    A sequence has memory for all its tokens from when it enters. One with a window has no more than twice the window:
    as it goes on, what nobody of it will see gives way to what comes.
    """

    def __init__(self, cache: KVCache, pool: BlockPool, *, shares: bool = True) -> None:
        self.pool = pool
        self._shares = shares  # sequences find what others have computed
        self._cache = cache

    @property
    def capacity(self) -> int:
        """Tokens that fit in the memory as the model computes them."""
        return self.pool.total * self._cache.block_size

    def capacity_for(self, plan: KVPlan) -> int:
        """The most tokens that one sequence can have. ValueError, naming the field, for a plan that cannot be."""
        most = self._fitting(plan.later)
        first = self._fitting(plan.first)
        return most if plan.switch is None or plan.switch <= first else first

    def prepare(self, sequence: Sequence) -> None:
        """Note in which format a sequence without memory begins."""
        first = sequence.kv_plan.first
        sequence.keep(first, self._cache.tokens_per_block(first))

    def longest(self, prompt: int, rows: int) -> int:
        """Tokens that each of so many rows can have if they share the full blocks of a prompt of `prompt` tokens."""
        size = self._cache.block_size
        shared = prompt // size
        return (shared + max(0, self.pool.total - shared) // rows) * size

    def match(self, sequence: Sequence) -> Match:
        """What of a sequence's tokens is in the cache."""
        if sequence.computes_all:
            return Match()
        size, most = sequence.block_size, min(sequence.length - 1, sequence.switches or NEVER)
        blocks: list[int] = []
        for key in self.keys(sequence)[: most // size]:
            block = self.pool.prefixes.find(key)
            if block is None:
                break
            blocks.append(block)
        start = len(blocks) * size
        ends = {key: min(end, most) for key, end in self._next(sequence, len(blocks)).items() if min(end, most) > start}
        for key, end in ends.items():
            source = self.pool.prefixes.find(key)
            if source is not None:
                return self._seen(sequence, Match(tuple(blocks), source, end))
        return self._seen(sequence, Match(tuple(blocks), None, start, tuple(ends)))

    def without_copy(self, sequence: Sequence, match: Match) -> Match:
        """The part of a match that is taken by reference."""
        tokens = (len(match.blocks) + match.dropped) * sequence.block_size
        return Match(match.blocks, None, tokens, dropped=match.dropped)

    def cost(self, sequence: Sequence, match: Match) -> int:
        """Free blocks that a sequence takes to enter with what was found."""
        found = match.blocks if match.source is None else (*match.blocks, match.source)
        return self._lacking(sequence, match) + self.pool.unused(found)

    def enter(self, sequence: Sequence, match: Match) -> None:
        """Give a sequence its blocks, those found among them. OutOfBlocks if `cost` are not free."""
        kept = match.blocks if match.source is None else (*match.blocks, match.source)
        self.pool.share(kept)  # so that none of them is evicted for the others
        sequence.blocks, sequence.dropped = list(match.blocks), match.dropped
        lacking, size = self._lacking(sequence, match), sequence.block_size
        self._allocate(sequence, lacking)
        if match.source is not None:
            position = len(match.blocks)
            count = match.tokens - (position + match.dropped) * size
            self._cache.copy_block(match.source, sequence.blocks[position], count, sequence.kv_format)
            self.pool.release([match.source])
        sequence.computed = sequence.committed = match.tokens
        sequence.cached_tokens = min(match.tokens, sequence.prompt_length)
        sequence.next_border = 0

    def most(self, sequence: Sequence) -> int:
        """The most tokens of a running sequence that the next step can compute: up to a switch, and what it may hold.

        0 if it has to wait for what is under way.
        """
        most = sequence.wanted
        if sequence.switches is not None:
            most = min(most, sequence.switches - sequence.computed)
        if sequence.kv_format.window is not None:
            end = (sequence.dropped + self._limit(sequence.kv_format)) * sequence.block_size
            most = min(most, end - sequence.computed)
        return max(0, most)

    def missing(self, sequence: Sequence, count: int) -> int:
        """Blocks that a running sequence lacks for its next `count` tokens."""
        return max(0, -(-(sequence.computed + count) // sequence.block_size) - sequence.last_block)

    def grow(self, sequence: Sequence, count: int) -> None:
        """Give a running sequence `count` blocks more. OutOfBlocks gives none."""
        self._allocate(sequence, count)

    def commit(self, sequence: Sequence, computed: int) -> None:
        """Book that the keys and values of a sequence's first `computed` tokens are there: others can use them."""
        sequence.committed = computed
        if computed >= sequence.next_border:
            self._publish(sequence, computed)
        if sequence.kv_format.window is not None:
            self._drop_unseen(sequence)

    def take_back(self, sequence: Sequence, computed: int) -> None:
        """Book that only the first `computed` tokens are there, and zero the rest: what has failed may be NaN."""
        sequence.computed = computed
        full, offset = divmod(computed, sequence.block_size)
        self._cache.clear(sequence.blocks[full - sequence.dropped :], offset, sequence.kv_format)

    def drop(self, sequence: Sequence) -> None:
        """Take back all that a sequence has. What is findable stays so until its memory is needed."""
        self.pool.release(self._forget(sequence))

    def wipe(self, sequence: Sequence) -> None:
        """Take back all that a sequence has, and zero it, for it may be NaN, unless others have it, too.

        A recorded step reads a lane to its end, where 0 × NaN would still be NaN.
        """
        blocks = self._forget(sequence)
        self.pool.release(blocks)
        self._cache.clear(self.pool.evict(blocks))

    def keys(self, sequence: Sequence) -> list[bytes]:
        """The keys of all its full blocks that others can use."""
        keys, size = sequence.keys, sequence.block_size
        for index in range(len(keys), min(sequence.known, self._findable(sequence)) // size):
            parent = keys[-1] if keys else self._root(sequence)
            keys.append(self._key(sequence, parent, index * size, (index + 1) * size))
        return keys

    def prompt_keys(self, sequence: Sequence) -> list[bytes]:
        """The keys of all blocks of its prompt that others can use, also of the last, partial one."""
        index, rest = divmod(self._findable_prompt(sequence), sequence.block_size)
        keys = self.keys(sequence)[:index]
        return [*keys, self._tail(sequence)] if rest else keys

    def audit(self, sequences: Collection[Sequence]) -> list[str]:
        """What is wrong, mended: a sequence that cannot have what it says begins anew."""
        findings: list[str] = []
        owners = Counter(block for sequence in sequences for block in sequence.blocks)
        claims: dict[int, bytes] = {}  # what full blocks hold
        for sequence in sequences:
            full = sequence.computed // sequence.block_size - sequence.dropped
            own = set(sequence.blocks[max(0, full) :])  # it writes into them
            beams = Counter(block for beam in sequence.team for block in beam.blocks)  # they separate before they do
            possible = (
                len(set(sequence.blocks)) == len(sequence.blocks)
                and all(0 <= block < self.pool.total for block in sequence.blocks)
                and sequence.computed <= sequence.last_block * sequence.block_size
                and all(owners[block] == beams[block] for block in own)
            )
            if not possible or not self._agree(sequence, claims):
                findings.append(f"{sequence.request_id} has {sequence.computed} tokens in the blocks {sequence.blocks}")
                blocks = self._forget(sequence)
                owners.subtract(blocks)
                for block in blocks:  # nobody can say what they hold
                    self.pool.prefixes.evict(block)
        return findings + self.pool.audit([sequence.blocks for sequence in sequences])

    def _agree(self, sequence: Sequence, claims: dict[int, bytes]) -> bool:
        """False if its blocks are known for other tokens than its own, by another sequence or by their keys."""
        prefixes, parent, size = self.pool.prefixes, self._root(sequence), sequence.block_size
        known = min(sequence.computed, sequence.known)
        for index in range(-(-known // size)):
            begin, end = index * size, min((index + 1) * size, known)
            true = [self._key(sequence, parent, begin, last) for last in range(begin + 1, end + 1)]
            parent = true[-1]
            block = sequence.block(index)
            if block is None:
                continue
            if claims.setdefault(block, parent) != parent or not set(prefixes.keys(block)) <= set(true):
                return False
        return True

    def _next(self, sequence: Sequence, index: int) -> dict[bytes, int]:
        """Keys that block `index` of a sequence could be found by, and how many tokens there are up to its end."""
        keys, size = self.keys(sequence), sequence.block_size
        ends = {keys[index]: (index + 1) * size} if index < len(keys) else {}
        last = self._findable_prompt(sequence)
        if index == last // size and last % size:
            ends[self._tail(sequence)] = last
        return ends

    def _tail(self, sequence: Sequence) -> bytes:
        """The key of a prompt's last, partial block."""
        if not sequence.tail_key:
            last = self._findable_prompt(sequence)
            index = last // sequence.block_size
            parent = self.keys(sequence)[index - 1] if index else self._root(sequence)
            sequence.tail_key = self._key(sequence, parent, index * sequence.block_size, last)
        return sequence.tail_key

    def _key(self, sequence: Sequence, parent: bytes, first: int, last: int) -> bytes:
        """The key of a sequence's tokens `first` to `last` (excluded) behind `parent`, the key of all before them."""
        return self.pool.prefixes.extend(parent, sequence.tokens(first, last), sequence.perceived.note(first, last))

    def _publish(self, sequence: Sequence, computed: int) -> None:
        """Make findable what has been computed, and note when there will be more."""
        size, last, length = sequence.block_size, self._findable(sequence), self._findable_prompt(sequence)
        full = min(computed, last) // size
        keys = self.keys(sequence)
        for index in range(sequence.published, full):
            self._insert(sequence, index, keys[index])
        sequence.published = full
        sequence.next_border = (full + 1) * size if (full + 1) * size <= last else NEVER
        if length % size and computed >= length:
            self._insert(sequence, length // size, self._tail(sequence))
        elif computed < length:
            sequence.next_border = min(sequence.next_border, length)

    def _findable(self, sequence: Sequence) -> int:
        """How many of a sequence's first tokens others can use; where it is not all, of whole blocks.

        A copy of a partial one would lie elsewhere, and all that follows with it: for less than a block's tokens.
        """
        if not self._shares:
            return 0
        if sequence.findable == NEVER:
            return NEVER
        return min(sequence.findable, sequence.prompt_length) // sequence.block_size * sequence.block_size

    def _findable_prompt(self, sequence: Sequence) -> int:
        """How many of them are of its prompt."""
        return min(sequence.prompt_length, self._findable(sequence))

    def _insert(self, sequence: Sequence, index: int, key: bytes) -> None:
        block = sequence.block(index)
        if block is not None:
            self.pool.prefixes.insert(key, block)

    def _allocate(self, sequence: Sequence, count: int) -> None:
        blocks = self.pool.allocate(count, after=sequence.blocks[-1] if sequence.blocks else None)
        self._cache.clear(blocks, kv_format=sequence.kv_format)
        sequence.blocks.extend(blocks)

    def _forget(self, sequence: Sequence) -> list[int]:
        blocks = sequence.forget()
        self.prepare(sequence)
        return blocks

    def _root(self, sequence: Sequence) -> bytes:
        return self.pool.prefixes.root(sequence.cache_salt, sequence.kv_format.kind)

    def _lacking(self, sequence: Sequence, match: Match) -> int:
        """Blocks that a sequence needs beside those found, to enter."""
        tokens = min(sequence.length, sequence.switches or NEVER)
        last = -(-tokens // sequence.block_size)
        if sequence.kv_format.window is not None:
            last = min(last, match.dropped + self._limit(sequence.kv_format))
        return last - match.dropped - len(match.blocks)

    def _limit(self, kv_format: KVFormat) -> int:
        """The most blocks that a sequence with a window holds: it goes on in chunks of up to another window."""
        size = self._cache.tokens_per_block(kv_format)
        return min(self.pool.total, -(-PINNED // size) + -(-2 * (kv_format.window or 0) // size) + 1)

    def _fitting(self, kv_format: KVFormat) -> int:
        """The most tokens that a sequence of one format can have; with a window that fits, as many as it wants."""
        size, window = self._cache.tokens_per_block(kv_format), kv_format.window
        if window is not None and -(-PINNED // size) + -(-window // size) + 2 <= self.pool.total:
            return NEVER
        return self.pool.total * size

    def _seen(self, sequence: Sequence, match: Match) -> Match:
        """`match` without the full blocks that nobody behind its tokens sees."""
        last = min(len(match.blocks), sequence.kv_format.first_seen(match.tokens) // sequence.block_size)
        dropped = max(0, last - sequence.pinned)
        if not dropped:
            return match
        blocks = match.blocks[: sequence.pinned] + match.blocks[last:]
        return Match(blocks, match.source, match.tokens, match.wanted, dropped)

    def _drop_unseen(self, sequence: Sequence) -> None:
        """Give back the blocks that nobody sees from the first token on that has not been computed."""
        pinned = sequence.pinned
        count = sequence.kv_format.first_seen(sequence.committed) // sequence.block_size - pinned - sequence.dropped
        if count > 0:
            dropped = sequence.blocks[pinned : pinned + count]
            del sequence.blocks[pinned : pinned + count]
            sequence.dropped += count
            self.pool.release(dropped)
