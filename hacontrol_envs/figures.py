"""What the package's figures have in common; matplotlib is imported when one is asked for."""

from __future__ import annotations

from typing import Any

from hacontrol_envs.errors import ParameterError


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
