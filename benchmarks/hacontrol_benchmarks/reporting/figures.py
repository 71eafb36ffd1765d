"""Helpers of figures: colours, the line of the truth, logarithmic axes, and saving."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator

from hacontrol_agents import Agent
from hacontrol_agents.core.files import publish
from hacontrol_envs.core.parameters import short
from hacontrol_envs.errors import ParameterError

COLOURS = ("#0b6e8f", "#d1691e", "#5b8c2a", "#8a4fa3", "#b3261e", "#7a6a00")
"""Colours of agents, in their order."""
TRUTH: dict[str, Any] = {"color": "black", "linestyle": "--", "linewidth": 1.2, "label": "optimum", "zorder": 5}
"""Style of the line of the truth."""


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> Path:
    """Write a figure in the format that the suffix of its file says, and return its path.

    Raises:
        ParameterError: matplotlib does not know the format, or the file cannot be written.
    """
    target, drawn = figure_path(path), io.BytesIO()
    figure.savefig(drawn, format=target.suffix.lstrip(".").lower())
    try:
        publish(target, drawn.getvalue())
    except OSError as error:
        raise ParameterError(f"cannot write {short(str(target))}: {error.strerror or error}") from error
    return target


def figure_path(path: str | os.PathLike[str]) -> Path:
    """Return the path if a figure can be written there; call it before the work that the figure shows.

    Raises:
        ParameterError: matplotlib does not know the format, there is no such folder, or nothing can be written there.
    """
    target, shown = Path(path), short(str(path))
    known = FigureCanvasBase.get_supported_filetypes()
    if target.suffix.lstrip(".").lower() not in known:
        raise ParameterError(f"a figure is saved as one of {', '.join(sorted(known))}, got {short(target.name)}")
    if os.path.isdir(target):  # unlike Path.is_dir false, too, where a name is too long
        raise ParameterError(f"a figure is a file, but {shown} is a folder: name a file in it")
    if not os.path.isdir(target.parent):
        raise ParameterError(f"cannot write {shown}: there is no folder {short(str(target.parent))}; make it first")
    new = not os.path.exists(target)
    if not new and not os.path.isfile(target):
        raise ParameterError(f"cannot write {shown}: it is not a file")
    try:
        with open(target, "ab"):  # finds read-only folders, names that are too long and zero bytes; changes nothing
            pass
        if new:
            target.unlink()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "a name must not hold a NUL"
        raise ParameterError(f"cannot write {shown}: {why}") from error
    return target


def name_lines(figure: Figure, names: Iterable[str], truth: str) -> None:
    """Add a legend below all panels.

    Args:
        figure: the figure.
        names: names of the agents, in the order of their colours.
        truth: name of the line of the truth; "" where there is none.
    """
    handles = [Line2D([], [], **{**TRUTH, "label": truth})] if truth else []
    handles += [Line2D([], [], color=colour, linewidth=2, label=name) for name, colour in colours(names).items()]
    columns = min(len(handles), 6)
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False, fontsize="small")


def colours(names: Iterable[str]) -> dict[str, str]:
    """Return a colour for each agent, by name."""
    return {name: COLOURS[place % len(COLOURS)] for place, name in enumerate(names)}


def draw_learning(agents: Mapping[str, Agent], axes: Axes) -> None:
    """Draw the distance of the policy from the optimum during learning, or a figure that an agent reports of itself."""
    found = {name: learning_curve(agent) for name, agent in agents.items()}
    for name, (_, points) in found.items():
        if points:
            axes.plot(*zip(*points, strict=True), color=colours(agents)[name], linewidth=1.6, label=name)
    drawn = np.concatenate([np.asarray(line.get_ydata()) for line in axes.lines])
    axes.set_xscale("log")
    axes.xaxis.set_minor_formatter("")
    axes.set_yscale("log" if np.all(drawn > 0) else "linear")
    what = ", ".join(dict.fromkeys(key for key, points in found.values() if points))
    axes.set(xlabel="state-action points", ylabel=what, title="learning curve")


def learning_curve(agent: Agent) -> tuple[str, list[tuple[float, float]]]:
    """Return the column of an agent's history that is drawn, and its points; none where there is nothing to draw."""
    history = agent.history
    names = [name for name in (history[-1] if history else {}) if name not in ("evaluations", "seconds")]
    key = next((name for name in ("policy_error", "residual", *names) if name in names), "")
    return key, [(row["evaluations"], row[key]) for row in history if row.get(key) is not None]


def make_log(axes: Axes, name: str) -> None:
    """Make the axis "x" or "y" logarithmic, labelled at 1, 2 and 5 times powers of ten: a box may span little more."""
    axes.set(**{f"{name}scale": "log"})
    axis = getattr(axes, f"{name}axis")
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter("")
