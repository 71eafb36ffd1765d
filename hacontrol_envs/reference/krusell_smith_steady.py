"""The stationary equilibrium of `KrusellSmith`: households by endogenous grids, their law by a direct solution."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, final

import numpy as np
from scipy.optimize import brentq

from hacontrol_envs.arrays import Floats
from hacontrol_envs.errors import EquilibriumError
from hacontrol_envs.reference import egm
from hacontrol_envs.transport import Transport, stationary_law

if TYPE_CHECKING:
    from hacontrol_envs.krusell_smith import KrusellSmith
    from hacontrol_envs.krusell_smith_responses import ImpulseResponse

CONVERGED = 1e-11
"""Largest change of a threshold relative to consumption at which a policy is said to be found."""
CLEARED = 3e-9
"""Relative gap between supply and demand that is rounding of the policy, and counts as none."""
MOST = 20_000
"""Iterations on a policy."""
NO_RISK = 1e-12
"""Spread of earnings below which there is no risk."""


@final
@dataclass(frozen=True)
class Averages:
    """An economy with aggregate productivity, labour, earnings and the chain of e at their means."""

    productivity: float
    """E Z."""
    labour: float
    """E L."""
    earnings: Floats
    """E[y | e], (n_e,)."""
    chain: Floats
    """P(e'|e) over the stationary law of (Z, e), (n_e, n_e)."""

    @classmethod
    def of(cls, economy: KrusellSmith) -> Averages:
        """Those of an economy."""
        joint, moves = economy.joint_law, np.einsum("zy,zyef->zef", economy.aggregate_chain, economy.income_chain)
        by_z, by_e = joint.sum(axis=1), joint.sum(axis=0)
        earnings = (joint * economy.earnings).sum(axis=0) / by_e
        chain = np.einsum("ze,zef->ef", joint, moves) / by_e[:, None]
        return cls(float(by_z @ economy.productivity), float(by_z @ economy.labour), earnings, chain)


@final
@dataclass(frozen=True, eq=False)
class SteadyState:
    """The equilibrium in which Z, L, earnings and P(e'|e) stay at their means and the law of (a, e) is stationary.

    For "ssj", where labour and incomes do not depend on Z, this is the economy with Z = 1. For "jedc" it is one that
    never sees good or bad times: Z = 1, unemployment and earnings at their means over times (the insurance's budget
    balances), and P(e'|e) that of a household which is told nothing about times.
    """

    economy: KrusellSmith
    capital: float
    """K, the mean of assets."""
    interest_rate: float
    """r."""
    wage: float
    """w."""
    law: Floats
    """Of (e, a), at the nodes, (n_e, n_a); mass one."""
    consumption: Floats
    """c at the nodes, (n_e, n_a)."""
    saving: Floats
    """a' at the nodes, (n_e, n_a)."""
    thresholds: Floats
    """Assets at which a' = assets[i] is chosen, (n_e, n_a); see `egm`."""
    clearing_error: float
    """log K supplied - log K demanded."""

    @property
    def share_constrained(self) -> float:
        """Households at the borrowing limit."""
        return float(self.law[:, 0].sum())

    @property
    def share_at_top(self) -> float:
        """Households at the highest node: that the grid ends there matters less than this."""
        return float(self.law[:, -1].sum())

    def lorenz(self) -> tuple[Floats, Floats]:
        """Shares of households, poorest first, and of assets that they hold, (n_a + 1,) each, from 0 to 1."""
        masses, assets = self.law.sum(axis=0), self.economy.assets
        people, wealth = np.cumsum(masses), np.cumsum(masses * assets)
        return np.append(0.0, people / people[-1]), np.append(0.0, wealth / wealth[-1])

    @property
    def gini(self) -> float:
        """Of assets: one less twice the area below the Lorenz curve."""
        people, wealth = self.lorenz()
        return float(1 - np.sum(np.diff(people) * (wealth[1:] + wealth[:-1])))

    def saving_at(self, assets: Floats, e: Any) -> Floats:
        """a' of households with these assets and states, broadcasting."""
        points, states = np.broadcast_arrays(np.asarray(assets, dtype=np.float64), np.asarray(e, dtype=np.int64))
        out = np.empty((1, points.size))
        z, one = np.zeros(1, dtype=np.int64), np.ones((1, 1))
        flat = np.ascontiguousarray(points).reshape(1, -1), np.ascontiguousarray(states).reshape(1, -1)
        egm.choose(self.thresholds[None, None], self.economy.assets, z, one, *flat, out)
        return out.reshape(points.shape)

    def consumption_at(self, assets: Floats, e: Any) -> Floats:
        """c of households with these assets and states, broadcasting."""
        cash = (1 + self.interest_rate) * np.asarray(assets) + self.wage * self.averages.earnings[np.asarray(e)]
        consumption: Floats = cash - self.saving_at(assets, e)
        return consumption

    def policy(self, assets: Floats, e: Any, z: Any, law: Floats) -> Floats:
        """a' (..., m) as if prices were always these: a household policy that ignores Z (...) and the law."""
        return self.saving_at(assets, e)

    def impulse_response(
        self,
        shock: float | None = None,
        persistence: float | None = None,
        horizon: int = 300,
        *,
        productivity: Floats | None = None,
    ) -> ImpulseResponse:
        """What aggregates do after log Z moves, with perfect foresight and to first order; see `sequence_space`.

        Args:
            shock: log Z less its mean at quarter 0, .01 by default.
            persistence: log Z decays by this factor a quarter; None for the autocorrelations of the economy's chain.
            horizon: quarters.
            productivity: the whole path of log Z less its mean, (horizon + 1,), instead.

        Raises:
            ParameterError: arguments that make no sense.
            NumericalError: no path was found along which the market clears.
        """
        from hacontrol_envs.reference import sequence_space

        return sequence_space.impulse_response(self, shock, persistence, horizon, productivity)

    @cached_property
    def averages(self) -> Averages:
        """What it is the steady state of."""
        return Averages.of(self.economy)

    def __repr__(self) -> str:
        figures = f"capital={self.capital:.8g}, interest_rate={self.interest_rate:.8g}, wage={self.wage:.8g}"
        return f"SteadyState({figures}, share_constrained={self.share_constrained:.4g}, gini={self.gini:.4g})"


@final
class _Households:
    """Households at constant prices, each problem begun where the last ended."""

    def __init__(self, economy: KrusellSmith) -> None:
        self.economy, self.averages = economy, Averages.of(economy)
        self.thresholds: Floats = np.empty((1, 1, len(economy.skill), len(economy.assets)))
        # Of whoever chooses each node: carried from one interest rate to the next, for it is positive at all of them.
        self.consumption: Floats = self.wage(0.0) + (economy.assets - economy.borrowing_limit) / 9
        self.consumption = np.tile(self.consumption, (len(economy.skill), 1))
        self.law = np.empty(0)

    def demand(self, r: float) -> float:
        """K at which firms pay the interest rate r."""
        economy, mean = self.economy, self.averages
        alpha, product = economy.capital_share, economy.capital_share * mean.productivity
        return float(mean.labour * (product / (r + economy.depreciation)) ** (1 / (1 - alpha)))

    def wage(self, r: float) -> float:
        """w where firms pay r."""
        alpha, mean = self.economy.capital_share, self.averages
        return float((1 - alpha) * mean.productivity * (self.demand(r) / mean.labour) ** alpha)

    def excess(self, r: float) -> float:
        """(S - D)/(S + D) of the capital supplied and demanded, both above the borrowing limit."""
        economy, income = self.economy, self.wage(r) * self.averages.earnings
        if r * economy.borrowing_limit + income.min() <= 0:
            raise EquilibriumError(
                f"at borrowing_limit={economy.borrowing_limit:g} and the interest rate {r:.4g} a household with the "
                f"lowest income, {income.min():.4g}, has nothing to consume: raise the limit, or that income"
            )
        fixed = economy.assets - income[:, None]
        self.thresholds[0, 0] = (self.consumption + fixed) / (1 + r)
        gross, chain = np.full((1, 1), 1 + r), self.averages.chain[None, :, None, :]
        count, change = egm.iterate(
            self.thresholds,
            economy.assets,
            np.ones((1, 1, 1, 1)),
            gross,
            income.reshape(1, 1, -1),
            gross.reshape(1, 1, 1),
            income.reshape(1, 1, 1, -1),
            np.ascontiguousarray(chain),
            economy.discount_factor,
            economy.risk_aversion,
            MOST,
            CONVERGED,
        )
        if not change <= CONVERGED:
            raise EquilibriumError(f"no policy was found at the interest rate {r:.6g} in {count} iterations")
        self.consumption = (1 + r) * self.thresholds[0, 0] - fixed
        self.law = stationary_law(Transport(economy.assets, self.saving(), self.averages.chain))
        limit = economy.borrowing_limit
        supply, demand = float(economy.capital_of(self.law)) - limit, self.demand(r) - limit
        gap = (supply - demand) / (supply + demand)
        return gap if abs(gap) > CLEARED else 0.0

    def saving(self) -> Floats:
        """a' at the nodes, (n_e, n_a)."""
        economy = self.economy
        n_e, n_a = len(economy.skill), len(economy.assets)
        points, e = np.tile(economy.assets, (1, n_e)), np.repeat(np.arange(n_e), n_a)[None]
        out = np.empty((1, n_e * n_a))
        egm.choose(self.thresholds, economy.assets, np.zeros(1, dtype=np.int64), np.ones((1, 1)), points, e, out)
        return out.reshape(n_e, n_a)


def solve(economy: KrusellSmith) -> SteadyState:
    """The stationary equilibrium of an economy: the interest rate at which savers own the capital that firms use.

    Raises:
        EquilibriumError: there is none, or its law of assets is not determined.
    """
    households, patience = _Households(economy), 1 / economy.discount_factor - 1
    if np.ptp(households.averages.earnings) <= NO_RISK:
        raise EquilibriumError(
            f"without risk to incomes the interest rate is 1/discount_factor - 1 = {patience:.6g}, capital is "
            f"{households.demand(patience):.6g} and every law of assets with that mean is stationary: there is no one "
            "steady state"
        )
    r = _root(households, patience)
    households.excess(r)
    saving, wage = households.saving(), households.wage(r)
    cash = (1 + r) * economy.assets + wage * households.averages.earnings[:, None]
    capital = float(economy.capital_of(households.law))
    error = float(np.log(capital / households.demand(r)))
    return SteadyState(
        economy, capital, r, wage, households.law, cash - saving, saving, households.thresholds[0, 0], error
    )


def _root(households: _Households, patience: float) -> float:
    """The interest rate between -delta and 1/beta - 1 at which capital supplied is that demanded.

    Sought in the logarithm of the share of that interval by which it stays below 1/beta - 1: what households supply
    rises without bound there, about as one over that share.
    """
    span = patience + households.economy.depreciation

    def excess(x: float) -> float:
        return households.excess(patience - span * float(np.exp(x)))

    x, step = np.log(0.05), -0.5 if (now := excess(np.log(0.05))) < 0 else 0.5
    for _ in range(60):
        if x + step >= 0:
            raise EquilibriumError(f"households save too much at every interest rate above {-span + patience:.4g}")
        before, now = now, excess(x + step)
        if before * now <= 0:
            found = brentq(excess, min(x, x + step), max(x, x + step), xtol=1e-10, rtol=1e-13)
            return float(patience - span * np.exp(found))
        x, step = x + step, 1.6 * step
    raise EquilibriumError(
        f"households save too little at every interest rate up to {patience:.6g}: is there hardly any risk?"
    )
