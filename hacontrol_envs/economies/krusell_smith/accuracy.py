"""Measure how accurate a household policy of `KrusellSmith` is, whatever it was found by.

Euler error at a cell: |min(c_implied, m - a_min)/c - 1| with u'(c_implied) = beta E[(1 + r') u'(c')], the expectation
exact over (e', Z') and K' the mean of the law that the policy itself moves; c' = m' - a'' by the policy at a', which
may lie between nodes. Path error: 100 |log K of the policy - log K of another|, along the same Z from the same law. Den
Haan's error (2010): 100 |log K forecast - log K| on a path, the forecast that of a law of motion which knows only the
first K. Welfare: the change of consumption at every date, in percent, that makes a household under the other policy as
well off as under this one, at the same prices: the population follows the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hacontrol_envs.arrays import Floats
from hacontrol_envs.economies.krusell_smith.law_of_motion import LawOfMotion
from hacontrol_envs.economies.krusell_smith.paths import Path, simulate
from hacontrol_envs.economies.krusell_smith.policies import HouseholdPolicy, on_grid
from hacontrol_envs.numerics.transport import Transport

if TYPE_CHECKING:
    from hacontrol_envs.economies.krusell_smith.economy import KrusellSmith

POINTS = 1_500_000
"""Largest number of households whose next choices are computed at a time."""
INHABITED = 1e-8
"""Mass above which a cell counts for the largest error."""
LEAST = 1e-10
"""Smallest consumption and capital in the formulae, so that a policy that leaves nothing has an error and no
warnings."""


class EulerErrors(NamedTuple):
    """log10 of relative errors of consumption, over the cells of some laws; each law counts the same."""

    mean: float
    """log10 of the mean error, weighted by mass."""
    high: float
    """log10 of the 99.9 % quantile of the error, weighted by mass."""
    max: float
    """log10 of the largest error at cells with mass above 1e-8."""


class PathErrors(NamedTuple):
    """Differences of log K between two paths, in percent."""

    mean: float
    """Mean over quarters and paths."""
    max: float
    """Maximum over quarters and paths."""


class Welfare(NamedTuple):
    """The permanent change of consumption that equals the gain of a policy, in percent."""

    gain: float
    """Gain in percent of consumption at every date; negative is a loss."""
    error: float
    """Standard error of `gain` over paths of Z, in percent."""


def euler_errors(economy: KrusellSmith, policy: HouseholdPolicy, z: NDArray[np.int64], laws: Floats) -> EulerErrors:
    """Compute Euler errors at every cell of economies whose households all follow a policy.

    Args:
        economy: the economy that the policy belongs to.
        policy: what households save.
        z: states of Z, (S,).
        laws: laws of households in these states, (S, n_e, n_a).
    """
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
    """Return |min(c_implied, m - a_min)/c - 1| at the cells, (S, n_e, n_a).

    Args:
        economy: the economy that the policy belongs to.
        policy: what households save.
        z: states of Z, (S,).
        laws: laws of households in these states, (S, n_e, n_a).
    """
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
    """Compare log K between the economies of two policies along the same states of Z from the same laws.

    Args:
        economy: the economy that the policies belong to.
        policy: what households save in one economy.
        other: what households save in the other.
        z: states of Z, (T + 1, ...).
        law: laws at the start, (..., n_e, n_a).
    """
    return log_differences(*(simulate(economy, one, z, law).capital for one in (policy, other)))


def den_haan(law_of_motion: LawOfMotion, path: Path) -> PathErrors:
    """Compare log K on a path with the forecast of a law of motion that knows only the first K."""
    return log_differences(law_of_motion.forecast(path.capital[0], path.z), path.capital)


def log_differences(capital: Floats, other: Floats) -> PathErrors:
    """Return the mean and the maximum of 100 |log(capital / other)|."""
    gaps = 100 * np.abs(np.log(capital / other))
    return PathErrors(float(gaps.mean()), float(gaps.max()))


def welfare(
    economy: KrusellSmith,
    policy: HouseholdPolicy,
    other: HouseholdPolicy,
    z: NDArray[np.int64],
    law: Floats,
) -> Welfare:
    """Compute what a household gains by a policy where the population follows another.

    Both are followed from the same assets and states, and along the same paths of Z; the expectation over e and the
    household's initial state comes from moving a law of such households, so that only the paths of Z are a sample.
    Utility after T is not counted: take T of at least 700 quarters.

    Args:
        economy: the economy that the policies belong to.
        policy: what the household saves.
        other: what the population saves.
        z: states of Z on P paths, (T + 1, P).
        law: law of the population and of the household's own state at the start, (n_e, n_a) or (P, n_e, n_a).
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
    """Return the change of consumption, and its error by the delta method, from sums of discounted utility, (2, P)."""
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
