"""Which blocks of the KV cache each sequence has, and which of them others can use, too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from .blocks import BlockPool
from .kv_cache import KVCache
from .sequence import Sequence


@dataclass(frozen=True, slots=True)
class Match:
    """What the cache holds of a sequence's beginning.

    `blocks` are full and can be taken by reference. The sequence would write into the one after them, so it copies
    `source`, if there is one. `tokens` of them need not be computed. `wanted` are keys that would have saved more.
    """

    blocks: tuple[int, ...] = ()
    source: int | None = None
    tokens: int = 0
    wanted: tuple[bytes, ...] = ()


class SequenceMemory:
    """Gives blocks to sequences, finds their prefixes, and takes blocks back.

    A block is findable when all its tokens have been computed, in a step that succeeded; so is the last, partial one
    of a prompt. A sequence that enters has its prefix found and always computes one token at least, whose scores it
    needs.
    """

    def __init__(self, cache: KVCache, pool: BlockPool, *, shares: bool = True) -> None:
        self.pool = pool
        self._shares = shares  # sequences find what others have computed
        self._cache = cache
        self._size = cache.block_size

    @property
    def capacity(self) -> int:
        """Tokens that fit in the memory."""
        return self.pool.total * self._size

    def longest(self, prompt: int, rows: int) -> int:
        """Tokens that each of so many rows can have if they share the full blocks of a prompt of `prompt` tokens."""
        shared = prompt // self._size
        return (shared + max(0, self.pool.total - shared) // rows) * self._size

    def match(self, sequence: Sequence) -> Match:
        """What of a sequence's tokens is in the cache."""
        if sequence.scores_prompt or not self._shares:
            return Match()
        most = sequence.length - 1
        blocks: list[int] = []
        for key in self.keys(sequence)[: most // self._size]:
            block = self.pool.prefixes.find(key)
            if block is None:
                break
            blocks.append(block)
        start = len(blocks) * self._size
        ends = {key: min(end, most) for key, end in self._next(sequence, len(blocks)).items() if min(end, most) > start}
        for key, end in ends.items():
            source = self.pool.prefixes.find(key)
            if source is not None:
                return Match(tuple(blocks), source, end)
        return Match(tuple(blocks), None, start, tuple(ends))

    def without_copy(self, match: Match) -> Match:
        """The part of a match that is taken by reference."""
        return Match(match.blocks, None, len(match.blocks) * self._size)

    def cost(self, sequence: Sequence, match: Match) -> int:
        """Free blocks that a sequence takes to enter with what was found."""
        found = match.blocks if match.source is None else (*match.blocks, match.source)
        return self._blocks(sequence.length) - len(match.blocks) + self.pool.unused(found)

    def enter(self, sequence: Sequence, match: Match) -> None:
        """Give a sequence blocks for all its tokens, those found among them. OutOfBlocks if `cost` are not free."""
        kept = match.blocks if match.source is None else (*match.blocks, match.source)
        self.pool.share(kept)  # so that none of them is evicted for the others
        sequence.blocks = list(match.blocks)
        self._allocate(sequence, self._blocks(sequence.length) - len(match.blocks))
        if match.source is not None:
            position = len(match.blocks)
            self._cache.copy_block(match.source, sequence.blocks[position], match.tokens - position * self._size)
            self.pool.release([match.source])
        sequence.computed = match.tokens
        sequence.cached_tokens = min(match.tokens, sequence.prompt_length)
        sequence.next_border = 0

    def missing(self, sequence: Sequence) -> int:
        """Blocks that a running sequence lacks for its tokens."""
        return max(0, -(-sequence.length // self._size) - len(sequence.blocks))

    def grow(self, sequence: Sequence, count: int) -> None:
        """Give a running sequence `count` blocks more. OutOfBlocks gives none."""
        self._allocate(sequence, count)

    def commit(self, sequence: Sequence, computed: int) -> None:
        """Book that the keys and values of a sequence's first `computed` tokens are there: others can use them."""
        if computed >= sequence.next_border:
            self._publish(sequence, computed)

    def take_back(self, sequence: Sequence, computed: int) -> None:
        """Book that only the first `computed` tokens are there, and zero the rest: what has failed may be NaN."""
        sequence.computed = computed
        full, offset = divmod(computed, self._size)
        self._cache.clear(sequence.blocks[full:], offset)

    def drop(self, sequence: Sequence) -> None:
        """Take back all that a sequence has. What is findable stays so until its memory is needed."""
        self.pool.release(sequence.forget())

    def wipe(self, sequence: Sequence) -> None:
        """Take back all that a sequence has, and zero it, for it may be NaN, unless others have it, too.

        A recorded step reads a lane to its end, where 0 × NaN would still be NaN.
        """
        blocks = sequence.forget()
        self.pool.release(blocks)
        self._cache.clear(self.pool.evict(blocks))

    def keys(self, sequence: Sequence) -> list[bytes]:
        """The keys of all its full blocks."""
        keys, size = sequence.keys, self._size
        for index in range(len(keys), sequence.known // size):
            parent = keys[-1] if keys else self.pool.prefixes.root(sequence.cache_salt)
            keys.append(self.pool.prefixes.extend(parent, sequence.tokens(index * size, (index + 1) * size)))
        return keys

    def prompt_keys(self, sequence: Sequence) -> list[bytes]:
        """The keys of all blocks of its prompt, also of the last, partial one."""
        index = sequence.prompt_length // self._size
        keys = self.keys(sequence)[:index]
        return [*keys, self._tail(sequence)] if sequence.prompt_length % self._size else keys

    def audit(self, sequences: Collection[Sequence]) -> list[str]:
        """What is wrong, mended: a sequence that cannot have what it says begins anew."""
        findings: list[str] = []
        owners = Counter(block for sequence in sequences for block in sequence.blocks)
        claims: dict[int, bytes] = {}  # what full blocks hold
        for sequence in sequences:
            own = set(sequence.blocks[sequence.computed // self._size :])  # it writes into them
            beams = Counter(block for beam in sequence.team for block in beam.blocks)  # they separate before they do
            possible = (
                len(set(sequence.blocks)) == len(sequence.blocks)
                and all(0 <= block < self.pool.total for block in sequence.blocks)
                and sequence.computed <= len(sequence.blocks) * self._size
                and all(owners[block] == beams[block] for block in own)
            )
            if not possible or not self._agree(sequence, claims):
                findings.append(f"{sequence.request_id} has {sequence.computed} tokens in the blocks {sequence.blocks}")
                blocks = sequence.forget()
                owners.subtract(blocks)
                for block in blocks:  # nobody can say what they hold
                    self.pool.prefixes.evict(block)
        return findings + self.pool.audit([sequence.blocks for sequence in sequences])

    def _agree(self, sequence: Sequence, claims: dict[int, bytes]) -> bool:
        """False if its blocks are known for other tokens than its own, by another sequence or by their keys."""
        prefixes, parent = self.pool.prefixes, self.pool.prefixes.root(sequence.cache_salt)
        known = min(sequence.computed, sequence.known)
        for index, block in enumerate(sequence.blocks[: -(-known // self._size)]):
            tokens = sequence.tokens(index * self._size, min((index + 1) * self._size, known))
            true = [prefixes.extend(parent, tokens[: count + 1]) for count in range(len(tokens))]
            parent = true[-1]
            if claims.setdefault(block, parent) != parent or not set(prefixes.keys(block)) <= set(true):
                return False
        return True

    def _next(self, sequence: Sequence, index: int) -> dict[bytes, int]:
        """Keys that block `index` of a sequence could be found by, and how many tokens there are up to its end."""
        keys = self.keys(sequence)
        ends = {keys[index]: (index + 1) * self._size} if index < len(keys) else {}
        if index == sequence.prompt_length // self._size and sequence.prompt_length % self._size:
            ends[self._tail(sequence)] = sequence.prompt_length
        return ends

    def _tail(self, sequence: Sequence) -> bytes:
        """The key of a prompt's last, partial block."""
        if not sequence.tail_key:
            index = sequence.prompt_length // self._size
            parent = self.keys(sequence)[index - 1] if index else self.pool.prefixes.root(sequence.cache_salt)
            rest = sequence.tokens(index * self._size, sequence.prompt_length)
            sequence.tail_key = self.pool.prefixes.extend(parent, rest)
        return sequence.tail_key

    def _publish(self, sequence: Sequence, computed: int) -> None:
        """Make findable what has been computed, and note when there will be more."""
        size, length = self._size, sequence.prompt_length
        full = computed // size
        keys = self.keys(sequence)
        for index in range(sequence.published, full):
            self.pool.prefixes.insert(keys[index], sequence.blocks[index])
        sequence.published = full
        sequence.next_border = (full + 1) * size
        if length % size and computed >= length:
            self.pool.prefixes.insert(self._tail(sequence), sequence.blocks[length // size])
        elif computed < length:
            sequence.next_border = min(sequence.next_border, length)

    def _allocate(self, sequence: Sequence, count: int) -> None:
        blocks = self.pool.allocate(count, after=sequence.blocks[-1] if sequence.blocks else None)
        self._cache.clear(blocks)
        sequence.blocks.extend(blocks)

    def _blocks(self, tokens: int) -> int:
        return -(-tokens // self._size)
