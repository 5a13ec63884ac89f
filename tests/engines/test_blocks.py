"""Blocks: who holds them, what they are still found by, and where the next ones lie."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, MultipleResults, RuleBasedStateMachine, initialize, invariant, multiple, rule

from max_engines.blocks import BlockPool, OutOfBlocks
from max_engines.prefix_cache import PrefixCache


def publish(pool: BlockPool, blocks: list[int], text: str) -> list[bytes]:
    """Make blocks findable as the beginning of a text; their keys."""
    keys = [pool.prefixes.root(text)]
    for number, block in enumerate(blocks):
        keys.append(pool.prefixes.extend(keys[-1], [number]))
        pool.prefixes.insert(keys[-1], block)
    return keys[1:]


def found(pool: BlockPool, keys: list[bytes]) -> list[int | None]:
    return [pool.prefixes.find(key) for key in keys]


def test_blocks_of_one_owner_lie_side_by_side_with_room_to_grow() -> None:
    pool = BlockPool(64)
    first, second = pool.allocate(3), pool.allocate(3)
    assert first == [0, 1, 2]
    assert second == list(range(second[0], second[0] + 3))
    assert pool.allocate(2, after=first[-1]) == [3, 4]
    assert pool.allocate(1, after=second[-1]) == [second[-1] + 1]
    assert pool.free == 64 - 9
    pool.release(first)
    assert pool.free == 64 - 6
    with pytest.raises(OutOfBlocks, match="60 blocks wanted, 58 of 64 free"):
        pool.allocate(60)
    assert pool.free == 58
    with pytest.raises(RuntimeError, match="was free"):
        pool.release([0])


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 6)), max_size=60), st.integers(1, 20))
def test_no_block_has_two_owners(actions: list[tuple[int, int]], lanes: int) -> None:
    pool = BlockPool(16, lanes)
    owned: dict[int, list[int]] = {}
    for owner, count in actions:
        blocks = owned.setdefault(owner, [])
        if count == 6:
            pool.release(owned.pop(owner))
        elif count <= pool.free:
            blocks.extend(pool.allocate(count, after=blocks[-1] if blocks else None))
        taken = [block for blocks in owned.values() for block in blocks]
        assert len(taken) == len(set(taken)) == pool.total - pool.free


def test_newcomers_begin_at_lanes_side_by_side() -> None:
    pool = BlockPool(40, lanes=4)
    sequences = [pool.allocate(2) for _ in range(4)]
    assert [blocks[0] for blocks in sequences] == [0, 10, 20, 30]
    for blocks in sequences:
        assert pool.allocate(1, after=blocks[-1]) == [blocks[-1] + 1]
    fifth = pool.allocate(2)  # into the middle of a run, where it is in nobody's way
    assert fifth[0] % 10 in range(4, 9)
    pool.release(sequences[2] + [22])
    assert pool.allocate(3) == [20, 21, 22]


def test_a_group_longer_than_a_lane_lies_where_it_fits() -> None:
    pool = BlockPool(40, lanes=4)
    assert pool.allocate(5) == [0, 1, 2, 3, 4]
    assert pool.allocate(25) == list(range(10, 35))


def test_what_is_released_is_found_until_its_block_is_needed() -> None:
    pool = BlockPool(8, lanes=2)
    old, new = pool.allocate(3), pool.allocate(3)
    keys = {"old": publish(pool, old, "old"), "new": publish(pool, new, "new")}
    pool.release(old)
    pool.release(new)
    assert pool.free == 8
    assert found(pool, keys["old"]) == old
    pool.share(old[:1])
    assert pool.free == 7
    assert pool.allocate(2) == new[:2]  # of two lanes the one that nobody uses
    assert found(pool, keys["new"]) == [None, None, new[2]]
    pool.release(old[:1])
    assert found(pool, keys["old"]) == old


def test_the_lane_that_was_not_used_for_longest_goes_first() -> None:
    pool = BlockPool(12, lanes=3)
    texts = {name: pool.allocate(2) for name in "abc"}
    keys = {name: publish(pool, blocks, name) for name, blocks in texts.items()}
    for name in "bca":
        pool.release(texts[name])
    pool.share(texts["b"])
    pool.release(texts["b"])
    for name in "cab":
        assert pool.allocate(4)[:2] == texts[name]
        assert found(pool, keys[name]) == [None, None]


def test_without_a_lane_the_end_of_the_oldest_text_goes_first() -> None:
    pool = BlockPool(6)
    texts = {name: pool.allocate(2, after=1 + 2 * number) for number, name in enumerate("ab")}
    keys = {name: publish(pool, blocks, name) for name, blocks in texts.items()}
    pool.allocate(2)
    for name in "ba":
        pool.release(texts[name])
    assert pool.allocate(1) == [texts["b"][1]]
    assert found(pool, keys["b"]) == [texts["b"][0], None]
    assert found(pool, keys["a"]) == texts["a"]


def test_a_text_is_found_at_the_block_that_had_it_first() -> None:
    pool = BlockPool(8)
    first, second = pool.allocate(2), pool.allocate(2)
    keys = publish(pool, first, "same")
    assert publish(pool, second, "same") == keys
    assert found(pool, keys) == first
    pool.release(second)
    pool.release(first)
    assert pool.audit([]) == []


def test_salts_and_processes_share_no_key() -> None:
    pool, other = BlockPool(2), BlockPool(2)
    keys = {
        cache.prefixes.extend(cache.prefixes.root(salt), [1, 2, 3]) for cache in (pool, other) for salt in ("", "a")
    }
    assert len(keys) == 4


def test_an_audit_mends_what_it_finds() -> None:
    pool = BlockPool(8)
    mine, lost = pool.allocate(2), pool.allocate(2)
    keys = publish(pool, lost, "lost")
    assert pool.audit([mine, lost]) == []
    findings = pool.audit([mine, mine])
    assert [f"block {block} has 1 references and {owners} owners" in findings for block, owners in
            ((mine[0], 2), (mine[1], 2), (lost[0], 0), (lost[1], 0))] == [True] * 4  # fmt: skip
    assert f"{8 - 2} blocks are free, 4 were booked as free" in findings
    assert pool.audit([mine, mine]) == []
    assert pool.free == 6
    assert found(pool, keys) == lost
    pool.release(mine)
    pool.release(mine)
    assert pool.free == 8
    assert len(pool.allocate(8)) == 8
    assert found(pool, keys) == [None, None]


def test_an_audit_forgets_keys_that_no_block_has() -> None:
    cache = PrefixCache()
    keys = [cache.extend(cache.root(""), [token]) for token in range(3)]
    for block, key in enumerate(keys):
        cache.insert(key, block)
    assert cache.audit() == []
    cache._blocks[keys[1]] = 7  # no caller can do that: an error of ours, or of the memory
    assert cache.audit() == ["1 keys of the prefix cache and their blocks disagreed, and are forgotten"]
    assert [cache.find(key) for key in keys] == [0, None, 2]
    assert cache.audit() == []


Text = tuple[int, ...]


class PoolMachine(RuleBasedStateMachine):
    """A pool beside an obvious model: who holds which blocks, and which beginning of a text each of them holds."""

    owners: Bundle[int] = Bundle("owners")

    @initialize(total=st.integers(1, 12), lanes=st.integers(1, 5))
    def begin(self, total: int, lanes: int) -> None:
        self.pool = BlockPool(total, lanes)
        self.held: dict[int, list[int]] = {}
        self.texts: dict[int, Text] = {}  # what each owner's blocks hold, one token a block
        self.known: dict[Text, int] = {}
        self.count = 0

    @rule(target=owners, text=st.lists(st.integers(0, 1), min_size=1, max_size=5).map(tuple))
    def enter(self, text: Text) -> int | MultipleResults[int]:
        """Take what is found of a text by reference, and allocate the rest."""
        blocks: list[int] = []
        while (
            len(blocks) < len(text)
            and (block := self.pool.prefixes.find(self.key(text[: len(blocks) + 1]))) is not None
        ):
            blocks.append(block)
        model = [self.known[text[:end]] for end in range(1, len(text) + 1) if self.reachable(text[:end])]
        assert blocks == model
        missing = len(text) - len(blocks)
        if missing + self.pool.unused(blocks) > self.pool.free:
            if missing > self.pool.free:
                with pytest.raises(OutOfBlocks):
                    self.pool.allocate(missing)
            return multiple()
        self.pool.share(blocks)
        fresh = self.pool.allocate(missing, after=blocks[-1] if blocks else None)
        assert not set(fresh) & {block for held in self.held.values() for block in held} | set(fresh) & set(blocks)
        self.known = {text: block for text, block in self.known.items() if block not in fresh}
        self.count += 1
        self.held[self.count], self.texts[self.count] = blocks + fresh, text
        return self.count

    @rule(owner=owners)
    def compute(self, owner: int) -> None:
        """Publish all that an owner has."""
        for end, block in enumerate(self.held.get(owner, ()), 1):
            text = self.texts[owner][:end]
            self.pool.prefixes.insert(self.key(text), block)
            self.known.setdefault(text, block)

    @rule(owner=owners)
    def leave(self, owner: int) -> None:
        self.pool.release(self.held.pop(owner, []))

    @invariant()
    def agree(self) -> None:
        if not hasattr(self, "pool"):
            return
        used = {block for held in self.held.values() for block in held}
        assert self.pool.free == self.pool.total - len(used)
        assert self.pool.unused(range(self.pool.total)) == self.pool.free
        for text, block in self.known.items():
            assert self.pool.prefixes.find(self.key(text)) == block
        assert {block for block in range(self.pool.total) if block in self.pool.prefixes} == set(self.known.values())
        assert self.pool.audit(self.held.values()) == []

    def reachable(self, text: Text) -> bool:
        return all(text[:end] in self.known for end in range(1, len(text) + 1))

    def key(self, text: Text) -> bytes:
        key = self.pool.prefixes.root("")
        for token in text:
            key = self.pool.prefixes.extend(key, [token])
        return key


TestPoolMachine = PoolMachine.TestCase
TestPoolMachine.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
