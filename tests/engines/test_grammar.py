"""Grammars: what is said under one matches it, whatever the model would have liked."""

from __future__ import annotations

import itertools
import json
import os
import re
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from max_engines.config import EngineConfig
from max_engines.constraints.compiling import GrammarCompiler
from max_engines.constraints.errors import ConstraintError
from max_engines.constraints.grammar import Grammar
from max_engines.constraints.limits import GrammarLimits
from max_engines.constraints.vocabulary import Vocabulary
from max_engines.engine import Engine
from max_engines.rules import SequenceError
from max_interfaces.identity import RequestID
from max_interfaces.text import TextGenerationResponseFormat
from max_interfaces.values import Json
from tests.engines.grammar_models import (
    END_IDS,
    PADDING,
    asked,
    byte_fallback,
    byte_level,
    compiled,
    ended,
    ids_of,
    mask_of,
    said,
    text_of,
    vocabulary_of,
)
from tests.engines.json_schemas import Schema, schemas, valid
from tests.engines.tiny_models import load, save_checkpoint, start

KINDS = {"byte level": byte_level(), "byte fallback": byte_fallback()}
COMPILERS: dict[str, GrammarCompiler] = {}
EXAMPLES = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
PERSON: Schema = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 5}, "age": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module", autouse=True)
def _compilers() -> Iterator[None]:
    for kind, tokenizer in KINDS.items():
        COMPILERS[kind] = GrammarCompiler(vocabulary_of(tokenizer))
    yield
    for compiler in COMPILERS.values():
        compiler.close()


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def spoken(kind: str, form: str, value: object, seed: int) -> str:
    """What a model says under a grammar, to its end."""
    tokens = said(compiled(COMPILERS[kind], form, value).constraint(), seed, most=5000)
    assert tokens[-1] in END_IDS
    return text_of(KINDS[kind], tokens)


# What is said


@EXAMPLES
@given(schema=schemas(), seed=st.integers(0, 99))
def test_what_is_said_is_json_of_the_schema(kind: str, schema: Schema, seed: int) -> None:
    text = spoken(kind, "json", schema, seed)
    assert valid(json.loads(text), schema), text


def regexes() -> st.SearchStrategy[str]:
    """Regexes whose meaning Rust and Python share."""
    leaf = st.sampled_from(
        ["a", "ab", "é", "[a-c]", "[^a]", "[0-9]", r"\.", "/", '"', "🦊", r"\n", "[1-3 ]", "(?:a|ab)"]
    )
    return st.recursive(
        leaf,
        lambda inner: (
            st.builds("{}{}".format, inner, inner)
            | st.builds("({}|{})".format, inner, inner)
            | st.builds("({}){}".format, inner, st.sampled_from(["?", "{0,3}", "{2}", "{1,3}"]))
        ),
        max_leaves=6,
    )


@EXAMPLES
@given(regex=regexes(), seed=st.integers(0, 99))
def test_what_is_said_matches_the_regex(kind: str, regex: str, seed: int) -> None:
    text = spoken(kind, "regex", regex, seed)
    assert re.fullmatch(regex, text), text


@pytest.mark.parametrize(
    "regex", ["[ab]*", "(a|ab|é)+", r"([^a]|\n)*", "^ ?a+$", "(?i)AB{2,}", "a*?b+", "(?P<name>é|🦊)*"]
)
def test_what_is_said_matches_a_regex_without_end(kind: str, regex: str) -> None:
    for seed in range(10):
        assert re.fullmatch(regex, spoken(kind, "regex", regex, seed))


@pytest.mark.parametrize("choices", [["yes", "no"], ["a", "ab", "abé"], ['"', "\n", "\\", "🦊/"], ["", "b"]])
def test_what_is_said_is_one_of_the_choices(kind: str, choices: list[str]) -> None:
    texts = {spoken(kind, "choice", choices, seed) for seed in range(40)}
    assert texts == set(choices)


@pytest.mark.parametrize("form", ["lark", "grammar"])
def test_a_grammar_in_lark(kind: str, form: str) -> None:
    text = spoken(kind, form, 'start: "(" start ")" | "b"', 3)
    assert re.fullmatch(r"\(*b\)*", text)
    assert text.count("(") == text.count(")")


@pytest.mark.parametrize(
    ("form", "value"),
    [
        ("json", PERSON),
        ("json_object", json.dumps(PERSON)),
        ("json_schema", {"name": "person", "schema": PERSON}),
        ("json_schema", {"schema": json.dumps(PERSON)}),
    ],
)
def test_every_way_to_give_a_schema_is_the_same_grammar(form: str, value: object) -> None:
    assert Grammar.requested(asked(form, value)) == Grammar.requested(asked("json", PERSON))


@pytest.mark.parametrize("schema", [PERSON, {"name": "person", "strict": True, "schema": PERSON}])
def test_a_response_format_is_the_same_grammar(schema: Schema) -> None:
    response_format = TextGenerationResponseFormat("json_schema", Json.of(schema))
    assert Grammar.requested(None, response_format) == Grammar.requested(asked("json", PERSON))


def test_json_object_asks_for_any_object(kind: str) -> None:
    grammar = Grammar.requested(None, TextGenerationResponseFormat("json_object"))
    assert grammar is not None
    constraint = ended(COMPILERS[kind], COMPILERS[kind].submit(grammar)).constraint()
    tokenizer = KINDS[kind]
    tokens = ids_of(tokenizer, *'{"a":[1,{"b":true}]}')
    for at, token in enumerate(tokens):
        assert mask_of(constraint, tokens[:at])[token]
    assert set(np.flatnonzero(mask_of(constraint, tokens))) == END_IDS
    assert not mask_of(constraint, [])[ids_of(tokenizer, "[")]


def test_no_grammar_is_none() -> None:
    assert Grammar.requested(None) is None
    assert Grammar.requested(None, TextGenerationResponseFormat("text")) is None


# Which tokens


def test_ends_are_allowed_where_the_text_is_complete_and_nowhere_else(kind: str) -> None:
    constraint = compiled(COMPILERS[kind], "regex", "ba*").constraint()
    b, a, end = ids_of(KINDS[kind], "b", "a", "</s>")
    assert not mask_of(constraint, [])[list(END_IDS)].any()
    assert mask_of(constraint, [b])[[*END_IDS, a]].all()
    for behind in ([b, end], [b, end, end], [b, end, a, 3]):
        assert set(np.flatnonzero(mask_of(constraint, behind))) == END_IDS


def test_special_tokens_and_padding_are_never_text(kind: str) -> None:
    mask = mask_of(compiled(COMPILERS[kind], "regex", r"(.|\n)*").constraint(), [])
    tokenizer = KINDS[kind]
    assert mask.shape == (len(tokenizer) + PADDING,)
    assert not mask[ids_of(tokenizer, "<unk>", "<s>", "<think>", "</think>")].any()
    assert not mask[len(tokenizer) :].any()
    assert mask[ids_of(tokenizer, "    ")].all()  # added too, and text


@pytest.mark.parametrize("named", ["<[1]>", "<[0-1]>", "<|assistant|>"])
def test_a_grammar_that_names_special_tokens_does_not_get_them(kind: str, named: str) -> None:
    mask = mask_of(compiled(COMPILERS[kind], "lark", f'start: {named} | "a" {named}').constraint(), [])
    assert mask[ids_of(KINDS[kind], "a")].all()
    assert not mask[ids_of(KINDS[kind], "<unk>", "<s>", "<|assistant|>")].any()


def test_a_character_may_come_byte_by_byte(kind: str) -> None:
    tokenizer = KINDS[kind]
    tokens = said(compiled(COMPILERS[kind], "regex", "🦊中").constraint(), 0)
    assert len(tokens) == 8
    assert text_of(tokenizer, tokens) == "🦊中"


@pytest.mark.skipif(
    tuple(map(int, version("llguidance").split(".")[:2])) < (1, 8),
    reason="before 1.8 llguidance does not heed the limit",
)
def test_blanks_come_to_an_end(kind: str) -> None:
    constraint = compiled(COMPILERS[kind], "json", {"type": "object"}).constraint()
    brace, wide, blank = ids_of(KINDS[kind], "{", "    ", "Ġ" if kind == "byte level" else "▁")
    assert mask_of(constraint, [brace, *[blank] * 63])[blank]
    assert not mask_of(constraint, [brace, *[blank] * 64])[blank]
    assert not mask_of(constraint, [brace, *[blank] * 63])[wide]


# One constraint among others


@EXAMPLES
@given(seed=st.integers(0, 99), data=st.data())
def test_a_mask_is_a_function_of_the_tokens(kind: str, seed: int, data: st.DataObject) -> None:
    grammar = compiled(COMPILERS[kind], "json", PERSON)
    tokens = said(grammar.constraint(), seed)
    expected = [mask_of(grammar.constraint(), tokens[:count]) for count in range(len(tokens))]
    constraint = grammar.constraint()
    for count in data.draw(st.lists(st.integers(0, len(tokens) - 1), max_size=20)):
        mask = mask_of(constraint, tuple(tokens[:count]) if count % 2 else tokens[:count])
        assert mask is mask_of(constraint, tokens[:count])
        assert (mask == expected[count]).all()


def test_a_constraint_goes_on_after_tokens_that_broke_the_grammar(kind: str) -> None:
    constraint = compiled(COMPILERS[kind], "regex", "ba*").constraint()
    b, a = ids_of(KINDS[kind], "b", "a")
    with pytest.raises(ConstraintError, match=f"token {a} may not come here"):
        constraint.allowed([a])
    assert mask_of(constraint, [b])[a]


def test_a_lexer_that_one_sequence_wears_out_does_not_end_the_others() -> None:
    runs = ["".join(run) for length in range(2, 11) for run in itertools.product("ab", repeat=length)]
    tokenizer = byte_level(runs)  # each of them costs the lexer something
    c, d = ids_of(tokenizer, "c", "d")
    with closing(GrammarCompiler(vocabulary_of(tokenizer), GrammarLimits(lexer_fuel=10_000))) as compiler:
        grammar = compiled(compiler, "regex", "d{9}|c(.*a.{200}b){20}")
        quiet, busy = grammar.constraint(), grammar.constraint()
        assert mask_of(quiet, [d])[d]
        assert mask_of(busy, [])[c]
        with pytest.raises(ConstraintError, match="its grammar cannot go on"):
            busy.allowed([c])
        assert mask_of(quiet, [d, d])[d]
        assert mask_of(grammar.constraint(), [d])[d]


def test_an_engine_says_what_matches_and_a_failure_is_one_sequence_s_own(tmp_path: Path) -> None:
    tokenizer = KINDS["byte level"]
    folder = save_checkpoint(tmp_path, "llama", vocab_size=len(tokenizer) + PADDING)
    engine = Engine(load(folder), EngineConfig(max_batch=4))
    grammar = compiled(COMPILERS["byte level"], "regex", "b{3}|[0-9]{4}")
    good = [
        start([5, 6, seed], seed=seed, temperature=1.0, eos=END_IDS, constraint=grammar.constraint()) for seed in (1, 2)
    ]
    (a,) = ids_of(tokenizer, "a")
    broken = start([5, 6], accepted=[a], eos=END_IDS, constraint=grammar.constraint())
    tokens: dict[RequestID, list[int]] = {sequence.request_id: [] for sequence in (broken, *good)}
    for sequence in (broken, *good):
        engine.add(sequence)
    with pytest.raises(SequenceError, match=f"token {a} may not come here") as caught:
        run(engine, tokens)
    assert caught.value.name == str(broken.request_id)
    engine.release(broken.request_id)
    del tokens[broken.request_id]
    run(engine, tokens)
    for said_ids in tokens.values():
        assert said_ids[-1] in END_IDS
        assert re.fullmatch("b{3}|[0-9]{4}", text_of(tokenizer, said_ids))


def run(engine: Engine, tokens: dict[RequestID, list[int]]) -> None:
    """Step until all have ended."""
    active = {request_id for request_id, ids in tokens.items() if not END_IDS.intersection(ids)}
    while active:
        for request_id, delta in engine.step(active).items():
            tokens[request_id] += delta.tokens
            if delta.status.is_done:
                active.remove(request_id)


# What is refused


@pytest.mark.parametrize(
    ("grammar", "reason"),
    [
        (Json.of([1]), "must be {"),
        (Json.of({"type": "json"}), "must be {"),
        (Json.of({"type": 3, "value": {}}), "must be {"),
        (asked("yaml", "a: 1"), "type 'yaml' is unknown; types are json"),
        (asked("json", 3), "3 is no JSON schema"),
        (asked("json", [{}]), "is no JSON schema"),
        (asked("json", "{'type': 1}"), "the schema is a string, and no JSON"),
        (asked("json", "[" * 60_000), "the schema is a string, and no JSON"),
        (asked("json_schema", {"schema": None}), "None is no JSON schema"),
        (asked("regex", {"a": 1}), "must be a string"),
        (asked("regex", ""), "not empty"),
        (asked("choice", []), "must be a list of strings"),
        (asked("choice", ["a", 1]), "must be a list of strings"),
        (asked("choice", "ab"), "must be a list of strings"),
        (asked("regex", "a" * 65_537), "has 65537 characters, may have at most 65536"),
        (asked("json", {"enum": ["x" * 10] * 7000}), "may have at most 65536"),
        (asked("json", json.dumps({"enum": ["x" * 10] * 7000})), "may have at most 65536"),
    ],
)
def test_what_is_no_grammar_is_refused_at_once(grammar: Json, reason: str) -> None:
    with pytest.raises(ValueError, match=f"^SamplingParams.grammar: .*{re.escape(reason)}"):
        Grammar.requested(grammar)


def test_a_schema_nested_too_deep_is_refused_at_once() -> None:
    schema: Schema = {}
    for _ in range(40):
        schema = {"type": "array", "items": schema}
    assert Grammar.requested(asked("json", schema)) is not None
    for _ in range(40):
        schema = {"type": "array", "items": schema}
    with pytest.raises(ValueError, match="nested deeper than 64 levels"):
        Grammar.requested(asked("json", schema))


@pytest.mark.parametrize(
    ("response_format", "reason"),
    [
        (TextGenerationResponseFormat("json_schema"), "json_schema is not set"),
        (TextGenerationResponseFormat("xml"), "type 'xml' is unknown"),
        (TextGenerationResponseFormat("json_schema", Json("3")), "3 is no JSON schema"),
    ],
)
def test_what_is_no_format_is_refused_at_once(response_format: TextGenerationResponseFormat, reason: str) -> None:
    with pytest.raises(ValueError, match=f"^response_format: .*{reason}"):
        Grammar.requested(None, response_format)


def test_two_forms_are_one_too_many() -> None:
    with pytest.raises(ValueError, match="leave one out"):
        Grammar.requested(asked("regex", "a"), TextGenerationResponseFormat("json_object"))


@pytest.mark.parametrize(
    ("form", "value", "reason"),
    [
        ("regex", "(a", "unclosed group"),
        ("regex", "(?=a)b", "look-around"),
        ("regex", r"(a)\1", "backreferences"),
        ("regex", r"[^\s\S]", "no text can match"),
        ("json", {"type": "strng"}, "strng"),
        ("json", {"type": "object", "properties": 3}, "properties must be an object"),
        ("json", {"type": "integer", "minimum": 3, "maximum": 1}, "minimum"),
        ("json", {"type": "array", "uniqueItems": True}, "uniqueItems"),
        ("json", {"$ref": "#"}, "no text can match"),
        ("json", {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}, "no text"),
        ("json", {"$ref": "#/$defs/nowhere"}, "nowhere"),
        ("json", {"$ref": "http://127.0.0.1:9/schema.json"}, "not"),
        ("json", {"allOf": [{"anyOf": [{"required": [f"{i}{j}"]} for j in range(9)]} for i in range(9)]}, "large"),
        ("lark", "start: x", "unknown name"),
        ("lark", "start: <think>", "unknown special token"),
        ("lark", "start (", "xpected"),
    ],
)
def test_what_does_not_compile_is_refused_with_its_reason(form: str, value: object, reason: str) -> None:
    with pytest.raises(ValueError, match=f"^SamplingParams.grammar: .*{reason}"):
        compiled(COMPILERS["byte level"], form, value)


@pytest.mark.parametrize(
    ("form", "value"),
    [
        ("regex", "((a{1,1000}){1,1000}){1,1000}"),
        ("regex", "(" * 20 + "(a|a)*" + ")*" * 20 + "b"),
        ("regex", "(a|a|ab)*" * 200 + "b"),
        ("regex", "(.*a.{200}b.*c.{300}){200}"),
        ("regex", r"(\p{L}{1,1000}){1,100}"),
        ("json", {"enum": [f"value {number}" for number in range(4000)]}),
        ("json", {"type": "object", "properties": {f"p{number}": {"type": "integer"} for number in range(1000)}}),
        ("json", {"type": "string", "minLength": 100_000}),
        ("json", {"type": "array", "items": {"type": "array", "maxItems": 10_000}, "maxItems": 10_000}),
        ("json", {"type": "string", "pattern": "^((a{1,1000}){1,1000}){1,1000}$"}),
        (
            "json",
            {"$defs": {"n": {"type": "array", "items": {"$ref": "#/$defs/n"}, "minItems": 1}}, "$ref": "#/$defs/n"},
        ),
        ("lark", 'start: x\nx: x x | "a" | "b" | x x x'),
    ],
)
def test_a_costly_grammar_ends_at_most_its_own_sequence(form: str, value: object) -> None:
    constraint = compiled(COMPILERS["byte level"], form, value).constraint()
    try:
        tokens = said(constraint, 1, patience=200, most=200)
    except ConstraintError as problem:
        assert len(str(problem)) < 500  # noqa: PT017
    else:
        assert len(tokens) == 200 or tokens[-1] in END_IDS


def test_a_model_without_an_end_has_no_grammars() -> None:
    vocabulary = vocabulary_of(KINDS["byte level"], frozenset())
    with closing(GrammarCompiler(vocabulary)) as compiler, pytest.raises(ValueError, match="no end-of-sequence id"):
        compiled(compiler, "regex", "a")


def test_a_tokenizer_that_cannot_be_used_is_named() -> None:
    vocabulary = Vocabulary.of(object(), size=10, end_ids=END_IDS)  # type: ignore[arg-type]
    with closing(GrammarCompiler(vocabulary)) as compiler:
        compiler.prepare()
        with pytest.raises(ValueError, match=r"no tokenizer.json"):
            compiled(compiler, "regex", "a")


def test_a_text_that_the_tokenizer_cannot_write_is_refused() -> None:
    tokenizer = Tokenizer(models.BPE({"<unk>": 0, "a": 1, "</s>": 2, "<|turn|>": 3}, []))
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<unk>", "</s>", "<|turn|>"])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer)  # type: ignore[no-untyped-call]
    with closing(GrammarCompiler(vocabulary_of(fast))) as compiler:
        with pytest.raises(ValueError, match=r"^SamplingParams\.grammar: "):
            compiled(compiler, "regex", "z")
        constraint = compiled(compiler, "regex", "az").constraint()
        with pytest.raises(ConstraintError):
            said(constraint, 0)


# The process that can be killed


LARGE = GrammarLimits(characters=2**18, compile_s=0.5)


def with_properties(count: int, title: str = "") -> Grammar:
    """A schema of so many properties: with 900 it takes a tenth of a second to compile, with 5000 some seconds."""
    schema = {"title": title, "properties": {f"p{number}": {"type": "integer"} for number in range(count)}}
    grammar = Grammar.requested(asked("json", {"type": "object", **schema}), limits=LARGE)
    assert grammar is not None
    return grammar


def compiler_with(limits: GrammarLimits) -> GrammarCompiler:
    return GrammarCompiler(vocabulary_of(KINDS["byte level"]), limits)


def test_a_grammar_that_takes_too_long_is_refused_and_the_next_one_is_not() -> None:
    with closing(compiler_with(LARGE)) as compiler:
        for _ in range(2):
            compiling = compiler.submit(with_properties(5000))
            with pytest.raises(ValueError, match=r"SamplingParams.grammar: takes longer than 0.5 s to compile"):
                ended(compiler, compiling)
        assert compiled(compiler, "regex", "a").constraint().allowed([]).any()


def test_what_took_too_long_is_tried_again_later() -> None:
    with closing(compiler_with(replace(LARGE, refused_s=0.0))) as compiler:
        refused = compiler.submit(with_properties(5000))
        with pytest.raises(ValueError, match="takes longer"):
            ended(compiler, refused)
        assert compiler.submit(with_properties(5000)).poll() is None


def test_a_grammar_that_takes_too_much_memory_is_refused_and_the_next_one_is_not() -> None:
    with closing(compiler_with(GrammarLimits(compile_bytes=60 * 2**20, compile_s=60.0))) as compiler:
        compiling = compiler.submit(with_properties(5000))
        with pytest.raises(ValueError, match="takes more than 60 MiB to compile"):
            ended(compiler, compiling)
        assert compiled(compiler, "regex", "a").constraint().allowed([]).any()


def test_a_process_that_does_not_start_refuses_grammars() -> None:
    more_than_the_system_can_count = GrammarLimits(compile_bytes=2**80)
    with (
        closing(compiler_with(more_than_the_system_can_count)) as compiler,
        pytest.raises(ValueError, match="did not start"),
    ):
        compiled(compiler, "regex", "a")


def test_waiting_for_a_grammar_stops_nobody() -> None:
    grammar = with_properties(900)
    with closing(compiler_with(GrammarLimits())) as compiler:
        compiling = compiler.submit(grammar)
        assert compiling.poll() is None
        again = compiler.submit(grammar)
        assert ended(compiler, compiling) is ended(compiler, again)
        assert compiler.submit(grammar).poll() is compiling.poll()


def test_who_cancels_frees_the_line() -> None:
    second, third, fourth = (with_properties(300, title) for title in "abc")
    with closing(compiler_with(replace(LARGE, waiting=1))) as compiler:
        begun = compiler.submit(with_properties(5000))
        while compiler.waiting:
            compiler.wait(0.01)
        waiting = compiler.submit(second)
        with pytest.raises(ValueError, match="1 grammars wait to be compiled already"):
            compiler.submit(third)
        for compiling in (waiting, waiting, begun):
            compiling.cancel()
        also = compiler.submit(fourth)
        assert ended(compiler, also).constraint().allowed([]).any()
        assert ended(compiler, compiler.submit(second)).constraint().allowed([]).any()


def test_the_oldest_are_forgotten() -> None:
    with closing(compiler_with(GrammarLimits(kept=2))) as compiler:
        grammars = [Grammar.requested(asked("regex", letter)) for letter in "abc"]
        for grammar in grammars:
            assert grammar is not None
            ended(compiler, compiler.submit(grammar))
        ready = [compiler.submit(grammar).poll() is not None for grammar in grammars[::-1] if grammar is not None]
        assert ready == [True, True, False]


def test_close_ends_thread_and_process_in_the_middle_of_a_grammar() -> None:
    before = set(threading.enumerate())
    compiler = compiler_with(GrammarLimits(compile_s=60.0))
    running, waiting = compiler.submit(with_properties(5000)), compiler.submit(with_properties(300))
    compiler.close()
    compiler.close()
    for compiling in (running, waiting):
        with pytest.raises(ValueError, match=r"^SamplingParams\.grammar: "):
            ended(compiler, compiling)
    assert set(threading.enumerate()) <= before
    with pytest.raises(ValueError, match="is closed"):
        compiler.submit(with_properties(1))


ORPHAN = """
import sys
from max_engines.constraints.limits import GrammarLimits
from max_engines.constraints.trial import Trial
trial = Trial(GrammarLimits(compile_s=600.0, compile_bytes=2**32))
trial.refusal('{"grammars": [{"lark_grammar": "start: /a/"}]}')
print("ready", flush=True)
if sys.argv[1] == "busy":
    properties = ",".join(f'"p{number}": {{"type": "integer"}}' for number in range(10_000))
    trial.refusal('{"grammars": [{"json_schema": {"type": "object", "properties": {' + properties + '}}}]}')
sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts processes in /proc")
@pytest.mark.parametrize("state", ["idle", "busy"])
def test_the_process_does_not_outlive_who_started_it(state: str) -> None:
    parent = subprocess.Popen([sys.executable, "-c", ORPHAN, state], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"ready\n"
        (child,) = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
        watched = os.pidfd_open(int(child))
        while state == "busy" and processor_time(int(child)) < 50:
            threading.Event().wait(0.01)
        os.kill(parent.pid, signal.SIGKILL)
        gone, _, _ = select.select([watched], [], [], 10.0)  # that grammar takes longer
        os.close(watched)
    assert gone


def processor_time(process: int) -> int:
    """Of a process, in hundredths of a second."""
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11])


@pytest.mark.parametrize("module", ["max_engines.constraints.trial_process", "max_engines.template_process"])
def test_guarded_processes_start_at_once(module: str) -> None:
    """What they do not need, and what takes long to import, they do not import."""
    code = f"import sys, {module}; print(*{{'numpy', 'torch', 'transformers'}} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"\n"
