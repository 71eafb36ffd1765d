"""Judge Merton: the closed form in exact fractions and long decimals, log utility by quadrature, the HJB equation."""

from __future__ import annotations

from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any

import numpy as np

from hacontrol_benchmarks.measure.judges.draws import Uniform, log_uniform, require_close
from hacontrol_envs import Merton
from hacontrol_envs.arrays import Floats
from hacontrol_envs.core.solution import Solution

STEPS = 6
"""Number of steps of the sampled problem over a finite horizon."""
EPS = float(np.finfo(float).eps)


def draw(u: Uniform) -> dict[str, Any]:
    """Draw one to three assets, risk aversion from .02 to 150 and around 1, horizons from 1e-6 to 1e4 or none."""
    assets = 1 if u() < 0.7 else 2 if u() < 0.5 else 3
    given: dict[str, Any] = {"risk_free_rate": 0.1 * u() - 0.03, "discount": log_uniform(u, 1e-4, 3.0)}
    given["expected_return"] = [given["risk_free_rate"] + log_uniform(u, 1e-4, 0.3) for _ in range(assets)]
    given["volatility"] = [[log_uniform(u, 0.02, 1.0) * (1 - 1.2 * u()) for _ in range(assets)] for _ in range(assets)]
    if assets == 1:
        given["expected_return"], given["volatility"] = given["expected_return"][0], log_uniform(u, 0.01, 2.0)
    kind = u()
    given["risk_aversion"] = log_uniform(u, 0.02, 150.0) if kind < 0.6 else 1.0
    if kind > 0.85:
        given["risk_aversion"] += (1 if u() < 0.5 else -1) * log_uniform(u, 1e-12, 0.1)
    if u() < 0.6:
        given["horizon"], given["bequest"] = log_uniform(u, 1e-6, 1e4), log_uniform(u, 1e-9, 1e6)
        if u() < 0.1:
            given["discount"] = 0.0
    return given


def judge(parameters: dict[str, Any]) -> None:
    """Compare portfolio, value, jet and policy with other computations, in continuous time and of held actions."""
    p = Merton(**parameters)
    T = p.horizon or 0.0
    times, wealth = np.meshgrid([0.0, 0.3 * T, 0.9 * T, 0.999999 * T, T], [0.1, 1.0, 7.0], indexing="ij")
    t, x = np.ravel(times), np.reshape(wealth, (-1, 1))
    pi, M, nu = _exact(p)
    require_close("pi*", p.fractions, pi, 2 * EPS * np.abs(pi), parameters)
    found = p.solution()
    f = np.array([float(_f(p, nu, None if p.horizon is None else p.horizon - float(time))) for time in t])
    require_close("k*", found.policy(t, x)[:, -1], 1 / f, 1e-12 / f, parameters)
    _judge_value(p, found, t, x, f, float(M), parameters)
    _judge_hjb(p, found, t, x, parameters)
    _judge_step(p, parameters)
    if p.horizon is not None:
        _judge_held(p, found, float(M), parameters)


def _exact(p: Merton) -> tuple[Floats, Fraction, Fraction]:
    """pi*, M and nu by Cramer's rule in fractions."""
    S = [[Fraction(float(entry)) for entry in row] for row in p.sigma]
    g, rate = Fraction(float(p.risk_aversion)), Fraction(float(p.risk_free_rate))
    excess = [Fraction(float(mu)) - rate for mu in np.atleast_1d(np.asarray(p.expected_return))]
    n = len(excess)
    matrix = [[sum((a * b for a, b in zip(S[i], S[j], strict=True)), Fraction(0)) for j in range(n)] for i in range(n)]
    whole = _determinant(matrix)
    pi = []
    for i in range(n):
        replaced = [[*row[:i], e, *row[i + 1 :]] for row, e in zip(matrix, excess, strict=True)]
        pi.append(_determinant(replaced) / whole / g)
    M = rate + sum((e * share for e, share in zip(excess, pi, strict=True)), Fraction(0)) / 2
    return np.array([float(share) for share in pi]), M, (Fraction(float(p.discount)) - (1 - g) * M) / g


def _determinant(matrix: list[list[Fraction]]) -> Fraction:
    if len(matrix) == 1:
        return matrix[0][0]
    minors = ([[*row[:j], *row[j + 1 :]] for row in matrix[1:]] for j in range(len(matrix)))
    return sum(((-1) ** j * matrix[0][j] * _determinant(minor) for j, minor in enumerate(minors)), Fraction(0))


def _f(p: Merton, nu: Fraction, time: float | None) -> Decimal:
    with localcontext() as context:
        context.prec = 60
        rate = Decimal(nu.numerator) / Decimal(nu.denominator)
        if time is None:
            return 1 / rate
        left = Decimal(time)
        end = (Decimal(p.bequest).ln() / Decimal(p.risk_aversion)).exp()
        faded = (-rate * left).exp()
        return end * faded + ((1 - faded) / rate if rate else left)


def _judge_value(
    p: Merton, found: Solution, t: Floats, x: Floats, f: Floats, M: float, parameters: dict[str, Any]
) -> None:
    g, wealth = p.risk_aversion, x[:, 0]
    if g != 1:
        with localcontext() as context:
            context.prec = 40
            power = 1 - Decimal(g)
            exact = [
                float((Decimal(g) * Decimal(one).ln() + power * Decimal(w).ln()).exp() / power)
                for one, w in zip(f, wealth, strict=True)
            ]
        right = np.array(exact)
        allowed = np.abs(right) * EPS * (8 + 8 * g * (1 + np.abs(np.log(f))) + 500 * g)
    else:
        level, size = _level(p, M, p.horizon - t) if p.horizon else _level(p, M, np.full(1, 60 / p.discount))
        right = f * np.log(wealth) + level
        allowed = 1e-12 * (np.abs(f * np.log(wealth)) + size) + 1e-300
    require_close("V", found.value(t, x), right, allowed, parameters)


def _level(p: Merton, M: float, left: Floats) -> tuple[Floats, Floats]:
    """int_0^tau e^{-rho s} (M f - log f - 1) ds and the like of its terms' sizes, by quadrature."""
    finite = p.horizon is not None
    total, size = np.zeros(len(left)), np.zeros(len(left))
    for i, tau in enumerate(left):
        after, before, weights = _panels(tau)
        f = p.bequest * np.exp(-p.discount * after) + after * _mean_decay(p.discount * after)
        f = f if finite else np.full_like(f, 1 / p.discount)
        faded = weights * np.exp(-p.discount * before)
        total[i] = np.sum(faded * (M * f - np.log(f) - 1))
        size[i] = np.sum(faded * (np.abs(M * f) + np.abs(np.log(f)) + 1))
    return total, size


def _panels(length: float) -> tuple[Floats, Floats, Floats]:
    """Distances of nodes from both ends of an interval, and weights: Gauss and Legendre's rule on panels that halve
    towards the ends, where integrands have layers.
    """
    nodes, weights = np.polynomial.legendre.leggauss(40)
    ends = length / 2 * np.append(0.0, 2.0 ** np.arange(-70, 1))
    half = np.diff(ends)[:, None] / 2
    near = (ends[:-1, None] + half * (1 + nodes)).ravel()
    weight = (half * weights).ravel()
    return np.append(near, length - near), np.append(length - near, near), np.append(weight, weight)


def _mean_decay(z: Floats) -> Floats:
    """(1 - e^{-z})/z."""
    return np.divide(-np.expm1(-z), z, out=np.ones_like(z), where=z != 0)


def _judge_hjb(p: Merton, found: Solution, t: Floats, x: Floats, parameters: dict[str, Any]) -> None:
    """The residual is zero at the policy, and at no other action above it."""
    assert found.jet is not None
    jet, best, wealth = found.jet(t, x), found.policy(t, x), x[:, 0]
    slope, bend = wealth * np.abs(jet.v_x[:, 0]), wealth**2 * np.abs(jet.v_xx[:, 0, 0])
    factors = np.random.default_rng(0).uniform(0.5, 1.5, (12, best.shape[1]))
    for factor in (np.ones(best.shape[1]), *factors):
        a = best * factor
        with np.errstate(over="ignore"):
            moves = np.abs(p.risk_free_rate) + np.abs(p.excess * a[:, :-1]).sum(axis=1) + a[:, -1]
            variance = np.sum((np.abs(a[:, :-1]) @ np.abs(p.sigma)) ** 2, axis=1)
            reward = np.abs(p.reward(t, x, a))
            size = reward + np.abs(p.discount * jet.v) + np.abs(jet.v_t) + slope * moves + bend * variance / 2
            residual = p.hjb_residual(t, x, a, jet)
        allowed = 1e-12 * size * max(1.0, p.risk_aversion)
        optimal = np.all(factor == 1)
        require_close("HJB residual", residual if optimal else np.maximum(residual, 0.0), 0.0, allowed, parameters)


def _judge_step(p: Merton, parameters: dict[str, Any]) -> None:
    """Steps from all over the boxes are finite."""
    rng = np.random.default_rng(0)
    x, a = (box.from_unit(rng.uniform(-1, 1, (64, box.dimension))) for box in (p.state, p.action))
    for dt in (1e-3, 0.25) if p.horizon is None else (p.horizon / STEPS,):
        moved, paid = p.exact_transition(0.0, x, a, dt, rng.standard_normal((64, p.noise_dim)))
        require_close("wealth after a step", moved, moved, 0.0, parameters)
        require_close("reward of a step", paid, paid, 0.0, parameters)


def _judge_held(p: Merton, continuous: Solution, M: float, parameters: dict[str, Any]) -> None:
    """V of held actions is what its ratio attains and no other exceeds, and at most that of continuous ones."""
    assert p.horizon is not None
    dt, x = p.horizon / STEPS, np.ones((1, 1))
    found, g = p.solution(dt), p.risk_aversion
    for step in range(STEPS - 1, -1, -1):
        t = step * dt
        V, k = found.value(t, x)[0], found.policy(t, x)[0, -1]
        later = [found.value(t + dt, np.full((1, 1), w))[0] for w in (1.0, np.e)]
        tried = k * np.array([1.0, 0.5, 0.9, 0.999, 1.001, 1.1, 2.0])
        worth, size = _held_worth(p, M, tried, dt, later)
        slack = 1e-11 * max(1.0, g) + 8 * EPS * dt * (p.discount + abs(1 - g) * (abs(M) + k))
        best = slack * (size[0] + abs(V))
        require_close("V of held actions", V, worth[0], best, parameters)
        allowed = slack * (size + abs(V))
        require_close("gain of another ratio", np.maximum(worth - V, 0.0), 0.0, allowed, parameters)
        above = continuous.value(t, x)[0]
        require_close("gain from holding", max(V - above, 0.0), 0.0, slack * (abs(V) + abs(above)), parameters)


def _held_worth(p: Merton, M: float, k: Floats, dt: float, later: list[float]) -> tuple[Floats, Floats]:
    """Utility of holding k at the best portfolio from wealth 1, with V a step later at wealth 1 and e; sizes of terms.

    E u(k X_s) is u(k) e^{(1-g)(M - k) s}, and log k + (M - k) s at g = 1.
    """
    g, rho = p.risk_aversion, p.discount
    s, _, w = _panels(dt)
    growth = (M - k)[:, None]
    if g == 1:
        flows = np.exp(-rho * s) * (np.log(k)[:, None] + growth * s)
        after = later[0] + (later[1] - later[0]) * growth[:, 0] * dt
        size = abs(later[0]) + abs(later[1]) * np.abs(growth[:, 0]) * dt
        return flows @ w + np.exp(-rho * dt) * after, np.abs(flows) @ w + np.exp(-rho * dt) * size
    with np.errstate(over="ignore", under="ignore"):
        flows = np.exp((1 - g) * (np.log(k)[:, None] + growth * s) - rho * s) / (1 - g)
        paid, kept = flows @ w, later[0] * np.exp((1 - g) * growth[:, 0] * dt - rho * dt)
    return paid + kept, np.abs(paid) + np.abs(kept)
