"""Solution: what is known about the optimum of a problem."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from hacontrol_envs.arrays import Array, Floats


class Jet(NamedTuple):
    """A function and its derivatives at points (t, x)."""

    v: Array
    """V, (...)."""
    v_t: Array
    """dV/dt, (...)."""
    v_x: Array
    """Gradient in the state, (..., n)."""
    v_xx: Array
    """Hessian in the state, (..., n, n)."""


class CrossSection(NamedTuple):
    """Shares of many decision makers by state: a law as masses at states."""

    x: Floats
    """Physical states, (M, n)."""
    mass: Floats
    """Shares of the decision makers at the states, (M,); they sum to one."""

    def mean(self, values: Floats) -> Floats:
        """Return the mean (...) over decision makers of values (M, ...) at the states."""
        found: Floats = np.tensordot(self.mass, values, axes=1)
        return found


@dataclass(frozen=True)
class Solution:
    """The optimum of a problem: functions of time t (scalar or (...)) and physical state x (..., n)."""

    value: Callable[[Array, Array], Array]
    """V(t, x), (...): the largest attainable expected discounted reward, in reward units, discounted to t."""
    policy: Callable[[Array, Array], Array]
    """a*(t, x), (..., m): the physical action that attains the value."""
    kind: Literal["closed form", "numerical"]
    """Whether the optimum is a formula or was computed."""
    source: str
    """Citation of the formula, or the method with its grid and tolerance."""
    error: float
    """Bound or estimate of sup |value - V*| on the problem's box; 0 for a closed form."""
    jet: Callable[[Array, Array], Jet] | None = None
    """V with its derivatives at (t, x); None where they are not known."""
