"""A problem's box as a grid, and finite differences on it for the generator and its adjoint.

With u the unit coordinates, b and C = sigma sigma' their drift and squared diffusion (Ito's formula), and D+, D- first
differences that look ahead and back,

    L_a V = sum_i (b_i^+ D_i^+ V + b_i^- D_i^- V) + 1/2 sum_ij C_ij D_ij V,        b^+ = max(b, 0), b^- = min(b, 0).

Of order 1 the differences are those of neighbours, and L_a is the generator of a Markov chain (Kushner and Dupuis,
2001): monotone whatever the solution. Of order 4, for solutions that are smooth on the scale of the grid, they take
five nodes (Fornberg, 1988); where there is noise, C_ii >= |b_i| h_i / 5 with h_i the spacing of nodes, b_i D_i V looks
both ways instead, because switching sides where b_i changes sign would show in the law. Either way the rows of L_a sum
to zero and nothing leaves, so that the adjoint L_a' neither makes nor loses mass: a reflecting edge is a mirror, and at
another differences look inwards.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple, final

import numpy as np
import scipy
from numpy.typing import NDArray

from hacontrol_envs.arrays import Floats
from hacontrol_envs.core.problem import ControlProblem
from hacontrol_envs.errors import NumericalError, ParameterError
from hacontrol_envs.numerics.stationary import balanced

MOST_DRIFT = 5.0
"""Largest drift times spacing over squared diffusion at which a difference of order 4 looks both ways."""
BALANCE = 1e-9
"""Largest difference between the two sides of a linear equation, relative to its terms."""
MONOTONE: dict[str, Any] = {"permc_spec": "MMD_AT_PLUS_A", "diag_pivot_thresh": 0.0, "options": {"SymmetricMode": True}}
"""Options of SuperLU for matrices with a symmetric pattern and a dominant diagonal, which need no pivoting."""
SMOOTH: dict[str, Any] = {**MONOTONE, "diag_pivot_thresh": 0.01}
"""Those for differences of order 4, whose diagonal is a pivot unless it is below 1 % of its column."""


def clustered_nodes(count: int, center: float = 0.0, width: float = 1e3) -> Floats:
    """Place nodes from -1 to 1, dense within `width` of `center`.

    u = center + width sinh(s) with s uniform: smooth, so that errors expand in powers of 1/(count - 1).

    Args:
        count: number of nodes.
        center: unit coordinate around which nodes are dense.
        width: distance from the center within which they are; much larger than 1 makes them nearly uniform.
    """
    low, high = np.arcsinh((-1 - center) / width), np.arcsinh((1 - center) / width)
    nodes: Floats = center + width * np.sinh(np.linspace(low, high, count))
    nodes[0], nodes[-1] = -1.0, 1.0
    return nodes


def edge_nodes(count: int) -> Floats:
    """Place `count` nodes from -1 to 1, dense at both ends, where V has boundary layers: u = -cos s with s uniform."""
    nodes: Floats = -np.cos(np.linspace(0.0, np.pi, count))
    return nodes


class Differences(NamedTuple):
    """Differences of V along and across the states, at the nodes of a grid."""

    ahead: Floats
    """D+ V, (N, n)."""
    back: Floats
    """D- V, (N, n)."""
    curvature: Floats
    """D_ij V, (N, n, n)."""


@final
@dataclass(frozen=True, eq=False)
class Grid:
    """N nodes of a stationary problem's box, in C order.

    Args:
        problem: with one or two states.
        nodes: unit coordinates for each state, increasing from -1 to 1.
        order: 1 (monotone) or 4.
        edge_value: V at physical states (..., n) on open edges. None treats open edges as reflecting; the solution is
            then right only where discounted paths do not come near them.

    Raises:
        ParameterError: a finite horizon, more than two states, fewer than eight nodes along one, or nodes that do not
            increase from -1 to 1.
    """

    problem: ControlProblem
    nodes: tuple[Floats, ...]
    order: Literal[1, 4] = 1
    edge_value: Callable[[Floats], Floats] | None = None

    def __post_init__(self) -> None:
        n, horizon = self.problem.state.dimension, self.problem.horizon
        if horizon is not None or n > 2:
            raise ParameterError(
                f"a grid needs a stationary problem with one or two states, got {n} states and horizon={horizon}"
            )
        if len(self.nodes) != n or min(self.shape) < 8:
            raise ParameterError(f"a grid needs at least 8 nodes along each of {n} states, got {self.shape}")
        if any(axis[0] != -1 or axis[-1] != 1 or np.any(np.diff(axis) <= 0) for axis in self.nodes):
            raise ParameterError(f"nodes must increase from -1 to 1, got {self.nodes!r}")
        if self.order not in (1, 4):
            raise ParameterError(f"order must be 1 or 4, got {self.order!r}")

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of nodes along each state."""
        return tuple(len(axis) for axis in self.nodes)

    @cached_property
    def unit(self) -> Floats:
        """Unit coordinates of the nodes, (N, n)."""
        return np.stack([axis.ravel() for axis in np.meshgrid(*self.nodes, indexing="ij")], axis=-1)

    @cached_property
    def x(self) -> Floats:
        """Physical states of the nodes, (N, n); those on an edge exactly."""
        state = self.problem.state
        return np.where(self.unit == -1, state.low, np.where(self.unit == 1, state.high, state.from_unit(self.unit)))

    @cached_property
    def cells(self) -> Floats:
        """Weights of the nodes in an integral over the coordinates of `Domain.coordinates`, (N,).

        They are the trapezoidal rule in the nodes' index, to which the spacing is the map's derivative.
        """
        widths = []
        for axis, half in zip(self.nodes, self.problem.state.half_width, strict=True):
            index = np.arange(len(axis))
            weights = half * scipy.interpolate.make_interp_spline(index, axis, k=5).derivative()(index)
            weights[[0, -1]] /= 2
            widths.append(weights)
        volume: Floats = np.prod(np.meshgrid(*widths, indexing="ij"), axis=0).ravel()
        return volume

    @cached_property
    def fixed(self) -> NDArray[np.bool_]:
        """Whether a node lies on an open edge whose value is given, (N,)."""
        open_ = np.array([edge == "open" for edge in self.problem.state.edges])
        on: NDArray[np.bool_] = np.any(open_ & (np.abs(self.unit) == 1), axis=1)
        return on if self.edge_value is not None else np.zeros_like(on)

    @cached_property
    def _first(self) -> list[tuple[Any, Any]]:
        """D+ and D- along each state."""
        offsets = [(0, 1), (-1, 0)] if self.order == 1 else [(-1, 3), (-3, 1)]
        return [(self._along(i, 1, offsets[0]), self._along(i, 1, offsets[1])) for i in range(len(self.shape))]

    @property
    def mean_differences(self) -> list[Any]:
        """(D+ + D-)/2 along each state, sparse (N, N)."""
        return [(ahead + back) / 2 for ahead, back in self._first]

    @cached_property
    def _second(self) -> list[Any]:
        """D_ii along each state."""
        return [self._along(i, 2, (-1, 1) if self.order == 1 else (-2, 2)) for i in range(len(self.shape))]

    @cached_property
    def _cross(self) -> tuple[Any, Any]:
        """D_12 for a positive and for a negative covariance: of order 1 that which keeps rates of corners positive."""
        (right, left), (up, down) = self._first
        if self.order == 4:
            both = (right + left) @ (up + down) / 4
            return both, both
        return (right @ up + left @ down) / 2, (right @ down + left @ up) / 2

    def _along(self, i: int, derivative: int, offsets: tuple[int, int]) -> Any:
        axis, edge = self.nodes[i], self.problem.state.edges[i]
        mirrored = edge == "reflecting" or (edge == "open" and self.edge_value is None)
        factors = [scipy.sparse.eye_array(count) for count in self.shape]
        factors[i] = _difference(axis, derivative, offsets, mirrored, cut=self.order == 1)
        return factors[0] if len(factors) == 1 else scipy.sparse.kron(*factors).tocsr()

    def differences(self, V: Floats) -> Differences:
        """Return the differences of values V (N,) at the nodes."""
        ahead, back = (np.stack([pair[side] @ V for pair in self._first], axis=-1) for side in (0, 1))
        curvature = np.stack([D @ V for D in self._second], axis=-1)[:, :, None] * np.eye(len(self.shape))
        if len(self.shape) == 2:
            curvature[:, 0, 1] = curvature[:, 1, 0] = (self._cross[0] @ V + self._cross[1] @ V) / 2
        return Differences(ahead, back, curvature)

    def motion(self, a: Floats, rows: Any = slice(None)) -> tuple[Floats, Floats]:
        """Return b (N, n) and C (N, n, n) at actions a (N, m), N of all nodes or of these rows."""
        x = self.x[rows]
        b, sigma = self.problem.state.ito(x, self.problem.drift(0.0, x, a), self.problem.diffusion(0.0, x, a))
        return b, sigma @ np.swapaxes(sigma, -1, -2)

    def generator(self, a: Floats, upwind: bool = True) -> Any:
        """Return L_a of actions a (N, m), sparse (N, N). With `upwind=False` all differences of order 4 look both ways.

        Raises:
            ParameterError: of order 1, the noise of two states is so correlated that the chain has a negative rate,
                where the value is not given.
        """
        b, C = self.motion(a)
        L = scipy.sparse.csr_array((len(a), len(a)))
        for i, (ahead, back) in enumerate(self._first):
            both = self._both_ways(i, b[:, i], C[:, i, i]) if upwind or self.order == 1 else b[:, i] != 0
            one = np.where(both, 0.0, b[:, i])
            L = L + _scaled(np.maximum(one, 0.0), ahead) + _scaled(np.minimum(one, 0.0), back)
            L = L + _scaled(C[:, i, i] / 2, self._second[i])
            if np.any(both):
                L = L + _scaled(b[:, i] - one, self._along(i, 1, (-2, 2)))
        if len(self.shape) == 2 and np.any(C[:, 0, 1]):
            c = C[:, 0, 1]
            L = L + _scaled(np.maximum(c, 0.0), self._cross[0]) + _scaled(np.minimum(c, 0.0), self._cross[1])
            off = _scaled(~self.fixed, L - scipy.sparse.diags_array(L.diagonal()))
            if self.order == 1 and off.min() < -1e-12 * abs(L).max():
                raise ParameterError(
                    "the noise of the two states is too correlated for this grid: the chain has a negative rate. "
                    "Choose nodes whose widths are in proportion to the states' diffusions, or order=4 with a start"
                )
        return L

    def _both_ways(self, i: int, b: Floats, C: Floats) -> Any:
        """Where a first difference of order 4 looks both ways along state i, (N,)."""
        h = np.gradient(self.nodes[i])[np.indices(self.shape)[i].ravel()]
        return (self.order == 4) & (np.abs(b) * h <= MOST_DRIFT * C) & (b != 0)

    def evaluate(self, a: Floats) -> Floats:
        """Return the value (N,) of actions a (N, m): (rho - L_a) V = r."""
        matrix = self.problem.discount * scipy.sparse.eye_array(len(a)) - self.generator(a)
        r = self.problem.reward(0.0, self.x, a)
        if self.edge_value is not None:
            matrix = _scaled(~self.fixed, matrix) + scipy.sparse.diags_array(self.fixed.astype(float))
            r = np.where(self.fixed, self.edge_value(self.x), r)
        return self._solve(matrix, r)

    def law(self, a: Floats, likely: int | None = None) -> tuple[Floats, float]:
        """Find the stationary masses m (N,) under actions a (N, m), and how much of them had to be made positive.

        L_a' m = 0, m >= 0, summing to one, with differences of order 4 that look both ways: densities m / `cells` are
        then as accurate at each node as on average. Of order 1 no mass is negative; of order 4 a mass may be by as much
        as its error, and is set to zero: the second result is the sum of these, a sign of too coarse a grid. Where
        there is mass at a reflecting edge order 4 gives order 2 only, for the law's density has a slope there that V
        has not.

        `likely` is a node that has mass (the middle of the grid by default): its equation, which the others imply, is
        replaced by m = 1 there.

        Raises:
            NumericalError: no law is found that stays where it is.
        """
        node = len(a) // 2 if likely is None else likely
        L = self.generator(a, upwind=False)
        masses = balanced(L, node, **self._superlu)
        masses /= masses.sum()
        moved, flows = np.abs(L.T @ masses).sum(), (abs(L).T @ np.abs(masses)).sum()
        if not moved <= BALANCE * flows:
            raise NumericalError(
                f"no stationary law found on a grid {self.shape}: of its flows {moved / flows:.1g} are not balanced"
            )
        positive = np.maximum(masses, 0.0)
        return positive / positive.sum(), float(positive.sum() - 1)

    def _solve(self, matrix: Any, right: Floats) -> Floats:
        solved: Floats = scipy.sparse.linalg.splu(matrix.tocsc(), **self._superlu).solve(right)
        gap, size = np.abs(matrix @ solved - right).max(), (abs(matrix) @ np.abs(solved)).max()
        if not gap <= BALANCE * size:
            raise NumericalError(
                f"the value of a policy on a grid {self.shape} misses its equation by {gap / size:.1g}"
            )
        return solved

    @property
    def _superlu(self) -> dict[str, Any]:
        return MONOTONE if self.order == 1 else SMOOTH


def _scaled(rows: Any, matrix: Any) -> Any:
    return scipy.sparse.diags_array(np.asarray(rows, dtype=np.float64)) @ matrix


def _difference(axis: Floats, derivative: int, offsets: tuple[int, int], mirrored: bool, cut: bool) -> Any:
    """A derivative on nodes of any spacing, by those at these offsets from each, sparse (count, count).

    Beyond an end: mirror images if `mirrored`; otherwise nodes inside take their place, one more for a second
    derivative, which is then of the same order. With `cut`, a first derivative that looks beyond an end is zero there,
    and so is the second.
    """
    count, last = len(axis), len(axis) - 1
    rows, columns, entries = [], [], []
    for k in range(count):
        reach = np.arange(k + offsets[0], k + offsets[1] + 1)
        beyond = max(0, -reach[0]) - max(0, reach[-1] - last)
        if beyond and cut and (derivative == 1 or not mirrored):
            continue
        node = np.abs(reach)
        node = last - np.abs(last - node)
        place = np.where(
            reach < 0, 2 * axis[0] - axis[node], np.where(reach > last, 2 * axis[-1] - axis[node], axis[node])
        )
        if beyond and not mirrored:
            more = derivative - 1
            node = np.arange(reach[0] + beyond - more * (beyond < 0), reach[-1] + beyond + more * (beyond > 0) + 1)
            place = axis[node]
        rows.append(np.full(len(node), k))
        columns.append(node)
        entries.append(_weights(place - axis[k], derivative))
    indices = np.concatenate(rows), np.concatenate(columns)
    return scipy.sparse.coo_array((np.concatenate(entries), indices), shape=(count, count)).tocsr()


def _weights(offsets: Floats, derivative: int) -> Floats:
    """Weights of values at these offsets in a derivative at 0, exact for polynomials of degree len(offsets) - 1."""
    scale = np.abs(offsets).max()
    powers = np.vander(offsets / scale, increasing=True).T
    right = np.zeros(len(offsets))
    right[derivative] = (1, 1, 2)[derivative]
    weights: Floats = np.linalg.solve(powers, right) / scale**derivative
    return weights
