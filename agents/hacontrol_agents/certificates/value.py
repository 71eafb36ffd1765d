"""Value: a function to compare values with, a base with a polynomial correction, and the weight that sizes errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias, final

import numpy as np
import torch

from hacontrol_agents.certificates.candidate import Barrier
from hacontrol_agents.certificates.coordinates import Coordinates, lifetime
from hacontrol_agents.certificates.expansion import Expansion, Motion
from hacontrol_agents.core.greedy import greedy
from hacontrol_envs import Jet
from hacontrol_envs.arrays import Floats

JetFunction: TypeAlias = Callable[[Any, Floats], Jet]
"""Function (t, x) -> V with its derivatives."""


class Rates(NamedTuple):
    """What a value says at points (t, x) under actions a."""

    t: Floats
    """Times, (N,)."""
    x: Floats
    """States, (N, n)."""
    a: Floats
    """Actions, (N, m)."""
    s: Floats
    """Points in `Coordinates`, (N, k)."""
    drift: Floats
    """Their drift, (N, k)."""
    columns: Floats
    """Their noise columns, (N, k, d)."""
    value: Floats
    """V, (N,)."""
    residual: Floats
    """h = r + V_t + L^a V - rho V, (N,)."""
    weight: Floats
    """psi = (V0^2 + c^2)^(1/2), (N,)."""
    yielded: Floats
    """rho - (psi_t + L^a psi)/psi, the rate at which psi-weighted paths are discounted, (N,)."""
    pull: Floats
    """sigma' grad log psi, (N, d): what weighting by psi adds to the noise."""
    size: Floats
    """|r| + psi over a lifetime, the size of the equation's terms, (N,)."""

    @property
    def motion(self) -> Motion:
        """Motion of the points."""
        return Motion(self.drift, self.columns)

    @property
    def weighted_drift(self) -> Floats:
        """Drift under the law weighted by psi, (N, k)."""
        drift: Floats = self.drift + (self.columns @ self.pull[:, :, None])[:, :, 0]
        return drift

    def excess(self, barrier: Barrier) -> Floats:
        """Return (L - rate) e, (N,), with L the generator under the law weighted by psi."""
        e, slope, bend = barrier.jet(self.s[:, barrier.i])
        drift, variance = self.weighted_drift[:, barrier.i], (self.columns[:, barrier.i] ** 2).sum(axis=1)
        found: Floats = drift * slope + variance / 2 * bend - self.yielded * e
        return found

    def select(self, rows: Any) -> Rates:
        """Return the rates at some rows, given as a mask or as indices."""
        return Rates(*(part[rows] for part in self))

    def joined(self, other: Rates) -> Rates:
        """Return these rates followed by others."""
        return Rates(*(np.concatenate(pair) for pair in zip(self, other, strict=True)))

    def replaced(self, rows: Any, other: Rates) -> Rates:
        """Return these rates with those of another at rows given as a mask (N,)."""
        pairs = zip(self, other, strict=True)
        return Rates(*(np.where(rows.reshape(-1, *[1] * (one.ndim - 1)), two, one) for one, two in pairs))


@final
class Value:
    """V = V0 + b p, with V0 a base, p polynomials, b a factor, and psi = (V0^2 + c^2)^(1/2) the weight of errors.

    The weight is positive, of the size of V where that is large and of c elsewhere. Under it an error of V counts
    relative to V itself at states where V is far from its size at the starts, as at high risk aversion. The factor b is
    psi where corrections are to be relative, else one number.
    """

    def __init__(
        self,
        coordinates: Coordinates,
        base: JetFunction,
        scale: float | None,
        factor: float | None = None,
        terms: tuple[tuple[Expansion, Floats], ...] = (),
        share: float = 0.0,
    ) -> None:
        """Combine a base and its corrections.

        Args:
            coordinates: coordinates of the problem.
            base: V0 with its derivatives.
            scale: c; 0 where V0 has no zeros; None for a psi that is `factor` everywhere.
            factor: the number b; None for psi.
            terms: polynomials with their weights.
            share: multiple of psi that is added.
        """
        self.coordinates, self.problem, self.base = coordinates, coordinates.problem, base
        self.scale, self.factor, self.terms, self.share = scale, factor, terms, share

    @property
    def lasting(self) -> float:
        """What a reward of one for all time is worth: 1/rho, or T if that is less."""
        rho, horizon = self.problem.discount, self.problem.horizon
        return min(1 / rho if rho > 0 else np.inf, np.inf if horizon is None else horizon)

    def plus(self, expansion: Expansion, weights: Floats) -> Value:
        """Return V plus the factor times a sum of polynomials with weights (K,)."""
        terms = (*self.terms, (expansion, weights))
        return Value(self.coordinates, self.base, self.scale, self.factor, terms, self.share)

    def lifted(self, share: float) -> Value:
        """Return V + share psi."""
        return Value(self.coordinates, self.base, self.scale, self.factor, self.terms, self.share + share)

    def _parts(self, t: Floats, x: Floats) -> tuple[Jet, tuple[Floats, ...], tuple[Floats, ...], Floats]:
        """Return V0's jet, V and psi with gradients and Hessians in s, and s."""
        with np.errstate(all="ignore"):
            jet, s = self.base(t, x), self.coordinates.of(t, x)
            v, slope, bend = self.coordinates.inward(x, jet)
            psi, psi_slope, psi_bend = self._weight(v, slope, bend)
            if self.share:
                v, slope, bend = v + self.share * psi, slope + self.share * psi_slope, bend + self.share * psi_bend
            for expansion, weights in self.terms:
                p, p_slope, p_bend = expansion.jet(s, weights)
                if self.factor is not None:
                    v, slope, bend = (
                        part + self.factor * more for part, more in ((v, p), (slope, p_slope), (bend, p_bend))
                    )
                    continue
                cross = psi_slope[:, :, None] * p_slope[:, None, :]
                v = v + psi * p
                slope = slope + psi[:, None] * p_slope + p[:, None] * psi_slope
                bend = (
                    bend + psi[:, None, None] * p_bend + p[:, None, None] * psi_bend + cross + np.swapaxes(cross, 1, 2)
                )
        return jet, (v, slope, bend), (psi, psi_slope, psi_bend), s

    def _weight(self, v: Floats, slope: Floats, bend: Floats) -> tuple[Floats, Floats, Floats]:
        """Return psi with gradient and Hessian, given those of V0."""
        if self.scale is None:
            return np.full_like(v, self.factor), np.zeros_like(slope), np.zeros_like(bend)
        if self.scale == 0:
            sign = np.sign(v)
            return np.abs(v), sign[:, None] * slope, sign[:, None, None] * bend
        psi = np.hypot(v, self.scale)
        share = v / psi
        square = slope[:, :, None] * slope[:, None, :]
        psi_bend = share[:, None, None] * bend + (self.scale**2 / psi**3)[:, None, None] * square
        return psi, share[:, None] * slope, psi_bend

    def jet(self, t: Floats, x: Floats) -> Jet:
        """Return V with its derivatives at times t (N,) and states x (N, n)."""
        jet, value, _, _ = self._parts(t, x)
        return self.coordinates.outward(x, *value) if self.terms or self.share else jet

    def value(self, t: Floats, x: Floats) -> Floats:
        """Return V (N,) at times t (N,) and states x (N, n)."""
        return np.asarray(self._parts(t, x)[1][0])

    def weight(self, t: Floats, x: Floats) -> Floats:
        """Return psi (N,) at times t (N,) and states x (N, n)."""
        if self.scale is None:
            return np.full(len(x), self.factor)
        return np.asarray(np.hypot(self.base(t, x).v, self.scale))

    def factors(self, t: Floats, x: Floats) -> Floats:
        """Return the factor b of corrections, (N,), at times t (N,) and states x (N, n)."""
        return self.weight(t, x) if self.factor is None else np.full(len(x), self.factor)

    def rates(self, t: Floats, x: Floats, a: Floats) -> Rates:
        """Return what V says at points under actions.

        Args:
            t: times, (N,).
            x: states, (N, n).
            a: actions, (N, m).
        """
        problem, (_, value, psi, s) = self.problem, self._parts(t, x)
        motion, rho = self.coordinates.motion(t, x, a), self.problem.discount
        reward = problem.reward(t, x, a)
        residual = reward + motion.generator(value[1], value[2]) - rho * value[0]
        yielded = rho - motion.generator(psi[1], psi[2]) / psi[0]
        pull = (motion.columns * psi[1][:, :, None]).sum(axis=1) / psi[0][:, None]
        size = np.abs(reward) + psi[0] / lifetime(problem)
        return Rates(t, x, a, s, *motion, value[0], residual, psi[0], yielded, pull, size)

    def rows(self, expansion: Expansion, at: Rates) -> Floats:
        """Return (rho - L^a) of the factor times each polynomial, over psi, (N, K): what it takes from the residual."""
        p, L, along = expansion.moved(at.s, at.motion)
        if self.factor is not None:
            return (self.factor / at.weight)[:, None] * (self.problem.discount * p - L)
        crossed: Floats = np.einsum("nkd,nd->nk", along, at.pull)
        return at.yielded[:, None] * p - L - crossed

    def played(self, policy: Any, t: Floats, x: Floats) -> Floats:
        """Return the admissible actions (N, m) of a policy, which sees what is observed of the states.

        Args:
            policy: a function (t, x) -> actions.
            t: times, (N,).
            x: states, (N, n).
        """
        problem = self.problem
        return np.asarray(problem.admissible(t, x, np.asarray(policy(t, problem.observe(x)), dtype=np.float64)))

    def slopes(self, expansion: Expansion, s: Floats, i: int) -> tuple[Floats, Floats]:
        """Return slopes over psi in the coordinate i, of the factor times each polynomial, (N, K), and of V, (N,).

        Args:
            expansion: the polynomials.
            s: points, (N, k).
            i: number of the coordinate.
        """
        _, (_, slope, _), (psi, psi_slope, _), _ = self._parts(*self.coordinates.back(s))
        p, along = expansion.values(s), expansion.slopes(s, i)
        if self.factor is not None:
            return (self.factor / psi)[:, None] * along, slope[:, i] / psi
        return along + (psi_slope[:, i] / psi)[:, None] * p, slope[:, i] / psi

    def greedy(self, t: Floats, x: Floats) -> Floats:
        """Return argmax_a { r + L^a V }, (N, m), among admissible actions."""
        problem, (_, _, v_x, v_xx) = self.problem, self.jet(t, x)
        a = problem.maximiser(t, x, v_x, v_xx)
        if a is None:
            a = np.tile(problem.action.center, (len(x), 1))
            known = np.isfinite(v_x).all(axis=1) & np.isfinite(v_xx).all(axis=(1, 2))
            parts = [torch.as_tensor(np.ascontiguousarray(part[known])) for part in (t, x, v_x, v_xx, a)]
            a[known] = greedy(problem, parts[0], parts[1], parts[2], parts[3], parts[4]).numpy()
        return np.asarray(problem.admissible(t, x, a))

    def loss(self, at: Rates) -> Floats:
        """Return max_a h_a - h, (N,), what the actions of some rates lose per unit of time against V's greedy ones."""
        best = self.rates(at.t, at.x, self.greedy(at.t, at.x)).residual
        return np.asarray(best - self.rates(at.t, at.x, at.a).residual)
