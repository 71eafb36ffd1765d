"""The report: a terminal table, a Markdown file and one self-contained page, all from the result files of a folder."""

from __future__ import annotations

import os
from pathlib import Path

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from hacontrol_agents.core.files import publish as replace
from hacontrol_benchmarks.records.results import Result, read_results
from hacontrol_benchmarks.records.suites import Suite, load_suite
from hacontrol_benchmarks.records.text import markdown_text, printable, terminal
from hacontrol_benchmarks.reporting.page import render_page
from hacontrol_benchmarks.reporting.scores import boards
from hacontrol_benchmarks.reporting.tables import Report, cells, column_meanings, header, markdown_table, remarks
from hacontrol_envs.errors import CheckpointError

SUITE_FILE = "suite.toml"
"""Name of the copy of the suite that the runner leaves in the folder, so that a report can say what was run."""

WIDE = 120
"""Width of a terminal at which all columns are shown. [characters]."""
NARROW_LEAVES_OUT = ("policy error, box", "value error, visited", "residual, 95 %", "evaluations")
"""Columns that a narrower terminal does not show."""


def make_report(folder: str | os.PathLike[str]) -> Report:
    """Read a folder of results.

    Raises:
        CheckpointError: there are none, or one is torn or altered.
    """
    suite, results, notes = suite_results(folder)
    return Report(
        title=suite.name if suite else Path(folder).resolve().name or "results",
        description=suite.description if suite else "",
        command=f"hacontrol run {suite.name if suite else 'SUITE'}",
        boards=boards(results),
        notes=notes,
        machines=sorted({str(result.machine) for result in results}),
        versions=sorted({str(result.code) for result in results}),
        finished=max(result.times.started for result in results),
    )


def suite_results(folder: str | os.PathLike[str]) -> tuple[Suite | None, list[Result], list[str]]:
    """Return the suite of a folder, if it has one, the results of its tasks, and notes on missing or excluded ones.

    Raises:
        CheckpointError: there are none, or one is torn or altered.
    """
    file = Path(folder) / SUITE_FILE
    suite = load_suite(str(file)) if file.is_file() else None
    return suite, *_of_suite(read_results(folder), suite)


def write_report(folder: str | os.PathLike[str], console: Console | None = None) -> Path:
    """Print the tables, write `report.md` and `index.html` into the folder, and return the path of the page."""
    report = make_report(folder)
    print_tables(report, console or Console())
    page = Path(folder) / "index.html"
    replace(Path(folder) / "report.md", markdown(report).encode())  # and where a link is, the link is replaced
    replace(page, render_page(report).encode())
    return page


def print_tables(report: Report, console: Console) -> None:
    """Print one table per problem on the terminal; a narrow one gets the columns that matter most."""
    for board in report.boards:
        titles = header(board)
        shown = [place for place, name in enumerate(titles) if console.width >= WIDE or name not in NARROW_LEAVES_OUT]
        table = Table(
            title=f"{terminal(board.title)}   [dim]({terminal(board.setting)})[/]",
            title_justify="left",
            title_style="bold",
            box=SIMPLE,
        )
        for place in shown:
            table.add_column(
                titles[place], justify="left" if place == 1 else "right", no_wrap=place < 3, vertical="bottom"
            )
        for row in board.rows:
            text = cells(row, board)
            table.add_row(*(terminal(text[place]) for place in shown), style=None if row.loss else "red")
        console.print(table)
        for row in board.rows:
            for remark in remarks(row):
                console.print(printable(remark), style="red", markup=False, highlight=False)


def markdown(report: Report) -> str:
    """Return the report as Markdown."""
    lines = [f"# hacontrol leaderboard: {markdown_text(report.title)}", "", markdown_text(report.description), ""]
    for board in report.boards:
        setting = markdown_text(board.setting)
        lines += [f"## {markdown_text(board.title)}", "", f"{setting}. {board.meaning}", ""]
        lines += markdown_table(header(board), [cells(row, board) for row in board.rows])
        lines += [f"* {markdown_text(remark)}" for row in board.rows for remark in remarks(row)]
        lines += [""]
    lines += ["## What the columns mean", ""] + [
        f"* **{title}**: {meaning}" for title, meaning in column_meanings(report)
    ]
    lines += ["", "## How it was run", "", f"    {printable(report.command)}", ""]
    about = map(markdown_text, (*report.notes, *report.versions, *report.machines))
    return "\n".join(lines + [f"* {line}" for line in about]) + "\n"


def _of_suite(results: list[Result], suite: Suite | None) -> tuple[list[Result], list[str]]:
    """Return the results of the suite's own tasks in its order, with notes on those that are missing and excluded."""
    if suite is None:
        return results, []
    wanted, found = [task.id for task in suite.tasks()], {result.task.id: result for result in results}
    kept = [found[id] for id in wanted if id in found]
    counts = {"tasks of the suite have no result yet": len(wanted) - len(kept)}
    counts["results of tasks that the suite does not have were left out"] = len(results) - len(kept)
    if not kept:
        raise CheckpointError(f"none of the {len(results)} results is of a task of suite {suite.name!r}; run it first")
    return kept, [f"{count} {what}" for what, count in counts.items() if count]
