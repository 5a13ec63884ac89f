"""Long texts over HTTP, as `benchmarks/arriving_text.py` measures them."""

from __future__ import annotations

import pytest

from benchmarks.arriving_text import measured

WORDS = 3000
SLACK_MB = 16.0  # of memory that may come and go


@pytest.mark.soak
async def test_three_thousand_words() -> None:
    figures = await measured(runs=5, words=WORDS)
    for way in ("post", "websocket"):
        found = {name.removeprefix(f"{way}.long."): value for name, value in figures.items() if name.startswith(way)}
        assert found["gaps"] == found["borders"] > WORDS / 25
        assert 0.15 < found["gap_s.shortest"] < found["gap_s.longest"] < 0.6
        assert found["grown_mb.face"] < SLACK_MB
        assert found["grown_mb.worker"] < SLACK_MB
        assert found["first_s"] < 3 * figures["post.sentence.first_s.worst"]  # as for one sentence
