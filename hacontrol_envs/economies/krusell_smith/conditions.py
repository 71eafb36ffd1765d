"""KrusellSmithConditions: the equilibrium conditions of `KrusellSmith`."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, final

import numpy as np
from numpy.typing import NDArray

from hacontrol_envs.arrays import Array, Floats, like, namespace
from hacontrol_envs.core.conditions import Consumption, PopulationConditions
from hacontrol_envs.core.discrete import Successors
from hacontrol_envs.economies.krusell_smith.market import Averages
from hacontrol_envs.economies.krusell_smith.policies import split
from hacontrol_envs.errors import EquilibriumError
from hacontrol_envs.numerics import egm
from hacontrol_envs.numerics.states import draw, whole
from hacontrol_envs.numerics.transport import Transport

if TYPE_CHECKING:
    from hacontrol_envs.economies.krusell_smith.economy import KrusellSmith

WANDERS = 5.0
"""Half-range of log capital across populations near the equilibrium, in standard deviations of log Z."""
GUESSED = 0.4
"""Half-range of log capital across the first populations, where nothing near the equilibrium is known."""
MOST, CONVERGED = 20_000, 1e-10
"""Most iterations on households' policy at constant capital, and the change at which they end; see `egm`."""


@final
class KrusellSmithConditions(PopulationConditions):
    """Conditions of households at points x = (a, e, z, K), e and z numbers of states."""

    def __init__(self, economy: KrusellSmith) -> None:
        self.economy = economy
        self.discount_factor, self.limit = economy.discount_factor, economy.borrowing_limit
        self.assets, self.states = economy.assets, len(economy.skill)
        self.spread = WANDERS * max(float(np.std(np.log(economy.productivity))), 0.003)

    def resources(self, x: Array) -> Array:
        """Return m = (1 + r) a + w y(e, Z)."""
        return self.economy.cash(*split(x))

    def gross_return(self, x: Array, c: Array) -> Array:
        """Return 1 + r."""
        return 1 + self.economy.prices(x[..., 3], whole(x[..., 2])).interest_rate

    def following(self, x: Array, saving: Array, capital: Array) -> Successors:
        """Return the points (saving, e', z', capital) for all pairs (z', e'), with their probabilities."""
        xp, economy = namespace(x), self.economy
        z, e = whole(x[..., 2]), whole(x[..., 1])
        odds = like(economy.aggregate_chain, x)[z][..., None] * like(_by_state(economy), x)[z, e]
        n_z, n_e = odds.shape[-2:]
        pairs = np.stack(np.broadcast_arrays(np.arange(float(n_e)), np.arange(float(n_z))[:, None]), axis=-1)
        shape = (*odds.shape[:-2], n_z * n_e)
        each = xp.broadcast_to(like(pairs.reshape(-1, 2), x), (*shape, 2))
        own, common = (xp.broadcast_to(end[..., None], shape)[..., None] for end in (saving, capital))
        return Successors(xp.concat([own, each, common], axis=-1), xp.reshape(odds, shape))

    def marginal_utility(self, c: Array) -> Array:
        """Return u'(c)."""
        return self.economy.marginal_utility(c)

    def inverse_marginal_utility(self, u: Array) -> Array:
        """Return the c with u'(c) = u."""
        return self.economy.inverse_marginal_utility(u)

    def coordinates(self, x: Array) -> Array:
        """Return log(a - a_min + 1), z, log K, and an indicator of each e."""
        xp = namespace(x)
        smooth = [xp.log(xp.clip(x[..., 0] - self.limit, 0.0, None) + 1), x[..., 2], xp.log(x[..., 3])]
        own = whole(x[..., 1])[..., None] == xp.asarray(like(np.arange(float(self.states)), x))
        return xp.concat([xp.stack(smooth, axis=-1), xp.astype(own, x.dtype)], axis=-1)

    def simple_consumption(self, x: Array, resources: Array) -> Array:
        """Return the consumption of a household without risk at constant prices, a share of wealth and future wages.

        c = (1 - (beta R)^{1/gamma}/R)(m + w y/r), with y what is earned on average, R = 1 + r and r within a factor 4
        of 1/beta - 1; but at least 2 % and at most all of what is above the limit. More capital means less interest and
        more impatience, so that a population that follows this rule comes to rest: under a rule that only keeps wealth
        together residuals vanish where households save for ever.
        """
        xp, economy, above = namespace(x), self.economy, resources - self.limit
        prices = economy.prices(x[..., 3], whole(x[..., 2]))
        patience = 1 / economy.discount_factor - 1
        r = xp.clip(prices.interest_rate, patience / 4, 4 * patience)
        share = 1 - (economy.discount_factor * (1 + r)) ** (1 / economy.risk_aversion) / (1 + r)
        wages = prices.wage * float(np.sum(economy.joint_law * economy.earnings))
        return xp.clip(share * (above + wages / r), 0.02 * above, above)

    def near_consumption(self) -> Consumption:
        """Return the consumption of households who believe that capital stays at its steady state while Z moves."""
        return ConstantCapitalRule(self.economy)

    def start(self, rng: np.random.Generator, size: int) -> Floats:
        """Draw savers from the populations that one would start from."""
        z, law = self.populations(rng, near=False, size=size)
        e, node = np.divmod(draw(law.reshape(size, -1), rng.standard_normal(size)), len(self.assets))
        found: Floats = self.place(self.assets[node], e, z, self.capital_of(law))
        return found

    @cached_property
    def representative_capital(self) -> float:  # type: ignore[override]
        """K at which firms pay 1/beta - 1, all else at its mean."""
        economy, mean = self.economy, Averages.of(self.economy)
        cost = 1 / economy.discount_factor - 1 + economy.depreciation
        product = economy.capital_share * mean.productivity / cost
        return float(mean.labour * product ** (1 / (1 - economy.capital_share)))

    def place(self, assets: Floats, e: Any, z: Any, capital: Floats) -> Floats:
        """Return the points x = (a, e, z, K), (..., 4)."""
        x: Floats = np.stack(np.broadcast_arrays(assets, e, z, capital), axis=-1, dtype=np.float64)
        return x

    def capital_of(self, law: Array) -> Array:
        """Return K, the mean assets (...) of laws (..., n_e, n_a)."""
        return self.economy.capital_of(law)

    def populations(self, rng: np.random.Generator, near: bool, size: int) -> tuple[NDArray[np.int64], Floats]:
        """Draw z (size,) and laws (size, n_e, n_a), near the steady state's or with exponential wealth.

        In both the shares of e are those that belong to z, and all wealth is multiplied by a random factor. Exponential
        wealth does not depend on e, and has the mean `representative_capital`.
        """
        economy, joint = self.economy, self.economy.joint_law
        z = draw(np.broadcast_to(joint.sum(axis=1), (size, len(joint))), rng.standard_normal(size))
        if near:
            wealth, spread = economy.steady_state(cut=True).law, self.spread
            wealth = wealth / wealth.sum(axis=1, keepdims=True)
        else:
            wealth, spread = np.tile(self._exponential(), (self.states, 1)), GUESSED
        law = wealth * (joint[z] / joint[z].sum(axis=1, keepdims=True))[..., None]
        return z, self.scaled(law, np.exp(spread * rng.uniform(-1, 1, size)))

    def _exponential(self) -> Floats:
        """Return masses (n_a,) of exponential wealth, each of what is nearest to its node."""
        above = self.assets - self.limit
        ends = np.concatenate([[0.0], (above[1:] + above[:-1]) / 2, [np.inf]])
        masses: Floats = -np.diff(np.exp(-ends / max(self.representative_capital - self.limit, above[1])))
        return masses

    def scaled(self, law: Floats, factor: Floats) -> Floats:
        """Return the laws moved by a' = a_min + factor (a - a_min)."""
        choice = self.limit + np.asarray(factor)[..., None, None] * (self.assets - self.limit)
        moved: Floats = law @ Transport(self.assets, np.broadcast_to(choice, law.shape), np.eye(self.states))
        return moved

    def moved(
        self, law: Floats, saving: Floats, z: NDArray[np.int64], rng: np.random.Generator
    ) -> tuple[NDArray[np.int64], Floats]:
        """Draw z', and move the laws by transport."""
        following = draw(self.economy.aggregate_chain[z], rng.standard_normal(z.shape))
        return following, law @ Transport(self.assets, saving, self.economy.income_chain[z, following])


@final
class ConstantCapitalRule:
    """Consumption of households who believe that K will stay at the steady state's, while Z, e and prices move.

    Found by endogenous grids as c over resources for every (z, e), linear in between and beyond the ends, that at the
    limit included: where this c exceeds resources a saver is at the limit, and where the limit binds depends on
    resources and not on assets. At another K resources and c are measured in wages, which are to those at the steady
    state's as K^alpha is, whatever z.
    """

    def __init__(self, economy: KrusellSmith) -> None:
        steady, n_z = economy.steady_state(cut=True), len(economy.productivity)
        prices = economy.prices(np.full(n_z, steady.capital), np.arange(n_z))
        gross, income = 1 + prices.interest_rate, prices.wage[:, None] * economy.earnings
        thresholds = np.tile(steady.thresholds, (n_z, 1, 1, 1))
        chain = economy.aggregate_chain[:, :, None, None] * economy.income_chain
        tables: list[Any] = [thresholds, economy.assets, np.ones((n_z, 1, n_z, 1)), gross[:, None], income[:, None, :]]
        tables += [np.tile(gross, (n_z, 1, 1)), np.tile(income, (n_z, 1, 1, 1)), chain.transpose(0, 2, 1, 3)]
        tables = [np.ascontiguousarray(table) for table in tables]
        tables += [economy.discount_factor, economy.risk_aversion, MOST, CONVERGED]
        _, change = egm.iterate(*tables)
        if not change <= CONVERGED:
            raise EquilibriumError("no policy was found at the steady state's capital")
        self._capital, self._share, self._states = steady.capital, economy.capital_share, economy.earnings.shape[1]
        nodes = gross[:, None, None] * tables[0][:, 0] + income[..., None]
        self._tabulate(nodes.reshape(-1, nodes.shape[-1]), (nodes - economy.assets).reshape(-1, nodes.shape[-1]))

    def _tabulate(self, nodes: Floats, consumption: Floats) -> None:
        """Store the tables in one row, each shifted beyond the one before, so that one search finds any node."""
        tables, count = nodes.shape
        self._shift = 2 * (nodes.max() - min(nodes.min(), 0.0))
        self._ends, self._count = (nodes.min(), nodes.max()), count
        self._sought = (nodes + self._shift * np.arange(tables)[:, None]).ravel()
        slopes = np.diff(consumption, axis=1) / np.diff(nodes, axis=1)
        slopes = np.concatenate([slopes[:, :1], slopes], axis=1)
        self._slopes, self._intercepts = slopes.ravel(), (consumption - slopes * nodes).ravel()

    def __call__(self, x: Array, resources: Array) -> Array:
        """Return c, (...), of points x (..., 4) with these resources (...)."""
        xp, table = namespace(x), whole(x[..., 2] * self._states + x[..., 1])
        wages = xp.exp(self._share * xp.log(x[..., 3] / self._capital))
        m = resources / wages
        sought = xp.clip(m, *self._ends) + self._shift * xp.astype(table, x.dtype)
        place = xp.searchsorted(like(self._sought, x), xp.reshape(sought, (-1,)))
        node = xp.clip(xp.reshape(place, table.shape), table * self._count + 1, (table + 1) * self._count - 1)
        return wages * (like(self._intercepts, x)[node] + like(self._slopes, x)[node] * m)


def _by_state(economy: KrusellSmith) -> Floats:
    """Return P(e'|e, Z, Z') in the order (z, e, z', e')."""
    table: Floats = economy.income_chain.transpose(0, 2, 1, 3)
    return table
