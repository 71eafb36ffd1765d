"""The time-step study: how each agent's errors on one problem change as the environment's step dt becomes smaller."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from hacontrol_agents.core.files import publish
from hacontrol_benchmarks.judging.judges import CONTROL
from hacontrol_benchmarks.records.results import Result
from hacontrol_benchmarks.records.tasks import time_step
from hacontrol_benchmarks.records.text import markdown_text, printable, terminal
from hacontrol_benchmarks.reporting.report import suite_results
from hacontrol_benchmarks.reporting.scores import FLOOR, estimated, grouped, middle, spread
from hacontrol_benchmarks.reporting.statistics import Interval
from hacontrol_benchmarks.reporting.tables import interval, markdown_table, show
from hacontrol_envs.errors import CheckpointError

FILE = "time_step.md"
"""Name of the Markdown file in the folder of results."""
STUDIED = ("policy_error_sampled", "value_loss")
"""The metrics that are shown, each in its own table."""
LEGEND = (
    "Each cell is the interquartile mean of the metric's logarithm over seeds, with its 95 % interval, both as numbers "
    'again; "(n of m)" says that only n of m runs did not fail. "factor" is the largest median over seeds, across dt, '
    "over the smallest; it is empty where no run of some dt has a number, or where all medians are 0. "
    '"worst" is the worst run, of all seeds and steps.'
)


@dataclass(frozen=True)
class Cell:
    """The runs of an agent at one step, with all seeds."""

    interval: Interval | None
    """Interquartile mean of the metric and its 95 % interval; None if no run has it."""
    median: float | None
    """Median of the metric over runs; None if no run has it."""
    worst: float | None
    """Largest value of the metric; None if no run has it."""
    runs: int
    """Number of runs, failed ones included."""
    failed: int
    """Number of failed runs."""

    @property
    def text(self) -> str:
        """The interval as a table shows it, with the number of runs where some failed."""
        shown = interval(self.interval) if self.interval or self.failed else "–"
        return f"{shown} ({self.runs - self.failed} of {self.runs})" if self.failed else shown


@dataclass(frozen=True)
class Row:
    """An agent at every step of a study."""

    agent: str
    """Name of the agent."""
    cells: tuple[Cell, ...]
    """A cell for each step of the study."""

    @property
    def factor(self) -> float | None:
        """Ratio of the largest to the smallest median; None where a step has no median or all medians are 0."""
        medians = [math.nan if cell.median is None else cell.median for cell in self.cells]
        low, high = min(medians), max(medians)
        if any(map(math.isnan, medians)) or high <= FLOOR or low == math.inf:
            return None
        return high / low if low > FLOOR else math.inf

    @property
    def worst(self) -> float | None:
        """Largest value of all runs; None if no run has a number."""
        return max((cell.worst for cell in self.cells if cell.worst is not None), default=None)


@dataclass(frozen=True)
class Study:
    """Results on one problem at several steps."""

    setting: str
    """The environment in words: id, parameters that were given, but for dt."""
    steps: tuple[float, ...]
    """Time steps, from large to small."""
    rows: dict[str, tuple[Row, ...]]
    """Rows by metric of STUDIED; agents in the order in which they appear."""
    failures: tuple[str, ...]
    """A line for each run that failed."""


def studies(results: Iterable[Result]) -> list[Study]:
    """Return a study of each problem that has results at two steps or more.

    Problems are the same if their parameters are, apart from dt, and if so are their episodes as lengths of time.
    """
    timed = [result for result in results if time_step(result.task.env, result.task.parameters) is not None]
    found = (_study(setting, group) for setting, group in grouped(timed, _setting).items())
    return [study for study in found if len(study.steps) > 1]


def write_studies(folder: str | os.PathLike[str], console: Console) -> list[Study]:
    """Print the tables of a folder of results and write them to its FILE.

    Raises:
        CheckpointError: there are no results, none of the same problem at two steps, or one is torn or altered.
    """
    suite, results, notes = suite_results(folder)
    found = studies(results)
    if not found:
        raise CheckpointError(f"no problem in {os.fspath(folder)!r} has results at two time steps, so none is studied")
    title = suite.name if suite else Path(folder).resolve().name
    publish(Path(folder) / FILE, markdown(found, title, notes).encode())
    print_studies(found, notes, console)
    return found


def print_studies(found: list[Study], notes: list[str], console: Console) -> None:
    """Print a table for each study and metric on the terminal.

    Args:
        found: the studies.
        notes: lines on results that are missing or excluded.
        console: where to print.
    """
    for study in found:
        for metric, rows in study.rows.items():
            title = f"{terminal(study.setting)}   [dim]{metric.replace('_', ' ')}[/]"
            table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE)
            for place, name in enumerate(header(study)):
                table.add_column(name, justify="right" if place else "left", no_wrap=not place, overflow="fold")
            for row in rows:
                table.add_row(
                    *map(terminal, texts(row)), style="red" if any(cell.failed for cell in row.cells) else None
                )
            console.print(table)
        for line in study.failures:
            console.print(printable(f"failed: {line}"), style="red", markup=False, highlight=False)
    for note in notes:
        console.print(note, markup=False, highlight=False)


def markdown(found: list[Study], title: str, notes: list[str]) -> str:
    """Return the studies as Markdown.

    Args:
        found: the studies.
        title: name of the suite or folder.
        notes: lines on results that are missing or excluded.
    """
    lines = [f"# hacontrol time-step study: {markdown_text(title)}", "", LEGEND, ""]
    for study in found:
        lines += [f"## {markdown_text(study.setting)}", ""]
        for metric, rows in study.rows.items():
            lines += [f"### {metric.replace('_', ' ')}", "", CONTROL.meaning(metric), ""]
            lines += [*markdown_table(header(study), [texts(row) for row in rows]), ""]
        lines += [f"* failed: {markdown_text(line)}" for line in study.failures] + [""] * bool(study.failures)
    return "\n".join(lines + [f"* {note}" for note in notes]).rstrip() + "\n"


def header(study: Study) -> list[str]:
    """Return the titles of a study's columns."""
    return ["agent", *(f"dt = {step:g}" for step in study.steps), "factor", "worst"]


def texts(row: Row) -> list[str]:
    """Return a row as text."""
    return [row.agent, *(cell.text for cell in row.cells), show(row.factor), show(row.worst)]


def _setting(result: Result) -> str:
    """Describe the environment in words, but for dt."""
    given = dict(result.task.parameters)
    given.pop("dt", None)
    if "episode_steps" in given:
        given["episode time"] = f"{given.pop('episode_steps') * _dt(result):g}"
    words = ", ".join(f"{name} = {value}" for name, value in given.items())
    return f"{result.task.env}{' with ' if words else ''}{words}"


def _dt(result: Result) -> float:
    dt = time_step(result.task.env, result.task.parameters)
    assert dt is not None  # `studies` has left out what has none
    return dt


def _study(setting: str, results: list[Result]) -> Study:
    steps = tuple(sorted({_dt(result) for result in results}, reverse=True))
    agents = grouped(results, lambda result: result.task.label)
    failed = [result for result in results if result.status == "failed"]
    return Study(
        setting,
        steps,
        {metric: tuple(_row(agent, runs, steps, metric) for agent, runs in agents.items()) for metric in STUDIED},
        tuple(
            f"{result.task.label}, dt = {_dt(result):g}, seed {result.task.seed}: {' '.join(result.message.split())}"
            for result in failed
        ),
    )


def _row(agent: str, results: list[Result], steps: tuple[float, ...], metric: str) -> Row:
    return Row(agent, tuple(_cell([one for one in results if _dt(one) == step], metric) for step in steps))


def _cell(results: list[Result], metric: str) -> Cell:
    good = [result for result in results if result.status == "ok"]
    found = [number for number in map(estimated(metric), good) if number is not None]
    return Cell(spread(good, metric), middle(found), max(found, default=None), len(results), len(results) - len(good))
