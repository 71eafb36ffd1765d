"""What the checks of a problem share: the points they look at, the paths they simulate, and how they report."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, final

import numpy as np

from hacontrol_envs.arrays import Floats
from hacontrol_envs.core.problem import ControlProblem, Problem
from hacontrol_envs.core.solution import Solution
from hacontrol_envs.errors import ContractError

FINE_STEPS = 32
"""Euler-Maruyama steps of the finer of two simulations; the coarser takes half as many."""


class Points(NamedTuple):
    """Points at which a problem is looked at: times t (k,), states x (k, n) and actions a (k, m)."""

    t: Floats
    x: Floats
    a: Floats

    def each(self, copies: int) -> Points:
        """Return these points with each of them repeated so many times in a row."""
        return Points(*(np.repeat(part, copies, axis=0) for part in self))


@final
class Probe:
    """A problem, and how closely to look at it. `check_problem` says which checks a kind of problem is put to.

    Args:
        problem: the problem under test.
        samples: Monte Carlo paths from each starting point.
        seed: of every random number that the checks draw.
        dt: length of the steps over which laws are compared; None takes `natural_step(problem)`.
    """

    problem: Any
    """Problem under test: a ControlProblem or a DiscreteProblem."""

    def __init__(self, problem: Problem, samples: int, seed: int, dt: float | None) -> None:
        self.problem, self.samples, self.seed = problem, samples, seed
        self._dt, self._solution = dt, False

    @property
    def dt(self) -> float:
        """Length of the steps over which laws are compared."""
        if self._dt is None:
            self._dt = natural_step(self.problem)
        return self._dt

    def rng(self) -> np.random.Generator:
        """Return a new generator with the probe's seed, so that no check depends on the others."""
        return np.random.default_rng(self.seed)

    def solution(self, *dt: float) -> Solution | None:
        """Return the problem's solution, for a step dt if given; raise ContractError where building it raises."""
        try:
            found: Solution | None = self.problem.solution(*dt)
        except Exception as error:
            raise ContractError(f"solution{dt} raised {error!r}; return None where the optimum is not known") from error
        return found

    def solutions(self) -> list[Solution]:
        """Return those of the continuous and the sampled-data solution that are known."""
        return [found for found in (self.solution(), self.solution(self.dt)) if found is not None]

    def points(self, count: int) -> Points:
        """Draw points all over the boxes, at times from which a step of dt stays within the horizon."""
        rng, p = self.rng(), self.problem
        last = 10 * self.dt if p.horizon is None else p.horizon - self.dt
        x = p.some_states(rng, count)
        a = p.action.from_unit(rng.uniform(-1, 1, (count, p.action.dimension)))
        return Points(rng.uniform(0.0, last, count), x, a)

    def starts(self, count: int) -> Iterator[Points]:
        """Yield points to start paths from, each `samples` times: `count` of `points`, then those at closed edges."""
        points = self.points(max(count, 1))
        for k in range(count):
            yield Points(*(part[k : k + 1] for part in points)).each(self.samples)
        for corner in self.corners() if count else ():
            yield corner.each(self.samples)

    def corners(self) -> list[Points]:
        """Return two points, at the low and at the high end of every edge that is not open; none where all are open."""
        (t, x, a), box = self.points(2), self.problem.state
        if not box.closed.any():
            return []
        ends = np.where(box.closed, np.stack([box.low, box.high]), x)
        return [Points(t[k : k + 1], ends[k : k + 1], a[k : k + 1]) for k in range(2)]

    def grid_points(self, count: int) -> Points:
        """Draw points all over the boxes, at whole multiples of dt."""
        t, x, a = self.points(count)
        return Points(np.floor(t / self.dt) * self.dt, x, a)


def batches(*parts: Floats) -> Iterator[tuple[Any, ...]]:
    """Yield 21 rows with leading axes (21,), (7, 3), (1,) and (); each time with all times, and with the first."""
    for axes in ((21,), (7, 3), (1,), ()):
        times, *rest = (part[: int(np.prod(axes))].reshape(axes + part.shape[1:]) for part in parts)
        yield times, *rest
        yield float(parts[0][0]), *rest


def require_form(name: str, result: Any, trailing: tuple[int, ...], x: Floats) -> None:
    """Raise ContractError unless a function's result is float64, finite, and of shape (..., *trailing).

    Args:
        name: name of the function, for messages.
        result: what it returned.
        trailing: shape of the result for one state.
        x: states that it was given, (..., n).
    """
    given, wanted, kind = np.shape(result), x.shape[:-1] + trailing, np.asarray(result).dtype
    require(given == wanted, f"{name} has shape {given} where x has shape {x.shape}; it must be {wanted}")
    require(kind == np.float64, f"{name} has dtype {kind}; a float64 state must give float64")
    if not np.all(np.isfinite(result)):  # no `require`: to write arrays out takes long
        raise ContractError(f"{name} is not finite inside the boxes, for example at x = {x}: {result}")


def natural_step(problem: Problem) -> float:
    """Return a tenth of the time in which the state crosses its box, or discounting matters; it divides the horizon.

    A problem in discrete time has a step of its own, 1.
    """
    if not isinstance(problem, ControlProblem):
        return 1.0
    rng = np.random.default_rng(0)
    x = problem.state.from_unit(rng.uniform(-1, 1, (256, problem.state.dimension)))
    a = problem.action.from_unit(rng.uniform(-1, 1, (256, problem.action.dimension)))
    speed = max(float(np.quantile(speeds(problem, Points(np.zeros(256), x, a)), 0.9)), problem.discount)
    step = 0.1 / speed if speed > 0 else 0.1 * (problem.horizon or 1.0)
    return step if problem.horizon is None else problem.horizon / max(2, int(np.ceil(problem.horizon / step)))


def speeds(problem: ControlProblem, at: Points) -> Floats:
    """Return the rate at which the unit coordinates move, (k,): the largest |drift| + |diffusion|^2 among them."""
    drift, diffusion = problem.state.ito(at.x, problem.drift(*at), problem.diffusion(*at))
    rates: Floats = np.max(np.abs(drift) + np.sum(diffusion**2, axis=-1), axis=-1)
    return rates


def require(kept: bool | np.bool_, broken: str) -> None:
    """Raise ContractError unless the promise is kept."""
    if not kept:
        raise ContractError(broken)


def require_small(gap: Any, tolerance: Any, promise: str, advice: str, at: Points | None = None) -> None:
    """Raise ContractError, which reports the worst of them, unless every |gap| is within its tolerance.

    Args:
        gap: differences, with the points along the first axis.
        tolerance: what each may be in absolute value; it broadcasts with `gap`.
        promise: what is compared, to begin the message with.
        advice: what to do about a difference, to end the message with.
        at: the points, for the message; None leaves them out.
    """
    gap, tolerance = np.broadcast_arrays(np.abs(gap), tolerance)
    if np.all(gap <= tolerance):
        return
    excess = np.where(np.isnan(gap), np.inf, gap - tolerance)
    worst = np.unravel_index(np.argmax(excess), gap.shape)
    where = "" if at is None else f" at t = {at.t[worst[0]]:.6g}, x = {at.x[worst[0]]}, a = {at.a[worst[0]]}"
    raise ContractError(
        f"{promise}: off by {gap[worst]:.6g}, allowed {tolerance[worst]:.6g},{where or ' at worst'}. {advice}"
    )


def evaluate(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Return function(*arguments); raise ContractError where it raises or changes its arguments.

    Args:
        name: name of the function, for messages.
        function: what to call.
        arguments: arrays, numbers or tensors that it is given.
    """
    before = [np.asarray(argument).copy() for argument in arguments]
    try:
        result = function(*arguments)
    except Exception as error:
        shapes = ", ".join(str(np.shape(argument)) for argument in arguments)
        raise ContractError(
            f"{name} raised {error!r} for arguments of shapes {shapes}; any batch axes must do"
        ) from error
    for argument, copy in zip(arguments, before, strict=True):
        if not np.array_equal(argument, copy):
            raise ContractError(f"{name} changed its argument {copy} to {argument}; do not")
    return result


def follow(
    problem: ControlProblem,
    at: Points,
    control: Callable[..., Floats],
    dW: Floats,
    dt: float,
    flow: Callable[..., Floats],
) -> tuple[Floats, Floats]:
    """Simulate by Euler-Maruyama in unit coordinates over [t, t + dt], with edges obeyed.

    Actions are the nearest admissible ones, constrained components are held at their edges and reflecting ones folded,
    which leaves the scheme of weak order 1 (Bossy, Gobet and Talay, 2004).

    Args:
        problem: the problem whose coefficients are simulated.
        at: k points to start from.
        control: (t, x) -> a.
        dW: Brownian increments, (steps, k, d).
        dt: time to simulate.
        flow: (t, x, a) -> (k,), integrated with discounting.

    Returns:
        The unit coordinates at the end, (k, n), and int_0^dt e^{-rho s} flow ds, (k,), by left-hand sums.
    """
    h, x, u = dt / len(dW), at.x, problem.state.to_unit(at.x)
    total = np.zeros(len(x))
    for k, shock in enumerate(dW):
        t = at.t + k * h
        a = problem.admissible(t, x, control(t, x))
        total = total + np.exp(-problem.discount * k * h) * flow(t, x, a) * h
        drift, diffusion = problem.state.ito(x, problem.drift(t, x, a), problem.diffusion(t, x, a))
        u = u + drift * h + np.einsum("knd,kd->kn", diffusion, shock)
        x = problem.state.from_unit(u)
        if problem.state.closed.any():
            x = problem.state.confine(x)
            u = problem.state.to_unit(x)
    return u, total


def increments(rng: np.random.Generator, paths: int, noise_dim: int, dt: float) -> tuple[Floats, Floats, Floats]:
    """Draw fine and coarse increments of the same Brownian paths, (steps, paths, d), and W_dt / sqrt(dt), (paths, d).

    Args:
        rng: generator of the draws.
        paths: number of paths.
        noise_dim: d, the dimension of the Brownian motion.
        dt: length of the paths.
    """
    fine = rng.standard_normal((FINE_STEPS, paths, noise_dim)) * np.sqrt(dt / FINE_STEPS)
    return fine, fine[0::2] + fine[1::2], fine.sum(axis=0) / np.sqrt(dt)


def expectation(features: Floats, noise: Floats) -> tuple[Floats, Floats]:
    """Return mean and standard error (F,) of features (N, F), less what standard normals z (N, d) explain.

    Control variates are z and zz' - I.
    """
    rows, columns = np.triu_indices(noise.shape[1])
    products = noise[:, rows] * noise[:, columns] - (rows == columns)
    controls = np.hstack([np.ones((len(noise), 1)), noise, products])
    fitted, *_ = np.linalg.lstsq(controls, features, rcond=None)
    residual = features - controls @ fitted
    freedom = max(len(noise) - controls.shape[1], 1)
    return fitted[0], np.sqrt(np.sum(residual**2, axis=0) / freedom / len(noise))
