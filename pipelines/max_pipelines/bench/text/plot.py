"""The report as a picture: for each scenario, a bar of tokens/s for each contender. SVG, written by hand."""

from __future__ import annotations

from collections.abc import Iterator
from xml.sax.saxutils import escape

from .report import NOT_MEASURED, Report, Row

WIDTH, LABEL, BAR, GAP, TITLE = 760, 150, 18, 6, 30  # pixels
ROOM = 150  # at the right, for the figures
OURS, PEER = "#2563eb", "#94a3b8"


def svg(report: Report) -> str:
    """An SVG document. The longest bar of each scenario is its fastest contender's."""
    body: list[str] = []
    y = TITLE
    for scenario, says in report.scenarios.items():
        rows = [row for row in report.rows if row.scenario == scenario]
        body.append(_text(10, y + 14, f"{scenario}: {says}", "bold"))
        y += TITLE
        body.extend(_bars(rows, y))
        y += len(rows) * (BAR + GAP) + TITLE // 2
    heading = f"tokens/s, {report.model}, {report.dtype}, {report.device}, {report.threads} thread(s)"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y}" viewBox="0 0 {WIDTH} {y}" '
            'font-family="sans-serif" font-size="13">',
            f'<rect width="{WIDTH}" height="{y}" fill="white"/>',
            _text(10, 20, heading, "bold"),
            *body,
            "</svg>\n",
        ]
    )


def _bars(rows: list[Row], y: int) -> Iterator[str]:
    fastest = max((row.figures.tokens_per_s for row in rows if row.figures), default=1.0)
    for row in rows:
        yield _text(10, y + 14, row.contender)
        if row.figures is None:
            yield _text(LABEL, y + 14, NOT_MEASURED)
        else:
            width = (WIDTH - LABEL - ROOM) * row.figures.tokens_per_s / fastest
            colour = OURS if row.contender.startswith("ours") else PEER
            yield f'<rect x="{LABEL}" y="{y}" width="{width:.1f}" height="{BAR}" fill="{colour}"/>'
            yield _text(LABEL + width + 6, y + 14, f"{row.figures.tokens_per_s:,.0f}")
        y += BAR + GAP


def _text(x: float, y: float, text: str, weight: str = "normal") -> str:
    return f'<text x="{x:.1f}" y="{y}" font-weight="{weight}">{escape(text)}</text>'
