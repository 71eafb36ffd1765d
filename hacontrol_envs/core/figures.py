"""What the package's figures have in common; matplotlib is imported when one is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hacontrol_envs.arrays import Floats
from hacontrol_envs.errors import ParameterError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NORMAL_95 = 1.96
"""Standard errors on each side of the mean in a 95 % interval."""


def panels(columns: int, width: float = 4.6, rows: int = 1) -> tuple[Any, Any]:
    """Make a matplotlib Figure with axes side by side, and an array of these axes, row by row.

    Args:
        columns: axes in each row.
        width: width of each axes, inches.
        rows: number of rows.

    Raises:
        ParameterError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ParameterError("a figure needs matplotlib: pip install matplotlib") from error
    figure = Figure(figsize=(width * columns, 3.3 * rows), layout="constrained", dpi=150)
    found = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in found:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25, linewidth=0.6)
    return figure, found


def draw_response(axes: Any, time: Floats, path: Floats, colour: str, error: Floats | None = None) -> None:
    """Draw a response around a line at zero, with intervals of 95 % where its standard error is not zero.

    Args:
        axes: the matplotlib Axes to draw on.
        time: dates, (T + 1,).
        path: the response at these dates, (T + 1,).
        colour: colour of the line and of the intervals.
        error: standard errors of the response, (T + 1,); None draws no intervals.
    """
    axes.axhline(0.0, color="black", linewidth=0.8)
    if error is not None and np.any(error > 0):
        axes.fill_between(
            time, path - NORMAL_95 * error, path + NORMAL_95 * error, color=colour, alpha=0.3, linewidth=0
        )
    axes.plot(time, path, color=colour, linewidth=2)


def filled(count: int) -> tuple[Figure, list[Axes]]:
    """Make a matplotlib Figure with `count` axes, at most three in a row and rows as even as can be, and list the axes.

    Raises:
        ParameterError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ParameterError("a figure needs matplotlib: pip install matplotlib") from error
    rows = -(-count // 3)
    each = [count // rows + (row < count % rows) for row in range(rows)]
    figure = Figure(figsize=(4.6 * each[0], 3.3 * rows), layout="constrained", dpi=150)
    grid = figure.add_gridspec(rows, 6)
    found = []
    for row, columns in enumerate(each):
        wide = 6 // columns
        found += [figure.add_subplot(grid[row, wide * i : wide * (i + 1)]) for i in range(columns)]
    for axes in found:
        axes.spines[["top", "right"]].set_visible(False)
    return figure, found
