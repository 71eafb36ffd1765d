"""Committed certificates of problems whose optimum is not known, against finite differences.

The value is a mean over the certificate's own initial states, found of order 1 on three uniform grids, each twice as
fine as the one before, and extrapolated (Richardson, 1911); the error is the distance to the extrapolation of one order
less. Grids take open edges for reflecting, and so have a wider box than learners. A certificate is right where it holds
the value up to the grid's error: `lower <= value + error` and `value - error <= upper`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from hacontrol_benchmarks.measure import measured
from hacontrol_benchmarks.records.results import Result, read_results
from hacontrol_envs import ControlProblem, Domain
from hacontrol_envs.arrays import Floats
from hacontrol_envs.solvers.grid import Grid
from hacontrol_envs.solvers.hjb import GridValue, extrapolate, solve

FOLDER = Path("benchmarks", "results", "certified")
NODES = {1: (201, 401, 801), 2: (61, 121, 241)}
"""Nodes along each state, by the number of states."""
WIDER = 1.5
"""Width of a grid's box, relative to that of the problem."""
STARTS = 32
"""Initial states over which certificates take means."""


def grid_value(problem: ControlProblem, starts: Floats) -> tuple[float, float]:
    """Return the mean value over states by finite differences, and its estimated error.

    Args:
        problem: a stationary problem with one or two states.
        starts: states, (S, n).
    """
    wide = on_wider_box(problem)
    found: list[GridValue] = []
    for count in NODES[problem.state.dimension]:
        grid = Grid(wide, (np.linspace(-1.0, 1.0, count),) * problem.state.dimension)
        start = found[-1].value(0.0, grid.x) if found else None
        found.append(GridValue(grid, solve(grid, start)[0]))
    value, error = extrapolate([one.value(0.0, starts).mean() for one in found])
    return float(value), float(error)


def on_wider_box(problem: ControlProblem) -> ControlProblem:
    """Return a problem that is posed in a box `WIDER` times as wide."""
    box, half = problem.state, WIDER * problem.state.half_width
    state = Domain(
        box.names,
        box.from_coordinates(box.center - half),
        box.from_coordinates(box.center + half),
        box.scales,
        box.edges,
    )
    kind: Any = type(type(problem).__name__, (type(problem),), {"state": state})
    wide: ControlProblem = kind(**problem.parameters)
    return wide


def measure(folder: Path = FOLDER) -> list[measured.Row]:
    """Return a row for every result in a folder that has a certificate."""
    known: dict[str, tuple[float, float]] = {}
    rows = []
    for result in read_results(folder):
        bounds: Any = result.metrics.get("certified_bounds")
        if bounds is not None:
            title = result.task.title
            if title not in known:
                known[title] = grid_value(*_posed(result))
            rows.append(_row(result, bounds, *known[title]))
    return rows


def _posed(result: Result) -> tuple[ControlProblem, Floats]:
    """The problem of a result, and the initial states of its certificate."""
    problem: ControlProblem = result.task.make_env().unwrapped.problem
    return problem, problem.initial_state(np.random.default_rng(result.task.evaluation.seed), STARTS)


def _row(result: Result, bounds: dict[str, Any], value: float, error: float) -> measured.Row:
    lower, upper = float(bounds["lower"]), float(bounds["upper"])
    return {
        "problem": result.task.title,
        "agent": result.task.label,
        "seed": result.task.seed,
        "lower": bounds["lower"],
        "upper": bounds["upper"],
        "gap": result.metrics["certified_gap"],
        "value": value,
        "error": error,
        "met": lower <= value + error and value - error <= upper,
    }


def main(folder: Path = FOLDER, json: Path | None = None) -> int:
    """Compare, print a table, and return 0 if every certificate holds the value.

    Args:
        folder: folder of results.
        json: file to write the rows to.
    """
    columns = {
        "problem": "{problem}",
        "agent": "{agent}",
        "seed": "{seed}",
        "lower": "{lower}",
        "value": "{value:.8f}",
        "error": "{error:.1e}",
        "upper": "{upper}",
    }
    settings = {"nodes": {str(n): list(counts) for n, counts in NODES.items()}, "wider": WIDER, "starts": STARTS}
    return measured.report("measure.certificates", measure(folder), columns, settings, json)


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
