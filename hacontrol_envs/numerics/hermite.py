"""Cubic Hermite interpolation as a linear function of values and slopes at nodes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hacontrol_envs.arrays import Floats


def hermite(nodes: Floats, points: Floats) -> tuple[NDArray[np.int64], tuple[Floats, Floats, Floats, Floats]]:
    """Find where points lie between nodes (n,), and the weights there of values and slopes.

    Returns:
        The number of the node below each point (...), and four weights (...): of the value below, of that above, of the
        slope below, and of that above. A point beyond the nodes counts as their end.
    """
    clipped = np.clip(points, nodes[0], nodes[-1])
    place = np.clip(np.searchsorted(nodes, clipped, side="right") - 1, 0, len(nodes) - 2)
    h = nodes[place + 1] - nodes[place]
    t = (clipped - nodes[place]) / h
    up = t * t * (3 - 2 * t)
    return place, (1 - up, up, h * t * (1 - t) ** 2, h * t * t * (t - 1))
