"""What figures share: colours, the line of the truth, logarithmic axes, and how they are saved."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from hacontrol_agents.checkpoint import publish
from hacontrol_envs.errors import ParameterError

COLOURS = ("#0b6e8f", "#d1691e", "#5b8c2a", "#8a4fa3", "#b3261e", "#7a6a00")
TRUTH: dict[str, Any] = {"color": "black", "linestyle": "--", "linewidth": 1.2, "label": "optimum", "zorder": 5}


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> Path:
    """Write a figure; the suffix decides the format.

    Raises:
        ParameterError: matplotlib does not know the format, or the file cannot be written.
    """
    target = Path(path)
    known = figure.canvas.get_supported_filetypes()
    if target.suffix.lstrip(".") not in known:
        raise ParameterError(f"a figure is saved as one of {', '.join(sorted(known))}, got {target.name!r}")
    drawn = io.BytesIO()
    figure.savefig(drawn, format=target.suffix.lstrip("."))
    try:
        publish(target, drawn.getvalue())
    except OSError as error:
        raise ParameterError(f"cannot write {str(target)!r}: {error.strerror or error}") from error
    return target


def make_log(axes: Axes, name: str) -> None:
    """Make the axis "x" or "y" logarithmic, labelled at 1, 2 and 5 times powers of ten: a box may span little more."""
    axes.set(**{f"{name}scale": "log"})
    axis = getattr(axes, f"{name}axis")
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter("")
