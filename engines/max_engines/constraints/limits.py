"""How much a grammar may cost."""

from __future__ import annotations

from dataclasses import dataclass

from llguidance import LLParserLimits


@dataclass(frozen=True, slots=True)
class GrammarLimits:
    """Bounds of grammars that strangers send.

    `characters` and `depth` (of nested JSON) are seen before anything is compiled. `compile_s`, of the processor's
    time, and `compile_bytes` bound the trial in a process of its own. `lexer_fuel`, `items` and `row_items` are
    llguidance's own measures of the work of one step: with these, the worst grammar found takes 25 ms a step of 128k
    tokens, where a usual one takes 0.02. `waiting` grammars may stand in line, `kept` compiled ones are
    remembered, and for `refused_s` also what took too long, so that who sends it again holds nobody up.
    """

    characters: int = 65_536
    depth: int = 64
    compile_s: float = 2.0
    compile_bytes: int = 2**30
    lexer_fuel: int = 200_000
    items: int = 8_000
    row_items: int = 4_000
    waiting: int = 64
    kept: int = 128
    refused_s: float = 60.0

    @property
    def parser(self) -> LLParserLimits:
        """The bounds of one step, as llguidance takes them."""
        return LLParserLimits(
            step_lexer_fuel=self.lexer_fuel, step_max_items=self.items, max_items_in_row=self.row_items
        )


DEFAULT_LIMITS = GrammarLimits()
