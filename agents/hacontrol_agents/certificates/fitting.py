"""Values of policies by least squares: a base where an agent has learnt none, and corrections of a base."""

from __future__ import annotations

import numpy as np

from hacontrol_agents.certificates.coordinates import Coordinates, lifetime
from hacontrol_agents.certificates.expansion import Expansion
from hacontrol_agents.certificates.region import Region
from hacontrol_agents.certificates.value import Rates, Value
from hacontrol_envs import Jet
from hacontrol_envs.arrays import Floats

IN_TIME = 12
"""Degree in time of a fitted value."""
NEWTON = 30
"""Most Newton steps of a fit of log |V|."""


class FittedBase:
    """V0 = scale p, or scale e^p, with p a polynomial of low degree in `Coordinates`."""

    def __init__(
        self, coordinates: Coordinates, expansion: Expansion, weights: Floats, scale: float, log: bool
    ) -> None:
        self.coordinates, self.expansion, self.weights, self.scale, self.log = (
            coordinates,
            expansion,
            weights,
            scale,
            log,
        )

    def __call__(self, t: Floats, x: Floats) -> Jet:
        p, slope, bend = self.expansion.jet(self.coordinates.of(t, x), self.weights)
        if self.log:
            v = self.scale * np.exp(p)
            bend = v[:, None, None] * (bend + slope[:, :, None] * slope[:, None, :])
            return self.coordinates.outward(x, v, v[:, None] * slope, bend)
        return self.coordinates.outward(x, self.scale * p, self.scale * slope, self.scale * bend)


def fit_base(at: Coordinates, points: tuple[Floats, Floats], a: Floats, degree: int = 2) -> FittedBase:
    """Fit the value of a policy by a polynomial of low degree, or its logarithm where rewards have one sign.

    Least squares of h = r + V_t + L^a V - rho V, and of V - g at a horizon, each relative to its terms. A low degree
    selects among the many solutions of the equation on a box: what grows fast towards the edges is not among them.

    Args:
        at: coordinates of the problem.
        points: times (N,) and states (N, n).
        a: the policy's actions there, (N, m).
        degree: total degree of the polynomial in states.
    """
    problem, (t, x) = at.problem, points
    s, motion, reward = at.of(t, x), at.motion(t, x, a), np.asarray(problem.reward(t, x, a))
    expansion = Expansion(s.min(axis=0), s.max(axis=0) + 1e-12, degree, IN_TIME if at.timed else None)
    life = lifetime(problem)
    end = _end(at, expansion, len(s))
    owed = np.asarray(problem.terminal_reward(at.back(end)[1])) if at.timed else np.empty(0)
    ends, rows = (expansion.values(end), owed), expansion.moved(s, motion)
    fitted = [_fit_linear(at, expansion, rows, reward, ends)]
    paid = np.concatenate([reward, owed])
    if bool(problem.state.log.any()) and bool((paid > 0).all() or (paid < 0).all()):
        fitted.append(_fit_log(at, expansion, rows, reward, ends))

    def left(base: FittedBase) -> float:
        value, slope, bend = at.inward(x, base(t, x))
        residual = reward + motion.generator(slope, bend) - problem.discount * value
        found = float(np.median(np.abs(residual) / (np.abs(reward) + np.abs(value) / life)))
        if at.timed:
            last = base(*at.back(end)).v
            found += float(np.median(np.abs(last - owed) / (np.abs(last) + np.abs(owed) + 1e-300)))
        return found if np.isfinite(found) else np.inf

    return min(fitted, key=left)


def _end(at: Coordinates, expansion: Expansion, size: int) -> Floats:
    """Draw points at the horizon, (size, k); none over an infinite one."""
    if not at.timed:
        return np.empty((0, at.size))
    end = expansion.center + expansion.half * np.random.default_rng(0).uniform(-1, 1, (size, at.size))
    end[:, -1] = 1.0
    return np.asarray(end)


def _fit_linear(
    at: Coordinates,
    expansion: Expansion,
    rows: tuple[Floats, Floats, Floats],
    reward: Floats,
    ends: tuple[Floats, Floats],
) -> FittedBase:
    """Fit V by linear least squares of h, and of V - g at the horizon."""
    (p, L, _), (last, owed), rho = rows, ends, at.problem.discount
    size = np.abs(reward) + np.abs(reward).mean() + 1e-300
    unit = np.abs(owed) + (np.abs(owed).mean() if len(owed) else 0.0) + size.mean() * lifetime(at.problem)
    left = np.concatenate([(rho * p - L) / size[:, None], last / unit[:, None]])
    weights = least_squares(left, np.concatenate([reward / size, owed / unit]))
    return FittedBase(at, expansion, weights, 1.0, log=False)


def _fit_log(
    at: Coordinates,
    expansion: Expansion,
    rows: tuple[Floats, Floats, Floats],
    reward: Floats,
    ends: tuple[Floats, Floats],
) -> FittedBase:
    """Fit log |V| by Newton steps on h/|V|, which is r/V + L p + |sigma' p'|^2/2 - rho, and log V/g at the horizon."""
    (p, L, along), (last, owed), life = rows, ends, lifetime(at.problem)
    sign, scale = np.sign(reward[0]), float(np.exp(np.log(np.abs(reward)).mean())) * life
    due = np.log(np.abs(owed) / scale)
    weights: Floats = least_squares(p, np.log(np.abs(reward) * life / scale))
    for _ in range(NEWTON):
        yielded = np.abs(reward) / (scale * np.exp(np.clip(p @ weights, -600, 600)))
        pull = np.einsum("nkd,k->nd", along, weights)
        residual = yielded + L @ weights + (pull**2).sum(axis=1) / 2 - at.problem.discount
        jacobian = -yielded[:, None] * p + L + np.einsum("nkd,nd->nk", along, pull)
        unit = (yielded + 1 / life)[:, None]
        left = np.concatenate([jacobian / unit, last])
        step = least_squares(left, np.concatenate([-residual / unit[:, 0], due - last @ weights]))
        step *= min(1.0, 2.0 / max(float(np.abs(p @ step).max()), 1e-300))
        weights = np.asarray(weights + step, dtype=np.float64)
        if np.abs(p @ step).max() < 1e-12:
            break
    return FittedBase(at, expansion, weights, float(sign * scale), log=True)


def corrected(value: Value, region: Region, at: Rates, degree: int, rng: np.random.Generator) -> Value:
    """Return V + psi p closer to the value of a policy: p solves (rho - L) psi p = h by least squares.

    On open edges p is zero; the horizon is met.

    Args:
        value: V.
        region: box of the polynomials.
        at: points with the policy's actions.
        degree: total degree of p.
        rng: draws points of edges.
    """
    expansion = Expansion(region.low, region.high, degree)
    share = (at.weight / at.size)[:, None]
    rows, right = [share * value.rows(expansion, at)], [at.residual / at.size]
    edge = region.edges(rng, 64, region.open)
    rows.append(expansion.values(edge))
    right.append(np.zeros(len(edge)))
    if value.coordinates.timed:
        last = region.points(rng, 512)
        last[:, -1] = 1.0
        t, x = value.coordinates.back(last)
        rows.append(expansion.values(last))
        right.append((value.problem.terminal_reward(x) - value.value(t, x)) / value.factors(t, x))
    weights = least_squares(np.concatenate(rows), np.concatenate(right), 1e-10)
    return value.plus(expansion, weights)


def least_squares(rows: Floats, right: Floats, cut: float = 1e-12) -> Floats:
    """Return the least-squares solution (K,) of rows (N, K) that are finite, singular values below `cut` left out.

    Args:
        rows: the matrix, (N, K).
        right: right sides, (N,).
        cut: relative size below which singular values count as zero.
    """
    finite = np.isfinite(rows).all(axis=1) & np.isfinite(right)
    if not finite.any():
        return np.zeros(rows.shape[1])
    return np.asarray(np.linalg.lstsq(rows[finite], right[finite], rcond=cut)[0], dtype=np.float64)
