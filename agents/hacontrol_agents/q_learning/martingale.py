"""Martingale conditions for a value and a rate of advantage, and Newton's method for them.

The derivation is at the head of `q_learning`. Nothing here knows a problem: only what was observed, played and paid.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal, NamedTuple, TypeAlias, final

import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from hacontrol_agents.q_learning.value_and_rate import ValueAndRate

__all__ = [
    "Clock",
    "Linearisation",
    "Method",
    "Moments",
    "NewtonSteps",
    "Transitions",
    "increments",
    "precision",
]

Method: TypeAlias = Literal["moments", "martingale loss"]
"""Name of the martingale conditions that are solved."""

NUMBERS = 2_000_000
"""Most derivatives (transitions times parameters) computed at a time. Whole paths may have ten times as many."""

KEPT = 600_000_000
"""Most numbers of test functions that are kept in place of computing them again: 5 GB."""

SPARSE = 4
"""Stride of the transitions that count for the products of test functions, which only say how large moments are."""


class Transitions(NamedTuple):
    """Steps (K, N) of N paths in the order of time: K at least 1, every array with these two axes first."""

    s: Tensor
    """Observations before the step, (K, N, observations)."""
    u: Tensor
    """Actions played, after clipping, (K, N, m)."""
    reward: Tensor
    """Discounted reward of the step, int_0^dt e^{-rho s} r ds, (K, N)."""
    s_next: Tensor
    """Observations after the step, before any reset, (K, N, observations)."""
    terminated: Tensor
    """Whether the horizon was reached: nothing is worth anything from there on, (K, N) booleans."""
    cut: Tensor
    """Whether the path's next transition starts elsewhere, (K, N) booleans."""
    weight: Tensor | None = None
    """Positive factors of the test functions, (K, N), known when the action is chosen; None for 1."""


class Clock(NamedTuple):
    """Length of a step, and its discount."""

    dt: float
    """Length of a step in time."""
    gamma: float
    """Discount factor of a step, e^{-rho dt}."""

    @property
    def span(self) -> float:
        """Discounted time of a step, kappa = int_0^dt e^{-rho s} ds."""
        return self.dt if self.gamma == 1 else self.dt * (1 - self.gamma) / -math.log(self.gamma)


class Linearisation(NamedTuple):
    """Moments per unit of time, their derivative, and how well they are known."""

    g: Tensor
    """Moments (P,)."""
    A: Tensor
    """Jacobian of the moments (P, P)."""
    S: Tensor
    """Products of test functions (P, P)."""
    noise: float
    """With weights like 1/Var[delta | s, u], g has the Monte Carlo covariance `noise` S."""


def increments(pair: ValueAndRate, batch: Transitions, clock: Clock) -> Tensor:
    """Return delta = R + gamma V(X') - V(X) - kappa q(X, a), (K, N): increments of a martingale at the true (V, q).

    Args:
        pair, batch, clock: V and q; transitions (K, N) played; length and discount of their step.
    """
    s, u, s_next = (flat(part).to(batch.reward) for part in (batch.s, batch.u, batch.s_next))
    with torch.no_grad():
        going = (~batch.terminated).reshape(-1)
        ahead = clock.gamma * pair.value(s_next) * going - pair.value(s) - clock.span * pair.rate(s, u)
    return batch.reward + ahead.reshape(batch.reward.shape)


@final
class Moments:
    """Moments over batches of transitions, as functions of a pair's parameters.

    "moments": g = mean of zeta delta with zeta = (dV/d theta, dq/d psi).
    "martingale loss": of V instead the gradient of 1/2 mean of G^2, where G, the sum of gamma^j delta_j from a step to
    the end of its path, is M_end - M_t, and the value at the end is not differentiated.

    Test functions are those of the parameters at which `linearised` was called first, or first after `fix`. From then
    on they, and S and noise with them, stay what they are.
    """

    def __init__(self, pair: ValueAndRate, batches: Sequence[Transitions], clock: Clock, method: Method) -> None:
        self.pair, self.batches, self.clock, self.method = pair, list(batches), clock, method
        count = sum(batch.reward.numel() for batch in batches)
        self._time, self._keeps = clock.dt * count, count * sum(p.numel() for p in pair.parameters()) <= KEPT
        self._forget()

    def fix(self) -> None:
        """Weigh all transitions by the pair as it is, and take test functions, S and noise from the pair now."""
        self.batches = [batch._replace(weight=precision(self.pair, batch, self.clock)) for batch in self.batches]
        self._forget()

    def _forget(self) -> None:
        self._at: Tensor | None = None
        self._kept: list[Tensor] = []

    @torch.no_grad()
    def linearised(self) -> Linearisation:
        """Return the moments and their derivative at the present parameters."""
        if self._at is None:
            self._choose()
        total = _sum(
            self._product(part, test, torch.cat([self._increments(part), self._slopes(part)], dim=1))
            for part, test in self._tested()
        )
        return Linearisation(total[:, 0] / self._time, total[:, 1:] / self._time, self._S, self._noise)

    @torch.no_grad()
    def g(self) -> Tensor:
        """Return the moments g (P,) at the present parameters."""
        sums = _sum(self._product(part, test, self._increments(part)) for part, test in self._tested())
        return sums[:, 0] / self._time

    def _choose(self) -> None:
        """Take the test functions of the pair as it is."""
        self._at, squares, products = parameters_to_vector(self.pair.parameters()).clone(), 0.0, []
        for part in self._parts():
            test = self._tests(part)
            weighted = test if part.weight is None else test * part.weight.reshape(-1, 1)
            weight = torch.ones_like(test[:, 0]) if part.weight is None else part.weight.reshape(-1)
            squares += float(weight @ self._increments(part)[:, 0].square())
            products.append(SPARSE * weighted[::SPARSE].T @ test[::SPARSE])
            if self._keeps:
                self._kept.append(weighted)
        self._noise: float = squares * self.clock.dt / self._time**2
        self._S = _sum(products) / self._time

    def _tested(self) -> Iterator[tuple[Transitions, Tensor]]:
        """Yield parts of the transitions with their weighted test functions (rows, P)."""
        assert self._at is not None
        if self._kept:
            yield from zip(self._parts(), self._kept, strict=True)
            return
        here = parameters_to_vector(self.pair.parameters())
        for part in self._parts():
            vector_to_parameters(self._at, self.pair.parameters())
            test = self._tests(part)
            vector_to_parameters(here, self.pair.parameters())
            yield part, test if part.weight is None else test * part.weight.reshape(-1, 1)

    def _parts(self) -> Iterator[Transitions]:
        rows = max(NUMBERS // sum(p.numel() for p in self.pair.parameters()), 1)
        for batch in self.batches:
            steps, paths = batch.reward.shape
            across = paths if self.method == "moments" else min(max(10 * rows // steps, 1), paths)
            along = max(rows // across, 1) if self.method == "moments" else steps
            for i in range(0, steps, along):
                for j in range(0, paths, across):
                    yield Transitions(*(None if x is None else x[i : i + along, j : j + across] for x in batch))  # type: ignore[arg-type]

    def _tests(self, part: Transitions) -> Tensor:
        """Return dV/d theta and dq/d psi, (rows, P)."""
        s, u = (flat(x).to(part.reward) for x in (part.s, part.u))
        return torch.cat([self.pair.value_gradient(s)[1], self.pair.rate_gradient(s, u)[1]], dim=1)

    def _increments(self, part: Transitions) -> Tensor:
        """Return delta, (rows, 1)."""
        return increments(self.pair, part, self.clock).reshape(-1, 1)

    def _slopes(self, part: Transitions) -> Tensor:
        """Return derivatives of delta in the parameters, (rows, P)."""
        s, u, s_next = (flat(x).to(part.reward) for x in (part.s, part.u, part.s_next))
        going = self.clock.gamma * (~part.terminated).reshape(-1, 1)
        of_value = self.pair.value_gradient(s_next)[1].mul_(going).sub_(self.pair.value_gradient(s)[1])
        return torch.cat([of_value, self.pair.rate_gradient(s, u)[1].mul_(-self.clock.span)], dim=1)

    def _product(self, part: Transitions, weighted: Tensor, each: Tensor) -> Tensor:
        """Return sums of test functions times what the conditions of V and those of q are about, (P, columns)."""
        if self.method == "moments":
            return weighted.T @ each
        to_go = _to_go(each.reshape(*part.reward.shape, -1), part.cut, self.clock.gamma).reshape(each.shape)
        of_value = self.pair.value_size
        return torch.cat([weighted[:, :of_value].T @ to_go, weighted[:, of_value:].T @ each])


def _sum(terms: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(terms)).sum(0)


def _to_go(x: Tensor, cut: Tensor, gamma: float) -> Tensor:
    """Return sums of gamma^j x_j from each step to the end of its path, (K, N, ...)."""
    out, carried = torch.empty_like(x), torch.zeros_like(x[0])
    for k in range(len(x) - 1, -1, -1):
        carried = x[k] + gamma * carried * (~cut[k])[:, None]
        out[k] = carried
    return out


@final
class NewtonSteps:
    """Gauss-Newton steps to the mode of what moments and a prior say: quasi-Bayesian GMM (Chernozhukov and Hong, 2003).

    r = S^{-1/2}g are moments in units of their test functions, v each one's Monte Carlo variance. Minimised is

        |r|^2 / v + sum_i (theta_i - theta0_i)^2 / prior_i^2,    theta0 the parameters at the start of learning,

    so that what moments hardly determine stays where it was. (With the "martingale loss" V's moments are noisier
    than v says: they weigh too much against the prior, and more of them than `far` may be left.) Rounds follow each
    other. In one the test functions with their weights, S and v stay what they were at its start, as instruments do
    in the generalised method of moments (Hansen, 1982): r's derivative is J = S^{-1/2}A, and any step that is
    damped enough is a descent. A step solves (H + damping diag H) d = -gradient/2 with H = J'J/v +
    diag(prior^{-2}), and is shortened until no maximiser, nor what describes a curvature, moves by more than
    `reach` at the states `look`. A round ends with a step that gains no more than `enough`, and learning with a
    round that gains no more: the units are those of chi-square.

    Args:
        pair: what is learnt.
        prior: deviation of every parameter (P,), may be infinite.
        enough: what is not worth another step, for each parameter.
    """

    first_damping, least_damping, most_damping = 1e-4, 1e-12, 1e6
    """Damping of a round's first step; bounds of the damping, beyond the last of which a round gives up."""
    reach = 0.5
    """Largest move in a step of a maximiser, in half-widths of its box, or of what describes a curvature."""
    far, tries = 1.5, 3
    """Root mean square of the moments, in Monte Carlo errors, above which other starts are tried; most such starts."""

    def __init__(self, pair: ValueAndRate, prior: Tensor | float = math.inf, enough: float = 0.01) -> None:
        self.pair = pair
        self._centre = self._here()
        self._enough = enough * len(self._centre)
        deviation = torch.as_tensor(prior).to(self._centre).expand_as(self._centre)
        self._pull, self._spread = deviation**-2, torch.where(deviation.isinf(), 0.0, deviation) / 2

    def run(self, moments: Moments, look: Tensor, steps: int, seed: int = 0) -> float:
        """Take at most `steps` steps; return the root mean square of the moments, in Monte Carlo errors, at the end.

        Where more than `far` is left, a descent has ended in a corner from which none leads out. Then as many steps are
        tried from up to `tries` other starts, drawn from the prior by `seed`, and the best end is kept.

        Args:
            moments, look: the moments; states (N, observations) at which the reach of a step is measured.
            steps, seed: most steps from a start; seed of the other starts.
        """
        draws = torch.Generator().manual_seed(seed)
        size = self._rounds(moments, look, steps)
        end = self._here()
        for _ in range(self.tries):
            if size <= self.far:
                break
            z = torch.randn(len(end), generator=draws, dtype=end.dtype).to(end)
            vector_to_parameters(self._centre + self._spread * z, self.pair.parameters())
            again = self._rounds(moments, look, steps)
            if again < size or math.isnan(size):
                size, end = again, self._here()
        vector_to_parameters(end, self.pair.parameters())
        return size

    def _rounds(self, moments: Moments, look: Tensor, steps: int) -> float:
        size, gained = math.nan, math.inf
        while steps > 0 and gained > self._enough:
            moments.fix()
            steps, gained, size = self._round(moments, look, steps)
        return size

    def _round(self, moments: Moments, look: Tensor, steps: int) -> tuple[int, float, float]:
        """Return how many steps are left then, what was gained, and the size of the moments."""
        damping, total, gained = self.first_damping, 0.0, math.inf
        system = _System(moments.linearised())
        g = system.g
        while steps > 0 and gained > self._enough:
            start = self._here()
            before = now = self._objective(system, g)
            direction = system.direction(self._pull, self._pull * (start - self._centre))
            while True:
                self._move(start, direction(damping), look)
                g = moments.g()
                now = self._objective(system, g)
                if now < before:
                    break
                vector_to_parameters(start, self.pair.parameters())
                damping *= 4
                if damping > self.most_damping:
                    return steps, total, system.length(system.g)
            steps, damping, gained = steps - 1, max(damping / 5, self.least_damping), before - now
            total += gained
            if gained > self._enough:
                system = system.at(moments.linearised())
        return steps, total, system.length(g)

    def _here(self) -> Tensor:
        return parameters_to_vector(self.pair.parameters()).detach().clone()

    def _objective(self, system: _System, g: Tensor) -> float:
        return system.square(g) + float((self._pull * (self._here() - self._centre) ** 2).sum())

    @torch.no_grad()
    def _move(self, start: Tensor, step: Tensor, look: Tensor) -> None:
        vector_to_parameters(start, self.pair.parameters())
        before = self._shape(look)
        for _ in range(30):
            vector_to_parameters(start + step, self.pair.parameters())
            if float((self._shape(look) - before).abs().max()) <= self.reach:
                return
            step = step / 2

    def _shape(self, look: Tensor) -> Tensor:
        shape = self.pair.shape(look)
        return torch.cat([shape.mean, shape.raw], dim=1)


class _System:
    """One linearisation in units of Monte Carlo error: r = S^{-1/2}g / sqrt(v) and its derivative J."""

    def __init__(self, given: Linearisation, factor: Tensor | None = None) -> None:
        if factor is None:
            S = given.S.clone()
            S.diagonal().add_(1e-10 * S.diagonal().mean())
            factor = torch.linalg.cholesky(S) * math.sqrt(given.noise)
        self._factor, self.g = factor, given.g
        both = torch.linalg.solve_triangular(factor, torch.column_stack([given.g, given.A]), upper=False)
        self.r, self.J = both[:, 0], both[:, 1:]

    def at(self, given: Linearisation) -> _System:
        """Return another linearisation in the same units."""
        return _System(given, self._factor)

    def length(self, g: Tensor) -> float:
        """Return the root mean square of r where the moments are g."""
        return math.sqrt(self.square(g) / len(g))

    def square(self, g: Tensor) -> float:
        """Return the squared length of r where the moments are g."""
        return float(torch.linalg.solve_triangular(self._factor, g[:, None], upper=False).square().sum())

    def direction(self, pull: Tensor, pulled: Tensor) -> Callable[[float], Tensor]:
        """Return damping -> Gauss-Newton step of |r|^2 and a quadratic with Hessian 2 diag(pull), gradient 2 pulled."""
        normal = self.J.T @ self.J
        normal.diagonal().add_(pull)
        slope, diagonal = self.J.T @ self.r + pulled, normal.diagonal().clone()

        def step(damping: float) -> Tensor:
            damped = normal.clone()
            damped.diagonal().add_(damping * diagonal)
            found: Tensor = torch.linalg.solve(damped, -slope)
            return found

        return step


@torch.no_grad()
def precision(pair: ValueAndRate, batch: Transitions, clock: Clock) -> Tensor:
    """Return weights (K, N) like 1/Var[delta | s, u], with which the conditions are known best: exp of a quadratic in
    (s, u).

    log delta^2 has the mean log Var[delta] + constant where delta is a multiple of a normal variable, so that least
    squares finds the quadratic. Weights are within a factor 100 of their median; any function of (s, u) would be right.

    Args:
        pair, batch, clock: V and q; transitions (K, N) played; length and discount of their step.
    """
    delta = increments(pair, batch, clock).reshape(-1)
    known = torch.cat([flat(batch.s).to(delta), flat(batch.u).to(delta)], dim=1)
    i, j = torch.triu_indices(known.shape[1], known.shape[1])
    features = torch.cat([torch.ones_like(known[:, :1]), known, known[:, i] * known[:, j]], dim=1)
    square = delta.square()
    log = torch.log(square + 1e-6 * square.mean())
    ridge = 1e-9 * len(delta) * torch.eye(features.shape[1]).to(delta)
    fitted = features @ torch.linalg.solve(features.T @ features + ridge, features.T @ log)
    return torch.exp((fitted.median() - fitted).clamp(-4.6, 4.6)).reshape(batch.reward.shape)


def flat(x: Tensor) -> Tensor:
    """Return x with its two first axes as one."""
    return x.reshape(-1, *x.shape[2:])
