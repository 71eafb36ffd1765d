"""Errors against the time step in one figure: a column for each problem, a row for each metric."""

from __future__ import annotations

import math
from textwrap import fill

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hacontrol_benchmarks.reporting.figures import COLOURS, make_log
from hacontrol_benchmarks.reporting.scores import FLOOR
from hacontrol_benchmarks.reporting.tables import show
from hacontrol_benchmarks.reporting.time_step_study import STUDIED, Cell, Row, Study

MARKERS = "osD^Pv"
HUGE = 1e3
"""Largest value on an axis; larger ones, such as an infinite loss, are drawn at the edge, with their number."""
TITLES = {"policy_error_sampled": "policy error (sampled)", "value_loss": "value loss"}
"""Titles of axes, by metric."""


def time_step_figure(studies: list[Study]) -> Figure:
    """Draw agents' interquartile means over seeds against dt, with 95 % intervals as bands, on logarithmic axes.

    Zeros and values above HUGE are drawn at the edge, with their number; "n of m" stands where m - n runs failed.
    """
    figure = Figure(figsize=(max(4.4 * len(studies), 5.0), 3.6 * len(STUDIED)), layout="constrained", dpi=150)
    grid = figure.subplots(len(STUDIED), len(studies), squeeze=False, sharex="col")
    agents = list(dict.fromkeys(row.agent for study in studies for rows in study.rows.values() for row in rows))
    places = {agent: place for place, agent in enumerate(agents)}
    for axes_of_study, study in zip(grid.T, studies, strict=True):
        for axes, metric in zip(axes_of_study, STUDIED, strict=True):
            _draw(axes, study, metric, places)
        axes_of_study[0].set_title(fill(study.setting, 44), fontsize="medium")
        axes_of_study[-1].set_xlabel("time step dt")
        axes_of_study[-1].invert_xaxis()  # as in the tables
    for axes, metric in zip(grid[:, 0], STUDIED, strict=True):
        axes.set_ylabel(TITLES[metric])
    drawn = {line.get_label(): line for axes in grid.flat for line in axes.lines}
    columns = 3 * grid.shape[1]
    figure.legend([drawn[agent] for agent in agents], agents, loc="outside lower center", ncols=columns, frameon=False)
    return figure


def _draw(axes: Axes, study: Study, metric: str, places: dict[str, int]) -> None:
    rows = study.rows[metric]
    bottom, top = _limits(rows)
    axes.set(xscale="log", yscale="log", ylim=(bottom, top))
    if top / bottom < 100:
        make_log(axes, "y")
    axes.set_xticks(study.steps, [f"{step:g}" for step in study.steps])
    axes.set_xticks([], minor=True)
    axes.margins(x=0.12)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    for row in rows:
        place = places[row.agent]
        colour, marker = COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)]
        shown = np.array([cell.interval or (math.nan,) * 3 for cell in row.cells])
        estimate, low, high = np.clip(shown, bottom, top).T
        axes.fill_between(study.steps, low, high, color=colour, alpha=0.18, linewidth=0)
        (line,) = axes.plot(study.steps, estimate, color=colour, marker=marker, label=row.agent, clip_on=False)
        line.set(linewidth=1.6, linestyle="-" if place < len(COLOURS) else "--")
        for step, cell, y in zip(study.steps, row.cells, estimate, strict=True):
            remark = _remark(cell, bottom, top)
            if remark:
                failed = math.isnan(y)
                at, up = (step, top if failed else y), -12 * place if failed else 5  # all failed: one below the other
                axes.annotate(remark, at, (0, up), textcoords="offset points", ha="center", color=colour, fontsize=8)


def _remark(cell: Cell, bottom: float, top: float) -> str:
    """What a point alone does not say."""
    estimate = cell.interval.estimate if cell.interval else None
    beyond = estimate is not None and not bottom <= estimate <= top
    counts = f"{cell.runs - cell.failed} of {cell.runs}" if cell.failed else ""
    return ", ".join(part for part in (show(estimate) if beyond else "", counts) if part)


def _limits(rows: tuple[Row, ...]) -> tuple[float, float]:
    """Around all estimates, and their intervals as far as a factor of 30 beyond, that are neither zero nor HUGE."""
    found = [cell.interval for row in rows for cell in row.cells if cell.interval]
    middles = [each.estimate for each in found if FLOOR < each.estimate < HUGE] or [0.1, 1.0]
    low, high = min(middles), max(middles)
    ends = [end for each in found for end in each if low / 30 <= end <= high * 30]
    return min([low, *ends]) / 2, max([high, *ends]) * 2
