"""Which blocks of the KV cache hold the beginning of which text."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Sequence
from hashlib import blake2b
from secrets import token_bytes

KEY_BYTES = 16  # 128 bits: no two prefixes meet by chance, and without the secret none can be made to meet


class PrefixCache:
    """Finds blocks by what they hold: a key names a block's tokens, and through its parent all tokens before them.

    A block can have several keys, for it can hold the end of a prompt and, from the same slot on, what was said
    after it. Keys mean nothing outside this process. Who may be evicted is the `BlockPool`'s business.
    """

    def __init__(self) -> None:
        self._secret = token_bytes(KEY_BYTES)
        self._blocks: dict[bytes, int] = {}
        self._keys: dict[int, list[bytes]] = {}

    def __contains__(self, block: int) -> bool:
        return block in self._keys

    def root(self, salt: str, kind: str = "") -> bytes:
        """The key before the first block: texts of different salts, or kinds of a block, never share one."""
        text = f"{kind}\n{salt}".encode()  # no kind has a line break
        return blake2b(text, digest_size=KEY_BYTES, key=self._secret, person=b"root").digest()

    def extend(self, parent: bytes, tokens: Sequence[int], note: bytes = b"") -> bytes:
        """The key of `tokens` behind `parent`, the key of all before them; `note` is what they are beside their ids."""
        text = parent + array("q", tokens).tobytes()
        salt = blake2b(note, digest_size=blake2b.SALT_SIZE).digest() if note else b""
        return blake2b(text, digest_size=KEY_BYTES, key=self._secret, salt=salt).digest()

    def find(self, key: bytes) -> int | None:
        """The block that holds what `key` names."""
        return self._blocks.get(key)

    def insert(self, key: bytes, block: int) -> None:
        """Make `block` findable, if no other holds the same already. Its keys and values must have been computed."""
        if key not in self._blocks:
            self._blocks[key] = block
            self._keys.setdefault(block, []).append(key)

    def evict(self, block: int) -> None:
        """Forget what `block` holds; nothing, if it was not findable."""
        for key in self._keys.pop(block, ()):
            del self._blocks[key]

    def keys(self, block: int) -> tuple[bytes, ...]:
        """All keys of `block`."""
        return tuple(self._keys.get(block, ()))

    def blocks(self) -> Collection[int]:
        """All blocks that can be found."""
        return self._keys.keys()

    def audit(self) -> list[str]:
        """What is wrong with the table, mended: each key names the block that has it."""
        inverse = {key: block for block, keys in self._keys.items() for key in keys}
        if inverse == self._blocks:
            return []
        agreed = inverse.items() & self._blocks.items()
        wrong = len((inverse.keys() | self._blocks.keys()) - dict(agreed).keys())
        self._blocks, self._keys = {}, {}
        for key, block in agreed:
            self.insert(key, block)
        return [f"{wrong} keys of the prefix cache and their blocks disagreed, and are forgotten"]
