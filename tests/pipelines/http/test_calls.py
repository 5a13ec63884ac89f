"""What a model thought, said and called, told apart in a text that comes in any pieces."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from max_pipelines.http.openai.calls import CallReader
from max_pipelines.http.openai.forced_calls import ForcedReader
from max_pipelines.http.openai.pieces import Arguments, CallBegins, Content, Reader, Reasoning
from max_pipelines.http.openai.thinking import ThinkingReader

NAMES = ("paint", "wipe")
PAINT = '{"name": "paint", "arguments": {"colour": "red", "note": "a } in \\" it"}}'
WIPE = '{"name": "wipe", "parameters": {}}'
FORCED = f'[{PAINT}, {{"name": "wipe", "arguments": {{"a": [1, {{"b": "]"}}]}}}}]'
FRAGMENTS = (
    "<tool_call>", "</tool_call>", "[TOOL_CALLS]", "<|python_tag|>", "<think>", "</think>", PAINT, WIPE,
    f"[{PAINT}, {WIPE}]",
    "{", "}", "[", "]", '"', "\\", ";", " ", "\n", "<", "<tool", "_call>", "</", "said", '{"name": "other"}', "{1}",
)  # fmt: skip


class Found:
    """Everything that was read."""

    def __init__(self, reader: Reader, pieces: list[str]) -> None:
        self.thought = self.said = ""
        self.calls: list[tuple[str, str]] = []
        for piece in [*(found for text in pieces for found in reader.push(text)), *reader.finish()]:
            match piece:
                case Reasoning(text):
                    assert text
                    self.thought += text
                case Content(text):
                    assert text
                    self.said += text
                case CallBegins(number, name):
                    assert number == len(self.calls)
                    self.calls.append((name, ""))
                case Arguments(number, text):
                    assert number == len(self.calls) - 1
                    self.calls[-1] = (self.calls[-1][0], self.calls[-1][1] + text)

    @property
    def called(self) -> list[tuple[str, object]]:
        return [(name, json.loads(arguments)) for name, arguments in self.calls]


def reader(*, inside: bool = False, most: int = 16) -> Reader:
    return ThinkingReader(CallReader(NAMES, most), inside=inside)


def read(text: str, *, inside: bool = False, most: int = 16) -> Found:
    return Found(reader(inside=inside, most=most), [text])


PAINTED = ("paint", {"colour": "red", "note": 'a } in " it'})
WIPED: tuple[str, object] = ("wipe", {})


@pytest.mark.parametrize(
    ("text", "said", "called"),
    [
        (f"<tool_call>\n{PAINT}\n</tool_call>", "", [PAINTED]),
        (f"<tool_call>\n{PAINT}\n</tool_call>\n<tool_call>\n{WIPE}\n</tool_call>\n", "", [PAINTED, WIPED]),
        (f"I paint.\n<tool_call>{PAINT}</tool_call>", "I paint.\n", [PAINTED]),
        (f"<tool_call>{PAINT}</tool_call>\n\nDone.", "Done.", [PAINTED]),
        (f"<tool_call>{PAINT}", "", [PAINTED]),  # the end of the text closes it
        (f"<tool_call>{PAINT}</tool_", "", [PAINTED]),
        (f"[TOOL_CALLS] [{PAINT}, {WIPE}]", "", [PAINTED, WIPED]),
        (f"[TOOL_CALLS][{WIPE}]", "", [WIPED]),
        (WIPE, "", [WIPED]),
        (f"\n{WIPE}; {PAINT}", "", [WIPED, PAINTED]),
        (f"<|python_tag|>{PAINT};{WIPE}", "", [PAINTED, WIPED]),
        ('{"name": "wipe"}', "", [WIPED]),
        ('{"name": "wipe", "arguments": "{}"}', "", [WIPED]),
        ('{"name": "other", "arguments": {}}', '{"name": "other", "arguments": {}}', []),
        ('{"name": "wipe", "arguments": [1]}', '{"name": "wipe", "arguments": [1]}', []),
        ('{"name": "wipe", "arguments": {"a": NaN}}', '{"name": "wipe", "arguments": {"a": NaN}}', []),
        ('{"colour": "red"}', '{"colour": "red"}', []),
        (f"It is {WIPE}", f"It is {WIPE}", []),  # an object alone is a call when it is all that is said
        ("<tool_call> no JSON", "<tool_call> no JSON", []),
        (f'<tool_call>{{"name": "wi <tool_call>{WIPE}', f'<tool_call>{{"name": "wi <tool_call>{WIPE}', []),
        (f"<tool_call>x<tool_call>{WIPE}", "<tool_call>x", [WIPED]),
        (f"[TOOL_CALLS] [{WIPE}, 5]", f"[TOOL_CALLS] [{WIPE}, 5]", []),
        ("[TOOL_CALLS] []", "[TOOL_CALLS] []", []),
        ("a < b", "a < b", []),
        (" \n", " \n", []),
        ("", "", []),
    ],
)
def test_calls_and_what_is_none(text: str, said: str, called: list[tuple[str, object]]) -> None:
    found = read(text)
    assert (found.said, found.called) == (said, called)


def test_more_calls_than_are_wanted_are_dropped() -> None:
    found = read(f"[TOOL_CALLS] [{PAINT}, {WIPE}]", most=1)
    assert (found.said, found.called) == ("", [PAINTED])


@pytest.mark.parametrize(
    ("text", "inside", "thought", "said"),
    [
        ("<think>\nhm\n</think>\n\nYes.", False, "hm\n", "Yes."),
        ("\n<think>hm", False, "hm", ""),
        ("<think></think>Yes.", False, "", "Yes."),
        ("hm</think> Yes.", True, "hm", "Yes."),
        ("hm", True, "hm", ""),
        ("Yes. <think>no</think>", False, "", "Yes. <think>no</think>"),
        ("<thin", False, "", "<thin"),
        ("<think>a </thin", False, "a </thin", ""),
        ("  Yes.", False, "", "  Yes."),
    ],
)
def test_thinking(text: str, inside: bool, thought: str, said: str) -> None:
    found = read(text, inside=inside)
    assert (found.thought, found.said) == (thought, said)


def test_a_call_behind_the_thinking() -> None:
    found = read(f"<think>I call <tool_call>.</think>\n<tool_call>{WIPE}</tool_call>")
    assert (found.thought, found.said, found.called) == ("I call <tool_call>.", "", [WIPED])


texts = st.lists(st.sampled_from(FRAGMENTS), max_size=12).map("".join)


@settings(deadline=None)
@given(texts, st.lists(st.integers(0, 400), max_size=8), st.booleans())
def test_any_split_of_a_text_reads_the_same(text: str, cuts: list[int], inside: bool) -> None:
    borders = [0, *sorted(cut for cut in cuts if cut < len(text)), len(text)]
    whole = read(text, inside=inside)
    for pieces in ([text[begin:end] for begin, end in pairwise(borders)], list(text)):
        found = Found(reader(inside=inside), pieces)
        assert (found.thought, found.said, found.calls) == (whole.thought, whole.said, whole.calls)


@settings(deadline=None)
@given(texts.filter(lambda text: "call" not in text.lower() and "{" not in text and "think" not in text))
def test_what_is_no_call_is_said_to_the_last_character(text: str) -> None:
    assert read(text).said == text


@settings(deadline=None)
@given(st.lists(st.integers(0, len(FORCED)), max_size=8))
def test_forced_calls_are_passed_on_as_they_are_written(cuts: list[int]) -> None:
    borders = [0, *sorted(cuts), len(FORCED)]
    found = Found(ForcedReader(), [FORCED[begin:end] for begin, end in pairwise(borders)])
    assert found.called == [PAINTED, ("wipe", {"a": [1, {"b": "]"}]})]
    assert found.calls[0][1] == '{"colour": "red", "note": "a } in \\" it"}'


def test_a_forced_call_that_is_cut_off() -> None:
    assert Found(ForcedReader(), [FORCED[:50]]).calls == [("paint", FORCED[32:50])]
    assert Found(ForcedReader(), ['[{"name": "pai']).calls == []
