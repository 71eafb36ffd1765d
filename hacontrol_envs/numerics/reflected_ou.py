"""The Ornstein-Uhlenbeck process between two reflecting edges: its exact law over a step."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np
import scipy
from numpy.polynomial.legendre import leggauss, legint, legval, legvander
from numpy.typing import NDArray

from hacontrol_envs.arrays import Floats, dot
from hacontrol_envs.errors import NumericalError, ParameterError

NEAR = 9.0
"""Standard deviations from an edge beyond which a step ignores it: it is reached with probability 1e-18."""
MODES = 30.0, 3.4
"""Legendre polynomials of the density: a number, and more for each standard deviation of the window."""
TAIL = 5.5
"""Largest |xi| at which the law is tabulated; beyond (probability 4e-8) it goes on along a straight line."""
LONGEST = 20.0
"""Largest kappa dt."""
NEWTON_STEPS = 4
"""Newton steps to invert a distribution function, from linear interpolation in cells of hundredths of a deviation."""
INVERTED = 1e-7
"""Largest error of the distribution function at its computed inverse; mostly it is 1e-10."""
PLACES, SHOCKS, TIMES = 161, 265, 32
"""Sizes of the tables: distances from the edge, xi, and times within a step at which E[e^z] is known near an edge."""


class ReflectedOU:
    """The process dz = -kappa z dt + sigma dW, reflected (Skorokhod, 1961) at -bound and bound, over a step of dt.

    Far from the edges z_dt is Gaussian, z e^{-kappa dt} + s xi with s^2 = sigma^2 (1 - e^{-2 kappa dt})/(2 kappa). Near
    an edge folding that Gaussian is not the law, since drift does not fold with it. There the transition density
    comes from the generator A = sigma^2/2 d_zz - kappa z d_z with zero slope at the edges, by Legendre-Galerkin: with
    orthonormal polynomials P on a window that a step does not leave, p(z'|z) = sum_ij P_i(z) [e^{dt A}]_ij P_j(z').
    Its distribution function F is a polynomial too, and z_dt = F^{-1}(Phi(xi) | z) is tabulated in the distance from
    the edge and xi. The law is symmetric under (z, xi) -> (-z, -xi).

    A strong drift carries the process away from the edge for good before the step is over. What is left of the step
    is then Gaussian again, and A is needed for the time until then only, which keeps the window short.

    Near an edge the distribution function is right to 1e-10 (z_dt to 3e-8 s where |xi| <= 3, 1e-5 s where |xi| <= 5),
    and E[e^{z_s}] integrated over the step to a relative 1e-7, mostly 1e-9; elsewhere both are closed forms. Rows do
    not depend on one another, to the last bit.

    Args:
        kappa: mean reversion per unit of time, positive.
        sigma: volatility per square root of a unit of time; zero is allowed.
        bound: where the edges are.
        dt: length of the step.

    Raises:
        ParameterError: a step so long that integrals over it would be inexact.
    """

    def __init__(self, kappa: float, sigma: float, bound: float, dt: float) -> None:
        if kappa * dt > LONGEST:
            raise ParameterError(f"dt={dt} is too long a step: it must be at most {LONGEST:g} / mean_reversion")
        self.kappa, self.sigma, self.bound, self.dt = kappa, sigma, bound, dt
        self._deviation = self._deviation_after(dt)
        self._felt, self._free = self._time_at_the_edge()
        self._reach = min(NEAR * self._deviation_after(self._felt), bound)
        rule = zip(*_legendre(6 + int(min(np.ceil((4 + bound) * kappa * dt), 200)), 0.0, dt), strict=True)
        self._far_rule = [
            (np.exp(-kappa * time), time, np.log(weight) + self._deviation_after(time) ** 2 / 2)
            for time, weight in rule
        ]

    def _deviation_after(self, time: float) -> float:
        """Standard deviation of z_time, were there no edges."""
        return self.sigma * float(np.sqrt(-np.expm1(-2 * self.kappa * time) / (2 * self.kappa)))

    def _time_at_the_edge(self) -> tuple[float, float]:
        """Return how long a step knows of the edge, and the time left to it then.

        It knows until bound (1 - e^{-kappa t}), how far the drift takes z from the edge, is `NEAR` deviations. Where
        that takes long, for all the step, or the time in which the law becomes the stationary one: 40 over the
        spectral gap, which is at least kappa, and at least that of Brownian motion between the edges.
        """
        deviation = NEAR * self.sigma / np.sqrt(2 * self.kappa)
        ratio = (self.bound / deviation) ** 2 if deviation > 0 else np.inf
        leaves = float(np.log1p(2 / (ratio - 1)) / self.kappa) if ratio > 1 else np.inf
        if 2 * leaves < self.dt:
            return leaves, self.dt - leaves
        gap = max(self.kappa, (self.sigma * np.pi / self.bound) ** 2 / 8)
        return float(min(self.dt, 40 / gap)), 0.0

    def step(self, z: Floats, xi: Floats) -> Floats:
        """Return z_dt (N,) from z (N,) between the edges and standard normals xi (N,)."""
        moved = z * np.exp(-self.kappa * self.dt) + self._deviation * xi
        near = self._near(z)
        if near.any():
            side, shock = np.where(z[near] < 0, -1.0, 1.0), xi[near]
            inner = np.clip(shock, -TAIL, TAIL)
            drop = self._drops.ev(self._place(z[near]), side * inner)
            moved[near] = side * (self.bound - drop) + self._deviation * (shock - inner)
        inside: Floats = np.clip(moved, -self.bound, self.bound)
        return inside

    def discounted_exponential(self, z: Floats, rate: Floats) -> Floats:
        """Return int_0^dt e^{rate s} E[e^{z_s} | z_0 = z] ds, (N,), for z (N,) between the edges and rates (N,)."""
        near = self._near(z)
        if not near.any():
            return self._far_exponential(z, rate)
        total, low = np.empty_like(z), near & (z < 0)
        total[~near] = self._far_exponential(z[~near], rate[~near])
        times, weights, *means = self._near_means
        for rows, mean in zip((near & ~low, low), means, strict=True):
            total[rows] = dot(np.exp(rate[rows, None] * times) * mean(self._place(z[rows])), weights)
        return total

    def _far_exponential(self, z: Floats, rate: Floats) -> Floats:
        """Return `discounted_exponential` away from the edges, where E e^{z_s} = exp(z e^{-kappa s} + var(s)/2)."""
        total = np.zeros_like(z)
        for decay, time, shift in self._far_rule:
            total += np.exp(z * decay + (rate * time + shift))
        return total

    def _near(self, z: Floats) -> NDArray[np.bool_]:
        near: NDArray[np.bool_] = (self.bound - np.abs(z) <= self._reach) & (self._reach > 0)
        return near

    def _place(self, z: Floats) -> Floats:
        """Where z lies near its edge: the root of the distance over the reach, so that places crowd at the edge."""
        place: Floats = np.sqrt((self.bound - np.abs(z)) / self._reach)
        return place

    # The tables, for the upper edge, in the distance d = bound - z and the window's own coordinate 1 - d/half.

    @cached_property
    def _half(self) -> float:
        """Half the length of the window: what paths from within reach of the edge visit while they know of it."""
        drifted = self.bound * -np.expm1(-self.kappa * self._felt)
        return float(min(NEAR * self._deviation_after(self._felt) + drifted / 2, self.bound))

    @cached_property
    def _norms(self) -> Floats:
        """What makes the Legendre polynomials in use orthonormal."""
        length = 2 * self._half / self._deviation_after(self._felt)
        norms: Floats = np.sqrt(np.arange(int(MODES[0] + MODES[1] * length)) + 0.5)
        return norms

    @cached_property
    def _generator(self) -> Floats:
        """<P_i, A P_j>; zero slope at the ends is natural to the weak form, in which <P_i, P_j''> is -<P_i', P_j'>."""
        i, j = np.indices((len(self._norms),) * 2)
        even, lower = (i + j) % 2 == 0, np.minimum(i, j)
        stiffness = even * lower * (lower + 1)
        slope = 2 * (~even & (i < j))
        scaling = 2 * (even & (i < j)) + (i == j) * i / (i + 0.5)  # of x d_x
        drift = self.kappa * (scaling + (self.bound / self._half - 1) * slope)
        noise = (self.sigma / self._half) ** 2 / 2 * stiffness
        generator: Floats = -np.outer(self._norms, self._norms) * (noise + drift)
        return generator

    def _polynomials(self, distance: Floats) -> Floats:
        values: Floats = legvander(1 - distance / self._half, len(self._norms) - 1) * self._norms
        return values

    @cached_property
    def _places(self) -> Floats:
        return np.linspace(0.0, 1.0, PLACES)

    @cached_property
    def _drops(self) -> scipy.interpolate.RectBivariateSpline:
        """bound - z_dt over place and xi."""
        xi = np.linspace(-TAIL, TAIL, SHOCKS)
        start = self._polynomials(self._reach * self._places**2)
        density = (start @ scipy.linalg.expm(self._felt * self._generator) * self._norms).T
        drops = self._carried(density, xi) if self._free else self._half * (1 - _inverse(*_polynomial(density), xi))
        return scipy.interpolate.RectBivariateSpline(self._places, xi, drops, kx=5, ky=5, s=0)

    def _carried(self, density: Floats, xi: Floats) -> Floats:
        """Return `_drops` where the rest of the step is free: z_dt = q z + N(0, rest^2), z with this density."""
        q, rest = np.exp(-self.kappa * self._free), self._deviation_after(self._free)
        node, weight = _legendre(len(density), -1.0, 1.0)
        mass, behind = legval(node, density, tensor=True) * weight, q * self._half * (1 - node) / rest

        def cdf(v: Floats) -> Floats:
            below: Floats = np.einsum("px,pkx->pk", mass, scipy.special.ndtr(v[..., None] + behind))
            return below

        def pdf(v: Floats) -> Floats:
            bell = np.exp(-((v[..., None] + behind) ** 2) / 2) / np.sqrt(2 * np.pi)
            slope: Floats = np.einsum("px,pkx->pk", mass, bell)
            return slope

        v = _inverse(cdf, pdf, np.linspace(-TAIL - 2 - behind.max(), TAIL + 2, 300), xi)
        drops: Floats = self.bound * (1 - q) - rest * v
        return drops

    @cached_property
    def _near_means(self) -> tuple[Floats, Floats, scipy.interpolate.BSpline, scipy.interpolate.BSpline]:
        """Times and weights of a rule over the step, and E e^{z_s} and E e^{-z_s} at these times over place.

        Near an edge expectations go with the root of time, and so do the times.
        """
        root, weight = _legendre(TIMES, 0.0, 1.0)
        times, weights = self._felt * root**2, 2 * self._felt * root * weight
        if self._felt < self.dt:
            later, more = _legendre(TIMES, self._felt, self.dt)
            times, weights = np.append(times, later), np.append(weights, more)
        node, weight = _legendre(2 * len(self._norms), -1.0, 1.0)
        distance = self._half * (1 - node)
        project = self._polynomials(distance).T * weight
        start = self._polynomials(self._reach * self._places**2)
        means = np.empty((2, PLACES, len(times)))
        for k, time in enumerate(times):
            free = max(time - self._felt, 0.0) if self._free else 0.0
            z = np.exp(-self.kappa * free) * (self.bound - distance)
            ends = np.exp(np.stack([z, -z], axis=1) + self._deviation_after(free) ** 2 / 2)
            means[:, :, k] = (start @ (scipy.linalg.expm(min(time, self._felt) * self._generator) @ (project @ ends))).T
        upper, lower = (scipy.interpolate.make_interp_spline(self._places, mean, k=5) for mean in means)
        return times, weights, upper, lower


def _legendre(count: int, low: float, high: float) -> tuple[Floats, Floats]:
    """Nodes and weights of the Gauss-Legendre rule on [low, high]."""
    node, weight = leggauss(count)
    return low + (high - low) * (node + 1) / 2, (high - low) * weight / 2


def _polynomial(density: Floats) -> tuple[Callable[[Floats], Floats], Callable[[Floats], Floats], Floats]:
    """Distribution functions and densities (modes, P) on [-1, 1], and points between which to look for quantiles."""
    below = legint(density, lbnd=-1)
    cdf, pdf = (lambda x, c=c: legval(x, c[..., None], tensor=False) for c in (below, density))
    return cdf, pdf, np.linspace(-1.0, 1.0, 1001)


def _inverse(cdf: Callable[[Floats], Floats], pdf: Callable[[Floats], Floats], grid: Floats, xi: Floats) -> Floats:
    """F^{-1}(Phi(xi)) of P distribution functions, (P, len(xi)), by Newton's method within the cells of a grid."""
    wanted, known = scipy.special.ndtr(xi), np.maximum.accumulate(cdf(grid[None]), axis=1)
    cell = np.stack([np.searchsorted(row, wanted) for row in known]).clip(1, len(grid) - 1)
    low, high = grid[cell - 1], grid[cell]
    before, after = (np.take_along_axis(known, at, axis=1) for at in (cell - 1, cell))
    found: Floats = np.clip(low + (high - low) * (wanted - before) / np.maximum(after - before, 1e-300), low, high)
    for _ in range(NEWTON_STEPS):
        found = np.clip(found - (cdf(found) - wanted) / pdf(found), low, high)
    if not (gap := np.abs(cdf(found) - wanted).max()) <= INVERTED:
        raise NumericalError(
            f"the law of a reflected step is not inverted: its distribution function is off by {gap:.1g}"
        )
    return found
