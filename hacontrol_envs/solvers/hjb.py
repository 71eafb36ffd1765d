"""The HJB equation on a grid by policy iteration, and Richardson's extrapolation over refinements.

    rho V = max_a { r + L_a V }

with L_a the generator of `Grid`, implicitly: one sparse LU per policy (Howard, 1960; Achdou, Han, Lasry, Lions and
Moll, 2022). Of order 1 the scheme is monotone and so converges to the viscosity solution (Barles and Souganidis, 1991);
where that is smooth its error expands in the grid's width h, and extrapolation over h, h/2, h/4 leaves O(h^3).
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, final

import numpy as np
import scipy

from hacontrol_envs.arrays import Array, Floats, like, to_numpy
from hacontrol_envs.core.problem import ControlProblem
from hacontrol_envs.core.solution import Jet, Solution
from hacontrol_envs.errors import NumericalError, ParameterError
from hacontrol_envs.solvers.grid import Differences, Grid

MOST_POLICIES = 100
"""Most policies before policy iteration is said not to converge; it converges in a handful."""
MOST_OF_ORDER_4 = 25
"""Most policies of order 4, which begins near its end, and never settles where it does not settle soon."""
BISECTIONS = 50
"""Halvings of the range of slopes in which the action at rest is sought."""
SWEEPS = 3
"""Sweeps over two states, each of which is brought to rest in turn."""
SEARCHES = 24
"""Halvings of the window in which an action is sought where no maximiser is known in closed form."""


def extrapolate(refinements: Sequence[Any]) -> tuple[Any, Any]:
    """Return the limit of results whose error is c_1 h + c_2 h^2 + ..., h halved each time, and its estimated error.

    The error is the distance to the limit that the finest grids give with one order less (Richardson, 1911).
    """
    table = [np.asarray(result) for result in refinements]
    before = table[-1]
    for order in range(1, len(table)):
        before = table[-1]
        table = [fine + (fine - coarse) / (2**order - 1) for coarse, fine in itertools.pairwise(table)]
    return table[-1], np.abs(table[-1] - before)


def solve(grid: Grid, start: Floats | None = None, tolerance: float = 1e-11) -> tuple[Floats, Floats]:
    """Find V (N,) and the actions (N, m) by policy iteration.

    Args:
        grid: the problem on N nodes.
        start: values (N,) for which the first policy is greedy. None begins order 1 in the middle of the action box,
            from where it always converges, and order 4 from order 1.
        tolerance: relative change of V at which the iteration ends.

    Raises:
        NumericalError: it does not converge, or to numbers that are not finite.
    """
    if start is not None:
        V = start
    elif grid.order == 4:
        V, _ = solve(dataclasses.replace(grid, order=1), tolerance=1e-6)
    else:
        middle = grid.problem.action.from_unit(np.zeros((len(grid.x), grid.problem.action.dimension)))
        V = grid.evaluate(grid.problem.admissible(0.0, grid.x, middle))
    a = None
    most = min(MOST_POLICIES, MOST_OF_ORDER_4) if grid.order == 4 else MOST_POLICIES
    for _ in range(most):
        a = improve(grid, V, a)
        before, V = V, grid.evaluate(a)
        if not np.all(np.isfinite(V)):
            raise NumericalError(f"policy iteration on a grid {grid.shape} has met a policy whose value is not finite")
        if np.abs(V - before).max() <= tolerance * np.abs(V).max():
            return V, a
    raise NumericalError(
        f"policy iteration of order {grid.order} on a grid {grid.shape} has not converged after {most} policies"
    )


def improve(grid: Grid, V: Floats, held: Floats | None = None) -> Floats:
    """Find the actions (N, m) that maximise r + sum_i (b_i^+ D_i^+ V + b_i^- D_i^- V) + 1/2 sum_ij C_ij D_ij V.

    A maximiser that the problem knows is asked at the slopes ahead and back, and the answer taken that moves the state
    to the side of its slope. Where none does, a state should rest, at an action between: found by bisection. Of order 4
    the two slopes differ by no more than their error, and it is asked at their mean.

    Args:
        grid: the problem on N nodes.
        V: values at the nodes, (N,).
        held: actions (N, m) that of order 1 stay where nothing better is found, so that V never falls; None for none.
    """
    slopes = grid.differences(V)
    mean = (slopes.ahead + slopes.back) / 2
    central = _maximiser(grid, mean, slopes.curvature)
    if grid.order == 4:
        return _search(grid, Differences(mean, mean, slopes.curvature)) if central is None else np.asarray(central)
    best = np.full((len(V), grid.problem.action.dimension), np.nan) if held is None else held
    height = np.full(len(V), -np.inf) if held is None else _hamiltonian(grid, slopes, held)
    for a in [_search(grid, slopes)] if central is None else _candidates(grid, slopes):
        found = _hamiltonian(grid, slopes, a)
        best = np.where(((found > height) | np.isnan(best[:, 0]))[:, None], a, best)
        height = np.maximum(height, found)
    return best


def _candidates(grid: Grid, slopes: Differences) -> Iterator[Floats]:
    """The maximisers (N, m) at the slopes ahead and back, then, where none moves the state to the side of its slope,
    those at which one state rests, or all do.
    """
    n = len(grid.shape)
    sides = [np.array(side) for side in itertools.product((True, False), repeat=n)]
    settled = np.zeros(len(grid.x), dtype=bool)
    for ahead in sides:
        a = _maximiser(grid, np.where(ahead, slopes.ahead, slopes.back), slopes.curvature)
        b, _ = grid.motion(a)
        settled |= np.all(np.where(ahead, b >= 0, b <= 0), axis=1)
        yield a
    rows, a = np.flatnonzero(~settled), np.array(a)
    turns = [(ahead, [i]) for i, ahead in itertools.product(range(n), sides) if ahead[i]]
    for ahead, states in [*turns, (sides[0], list(range(n)) * SWEEPS)] if len(rows) else []:
        a[rows] = _rest(grid, Differences(*(part[rows] for part in slopes)), ahead, states, rows)
        yield a


def _hamiltonian(grid: Grid, slopes: Differences, a: Floats) -> Floats:
    """H_h(a), (N,)."""
    b, C = grid.motion(a)
    moved = np.sum(np.maximum(b, 0.0) * slopes.ahead + np.minimum(b, 0.0) * slopes.back, axis=1)
    height: Floats = grid.problem.reward(0.0, grid.x, a) + moved + np.sum(C * slopes.curvature, axis=(1, 2)) / 2
    return height


def _maximiser(grid: Grid, v_u: Floats, v_uu: Floats, rows: Any = slice(None)) -> Any:
    """The problem's maximiser at derivatives in unit coordinates, made admissible; None if it has none."""
    problem, x = grid.problem, grid.x[rows]
    first, second = problem.state.unit_derivatives(x)
    v_xx = v_uu * first[:, :, None] * first[:, None, :] + (v_u * second)[:, :, None] * np.eye(v_u.shape[1])
    a = problem.maximiser(0.0, x, first * v_u, v_xx)
    return None if a is None else problem.admissible(0.0, x, a)


def _rest(grid: Grid, slopes: Differences, ahead: Any, states: Sequence[int], rows: Any) -> Floats:
    """The maximiser at these rows of the grid and at slopes along these states, each in turn between those back and
    ahead, at which the state does not drift: there the greatest Hamiltonian, convex in the slopes, is least.
    """
    v_u = np.where(ahead, slopes.ahead, slopes.back)
    for i in states:
        low, high = np.zeros(len(v_u)), np.ones(len(v_u))
        for _ in range(BISECTIONS):
            share = (low + high) / 2
            v_u[:, i] = slopes.back[:, i] + share * (slopes.ahead[:, i] - slopes.back[:, i])
            a: Floats = _maximiser(grid, v_u, slopes.curvature, rows)
            rising = grid.motion(a, rows)[0][:, i] > 0  # as it is at the slope back; at that ahead it falls
            low, high = np.where(rising, share, low), np.where(rising, high, share)
    return a


def _search(grid: Grid, slopes: Differences) -> Floats:
    """argmax of H_h over the action box: the best of 5 points for each action, in a window that halves around it."""
    problem, box = grid.problem, grid.problem.action
    best = np.zeros((len(grid.x), box.dimension))
    offsets = np.array(list(itertools.product(np.linspace(-1.0, 1.0, 5), repeat=box.dimension)))
    for level in range(SEARCHES):
        tried = np.clip(best + offsets[:, None] * 0.5**level, -1.0, 1.0)
        heights = [_hamiltonian(grid, slopes, problem.admissible(0.0, grid.x, box.from_unit(w))) for w in tried]
        best = np.take_along_axis(tried, np.argmax(heights, axis=0)[None, :, None], axis=0)[0]
    return np.asarray(problem.admissible(0.0, grid.x, box.from_unit(best)))


@final
class GridValue:
    """V on a grid as a function of the state, with derivatives and its policy: quintic splines in unit coordinates.

    Args:
        grid: the problem on N nodes of one or two states.
        V: values at the nodes, (N,).
    """

    def __init__(self, grid: Grid, V: Floats) -> None:
        self.grid, self.problem, self.V = grid, grid.problem, V
        table = V.reshape(grid.shape)
        if len(grid.shape) == 1:
            spline = scipy.interpolate.make_interp_spline(grid.nodes[0], table, k=5)
            self._spline: Callable[..., Floats] = lambda u, order: spline(u[..., 0], nu=order[0])
        else:
            surface = scipy.interpolate.RectBivariateSpline(*grid.nodes, table, kx=5, ky=5)
            self._spline = lambda u, order: surface.ev(u[..., 0], u[..., 1], dx=order[0], dy=order[1])

    def _at(self, x: Floats, *along: int) -> Floats:
        """The derivative of V along these states in unit coordinates, (...)."""
        order = [along.count(i) for i in range(len(self.grid.shape))]
        return self._spline(np.clip(self.problem.state.to_unit(x), -1.0, 1.0), order)

    def value(self, t: Array, x: Array) -> Array:
        """Return V, (...), at states x (..., n)."""
        return like(self._at(to_numpy(x)), x)

    def jet(self, t: Array, x: Array) -> Jet:
        """Return V with its derivatives at states x (..., n)."""
        given, states = to_numpy(x), range(len(self.grid.shape))
        first, second = self.problem.state.unit_derivatives(given)
        v_u = np.stack([self._at(given, i) for i in states], axis=-1)
        v_uu = np.stack([np.stack([self._at(given, i, j) for i in states], axis=-1) for j in states], axis=-1)
        v_xx = v_uu * first[..., None] * first[..., None, :] + (v_u * second)[..., None] * np.eye(len(states))
        v = self._at(given)
        return Jet(*(like(part, x) for part in (v, np.zeros_like(v), v_u * first, v_xx)))

    def policy(self, t: Array, x: Array) -> Array:
        """Return the problem's maximiser at V's derivatives, (..., m), at states x (..., n).

        Raises:
            ParameterError: the problem has no maximiser.
        """
        jet = self.jet(t, x)
        a = self.problem.maximiser(t, x, jet.v_x, jet.v_xx)
        if a is None:
            raise ParameterError(f"{type(self.problem).__name__} has no maximiser, from which to interpolate a policy")
        return a


def refine(
    problem: ControlProblem,
    maps: Sequence[Callable[[int], Floats]],
    shapes: Sequence[tuple[int, ...]],
    start: GridValue | None = None,
    edge_value: Callable[[Floats], Floats] | None = None,
) -> list[GridValue]:
    """Find V of order 4 on ever finer grids, each begun from the one before.

    Args:
        problem: what to solve.
        maps: for each state what gives so many nodes, such as `edge_nodes`.
        shapes: nodes along each state, for each grid.
        start: values from which the first grid begins; None begins from a solution of order 1.
        edge_value: see `Grid`.
    """
    found: list[GridValue] = []
    for shape in shapes:
        nodes = tuple(place(count) for place, count in zip(maps, shape, strict=True))
        grid = Grid(problem, nodes, 4, edge_value)
        before = found[-1] if found else start
        V, _ = solve(grid, None if before is None else before.value(0.0, grid.x))
        found.append(GridValue(grid, V))
    return found


def grid_solution(refined: Sequence[GridValue]) -> Solution:
    """Return the finest as a Solution; its error is estimated by the distance to the one before, on the box."""
    fine, error = refined[-1], difference(*refined[-2:])
    source = (
        f"implicit finite differences of order 4 on {' x '.join(map(str, fine.grid.shape))} nodes, policy iteration"
    )
    return Solution(fine.value, fine.policy, "numerical", source, error, fine.jet)


def monotone_solution(
    problem: ControlProblem, maps: Sequence[Callable[[int], Floats]], shapes: Sequence[tuple[int, ...]]
) -> Solution:
    """Find the optimum of order 1 on three grids, each twice as fine as the one before, and extrapolate it.

    It is always found, also where V has layers that differences of order 4 do not resolve, on which their policy
    iteration does not settle. Its error is estimated by twice the distance to the extrapolation of one order less.

    Args:
        problem: what to solve.
        maps: for each state what gives so many nodes, such as `edge_nodes`.
        shapes: nodes along each state, for each of the three grids.
    """
    found: list[GridValue] = []
    for shape in shapes:
        grid = Grid(problem, tuple(place(count) for place, count in zip(maps, shape, strict=True)))
        found.append(GridValue(grid, solve(grid, found[-1].value(0.0, grid.x) if found else None)[0]))
    unit = np.random.default_rng(0).uniform(-1.0, 1.0, (10_000, len(grid.shape)))
    nodes, _ = extrapolate([value.value(0.0, grid.x) for value in found])
    fine = GridValue(grid, nodes)
    between, _ = extrapolate([value.value(0.0, problem.state.from_unit(unit)) for value in found[1:]])
    gaps = nodes - extrapolate([value.value(0.0, grid.x) for value in found[1:]])[0]
    error = 2 * max(np.abs(gaps).max(), np.abs(fine.value(0.0, problem.state.from_unit(unit)) - between).max())
    source = (
        f"monotone finite differences on {' x '.join(map(str, grid.shape))} nodes and two coarser grids, extrapolated, "
        "policy iteration"
    )
    return Solution(fine.value, fine.policy, "numerical", source, float(error), fine.jet)


def difference(coarse: GridValue, fine: GridValue) -> float:
    """Return the largest difference of two value functions at the finer one's nodes and 10,000 points of the box."""
    unit = np.random.default_rng(0).uniform(-1.0, 1.0, (10_000, len(fine.grid.shape)))
    x = np.concatenate([fine.grid.x, fine.problem.state.from_unit(unit)])
    return float(np.abs(fine.value(0.0, x) - coarse.value(0.0, x)).max())
