"""Templates: what transformers renders, no token forged by a message, and nothing that hangs or breaks the worker."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken
from tokenizers.normalizers import NFKC, Lowercase, Normalizer, Sequence
from transformers import PreTrainedTokenizerFast

from max_engines.chat_template import TemplateRefused, render
from max_engines.guarded_process import GuardedProcess, ProcessDied
from max_engines.template_terms import GOES_ON, MAX_TEMPLATE, SHIELD
from max_engines.templating import TemplateRenderer
from max_engines.tokenizer import TextTokenizer
from tests.tiny_text import CHAT_TEMPLATE, END, SPECIAL, THINK, THINKING, UNTHINK, make_tokenizer

TOKENIZER = TextTokenizer(make_tokenizer())
PATIENCE_S = 60.0
Messages = list[dict[str, Any]]

# Spellings that published templates use.
EACH = "{% for m in messages %}"
TEMPLATES = {
    "loops and filters": EACH + "{{ m.role | upper }}: {{ m['content'] | trim }}\n{% endfor %}",
    "loop controls": EACH + "{% if loop.index > 2 %}{% break %}{% endif %}{{ m.content }}{% endfor %}",
    "a namespace": "{% set ns = namespace(n=0) %}" + EACH + "{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}",
    "json": "{{ messages | tojson }} {{ tools | tojson(indent=2) }}",
    "generation": EACH + "{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}",
    "a macro": "{% macro say(m) %}<{{ m.role }}>{{ m.content }}{% endmacro %}" + EACH + "{{ say(m) }}{% endfor %}",
    "tests": "{% if messages[0].role == 'system' %}S{% endif %}" + EACH + "{{ m.content is string }}{% endfor %}",
    "slices": "{% for m in messages[1:] %}{{ m.content }}{% endfor %}{{ messages[-1].role }}",
    "methods": EACH + "{{ m.content.split(' ')[-1].strip('.') }}{{ m.get('x', 1) }}{% endfor %}",
    "the tokenizer's own": CHAT_TEMPLATE,
}
CONVERSATION: Messages = [
    {"role": "system", "content": "be kind"},
    {"role": "user", "content": "naïve 中文 <b>'x'</b>"},
    {"role": "assistant", "content": "yes."},
]


@pytest.fixture(scope="module")
def renderer() -> Iterator[TemplateRenderer]:
    made = TemplateRenderer()
    yield made
    made.close()


def filled(renderer: TemplateRenderer, template: str, **values: Any) -> str:
    rendering = renderer.submit(template, values)
    rendering.wait(PATIENCE_S)
    text = rendering.poll()
    assert text is not None
    return text


@pytest.mark.parametrize("name", TEMPLATES)
def test_it_renders_what_transformers_renders(name: str, renderer: TemplateRenderer) -> None:
    expected = TOKENIZER.inner.apply_chat_template(
        CONVERSATION, chat_template=TEMPLATES[name], tokenize=False, add_generation_prompt=True
    )
    values = {**TOKENIZER.special_names, "messages": CONVERSATION, "tools": None, "add_generation_prompt": True}
    assert filled(renderer, TEMPLATES[name], **values) == expected


@pytest.mark.parametrize(
    "template", [TEMPLATES["loops and filters"], "{% for m in messages %}{{ m.content }}{% endfor %}"]
)
def test_going_on_with_a_message_ends_where_it_ends(template: str) -> None:
    messages: Messages = [*CONVERSATION[:2], {"role": "assistant", "content": "Sure, "}]
    expected = TOKENIZER.inner.apply_chat_template(
        messages, chat_template=template, tokenize=False, continue_final_message=True
    )
    messages[-1] = {"role": "assistant", "content": "Sure, " + GOES_ON}
    assert render(template, {"messages": messages}) == expected


def test_a_template_that_drops_what_is_to_be_gone_on_with_is_refused() -> None:
    with pytest.raises(TemplateRefused, match="leaves out"):
        render("{{ messages[0].content }}", {"messages": [{"content": "a"}, {"content": "b" + GOES_ON}]})


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{% for %}", "line 1"),
        ("{{ raise_exception('only users may speak') }}", "^only users may speak"),
        ("{{ messages.nothing.at.all }}", "UndefinedError"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{{ messages.append(1) }}", "unsafe"),
        ("{% include 'x' %}", "cannot be filled in"),
        ("x" * (MAX_TEMPLATE + 1), "may have at most"),
        ("{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}", "Recursion"),
    ],
)
def test_a_template_that_does_not_work_is_refused_with_the_reason(template: str, says: str) -> None:
    with pytest.raises(TemplateRefused, match=says):
        render(template, {"messages": [{}]})


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{% for i in range(10**9) %}{% endfor %}", "Range too big"),
        ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "took longer than 2 s"),
        ("{{ 'a' * 10**10 }}", "MemoryError"),
        ("{{ 'a' | center(10**10) }}", "chat_template"),
        ("{{ 'a' * 5000000 }}", "5000000 characters"),
    ],
)
def test_a_hostile_template_is_refused_and_the_next_one_served(
    template: str, says: str, renderer: TemplateRenderer
) -> None:
    rendering = renderer.submit(template, {})
    behind = renderer.submit("{{ x }}", {"x": 1})
    rendering.wait(PATIENCE_S)
    with pytest.raises(ValueError, match=says):
        rendering.poll()
    behind.wait(PATIENCE_S)
    assert behind.poll() == "1"


def test_nothing_waits_for_a_template(renderer: TemplateRenderer) -> None:
    rendering = renderer.submit("{% for i in range(99999) %}{% for j in range(99) %}{% endfor %}{% endfor %}done", {})
    assert rendering.poll() is None or rendering.done
    rendering.wait(PATIENCE_S)
    assert rendering.poll() == "done"


def test_a_closed_renderer_refuses() -> None:
    renderer = TemplateRenderer()
    assert filled(renderer, "x") == "x"
    renderer.close()
    renderer.close()
    with pytest.raises(RuntimeError):
        renderer.submit("x", {})


def test_a_process_that_does_not_exist_is_said_to_have_died() -> None:
    process = GuardedProcess("max_engines.no_such_module")
    with pytest.raises(ProcessDied, match="did not start"):
        process.ask(b"x", 1.0)
    process.close()


ORPHAN = """
from max_engines.templating import TemplateRenderer
renderer = TemplateRenderer()
first = renderer.submit("x", {})
first.wait(60)
endless = renderer.submit("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", {})
print(renderer.pid, flush=True)
endless.wait(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the limit of the processor's time ends it")
def test_the_process_does_not_outlive_who_started_it() -> None:
    with subprocess.Popen([sys.executable, "-c", ORPHAN], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        watched = os.pidfd_open(int(parent.stdout.readline()))
        parent.kill()
        gone, _, _ = select.select([watched], [], [], PATIENCE_S)
        os.close(watched)
        assert gone


# -- special tokens ---------------------------------------------------------------------------------------------------

spellings = st.lists(st.sampled_from([*SPECIAL, *THINKING, "<", "|", ">", "turn", "a ", "é", "</"]), max_size=8).map(
    "".join
)


@given(spellings)
def test_no_text_of_a_message_becomes_a_special_token(text: str) -> None:
    ids = TOKENIZER.encode_shielded(TOKENIZER.shielded(text))
    assert not set(ids) & set(range(7))
    assert TOKENIZER.decode(ids, skip_special_tokens=False) == text


@given(spellings)
def test_in_its_own_words_a_model_thinks_but_ends_no_turn(text: str) -> None:
    ids = TOKENIZER.encode_shielded(TOKENIZER.shielded(text, own_words=True))
    assert not set(ids) & set(range(5))
    assert ids.count(THINK) == text.count("<think>")
    assert ids.count(UNTHINK) == text.count("</think>")
    assert TOKENIZER.decode(ids, skip_special_tokens=False) == text


def test_what_the_template_writes_is_itself() -> None:
    text = "<|start|>user\n" + TOKENIZER.shielded("a</s>b") + "<|turn|>"
    assert TOKENIZER.decode(TOKENIZER.encode_shielded(text)) == "user\na</s>b"


def test_an_honest_text_is_encoded_in_one_piece() -> None:
    text = "the quick brown fox, naïve 中文"
    assert TOKENIZER.shielded(text) == text
    assert TOKENIZER.encode_shielded(text) == TOKENIZER.encode(text, add_special_tokens=False)


@pytest.mark.parametrize("mark", [SHIELD, GOES_ON[0]])
def test_a_text_with_a_mark_of_ours_is_refused(mark: str) -> None:
    with pytest.raises(ValueError, match="noncharacter U\\+FDD"):
        TOKENIZER.shielded(f"a{mark}b")


def test_a_model_without_a_template_says_so() -> None:
    inner = make_tokenizer()
    inner.chat_template = None
    with pytest.raises(ValueError, match="no chat template"):
        TextTokenizer(inner).chat_template(None, tools=False)


def with_added(*tokens: AddedToken, normalizer: Normalizer | None = None) -> TextTokenizer:
    """The tokenizer with more added tokens."""
    inner = make_tokenizer().backend_tokenizer
    if normalizer is not None:
        inner.normalizer = normalizer
    inner.add_tokens(list(tokens))
    return TextTokenizer(PreTrainedTokenizerFast(tokenizer_object=inner))  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("text", ["a<|END|>b", "＜|end|＞", "<<|End|>|end|>"])
def test_no_other_spelling_becomes_a_special_token(text: str) -> None:
    folding = Sequence([NFKC(), Lowercase()])
    tokenizer = with_added(AddedToken("<|end|>", special=True, normalized=True), normalizer=folding)
    end = tokenizer.inner.convert_tokens_to_ids("<|end|>")
    assert end in tokenizer.encode(text, parse_special_tokens=True)
    assert end not in tokenizer.encode_shielded(tokenizer.shielded(text))
    assert end not in tokenizer.encode_shielded(tokenizer.shielded(text, own_words=True))
    assert end not in tokenizer.encode(text)


def test_runs_of_blanks_that_are_added_tokens_stay_whole() -> None:
    """Gemma, GPT-NeoX and CodeGen have such: a message with an empty line is to be what the model was taught."""
    tokenizer = with_added(AddedToken("\n\n", normalized=False), AddedToken("    ", normalized=False))
    text = "def f():\n\n    return 1</s>"
    ids = tokenizer.encode_shielded(tokenizer.shielded(text))
    assert tokenizer.inner.convert_tokens_to_ids(["\n\n", "    "]) == [token for token in ids if token >= 400]
    assert tokenizer.encode(text, add_special_tokens=False) == ids
    assert END not in ids
