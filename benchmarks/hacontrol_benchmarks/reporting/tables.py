"""The content of a report, and its rows and numbers as text."""

from __future__ import annotations

from dataclasses import dataclass

from hacontrol_benchmarks.records.text import markdown_text
from hacontrol_benchmarks.reporting.scores import Board, Row

HUGE = 1e299
"""Largest number that is shown as finite: averages of logarithms count infinity as 1e300."""


@dataclass(frozen=True)
class Report:
    """The content of a folder of results."""

    title: str
    """Name of the suite, or of the folder."""
    description: str
    """What the suite compares; empty where the folder has no suite."""
    command: str
    """Command line that runs it again."""
    boards: list[Board]
    """A ranked table for each problem."""
    notes: list[str]
    """Notes on tasks that are missing, and on results that were left out."""
    machines: list[str]
    """Machines that tasks ran on."""
    versions: list[str]
    """Versions of hacontrol that ran."""
    finished: str
    """Time at which the last task was started, ISO 8601."""


def header(board: Board) -> list[str]:
    """Return the titles of a board's columns."""
    return ["", "agent", board.headline.replace("_", " "), *(column.title for column in board.columns), "runs"]


def column_meanings(report: Report) -> list[tuple[str, str]]:
    """Return title and meaning of every column of the report's boards, each once."""
    return list(dict.fromkeys((column.title, column.meaning) for board in report.boards for column in board.columns))


def cells(row: Row, board: Board) -> list[str]:
    """Return a row of a board as text."""
    shown = [show(value, column.style) for value, column in zip(row.cells, board.columns, strict=True)]
    done = row.runs - len(row.failures)
    return [
        str(row.rank or "–"),
        row.agent + row.verdict,
        interval(row.loss),
        *shown,
        str(row.runs) if done == row.runs else f"{done} of {row.runs}",
    ]


def remarks(row: Row) -> list[str]:
    """Return a line for each run of a row that failed, and for each that did not end certified."""
    failed = [f"failed: {row.agent}, {text}" for text in row.failures]
    return [*failed, *(f"not certified: {row.agent}, {text}" for text in row.doubts)]


def interval(loss: tuple[float, float, float] | None) -> str:
    """Return an estimate with its interval, if there is one, as text."""
    if loss is None:
        return "failed"
    estimate, low, high = loss
    return show(estimate) if low == high else f"{show(estimate)} [{show(low)}, {show(high)}]"


def show(value: float | None, style: str = "small") -> str:
    """Return a number as text, with as many digits as matter."""
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
    """Return the lines of a Markdown table."""
    escaped = [[markdown_text(cell) for cell in row] for row in (head, *rows)]
    return [f"| {' | '.join(row)} |" for row in (escaped[0], ["---"] * len(head), *escaped[1:])]
