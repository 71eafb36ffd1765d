"""The finite-horizon linear-quadratic optimum as a function of the time to go."""

from __future__ import annotations

import math

import numpy as np
from numpy.polynomial import chebyshev

from hacontrol_envs.arrays import Floats
from hacontrol_envs.errors import NumericalError
from hacontrol_envs.numerics.riccati import WORST, Quadratic, in_like_units
from hacontrol_envs.numerics.riccati_map import EPS, Span, pace, short_span, symmetric

DEGREE = 24
"""Degree of the polynomial in time on each panel."""
RESOLVED = (1e-12, 1e-9)
"""Largest of its last two coefficients, of c and of P, relative to the largest values on the panel; the second where
rounding, as of cheap control of a stiff system, does not allow the first."""
DECAYED = 1e-18
"""Largest of the last two coefficients, relative to the largest values so far."""
AMPLE = 4.0
"""Factor by which the stated error from rounding exceeds the effect of random rounding."""
PANELS = 4000
"""Most panels; they double in length wherever the solution lets them."""


class Flow:
    """The optimum of a linear-quadratic problem as a function of the time to go tau.

    dP/dtau = Q + A'P + PA - rho P - P B R^{-1} B'P and dc/dtau = tr(DD'P)/2 - rho c from P(0) = S, c(0) = 0.

    P is carried from panel to panel of time by the exact maps of `riccati_map`, which stiffness does not touch; within
    a panel of length T/2^k it is known at Chebyshev nodes, and c by collocation there. A panel is halved until both
    are resolved, so that their number grows with the logarithm of the horizon, however long. A second P, whose every
    number is rounded at random, is carried, too: the distance between the two says what rounding does to P.

    Args:
        A, B, Q, R, D, rho: see `riccati.continuous`.
        horizon: T, the longest time to go.
        terminal: S, the cost matrix at the end, (n, n).

    Raises:
        NumericalError: values overflow, or oscillate more often than `PANELS` can follow.
    """

    def __init__(
        self, A: Floats, B: Floats, Q: Floats, R: Floats, D: Floats, rho: float, horizon: float, terminal: Floats
    ) -> None:
        self.horizon, self._feedback = horizon, np.linalg.solve(R, B.T)
        self._A, self._S, self._Q = A - rho / 2 * np.eye(len(A)), symmetric(B @ self._feedback), Q
        self._covariance, self._rho = D @ D.T, rho
        self._nodes = (1 - np.cos(np.pi * np.arange(DEGREE + 1) / DEGREE)) / 2
        points = 2 * self._nodes - 1
        self._to_coefficients = np.linalg.inv(chebyshev.chebvander(points, DEGREE))
        slopes = chebyshev.chebder(np.eye(DEGREE + 1), scl=2.0)
        self._slope = chebyshev.chebvander(points, DEGREE - 1) @ slopes @ self._to_coefficients
        self._start = np.append(0.0, terminal)
        self._largest = np.zeros(1 + len(A) ** 2)
        self.tolerance = RESOLVED[0]
        with np.errstate(all="ignore"):
            if not self._march(terminal):
                self.tolerance = RESOLVED[1]
                if not self._march(terminal):
                    raise NumericalError(f"the optimum varies too often to be followed over the horizon {horizon}")
        self.error = max(self.tolerance, AMPLE * self._rounding)
        if not self.error < WORST:
            raise NumericalError(f"rounding leaves of the optimum a relative error of {self.error:.1e}")

    def _march(self, P: Floats) -> bool:
        """Fill the panels from P at the end on; False where they are too many."""
        Q, S, unit = in_like_units(self._Q, self._S)
        start = np.abs(S @ P).sum(axis=0).max() / unit  # how quickly a large terminal cost falls
        finest = max(0, math.ceil(math.log2(self.horizon * (1 / pace(self._A, S, Q) + 4 * start))))
        spans = [short_span(self._A, self._S, self._Q, self.horizon / 2**finest * self._nodes)]
        at, level, c, edges, panels, overflow = 0, 0, 0.0, [0.0], [], False
        rng, other, self._rounding = np.random.default_rng(0), P, 0.0
        while at < 2**finest:
            found, resolved = self._panel(spans, level, P, c, self.horizon / 2 ** (finest - level))
            finite = bool(np.isfinite(found).all())
            if level > 0 and not (finite and resolved):
                overflow = overflow or not np.isfinite(spans[level].G).all()
                level -= 1
                continue
            if not finite:
                raise NumericalError(f"the least cost overflows within the horizon {self.horizon}")
            panels.append(self._to_coefficients @ found)
            if len(panels) > PANELS:
                return False
            at, P, c = at + 2**level, symmetric(found[-1, 1:].reshape(P.shape)), float(found[-1, 0])
            other = _rounded(Span(*(_rounded(part[-1], rng) for part in spans[level]))(other), rng)
            gap = float(np.abs(other - P).max() / (np.abs(P).max() or 1.0))
            self._rounding = max(self._rounding, gap if math.isfinite(gap) else math.inf)
            if overflow and np.all(np.abs(found - found[0]) <= self.tolerance * _sizes(found)):
                at = 2**finest  # at rest, though what no cost sees on the way explodes
            edges.append(self.horizon * (at / 2**finest))
            level += at % 2 ** (level + 1) == 0 and at < 2**finest
        self._edges, self._panels = np.array(edges), np.array(panels)
        return True

    def _panel(self, spans: list[Span], level: int, P: Floats, c: float, length: float) -> tuple[Floats, bool]:
        """c and P at the nodes of a panel, (DEGREE + 1, 1 + n n), and whether a polynomial follows them."""
        while len(spans) <= level:
            spans.append(spans[-1].twice())
        costs = spans[level](P)
        paid = np.sum(self._covariance * costs, axis=(-2, -1)) / 2
        system = self._slope + self._rho * length * np.eye(DEGREE + 1)
        later = np.linalg.solve(system[1:, 1:], length * paid[1:] - system[1:, 0] * c)
        found = np.column_stack([np.append(c, later), costs.reshape(DEGREE + 1, -1)])
        largest = _sizes(found)
        self._largest = np.maximum(self._largest, largest)
        left = np.abs((self._to_coefficients @ found)[-2:]).max(axis=0)
        return found, bool(np.all(left <= self.tolerance * largest + DECAYED * self._largest))

    def __call__(self, tau: Floats) -> Quadratic:
        """P (k, n, n), c (k,) and K (k, m, n) at these times to go (k,)."""
        n, tau = len(self._A), np.clip(tau, 0.0, self.horizon)
        panel = np.clip(np.searchsorted(self._edges, tau, side="right") - 1, 0, len(self._panels) - 1)
        left, right = self._edges[panel], self._edges[panel + 1]
        weights = chebyshev.chebvander(2 * (tau - left) / (right - left) - 1, DEGREE)
        y = np.einsum("kd,kdi->ki", weights, self._panels[panel])
        y[tau == 0] = self._start
        P = symmetric(y[:, 1:].reshape(-1, n, n))
        return Quadratic(P, y[:, 0], self._feedback @ P, self.error)


def _rounded(M: Floats, rng: np.random.Generator) -> Floats:
    """M with each entry off by up to a unit of rounding, at random (Vignes, 1993)."""
    return M * (1 + EPS * rng.uniform(-1.0, 1.0, M.shape))


def _sizes(found: Floats) -> Floats:
    """The largest size of c and of any entry of P, for each of them, (1 + n n,)."""
    largest: Floats = np.abs(found).max(axis=0)
    largest[1:] = largest[1:].max()
    return largest
