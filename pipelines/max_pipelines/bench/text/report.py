"""What was measured, as a table and as JSON."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from .scenarios import ALONE, STREAMS

OURS = "ours"
NOT_MEASURED = "not measured"
COLUMNS = (
    "tokens/s",
    "ours ÷ it",
    "first token ms",
    "gap p50 ms",
    "gap p99 ms",
    "peak MiB",
    "CPU ms/token",
)


class Figures(Struct, frozen=True):
    """A contender in a scenario: the fastest of its rounds, from which all figures are. Times in milliseconds.

    `tokens_per_s` are generated tokens over the time from the first request to the last token. The time to first
    token is the median over the requests; a gap is the time between two tokens of one request.
    """

    tokens_per_s: float
    ttft_ms: float
    gap_p50_ms: float
    gap_p99_ms: float
    peak_mib: float | None
    cpu_ms_per_token: float | None
    bandwidth_share: float | None = None  # of what decoding must read; CUDA, ours


class Row(Struct, frozen=True):
    """One line of the table: figures, or the reason why there are none."""

    scenario: str
    contender: str
    figures: Figures | None = None
    not_measured: str | None = None


class Report(Struct, frozen=True):
    """A whole run of `maxpipe bench text`."""

    model: str
    dtype: str
    device: str
    threads: int
    processors: int
    rounds: int
    scenarios: dict[str, str]  # name: what it asks
    versions: dict[str, str]  # contender: version
    rows: list[Row]
    copy_bytes_per_s: float | None = None
    load_before: float | None = None  # what others were doing: the load average before the first contender began


def table(report: Report) -> str:
    """Markdown. The column `ours ÷ it` is the ratio of tokens/s."""
    lines = [
        f"{report.model}, {report.dtype}, {report.device}, {report.threads} thread(s) for the model on "
        f"{report.processors} processor(s); the fastest of {report.rounds} round(s)",
    ]
    if report.versions:
        lines.append("; ".join(f"{name}: {version}" for name, version in report.versions.items()))
    if report.load_before is not None:
        lines.append(f"load average of the machine before: {report.load_before:.1f}")
    if report.copy_bytes_per_s is not None:
        lines.append(f"memory bandwidth, measured by copying: {report.copy_bytes_per_s / 1e9:,.0f} GB/s")
    for scenario, says in report.scenarios.items():
        rows = [row for row in report.rows if row.scenario == scenario]
        lines += ["", f"**{scenario}** ({says})", "", *_scenario_lines(rows)]
    return "\n".join([*lines, "", *_gpu_lines(report)])


def _scenario_lines(rows: list[Row]) -> Iterator[str]:
    reasons = {row.not_measured for row in rows}
    if len(reasons) == 1 and None not in reasons:
        yield f"{NOT_MEASURED}: {reasons.pop()}"
        return
    yield f"| | {' | '.join(COLUMNS)} |"
    yield "|---" + "|---:" * len(COLUMNS) + "|"
    ours = next((row.figures for row in rows if row.contender == OURS), None)
    for row in rows:
        if row.figures is None:
            yield f"| {row.contender} | {NOT_MEASURED}: {row.not_measured}{' |' * len(COLUMNS)}"
            continue
        f = row.figures
        cells = [
            _number(f.tokens_per_s, 0 if f.tokens_per_s >= 100 else 1),
            _number(None if ours is None else ours.tokens_per_s / f.tokens_per_s, 2),
            _number(f.ttft_ms, 1),
            _number(f.gap_p50_ms, 2),
            _number(f.gap_p99_ms, 2),
            _number(f.peak_mib, 0),
            _number(f.cpu_ms_per_token, 2),
        ]
        yield f"| {row.contender} | {' | '.join(cells)} |"


def _gpu_lines(report: Report) -> Iterator[str]:
    """The two rows that only a GPU can fill."""
    measured = {row.scenario: row.figures for row in report.rows if row.contender == OURS}
    alone, streams = (measured.get(scenario.name) for scenario in (ALONE, STREAMS))
    share = None if alone is None else alone.bandwidth_share
    on_gpu = report.device.startswith("cuda")
    which = f"{report.model}, {report.dtype}" if on_gpu else "use --device cuda --shape llama-3b"
    yield f"| on a GPU ({which}) | ours |"
    yield "|---|---:|"
    yield f"| single stream, share of the bandwidth limit | {NOT_MEASURED if share is None else f'{share:.0%}'} |"
    yield f"| {STREAMS.says}, tokens/s | {NOT_MEASURED if streams is None else _number(streams.tokens_per_s, 0)} |"


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"
