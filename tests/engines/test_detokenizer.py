"""Text as it comes is the text as a whole, whatever the ids, and no character is ever split."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from max_engines.detokenizer import PieceDetokenizer, WindowDetokenizer
from max_engines.tokenizer import TextTokenizer
from tests.engines import tokenizers_made

MADE: dict[str, TextTokenizer] = {
    "byte-level": tokenizers_made.byte_level(),
    "byte-fallback": tokenizers_made.byte_fallback(strips=False),
    "byte-fallback-strip": tokenizers_made.byte_fallback(strips=True),
    "metaspace": tokenizers_made.metaspace(),
    "word-piece": tokenizers_made.word_piece(),
}
TEXTS = ("the quick fox", " two  blanks ", "naïve 中文字符 🦊🎉 Грюсс", "a\nb\t</s>", "👩‍👩‍👧‍👦 and 🇩🇪")
FALLBACK = [name for name in MADE if name.startswith("byte-fallback")]

some_ids = st.lists(st.integers(0, 420), max_size=40)
names = st.sampled_from(sorted(MADE))


def of_transformers(tokenizer: TextTokenizer, ids: Sequence[int], *, skip: bool) -> str:
    text = tokenizer.inner.decode(list(ids), skip_special_tokens=skip, clean_up_tokenization_spaces=False)
    assert isinstance(text, str)
    return text


def pieces(tokenizer: TextTokenizer, ids: Sequence[int], *, skip: bool = True, prompt: Sequence[int] = ()) -> list[str]:
    detokenizer = tokenizer.detokenizer(skip_special_tokens=skip, prompt=prompt)
    return [*map(detokenizer.push, ids), detokenizer.flush()]


def known(tokenizer: TextTokenizer, ids: Sequence[int]) -> list[int]:
    return [token for token in ids if token < len(tokenizer.inner)]


@given(names.filter(lambda name: name not in FALLBACK), some_ids, st.booleans())
def test_any_ids_give_what_transformers_gives_for_all_of_them(name: str, ids: list[int], skip: bool) -> None:
    tokenizer = MADE[name]
    ids = known(tokenizer, ids)
    assert "".join(pieces(tokenizer, ids, skip=skip)) == of_transformers(tokenizer, ids, skip=skip)
    assert tokenizer.decode(ids, skip_special_tokens=skip) == of_transformers(tokenizer, ids, skip=skip)


@given(st.sampled_from(FALLBACK), st.lists(st.text(max_size=6), max_size=8), st.booleans())
def test_byte_tokens_that_are_characters_give_what_transformers_gives(name: str, parts: list[str], skip: bool) -> None:
    tokenizer = MADE[name]
    backend = tokenizer.inner.backend_tokenizer
    ids = [token for part in parts for token in backend.encode(part, add_special_tokens=False).ids]
    assert "".join(pieces(tokenizer, ids, skip=skip)) == of_transformers(tokenizer, ids, skip=skip)


@given(st.sampled_from(FALLBACK), st.lists(st.integers(0, 255), max_size=20))
def test_byte_tokens_that_are_none_become_what_unicode_recommends(name: str, values: list[int]) -> None:
    ids = [3 + value for value in values]
    whole = bytes(values).decode(errors="replace")
    assert MADE[name].decode(ids) == (whole.removeprefix(" ") if name.endswith("strip") else whole)


@given(names, some_ids)
def test_nothing_is_taken_back_and_a_broken_character_is_not_given_early(name: str, ids: list[int]) -> None:
    """After each id, what has been given begins the whole text; only bytes that cannot be completed are U+FFFD."""
    tokenizer = MADE[name]
    ids = known(tokenizer, ids)
    given_so_far, whole = "", "".join(pieces(tokenizer, ids))
    for piece in pieces(tokenizer, ids):
        given_so_far += piece
        assert whole.startswith(given_so_far)


@pytest.mark.parametrize("name", ["byte-level", *FALLBACK])
@pytest.mark.parametrize("text", TEXTS)
def test_a_text_comes_back_character_by_character(name: str, text: str) -> None:
    tokenizer = MADE[name]
    ids = tokenizer.encode(text, add_special_tokens=False)
    given_pieces = pieces(tokenizer, ids, prompt=[100])
    assert "".join(given_pieces) == text
    assert not any("\ufffd" in piece for piece in given_pieces)


@pytest.mark.parametrize("name", sorted(MADE))
def test_a_text_goes_on_from_its_prompts_text(name: str) -> None:
    """A blank at the beginning of what follows is a blank, also where a text of its own would lose it."""
    tokenizer = MADE[name]
    ids = tokenizer.encode("the fox, the fox", add_special_tokens=False)
    for cut in range(1, len(ids)):
        prompt, rest = ids[:cut], ids[cut:]
        assert tokenizer.decode(prompt) + "".join(pieces(tokenizer, rest, prompt=prompt)) == tokenizer.decode(ids)


def test_special_tokens_are_skipped_or_written() -> None:
    tokenizer = MADE["byte-level"]
    ids = tokenizer.encode("<|turn|>a<think>b</s>", add_special_tokens=False, parse_special_tokens=True)
    assert "".join(pieces(tokenizer, ids)) == "a<think>b"
    assert "".join(pieces(tokenizer, ids, skip=False)) == "<|turn|>a<think>b</s>"


def test_a_special_token_within_a_character_does_not_break_it() -> None:
    tokenizer = MADE["byte-level"]
    first, *rest = tokenizer.encode("é", add_special_tokens=False)
    if not rest:  # the merges know it: take its bytes
        backend = tokenizer.inner.backend_tokenizer
        first, rest = backend.token_to_id("Ã"), [backend.token_to_id("©")]
    assert "".join(pieces(tokenizer, [first, 2, *rest])) == "é"


@pytest.mark.parametrize("name", ["byte-level", "word-piece"])
def test_ids_that_no_token_has_add_nothing(name: str) -> None:
    ids = MADE[name].encode("the fox", add_special_tokens=False)
    assert MADE[name].decode([*ids, 5000, 5001]) == MADE[name].decode(ids)


@pytest.mark.parametrize(("name", "kind"), [("byte-level", PieceDetokenizer), ("word-piece", WindowDetokenizer)])
def test_the_family_of_a_decoder_is_recognised(name: str, kind: type) -> None:
    assert isinstance(MADE[name].detokenizer(), kind)


def test_a_window_never_decodes_more_than_a_bounded_number_of_ids() -> None:
    """The cost of a token does not grow with the text, even if it never becomes whole characters."""
    asked: list[int] = []

    def decode(ids: Sequence[int]) -> str:
        asked.append(len(ids))
        return "\ufffd" * len(ids)

    detokenizer = WindowDetokenizer(decode, frozenset())
    text = "".join(map(detokenizer.push, range(1000))) + detokenizer.flush()
    assert text == "\ufffd" * 1000
    assert max(asked) <= WindowDetokenizer.LONGEST + 1
