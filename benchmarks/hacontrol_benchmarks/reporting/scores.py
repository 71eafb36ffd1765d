"""From result files to ranked tables: one `Board` per problem, agents ranked by their distance from the optimum."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from hacontrol_benchmarks.judging.equilibrium_metrics import EQUILIBRIUM_METRICS
from hacontrol_benchmarks.judging.population_metrics import POPULATION_METRICS
from hacontrol_benchmarks.records.results import Result, metric
from hacontrol_benchmarks.reporting.statistics import Interval, stratified_bootstrap
from hacontrol_envs.arrays import Floats

FLOOR = 1e-16
"""Losses below are rounding, and count as zero."""
HEADLINES = ("price_error", "path_error", "value_loss", "policy_error_law", "policy_error_box")
"""Agents are ranked by the first of these that their problem has."""


@dataclass(frozen=True)
class Column:
    """A column of the table beside the headline."""

    title: str
    read: Callable[[Result], float | None]
    meaning: str
    style: str = "small"
    """"small" for numbers whose order of magnitude matters, "plain" for others, "count" and "seconds"."""


def reader(name: str, key: str | None = None) -> Callable[[Result], float | None]:
    """Reads a metric, or one entry of it, from a result; None where it does not apply."""

    def read(result: Result) -> float | None:
        return metric(result, name, key)

    return read


def estimated(name: str) -> Callable[[Result], float | None]:
    """Reads a metric that no policy makes negative; where its Monte Carlo estimate is, its standard error instead."""
    estimate, error = reader(name), reader(f"{name}_error")

    def read(result: Result) -> float | None:
        found = estimate(result)
        return error(result) or 0.0 if found is not None and found < 0 else found

    return read


COLUMNS = (
    Column(
        "policy error, law",
        reader("policy_error_law"),
        "Relative L2 distance of the action (its worst component) from the continuous-time optimum, at states that the "
        "optimum visits.",
    ),
    Column("policy error, box", reader("policy_error_box"), "The same, uniformly over the problem's whole state box."),
    Column(
        "value error, law",
        reader("value_error_law"),
        "Relative L2 distance of the learnt value function from the true one; empty for agents that learn none.",
    ),
    Column(
        "residual, 95 %",
        reader("residual_law", "95%"),
        "95 % quantile of the Hamilton-Jacobi-Bellman residual of the agent's own value and policy, relative to the "
        "reward; empty without derivatives of a value. A small residual alone proves nothing.",
    ),
    Column("seconds", lambda result: result.times.learning, "Wall time of learning on the machine below.", "seconds"),
    Column(
        "evaluations",
        lambda result: result.evaluations,
        "State-action points at which learning evaluated the problem or stepped the environment.",
        "count",
    ),
)
EQUILIBRIUM_COLUMNS = (
    *(
        Column(title, reader(name), EQUILIBRIUM_METRICS[name])
        for title, name in (
            ("output error", "output_error"),
            ("policy error, law", "policy_error_law"),
            ("value error, law", "value_error_law"),
            ("density error, L1", "density_error"),
            ("mass error", "mass_error"),
        )
    ),
    *COLUMNS[-2:],
)
"""Of boards whose agents look for an equilibrium."""
POPULATION_COLUMNS = (
    *(
        Column(title, reader(name), POPULATION_METRICS[name], style)
        for title, name, style in (
            ("path error, max", "path_error_max", "small"),
            ("Euler, mean", "euler_mean", "plain"),
            ("Euler, 99.9 %", "euler_high", "plain"),
            ("Euler, max", "euler_max", "plain"),
            ("Den Haan", "den_haan", "small"),
            ("welfare gain", "welfare_gain", "small"),
            ("capital", "capital", "plain"),
        )
    ),
    *COLUMNS[-2:],
)
"""Of boards whose agents are households among many."""
HEADLINE_MEANING = {
    "path_error": POPULATION_METRICS["path_error"],
    "price_error": EQUILIBRIUM_METRICS["price_error"],
    "value_loss": "What the policy loses against the optimum of the same sampled-data problem. Merton: the share of "
    "initial wealth that it wastes (certainty equivalent). Other problems: the relative loss of value. 0 is optimal, "
    "and an estimate below 0 counts as its standard error; an agent that plays the continuous-time optimum still loses "
    "what a finite step costs.",
    "policy_error_law": COLUMNS[0].meaning,
    "policy_error_box": COLUMNS[1].meaning,
}


@dataclass(frozen=True)
class Row:
    """An agent on a problem: all its seeds."""

    agent: str
    rank: int
    """From 1; 0 for an agent that is not ranked, since all its runs failed."""
    runs: int
    failures: tuple[str, ...]
    """Messages of the runs that failed."""
    loss: Interval | None
    """Interquartile mean of the headline's logarithm over seeds, and its 95 % interval. None if all failed."""
    cells: tuple[float | None, ...]
    """Median over seeds of each of the board's columns."""
    converged: tuple[int, int] = (0, 0)
    """Runs whose learner's own rule of having learnt was met, and runs whose learner has such a rule."""

    @property
    def verdict(self) -> str:
        """Beside the agent's name, where not all runs met their learner's rule: how many of those that have one did."""
        met, judged = self.converged
        return f" ({met} of {judged} converged)" if met < judged else ""


@dataclass(frozen=True)
class Board:
    """A problem and its ranked agents."""

    problem: str
    setting: str
    headline: str
    rows: tuple[Row, ...]

    @property
    def columns(self) -> tuple[Column, ...]:
        """What is shown beside the headline."""
        return _columns(self.headline)


def _columns(headline: str) -> tuple[Column, ...]:
    return {"price_error": EQUILIBRIUM_COLUMNS, "path_error": POPULATION_COLUMNS}.get(headline, COLUMNS)


Grouped: TypeAlias = "dict[str, list[Result]]"


def boards(results: Iterable[Result]) -> list[Board]:
    """A ranked table per problem, in the order in which problems appear."""
    return [_board(problem, found) for problem, found in grouped(results, lambda result: result.task.problem).items()]


def grouped(results: Iterable[Result], key: Callable[[Result], str]) -> Grouped:
    """Results by key, keys in the order in which they appear."""
    groups: Grouped = {}
    for result in results:
        groups.setdefault(key(result), []).append(result)
    return groups


def _board(problem: str, results: list[Result]) -> Board:
    headline = next(
        (name for name in HEADLINES if any(reader(name)(result) is not None for result in results)), HEADLINES[0]
    )
    groups = grouped(results, lambda result: result.task.label)
    rows = sorted((_row(agent, found, headline) for agent, found in groups.items()), key=_order)
    ranked = tuple(replace(row, rank=place if row.loss else 0) for place, row in enumerate(rows, start=1))
    return Board(problem, _setting(results), headline, ranked)


def _row(agent: str, results: list[Result], headline: str) -> Row:
    good = [result for result in results if result.status == "ok"]
    failures = tuple(f"seed {result.task.seed}: {result.message}" for result in results if result.status == "failed")
    return Row(
        agent,
        0,
        len(results),
        failures,
        spread(results, headline),
        tuple(middle(column.read(result) for result in good) for column in _columns(headline)),
        _converged(good),
    )


def _converged(results: list[Result]) -> tuple[int, int]:
    """How many runs met their learner's own rule, and how many have one; results of old say nothing of it."""
    known = [said for said in map(reader("converged"), results) if said is not None]
    return sum(said > 0 for said in known), len(known)


def _order(row: Row) -> tuple[bool, float, str]:
    """Agents without failures first, then by loss."""
    return bool(row.failures), row.loss.estimate if row.loss else math.inf, row.agent


def spread(results: Iterable[Result], metric: str) -> Interval | None:
    """Interquartile mean of a metric's logarithm over runs that ended well, and its 95 % interval, as numbers again.

    None if no run has the metric. An estimate below 0 counts as its standard error.
    """
    logs = _logs(results, metric)
    return _exponentiated(stratified_bootstrap(logs[:, None])) if len(logs) else None


def _logs(results: Iterable[Result], headline: str) -> Floats:
    found = [estimated(headline)(result) for result in results if result.status == "ok"]
    return np.log10([min(max(loss, FLOOR), 1e300) for loss in found if loss is not None])


def _exponentiated(interval: Interval) -> Interval:
    return Interval(*(0.0 if log <= math.log10(FLOOR) + 1e-9 else 10.0 ** min(log, 300.0) for log in interval))


def middle(values: Iterable[float | None]) -> float | None:
    """Median of those that are known; None if none is."""
    known = [value for value in values if value is not None]
    with np.errstate(over="ignore", invalid="ignore"):  # the mean of the middle two may be infinite
        return float(np.median(known)) if known else None


def _setting(results: list[Result]) -> str:
    """The environment in words: id, parameters that were given, step."""
    task = results[0].task
    given = [f"{name} = {value}" for name, value in {**task.parameters, **_step(results)}.items()]
    return f"{task.env}{' with ' if given else ''}{', '.join(given)}"


def _step(results: list[Result]) -> dict[str, Any]:
    return next(({"dt": result.dt} for result in results if result.dt is not None), {})
