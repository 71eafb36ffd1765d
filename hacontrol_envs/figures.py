"""What the package's figures have in common; matplotlib is imported when one is asked for."""

from __future__ import annotations

from typing import Any

import numpy as np

from hacontrol_envs.arrays import Floats
from hacontrol_envs.errors import ParameterError

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
