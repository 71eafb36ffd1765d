"""Martingale conditions for a value and a rate of advantage, and Newton's method for them.

The derivation is at the head of `q_learning`. Nothing here knows a problem: only what was observed, played and paid.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, TypeAlias, final

import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from hacontrol_agents.value_and_rate import ValueAndRate

__all__ = [
    "Clock",
    "Conditions",
    "Method",
    "NewtonSteps",
    "Transitions",
    "increments",
    "linearise",
    "mean",
    "precision",
]

Method: TypeAlias = Literal["moments", "martingale loss"]

NUMBERS = 2_000_000
"""Derivatives at a time: transitions times parameters. Whole paths may have ten times as many."""

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


@torch.no_grad()
def linearise(pair: ValueAndRate, batch: Transitions, clock: Clock, method: Method) -> Conditions:
    """The conditions at the present parameters, over all transitions, with test functions dV/d theta and dq/d psi.

    "moments": g = mean of (dV/d theta, dq/d psi) delta.
    "martingale loss": of V instead the gradient of 1/2 mean of G^2, where G, the sum of gamma^j delta_j from a step to
    the end of its path, is M_end - M_t, and the value at the end is not differentiated.
    """
    steps, paths = batch.reward.shape
    total: list[Tensor] = []
    rows = max(NUMBERS // sum(p.numel() for p in pair.parameters()), 1)
    across = paths if method == "moments" else min(max(10 * rows // steps, 1), paths)
    along = max(rows // across, 1) if method == "moments" else steps
    for i in range(0, steps, along):
        for j in range(0, paths, across):
            part = Transitions(*(None if x is None else x[i : i + along, j : j + across] for x in batch))  # type: ignore[arg-type]
            sums = _sums(pair, part, clock, method)
            total = [old + new for old, new in zip(total, sums, strict=True)] if total else list(sums)
    time = steps * paths * clock.dt
    return Conditions(*(each / time for each in total))


def _sums(pair: ValueAndRate, batch: Transitions, clock: Clock, method: Method) -> tuple[Tensor, Tensor, Tensor]:
    shape = batch.reward.shape
    s, u, s_next = (flat(part).to(batch.reward) for part in (batch.s, batch.u, batch.s_next))
    going = (~batch.over).reshape(-1)
    v, v_gradient = pair.value_gradient(s)
    v_next, v_next_gradient = pair.value_gradient(s_next)
    q, q_gradient = pair.rate_gradient(s, u)
    delta = batch.reward.reshape(-1) + clock.gamma * v_next * going - v - clock.span * q
    slope = torch.cat([clock.gamma * v_next_gradient * going[:, None] - v_gradient, -clock.span * q_gradient], dim=1)
    each = torch.cat([delta[:, None], slope], dim=1)
    to_go = each
    if method == "martingale loss":
        to_go = _to_go(each.reshape(*shape, -1), batch.cut, clock.gamma).reshape(each.shape)
    test = torch.cat([v_gradient, q_gradient], dim=1)
    weighted = test if batch.weight is None else test * batch.weight.reshape(-1, 1)
    of_value = v_gradient.shape[1]
    product = torch.cat([weighted[:, :of_value].T @ to_go, weighted[:, of_value:].T @ each])
    return product[:, 0], product[:, 1:], SPARSE * weighted[::SPARSE].T @ test[::SPARSE]


def _to_go(x: Tensor, cut: Tensor, gamma: float) -> Tensor:
    """Sums of gamma^j x_j from each step to the end of its path, (K, N, ...)."""
    out, carried = torch.empty_like(x), torch.zeros_like(x[0])
    for k in range(len(x) - 1, -1, -1):
        carried = x[k] + gamma * carried * (~cut[k])[:, None]
        out[k] = carried
    return out


@final
class NewtonSteps:
    """Gauss-Newton on 1/2 g'S^{-1}g, the moments in units of their test functions, damped as Marquardt does.

    A step solves (J'J + damping D) d = -J'r with r = S^{-1/2}g, J = S^{-1/2}A and D = diag(J'J), floored at `floor`
    times its largest entry. It is shortened until no maximiser or logarithm of a curvature's factor at the states
    `look` moves by more than `reach`. It is kept if r, each time in units of its own test functions, got shorter; then
    the damping is lowered, otherwise raised. It never falls below `least`: moments are known to Monte Carlo error, and
    what they hardly determine should stay where it is.
    """

    floor = 1e-3
    reach = 0.5
    most = 1e6

    def __init__(self, pair: ValueAndRate, least: float = 1e-6) -> None:
        self.pair, self.least, self.damping = pair, least, max(1e-4, least)

    def run(self, conditions: Callable[[], Conditions], look: Tensor, steps: int, enough: float = 0.0) -> float:
        """At most `steps` steps, each with one pass over the data, until r is no longer than `enough`; its length."""
        system = _System(conditions())
        for _ in range(steps):
            if system.size <= enough:
                break
            start = parameters_to_vector(self.pair.parameters()).detach()
            self._move(start, system.step(self.damping, self.floor), look)
            then = _System(conditions())
            if then.size < system.size:
                system, self.damping = then, max(self.damping / 10, self.least)
            else:
                vector_to_parameters(start, self.pair.parameters())
                self.damping = min(4 * self.damping, self.most)
        return system.size

    @torch.no_grad()
    def _move(self, start: Tensor, step: Tensor, look: Tensor) -> None:
        before = self.pair.head(look)
        for _ in range(30):
            vector_to_parameters(start + step, self.pair.parameters())
            if float((self.pair.head(look) - before).abs().max()) <= self.reach:
                return
            step = step / 2


class _System:
    """One linearisation: r = S^{-1/2}g, J = S^{-1/2}A and the length of r."""

    def __init__(self, at: Conditions) -> None:
        S = at.S.clone()
        S.diagonal().add_(1e-10 * S.diagonal().mean())
        both = torch.linalg.solve_triangular(torch.linalg.cholesky(S), torch.column_stack([at.g, at.A]), upper=False)
        self.r, self.J = both[:, 0], both[:, 1:]
        self.size = float(self.r.norm())

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


def mean(each: list[Conditions], weights: Sequence[float]) -> Conditions:
    """Conditions over several batches."""
    total = sum(weights)
    columns = zip(*each, strict=True)
    return Conditions(*(sum(w * x for w, x in zip(weights, c, strict=True)) / total for c in columns))  # type: ignore[arg-type]


def flat(x: Tensor) -> Tensor:
    """The two first axes as one."""
    return x.reshape(-1, *x.shape[2:])
