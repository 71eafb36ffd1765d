"""Ranked tables from result files: one `Board` per problem, agents ranked by the headline of its judge."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from hacontrol_benchmarks.judging.judges import judge_of_results
from hacontrol_benchmarks.records.results import Result, metric
from hacontrol_benchmarks.reporting.statistics import Interval, stratified_bootstrap
from hacontrol_envs.arrays import Floats
from hacontrol_envs.core.judge import Judge

FLOOR = 1e-16
"""Smallest loss; smaller ones are rounding, and count as zero."""


@dataclass(frozen=True)
class Column:
    """A column of the table beside the headline."""

    title: str
    """Title of the column."""
    read: Callable[[Result], float | None]
    """Function that reads the number from a result; None where it does not apply."""
    meaning: str
    """What the column shows, in a sentence."""
    style: str = "small"
    """Format of the number: "small" where the order of magnitude matters, "plain", "count" or "seconds"."""


def reader(name: str, key: str | None = None) -> Callable[[Result], float | None]:
    """Return a function that reads a metric, or one entry of it, from a result; None where it does not apply."""

    def read(result: Result) -> float | None:
        return metric(result, name, key)

    return read


def estimated(name: str) -> Callable[[Result], float | None]:
    """Return a function that reads a metric that is not negative; for a negative estimate it is the standard error."""
    estimate, error = reader(name), reader(f"{name}_error")

    def read(result: Result) -> float | None:
        found = estimate(result)
        return error(result) or 0.0 if found is not None and found < 0 else found

    return read


COSTS = (
    Column("seconds", lambda result: result.times.learning, "Wall time of learning on the machine below.", "seconds"),
    Column(
        "evaluations",
        lambda result: result.evaluations,
        "State-action points at which learning evaluated the problem or stepped the environment.",
        "count",
    ),
)
"""Columns of every board, which show what learning cost."""


def columns_of(judge: Judge, known: Collection[str]) -> tuple[Column, ...]:
    """Make the columns of a board: those of the judge's metrics that have one and are known, and what learning cost."""
    own = [metric for metric in judge.metrics if metric.column and metric.name in known]
    shown = (Column(one.column, reader(one.name, one.key or None), one.meaning, one.style) for one in own)
    return *shown, *COSTS


@dataclass(frozen=True)
class Row:
    """A row of a board: the runs of an agent on a problem, with all seeds."""

    agent: str
    """Name of the agent."""
    rank: int
    """Rank, from 1; 0 for an agent that is not ranked, since all its runs failed."""
    runs: int
    """Number of runs, failed ones included."""
    failures: tuple[str, ...]
    """Messages of the runs that failed."""
    loss: Interval | None
    """Interquartile mean of the headline's logarithm over seeds, and its 95 % interval. None if all failed."""
    cells: tuple[float | None, ...]
    """Median over seeds of each of the board's columns; None where no run has it."""
    converged: tuple[int, int] = (0, 0)
    """Number of runs that met their learner's own rule of convergence, and number of runs whose learner has such a
    rule."""
    doubts: tuple[str, ...] = ()
    """Reasons of the runs whose learner can certify what it has learnt, and did not."""
    certified: tuple[int, int] = (0, 0)
    """Number of runs whose policy is certified, and number of runs that were to be."""

    @property
    def verdict(self) -> str:
        """Note on how many runs met their learner's own rule of convergence, and are certified; empty where all are."""
        counts = {"converged": self.converged, "certified": self.certified}
        said = [f"{met} of {judged} {what}" for what, (met, judged) in counts.items() if met < judged]
        return f" ({', '.join(said)})" if said else ""


@dataclass(frozen=True)
class Board:
    """A problem and its ranked agents."""

    title: str
    """Title of the environment or economy, as its tasks have it."""
    setting: str
    """The environment in words: id, parameters that were given, step."""
    headline: str
    """Name of the metric by which agents are ranked."""
    meaning: str
    """Meaning of the headline, in a sentence."""
    columns: tuple[Column, ...]
    """Columns beside the headline."""
    rows: tuple[Row, ...]
    """Rows in the order of their rank."""


Grouped: TypeAlias = "dict[str, list[Result]]"
"""Results by the value of a key."""


def boards(results: Iterable[Result]) -> list[Board]:
    """Return a ranked table per problem, in the order in which problems appear."""
    return [_board(title, found) for title, found in grouped(results, lambda result: result.task.title).items()]


def grouped(results: Iterable[Result], key: Callable[[Result], str]) -> Grouped:
    """Group results by a key, keys in the order in which they appear."""
    groups: Grouped = {}
    for result in results:
        groups.setdefault(key(result), []).append(result)
    return groups


def _board(title: str, results: list[Result]) -> Board:
    judge = judge_of_results([results[0].task.subject], [result.metrics for result in results])
    known = {name for result in results for name, score in result.metrics.items() if score is not None}
    headline = judge.headline(known) or judge.headlines[0]
    columns, groups = columns_of(judge, known - {headline}), grouped(results, lambda result: result.task.label)
    rows = sorted((_row(agent, found, headline, columns) for agent, found in groups.items()), key=_order)
    ranked = tuple(replace(row, rank=place if row.loss else 0) for place, row in enumerate(rows, start=1))
    return Board(title, _setting(results), headline, judge.meaning(headline), columns, ranked)


def _row(agent: str, results: list[Result], headline: str, columns: tuple[Column, ...]) -> Row:
    good = [result for result in results if result.status == "ok"]
    failures = tuple(f"seed {result.task.seed}: {result.message}" for result in results if result.status == "failed")
    return Row(
        agent,
        0,
        len(results),
        failures,
        spread(results, headline),
        tuple(middle(column.read(result) for result in good) for column in columns),
        _met(good, "converged"),
        tuple(f"seed {result.task.seed}: {result.doubt}" for result in good if result.doubt),
        _met(good, "certified"),
    )


def _met(results: list[Result], name: str) -> tuple[int, int]:
    """Return how many runs met what a metric of 0 and 1 asks, and how many were asked; old results do not say."""
    known = [said for said in map(reader(name), results) if said is not None]
    return sum(said > 0 for said in known), len(known)


def _order(row: Row) -> tuple[bool, float, str]:
    """Return a key that sorts agents without failures first, then by loss."""
    return bool(row.failures), row.loss.estimate if row.loss else math.inf, row.agent


def spread(results: Iterable[Result], metric: str) -> Interval | None:
    """Return 10 to the power of the interquartile mean of a metric's log10 over runs, with its 95 % interval.

    Failed runs are left out; None if no run has the metric. An estimate below 0 counts as its standard error.
    """
    logs = _logs(results, metric)
    return _exponentiated(stratified_bootstrap(logs[:, None])) if len(logs) else None


def _logs(results: Iterable[Result], headline: str) -> Floats:
    found = [estimated(headline)(result) for result in results if result.status == "ok"]
    return np.log10([min(max(loss, FLOOR), 1e300) for loss in found if loss is not None])


def _exponentiated(interval: Interval) -> Interval:
    return Interval(*(0.0 if log <= math.log10(FLOOR) + 1e-9 else 10.0 ** min(log, 300.0) for log in interval))


def middle(values: Iterable[float | None]) -> float | None:
    """Return the median of the values that are not None; None if all are."""
    known = [value for value in values if value is not None]
    with np.errstate(over="ignore", invalid="ignore"):  # the mean of the middle two may be infinite
        return float(np.median(known)) if known else None


def _setting(results: list[Result]) -> str:
    """Describe the environment in words: id, parameters that were given, step."""
    task = results[0].task
    given = [f"{name} = {value}" for name, value in {**task.parameters, **_step(results)}.items()]
    return f"{task.env}{' with ' if given else ''}{', '.join(given)}"


def _step(results: list[Result]) -> dict[str, Any]:
    return next(({"dt": result.dt} for result in results if result.dt is not None), {})
