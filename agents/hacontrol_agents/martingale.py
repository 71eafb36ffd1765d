"""Martingale conditions for a value and a rate of advantage, and Newton's method for them.

The derivation is at the head of `q_learning`. Nothing here knows a problem: only what was observed, played and paid.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple, TypeAlias, final

import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from hacontrol_agents.value_and_rate import ValueAndRate

__all__ = [
    "Clock",
    "Conditions",
    "Method",
    "Moments",
    "NewtonSteps",
    "Transitions",
    "increments",
    "precision",
]

Method: TypeAlias = Literal["moments", "martingale loss"]

NUMBERS = 2_000_000
"""Derivatives at a time: transitions times parameters. Whole paths may have ten times as many."""

GAIN = 0.9
"""A step that leaves more than this share of the moments' length has not shortened it."""

SOLVED = 0.1
"""Moments with given test functions are solved when this share of their Monte Carlo error is left."""

SPARSE = 4
"""Every so many transitions count for the products of test functions, which only say how large moments are."""


class Transitions(NamedTuple):
    """Steps (K, N) of N paths in the order of time: K at least 1, every array with these two axes first."""

    s: Tensor
    """What was observed, (K, N, observations)."""
    u: Tensor
    """What was played, after clipping, (K, N, m)."""
    reward: Tensor
    """int_0^dt e^{-rho s} r ds, (K, N)."""
    s_next: Tensor
    """What was observed after the step, before any reset, (K, N, observations)."""
    over: Tensor
    """Whether the horizon was reached: nothing is worth anything from there on, (K, N) booleans."""
    cut: Tensor
    """Whether the path's next transition starts elsewhere, (K, N) booleans."""
    weight: Tensor | None = None
    """Positive factors of the test functions, (K, N), known when the action is chosen; None for 1."""


class Clock(NamedTuple):
    """What a step of length dt means."""

    dt: float
    gamma: float
    """e^{-rho dt}."""

    @property
    def span(self) -> float:
        """kappa = int_0^dt e^{-rho s} ds, discounted time of a step."""
        return self.dt if self.gamma == 1 else self.dt * (1 - self.gamma) / -float(torch.tensor(self.gamma).log())


class Conditions(NamedTuple):
    """Means per unit of time: moments g (P,), their Jacobian A (P, P), and products of test functions S (P, P)."""

    g: Tensor
    A: Tensor
    S: Tensor


def increments(pair: ValueAndRate, batch: Transitions, clock: Clock) -> Tensor:
    """delta = R + gamma V(X') - V(X) - kappa q(X, a), (K, N): increments of a martingale at the true (V, q)."""
    s, u, s_next = (flat(part).to(batch.reward) for part in (batch.s, batch.u, batch.s_next))
    with torch.no_grad():
        going = (~batch.over).reshape(-1)
        ahead = clock.gamma * pair.value(s_next) * going - pair.value(s) - clock.span * pair.rate(s, u)
    return batch.reward + ahead.reshape(batch.reward.shape)


@final
class Moments:
    """The conditions over batches of transitions, as functions of a pair's parameters.

    "moments": g = mean of zeta delta with zeta = (dV/d theta, dq/d psi).
    "martingale loss": of V instead the gradient of 1/2 mean of G^2, where G, the sum of gamma^j delta_j from a step to
    the end of its path, is M_end - M_t, and the value at the end is not differentiated.
    """

    def __init__(self, pair: ValueAndRate, batches: Sequence[Transitions], clock: Clock, method: Method) -> None:
        self.pair, self.batches, self.clock, self.method = pair, batches, clock, method
        self._time = clock.dt * sum(batch.reward.numel() for batch in batches)

    @torch.no_grad()
    def linearised(self, at: Tensor | None = None) -> Conditions:
        """At the present parameters, with test functions at the parameters `at` (P,), which need not be the same."""
        here = parameters_to_vector(self.pair.parameters())
        total: list[Tensor] = []
        for part in self._parts():
            s, u = (flat(x).to(part.reward) for x in (part.s, part.u))
            own = self._tests(s, u)
            test = own if at is None else self._tests_at(at, here, s, u)
            weighted = _weighted(test, part)
            each = self._increments(part, own)
            found = self._product(part, weighted, each)
            sums = found[:, 0], found[:, 1:], SPARSE * weighted[::SPARSE].T @ test[::SPARSE]
            total = [old + new for old, new in zip(total, sums, strict=True)] if total else list(sums)
        return Conditions(*(each / self._time for each in total))

    @torch.no_grad()
    def moved(self, at: Tensor) -> Tensor:
        """g (P,) at the present parameters, with test functions at the parameters `at`."""
        here = parameters_to_vector(self.pair.parameters())
        total = torch.zeros_like(here)
        for part in self._parts():
            s, u = (flat(x).to(part.reward) for x in (part.s, part.u))
            weighted = _weighted(self._tests_at(at, here, s, u), part)
            total += self._product(part, weighted, self._increments(part))[:, 0]
        return total / self._time

    def _parts(self) -> Iterator[Transitions]:
        rows = max(NUMBERS // sum(p.numel() for p in self.pair.parameters()), 1)
        for batch in self.batches:
            steps, paths = batch.reward.shape
            across = paths if self.method == "moments" else min(max(10 * rows // steps, 1), paths)
            along = max(rows // across, 1) if self.method == "moments" else steps
            for i in range(0, steps, along):
                for j in range(0, paths, across):
                    yield Transitions(*(None if x is None else x[i : i + along, j : j + across] for x in batch))  # type: ignore[arg-type]

    def _tests(self, s: Tensor, u: Tensor) -> Tensor:
        """Test functions (rows, P)."""
        return torch.cat([self.pair.value_gradient(s)[1], self.pair.rate_gradient(s, u)[1]], dim=1)

    def _tests_at(self, at: Tensor, here: Tensor, s: Tensor, u: Tensor) -> Tensor:
        """The same at other parameters than those here."""
        vector_to_parameters(at, self.pair.parameters())
        test = self._tests(s, u)
        vector_to_parameters(here, self.pair.parameters())
        return test

    def _increments(self, part: Transitions, test: Tensor | None = None) -> Tensor:
        """delta (rows, 1); where test functions are given, followed by its derivatives, (rows, 1 + P)."""
        delta = increments(self.pair, part, self.clock).reshape(-1, 1)
        if test is None:
            return delta
        s_next, going = flat(part.s_next).to(delta), (~part.over).reshape(-1, 1)
        ahead = self.pair.value_gradient(s_next)[1]
        own, rate = test[:, : ahead.shape[1]], test[:, ahead.shape[1] :]
        return torch.cat([delta, self.clock.gamma * ahead * going - own, -self.clock.span * rate], dim=1)

    def _product(self, part: Transitions, weighted: Tensor, each: Tensor) -> Tensor:
        """Sums of test functions times what the conditions of V and those of q are about, (P, columns)."""
        if self.method == "moments":
            return weighted.T @ each
        to_go = _to_go(each.reshape(*part.reward.shape, -1), part.cut, self.clock.gamma).reshape(each.shape)
        of_value = self.pair.value_size
        return torch.cat([weighted[:, :of_value].T @ to_go, weighted[:, of_value:].T @ each])


def _weighted(test: Tensor, part: Transitions) -> Tensor:
    return test if part.weight is None else test * part.weight.reshape(-1, 1)


def _to_go(x: Tensor, cut: Tensor, gamma: float) -> Tensor:
    """Sums of gamma^j x_j from each step to the end of its path, (K, N, ...)."""
    out, carried = torch.empty_like(x), torch.zeros_like(x[0])
    for k in range(len(x) - 1, -1, -1):
        carried = x[k] + gamma * carried * (~cut[k])[:, None]
        out[k] = carried
    return out


@final
class NewtonSteps:
    """Gauss-Newton on the length of r = S^{-1/2}g, moments in units of their test functions, damped as Marquardt does.

    Rounds follow each other. In one the test functions and S stay what they were at its start, as instruments do in the
    generalised method of moments (Hansen, 1982), so that J = S^{-1/2}A is all of r's derivative and any step that is
    damped enough is a descent. A step solves (J'J + damping D) d = -J'r with D = diag(J'J), floored at `floor` times
    its largest entry, and is shortened until no maximiser, nor what describes a curvature, moves by more than `reach`
    at the states and actions `look`. If r got shorter it is kept and the damping falls, otherwise that rises; it never
    falls below `least`: moments are known to Monte Carlo error, and what they hardly determine should stay where it is.
    """

    first, most = 1e-4, 1e6
    floor = 1e-3
    reach = 0.5

    def __init__(self, pair: ValueAndRate, least: float = 1e-6) -> None:
        self.pair, self.least = pair, least

    def run(self, moments: Moments, look: tuple[Tensor, Tensor], steps: int, enough: float = 0.0) -> float:
        """At most `steps` steps, until r is no longer than `enough` and a round no longer shortens it; its length."""
        before = math.inf
        while steps > 0:
            system = _System(moments.linearised())
            if system.size <= enough and not system.size < GAIN * before:
                return system.size
            before, steps = system.size, self._round(system, moments, look, steps, enough)
        return _System(moments.linearised()).size

    def _round(self, system: _System, moments: Moments, look: tuple[Tensor, Tensor], steps: int, enough: float) -> int:
        """Steps with the test functions of the parameters now, as long as each shortens r; how many are left then."""
        at = parameters_to_vector(self.pair.parameters()).detach().clone()
        damping, before = max(self.first, self.least), math.inf
        while steps > 0 and system.size > SOLVED * enough and system.size < GAIN * before:
            before, start = system.size, parameters_to_vector(self.pair.parameters()).detach().clone()
            while True:
                self._move(start, system.step(damping, self.floor), look)
                if system.length(moments.moved(at)) < system.size:
                    break
                vector_to_parameters(start, self.pair.parameters())
                damping *= 4
                if damping > self.most:
                    return 0
            steps, damping = steps - 1, max(damping / 10, self.least)
            system = system.at(moments.linearised(at))
        return steps

    @torch.no_grad()
    def _move(self, start: Tensor, step: Tensor, look: tuple[Tensor, Tensor]) -> None:
        vector_to_parameters(start, self.pair.parameters())
        before = self._shape(look)
        for _ in range(30):
            vector_to_parameters(start + step, self.pair.parameters())
            if float((self._shape(look) - before).abs().max()) <= self.reach:
                return
            step = step / 2

    def _shape(self, look: tuple[Tensor, Tensor]) -> Tensor:
        shape = self.pair.shape(*look)
        return torch.cat([shape.mean, shape.raw], dim=1)


class _System:
    """One linearisation: r = S^{-1/2}g, J = S^{-1/2}A and the length of r."""

    def __init__(self, conditions: Conditions, factor: Tensor | None = None) -> None:
        if factor is None:
            S = conditions.S.clone()
            S.diagonal().add_(1e-10 * S.diagonal().mean())
            factor = torch.linalg.cholesky(S)
        self._factor = factor
        both = torch.linalg.solve_triangular(factor, torch.column_stack([conditions.g, conditions.A]), upper=False)
        self.r, self.J = both[:, 0], both[:, 1:]
        self.size = float(self.r.norm())

    def at(self, conditions: Conditions) -> _System:
        """Other conditions in the same units."""
        return _System(conditions, self._factor)

    def length(self, g: Tensor) -> float:
        """Of r where the moments are g."""
        return float(torch.linalg.solve_triangular(self._factor, g[:, None], upper=False).norm())

    def step(self, damping: float, floor: float) -> Tensor:
        """The damped Gauss-Newton step."""
        normal = self.J.T @ self.J
        diagonal = normal.diagonal().clone()
        normal.diagonal().add_(damping * diagonal.clamp(min=floor * float(diagonal.max())))
        found: Tensor = torch.linalg.solve(normal, -self.J.T @ self.r)
        return found


@torch.no_grad()
def precision(pair: ValueAndRate, batch: Transitions, clock: Clock) -> Tensor:
    """Weights (K, N) like 1/Var[delta | s], with which the conditions are known best: exp of a quadratic in s.

    log delta^2 has the mean log Var[delta] + constant where delta is a multiple of a normal variable, so that least
    squares finds the quadratic. Weights are within a factor 100 of their median; any function of s would be right.
    """
    s = flat(batch.s).to(batch.reward)
    i, j = torch.triu_indices(s.shape[1], s.shape[1])
    features = torch.cat([torch.ones_like(s[:, :1]), s, s[:, i] * s[:, j]], dim=1)
    square = increments(pair, batch, clock).reshape(-1).square()
    log = torch.log(square + 1e-6 * square.mean())
    ridge = 1e-9 * len(s) * torch.eye(features.shape[1]).to(s)
    fitted = features @ torch.linalg.solve(features.T @ features + ridge, features.T @ log)
    return torch.exp((fitted.median() - fitted).clamp(-4.6, 4.6)).reshape(batch.reward.shape)


def flat(x: Tensor) -> Tensor:
    """The two first axes as one."""
    return x.reshape(-1, *x.shape[2:])
