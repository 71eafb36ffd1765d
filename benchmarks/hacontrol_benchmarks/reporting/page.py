"""The page: one HTML file that needs nothing else, neither network nor script."""

from __future__ import annotations

import math
from dataclasses import dataclass

import jinja2

from hacontrol_benchmarks.records.text import printable
from hacontrol_benchmarks.reporting.statistics import Interval
from hacontrol_benchmarks.reporting.tables import Report, cells, column_meanings

_TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("hacontrol_benchmarks"), autoescape=True, trim_blocks=True, lstrip_blocks=True
)
_TEMPLATES.filters["printable"] = printable


def render_page(report: Report) -> str:
    """Render the report as one HTML page; the same results give the same bytes."""
    tables = [(board, LogAxis.over([row.loss for row in board.rows])) for board in report.boards]
    template = _TEMPLATES.get_template("report.html")
    return template.render(
        report=report,
        tables=tables,
        meanings=_meanings(report),
        cells=cells,
    )


@dataclass(frozen=True)
class LogAxis:
    """A logarithmic axis across the width of a cell, in per cent; zero sits at its left end."""

    low: int
    """Exponent of ten at the left end."""
    high: int
    """Exponent of ten at the right end."""

    @classmethod
    def over(cls, losses: list[Interval | None]) -> LogAxis:
        """Return the axis that holds all of these intervals, with a decade to spare on the left."""
        logs = [math.log10(value) for loss in losses if loss for value in loss if value > 0]
        return cls(math.floor(min(logs, default=-1.0)) - 1, math.ceil(max(logs, default=0.0)))

    def __call__(self, value: float) -> float:
        """Return the position of a value, in per cent of the width."""
        if value <= 0:
            return 2.0
        share = (math.log10(value) - self.low) / max(self.high - self.low, 1)
        return round(2 + 96 * min(max(share, 0.0), 1.0), 2)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Positions in per cent and labels of at most five decades; the left end is labelled zero."""
        every = max(1, math.ceil((self.high - self.low) / 4))
        decades = range(self.high, self.low, -every)
        return [(2.0, "0"), *((self(10.0**decade), f"1e{decade}" if decade else "1") for decade in reversed(decades))]


def _meanings(report: Report) -> list[tuple[str, str]]:
    """What each column means, headlines first."""
    shown = list(dict.fromkeys((board.headline.replace("_", " "), board.meaning) for board in report.boards))
    shown += column_meanings(report)
    note = (
        "Seeds that were run. Agents with a failed run stand behind those without; failures are listed below the table."
    )
    return [*shown, ("runs", note)]
