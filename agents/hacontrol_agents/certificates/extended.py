"""Functions of states some of whose components are finite: splines, and what goes on beyond a box."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import numpy as np
from scipy.interpolate import BSpline, make_interp_spline

from hacontrol_agents.certificates.expansion import Expansion
from hacontrol_envs.arrays import Floats


@final
class Splines:
    """Cubic splines of one number on nodes that are dense at both ends, by the basis of B-splines."""

    def __init__(self, low: float, high: float, size: int) -> None:
        self.center, self.half = np.array([(low + high) / 2]), np.array([(high - low) / 2])
        self.nodes: Floats = low + (high - low) * (1 - np.cos(np.pi * np.arange(size) / (size - 1))) / 2
        """Nodes, (K,)."""
        self.nodes[-1] = high
        self._knots = make_interp_spline(self.nodes, self.nodes, k=3).t

    def __len__(self) -> int:
        return len(self.nodes)

    def values(self, s: Floats) -> Floats:
        """Return the basis, (N, K), at points s (N, 1)."""
        inside = np.clip(s[:, 0], self.nodes[0], self.nodes[-1])
        return np.asarray(BSpline.design_matrix(inside, self._knots, 3).toarray())

    def slopes(self, s: Floats, i: int) -> Floats:
        """Return derivatives of the basis, (N, K), at points s (N, 1)."""
        return np.asarray(BSpline(self._knots, np.eye(len(self)), 3)(s[:, 0], nu=1))

    def sum(self, s: Floats, weights: Floats, order: Mapping[int, int] | None = None) -> Floats:
        """Return the sum with weights (K,), or with an `order` its derivative, (N,), at points s (N, 1).

        Args:
            s: points, (N, k).
            weights: weights of the functions, (K,).
            order: anything but None for the derivative.
        """
        return np.asarray(BSpline(self._knots, weights, 3)(s[:, 0], nu=1 if order else 0))


@final
class Extended:
    """Functions of the components of s that are not finite, for each combination of those that are.

    Beyond their box they go on along their tangents, so that what is reached from inside in a period has a value.
    """

    def __init__(self, levels: dict[int, Floats], free: list[int], inner: Expansion | Splines) -> None:
        """Keep what is extended.

        Args:
            levels: values of the finite components, by number.
            free: numbers of the others.
            inner: functions of these.
        """
        self.levels, self.free, self.inner = levels, free, inner
        self.low, self.high = inner.center - inner.half, inner.center + inner.half
        self.kinds = int(np.prod([len(values) for values in levels.values()], dtype=int))

    def __len__(self) -> int:
        return self.kinds * len(self.inner)

    def values(self, s: Floats) -> Floats:
        """Return the functions, (N, K), at points s (N, n)."""
        p, found = self._inner(s), np.zeros((len(s), self.kinds, len(self.inner)))
        found[np.arange(len(s)), self._kind(s)] = p
        return found.reshape(len(s), len(self))

    def sum(self, s: Floats, weights: Floats) -> Floats:
        """Return the sum of the functions with weights (K,), (N,), at points s (N, n)."""
        inside, beyond = self._split(s)
        found, kind = np.empty(len(s)), self._kind(s)
        for number, own in enumerate(weights.reshape(self.kinds, -1)):
            rows = np.flatnonzero(kind == number) if self.kinds > 1 else np.arange(len(s))
            found[rows] = self.inner.sum(inside[rows], own)
            for i in range(len(self.free)):
                out = rows[beyond[rows, i] != 0]
                if len(out):
                    found[out] += self.inner.sum(inside[out], own, {i: 1}) * beyond[out, i]
        return found

    def _split(self, s: Floats) -> tuple[Floats, Floats]:
        """Return the nearest points of the box, and what lies beyond, in the components that are not finite."""
        inside = np.clip(z := s[:, self.free], self.low, self.high)
        return inside, z - inside

    def _kind(self, s: Floats) -> Any:
        kind = np.zeros(len(s), dtype=int)
        for i, levels in self.levels.items():
            kind = kind * len(levels) + nearest(levels, s[:, i])
        return kind

    def _inner(self, s: Floats) -> Floats:
        inside, beyond = self._split(s)
        p = self.inner.values(inside)
        for i in range(len(self.free)):
            rows = np.flatnonzero(beyond[:, i])
            if len(rows):
                p[rows] += self.inner.slopes(inside[rows], i) * beyond[rows, i, None]
        return p


def nearest(levels: Floats, s: Floats) -> Any:
    """Return numbers of the nearest levels (increasing), (N,), at values s (N,)."""
    return np.rint(np.interp(s, levels, np.arange(len(levels)))).astype(int)
