"""How good a household policy of `KrusellSmith` is, whatever it was found by.

Euler error at a cell: |min(c_implied, m - a_min)/c - 1| with u'(c_implied) = beta E[(1 + r') u'(c')], the expectation
exact over (e', Z') and K' the mean of the law that the policy itself moves; c' = m' - a'' by the policy at a', wherever
between nodes that is. Path error: 100 |log K of the policy - log K of another|, along the same Z from the same law. Den
Haan's error (2010): the same of a law of motion's own forecast, to which only the first K is told, and K. Welfare: the
change of consumption at every date, in percent, that makes a household under the other policy as well off as under this
one, at the same prices: the population follows the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hacontrol_envs.arrays import Floats
from hacontrol_envs.economies.krusell_smith.law_of_motion import LawOfMotion
from hacontrol_envs.economies.krusell_smith.paths import HouseholdPolicy, Path, on_grid, simulate
from hacontrol_envs.numerics.transport import Transport

if TYPE_CHECKING:
    from hacontrol_envs.economies.krusell_smith.economy import KrusellSmith

POINTS = 1_500_000
"""Households whose next choices are computed at a time."""
INHABITED = 1e-8
"""Cells with more mass than this count for the largest error."""
LEAST = 1e-10
"""Consumption and capital are no less, so that a policy which leaves nothing has an error and no warnings."""


class EulerErrors(NamedTuple):
    """log10 of relative errors of consumption, over the cells of some laws; each law counts the same."""

    mean: float
    """Of the mean by mass."""
    high: float
    """Of the 99.9 % quantile by mass."""
    max: float
    """Of the largest where there is mass above 1e-8."""


class PathErrors(NamedTuple):
    """Percent of capital."""

    mean: float
    max: float


class Welfare(NamedTuple):
    """Percent of consumption at every date."""

    gain: float
    error: float
    """Standard error, over paths of Z."""


def euler_errors(economy: KrusellSmith, policy: HouseholdPolicy, z: NDArray[np.int64], laws: Floats) -> EulerErrors:
    """Errors at every cell of economies in states z (S,) with laws (S, n_e, n_a)."""
    n_e, n_z = len(economy.skill), len(economy.productivity)
    size = max(1, POINTS // (laws[0].size * n_e * n_z))
    rows = [slice(start, start + size) for start in range(0, len(z), size)]
    errors = np.concatenate([euler_residuals(economy, policy, z[these], laws[these]) for these in rows])
    order = np.argsort(errors, axis=None)
    below = np.cumsum(laws.ravel()[order])
    high = errors.ravel()[order][np.searchsorted(below, 0.999 * below[-1])]
    found = (errors * laws).sum() / laws.sum(), high, errors[laws > INHABITED].max()
    return EulerErrors(*(float(np.log10(max(one, 1e-300))) for one in found))


def euler_residuals(economy: KrusellSmith, policy: HouseholdPolicy, z: NDArray[np.int64], laws: Floats) -> Floats:
    """|min(c_implied, m - a_min)/c - 1| at the cells, (S, n_e, n_a)."""
    S, n_e, n_a = laws.shape
    n_z = len(economy.productivity)
    e, each_z = np.arange(n_e)[:, None], np.arange(n_z)
    m = economy.cash(economy.assets, e, z[:, None, None], economy.capital_of(laws)[:, None, None])
    saving = on_grid(economy, policy, z, laws)
    following = laws[:, None] @ Transport(economy.assets, saving[:, None], economy.income_chain[z[:, None], each_z])
    capital, after = np.maximum(economy.capital_of(following), LEAST), np.broadcast_to(each_z, (S, n_z))
    # Tomorrow's households: for every Z' and e', all of today's cells.
    points = np.broadcast_to(saving.reshape(S, 1, 1, -1), (S, n_z, n_e, n_e * n_a))
    states = np.broadcast_to(e, (S, n_z, n_e, n_e * n_a))
    flat = points.reshape(S, n_z, -1), states.reshape(S, n_z, -1)
    then = np.asarray(policy(*flat, after, following), dtype=np.float64).reshape(points.shape)
    c = economy.cash(points, states, after[..., None, None], capital[..., None, None]) - then
    gross = 1 + economy.prices(capital, after).interest_rate
    marginal = gross[..., None, None] * economy.marginal_utility(np.maximum(c, LEAST))
    chance = economy.aggregate_chain[z][..., None, None] * economy.income_chain[z]  # (S, n_z, n_e, n_e)
    expected = np.einsum("syef,syfea->sea", chance, marginal.reshape(S, n_z, n_e, n_e, n_a), optimize=True)
    implied = economy.inverse_marginal_utility(economy.discount_factor * expected)
    errors: Floats = np.abs(np.minimum(implied, m - economy.borrowing_limit) / np.maximum(m - saving, LEAST) - 1)
    return errors


def path_error(
    economy: KrusellSmith, policy: HouseholdPolicy, other: HouseholdPolicy, z: NDArray[np.int64], law: Floats
) -> PathErrors:
    """Between the economies of two policies along states z (T + 1, ...), from the same laws (..., n_e, n_a)."""
    return log_differences(*(simulate(economy, one, z, law).capital for one in (policy, other)))


def den_haan(law_of_motion: LawOfMotion, path: Path) -> PathErrors:
    """Of a law of motion's forecast, over a whole path."""
    return log_differences(law_of_motion.forecast(path.capital[0], path.z), path.capital)


def log_differences(capital: Floats, other: Floats) -> PathErrors:
    """100 |log K - log K of another|."""
    gaps = 100 * np.abs(np.log(capital / other))
    return PathErrors(float(gaps.mean()), float(gaps.max()))


def welfare(
    economy: KrusellSmith,
    policy: HouseholdPolicy,
    other: HouseholdPolicy,
    z: NDArray[np.int64],
    law: Floats,
) -> Welfare:
    """What a household gains by a policy where the population follows another.

    Both are followed from the same assets and states, and along the same paths of Z; the expectation over e and over
    who one is comes from moving a law of such households, so that only the paths of Z are a sample. At least 700
    quarters leave little of the future out: utility after T is not counted.

    Args:
        economy, policy, other: see above.
        z: states of Z, (T + 1, P), P paths.
        law: of the population and of who one is, (n_e, n_a) or (P, n_e, n_a).
    """
    law = np.broadcast_to(law, (z.shape[1], *law.shape[-2:]))
    mine, values = law, np.zeros((2, z.shape[1]))
    beta, e = economy.discount_factor, np.arange(law.shape[-2])[:, None]
    for t in range(len(z) - 1):
        m = economy.cash(economy.assets, e, z[t, :, None, None], economy.capital_of(law)[:, None, None])
        shock = economy.income_chain[z[t], z[t + 1]]
        moved = []
        for row, (one, masses) in enumerate(((policy, mine), (other, law))):
            saving = np.clip(on_grid(economy, one, z[t], law), economy.assets[0], economy.assets[-1])
            utility = economy.utility(np.maximum(m - saving, LEAST))
            values[row] += beta**t * (masses * utility).sum(axis=(-2, -1))
            moved.append(masses @ Transport(economy.assets, saving, shock))
        mine, law = moved
    return _equivalent(economy, values, len(z) - 1)


def _equivalent(economy: KrusellSmith, values: Floats, quarters: int) -> Welfare:
    """From sums of discounted utility, (2, P): the change of consumption, and its error by the delta method."""
    beta, gamma = economy.discount_factor, economy.risk_aversion
    mine, others = values.mean(axis=1)
    if gamma == 1:
        weight = (1 - beta) / (1 - beta**quarters)
        ratio, slopes = float(np.exp(weight * (mine - others))), np.array([weight, -weight])
    else:
        ratio = float((mine / others) ** (1 / (1 - gamma)))
        slopes = np.array([1 / mine, -1 / others]) / (1 - gamma)
    spread = np.std(slopes @ values, ddof=1) / np.sqrt(values.shape[1]) if values.shape[1] > 1 else np.nan
    return Welfare(100 * (ratio - 1), float(100 * ratio * spread))
