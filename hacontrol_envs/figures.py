"""What the package's figures have in common; matplotlib is imported when one is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hacontrol_envs.errors import ParameterError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def panels(columns: int, width: float = 4.6) -> tuple[Any, Any]:
    """A matplotlib Figure with so many axes side by side, and an array of these.

    Raises:
        ParameterError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ParameterError("a figure needs matplotlib: pip install matplotlib") from error
    figure = Figure(figsize=(width * columns, 3.3), layout="constrained", dpi=150)
    found = figure.subplots(1, columns, squeeze=False)[0]
    for axes in found:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25, linewidth=0.6)
    return figure, found


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
