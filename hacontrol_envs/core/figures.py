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
"""Standard errors on each side of a mean in an interval of 95 %."""


def panels(columns: int, width: float = 4.6, rows: int = 1) -> tuple[Any, Any]:
    """A matplotlib Figure with so many axes side by side in each row, and an array of these, row by row.

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
    """Draw a response (T + 1,) around a line at zero, with intervals of 95 % where its standard error is not zero."""
    axes.axhline(0.0, color="black", linewidth=0.8)
    if error is not None and np.any(error > 0):
        axes.fill_between(
            time, path - NORMAL_95 * error, path + NORMAL_95 * error, color=colour, alpha=0.3, linewidth=0
        )
    axes.plot(time, path, color=colour, linewidth=2)


def filled(count: int) -> tuple[Figure, list[Axes]]:
    """A matplotlib Figure with so many axes, at most three in a row, rows as even as can be: none is left empty.

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
