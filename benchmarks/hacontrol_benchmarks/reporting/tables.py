"""What a report says, and its rows and numbers as text."""

from __future__ import annotations

from dataclasses import dataclass

from hacontrol_benchmarks.records.text import markdown_text
from hacontrol_benchmarks.reporting.scores import Board, Row

HUGE = 1e299
"""Beyond, a number is shown as infinite: averages of logarithms count infinity as 1e300."""


@dataclass(frozen=True)
class Report:
    """What a folder of results says."""

    title: str
    description: str
    command: str
    """Runs it again."""
    boards: list[Board]
    notes: list[str]
    """What is missing, or was left out."""
    machines: list[str]
    versions: list[str]
    finished: str
    """When the last task was started, ISO 8601."""


def header(board: Board) -> list[str]:
    """Titles of the columns."""
    return ["", "agent", board.headline.replace("_", " "), *(column.title for column in board.columns), "runs"]


def column_meanings(report: Report) -> list[tuple[str, str]]:
    """Title and meaning of every column of the report's boards, each once."""
    return list(dict.fromkeys((column.title, column.meaning) for board in report.boards for column in board.columns))


def cells(row: Row, board: Board) -> list[str]:
    """A row of a board as text."""
    shown = [show(value, column.style) for value, column in zip(row.cells, board.columns, strict=True)]
    done = row.runs - len(row.failures)
    return [
        str(row.rank or "–"),
        row.agent + row.verdict,
        interval(row.loss),
        *shown,
        str(row.runs) if done == row.runs else f"{done} of {row.runs}",
    ]


def interval(loss: tuple[float, float, float] | None) -> str:
    """An estimate with its interval, if there is one."""
    if loss is None:
        return "failed"
    estimate, low, high = loss
    return show(estimate) if low == high else f"{show(estimate)} [{show(low)}, {show(high)}]"


def show(value: float | None, style: str = "small") -> str:
    """A number as short as it is honest."""
    if value is None:
        return "–"
    if abs(value) > HUGE:
        return "inf" if value > 0 else "-inf"
    if style == "seconds":
        return f"{value:.0f}" if value >= 10 else f"{value:.1f}"
    if style == "count":
        return f"{value:,.0f}"
    if style == "plain":
        return f"{value:.2f}"
    if value == 0 or 0.1 <= abs(value) < 1000:
        return f"{value:.3g}"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def markdown_table(head: list[str], rows: list[list[str]]) -> list[str]:
    """Lines of a Markdown table."""
    escaped = [[markdown_text(cell) for cell in row] for row in (head, *rows)]
    return [f"| {' | '.join(row)} |" for row in (escaped[0], ["---"] * len(head), *escaped[1:])]
