"""Households at constant prices and the firms that employ them, at any interest rate that may clear the market."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import numpy as np

from hacontrol_envs.arrays import Floats
from hacontrol_envs.errors import EquilibriumError
from hacontrol_envs.numerics import egm
from hacontrol_envs.numerics.transport import Transport, stationary_law

if TYPE_CHECKING:
    from hacontrol_envs.economies.krusell_smith.economy import KrusellSmith

CONVERGED, FOUND = 1e-14, 1e-11
"""Change of a threshold, relative to consumption, at which iterations end, and up to which a policy counts as found.

The less risk there is, the steeper is supply in r, and the more a policy's error moves the law of assets."""
NEAR = 1e-2
"""Relative gap between supply and demand below which a policy is found as exactly as can be."""
ROUNDING = 16 * float(np.finfo(np.float64).eps)
"""Relative rounding error of a threshold."""
CLEARED = 3e-9
"""Relative gap between supply and demand that is rounding of the policy, and counts as none."""
MOST = 20_000
"""Most iterations on a policy."""


class ShortGridError(EquilibriumError):
    """No equilibrium is found, and the grid of assets may be too short."""


@final
@dataclass(frozen=True)
class Averages:
    """An economy with aggregate productivity, labour, earnings and the chain of e at their means."""

    productivity: float
    """Mean productivity, E Z."""
    labour: float
    """Mean labour, E L."""
    earnings: Floats
    """Mean earnings by income state, E[y | e], (n_e,)."""
    chain: Floats
    """P(e'|e) over the stationary law of (Z, e), (n_e, n_e)."""

    @classmethod
    def of(cls, economy: KrusellSmith) -> Averages:
        """Compute the averages of an economy."""
        joint, moves = economy.joint_law, np.einsum("zy,zyef->zef", economy.aggregate_chain, economy.income_chain)
        by_z, by_e = joint.sum(axis=1), joint.sum(axis=0)
        earnings = (joint * economy.earnings).sum(axis=0) / by_e
        chain = np.einsum("ze,zef->ef", joint, moves) / by_e[:, None]
        return cls(float(by_z @ economy.productivity), float(by_z @ economy.labour), earnings, chain)


@final
class Households:
    """Households at constant prices; each solution begins where the last ended."""

    def __init__(self, economy: KrusellSmith) -> None:
        self.economy, self.averages = economy, Averages.of(economy)
        self.patience = 1 / economy.discount_factor - 1
        self.thresholds: Floats = np.empty((1, 1, len(economy.skill), len(economy.assets)))
        self.consumption: Floats = np.empty(0)
        self.law = np.empty(0)

    def demand(self, r: float) -> float:
        """Return K at which firms pay the interest rate r; infinite where no float holds it."""
        economy, mean = self.economy, self.averages
        alpha, product = economy.capital_share, economy.capital_share * mean.productivity
        logarithm = math.log(mean.labour) + math.log(product / (r + economy.depreciation)) / (1 - alpha)
        return math.exp(logarithm) if logarithm < 700 else math.inf

    def rate(self, capital: float) -> float:
        """Return the interest rate r that firms pay when they use this capital."""
        economy, mean = self.economy, self.averages
        intensity = (capital / mean.labour) ** (economy.capital_share - 1)
        return float(economy.capital_share * mean.productivity * intensity - economy.depreciation)

    def wage(self, r: float) -> float:
        """Return the wage w that firms pay at the interest rate r."""
        alpha, mean = self.economy.capital_share, self.averages
        return float((1 - alpha) * mean.productivity * (self.demand(r) / mean.labour) ** alpha)

    def left(self, r: float) -> float:
        """Return what the poorest at the borrowing limit can consume at r: convex in r where the limit is positive."""
        return r * self.economy.borrowing_limit + self.wage(r) * float(self.averages.earnings.min())

    def intervals(self) -> list[tuple[float, float]]:
        """Return the intervals, the highest first, in whose interiors the interest rate may lie.

        Firms use no less than the borrowing limit and no more than the grid holds, r is below 1/beta - 1, and the
        poorest have something to consume (or nothing, at a limit of zero and no income, where they never are). With a
        positive limit they may have nothing at rates between two others.

        Raises:
            EquilibriumError: there are no such rates.
        """
        economy, limit = self.economy, self.economy.borrowing_limit
        low, high = self.rate(float(economy.assets[-1])), self.patience
        if limit > 0:
            high = min(high, self.rate(limit))
        if low >= high:
            raise ShortGridError(
                f"asset_max={economy.assets[-1]:g} holds too little: even at 1/discount_factor - 1 = "
                f"{self.patience:.4g}, the highest interest rate, firms use capital {self.demand(self.patience):.6g}; "
                "raise asset_max"
                if low >= self.patience
                else f"asset_max={economy.assets[-1]:g} is not above borrowing_limit={limit:g}"
            )
        worst = self.averages.earnings.min()
        if limit == 0:
            return [(low, high)]
        if limit < 0:
            if self.left(low) <= 0:
                raise EquilibriumError(self.starved(low))
            return [(low, high if self.left(high) > 0 else self._edge(low, high))]
        # Convex: the least of r a_min + w(r) y_min is where a_min = y_min K/L, for w'(r) = -K/L.
        least = self.rate(limit / worst * self.averages.labour) if worst > 0 else low
        least = min(max(least, low), high)
        if self.left(least) > 0:
            return [(low, high)]
        found = [(self._edge(high, least), high)] if self.left(high) > 0 else []
        found += [(low, self._edge(low, least))] if self.left(low) > 0 else []
        if not found:
            raise EquilibriumError(self.starved(least))
        return found

    def _edge(self, fed: float, starved: float) -> float:
        """Return the rate between these at which the poorest have nothing left, from the side where they have."""
        for _ in range(100):
            middle = (fed + starved) / 2
            fed, starved = (middle, starved) if self.left(middle) > 0 else (fed, middle)
        return fed

    def starved(self, r: float) -> str:
        """Return the message that the poorest have nothing to consume at the interest rate r."""
        income = self.wage(r) * float(self.averages.earnings.min())
        return (
            f"at borrowing_limit={self.economy.borrowing_limit:g} and the interest rate {r:.4g} a household with the "
            f"lowest income, {income:.4g}, has nothing to consume: bring the limit nearer to 0, or raise that income"
        )

    def excess(self, r: float) -> float:
        """Return (S - D)/(S + D), between -1 and 1, of capital supplied and demanded above the borrowing limit at r."""
        gap = self._excess(r, FOUND)
        if abs(gap) < NEAR:
            gap = self._excess(r, CONVERGED)
        return gap if abs(gap) > CLEARED else 0.0

    def _excess(self, r: float, tolerance: float) -> float:
        """Return `excess` with a policy that is found to a tolerance, or as near as rounding allows."""
        economy, income = self.economy, self.wage(r) * self.averages.earnings
        fixed = economy.assets - income[:, None]
        if not self.consumption.size:
            # Of whoever chooses each node: carried from one interest rate to the next, it is positive at all of them.
            first = self.wage(r) * self.averages.labour + (economy.assets - economy.borrowing_limit) / 9
            self.consumption = np.tile(first, (len(economy.skill), 1))
        self.thresholds[0, 0] = (self.consumption + fixed) / (1 + r)
        gross, chain = np.full((1, 1), 1 + r), self.averages.chain[None, :, None, :]
        least = np.where(self.consumption > 0, self.consumption, np.inf)
        rounding = ROUNDING * float(np.max(abs(self.thresholds[0, 0]) / least))
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
            min(max(tolerance, rounding), FOUND),
        )
        if not change <= FOUND:
            raise EquilibriumError(
                f"no policy was found at the interest rate {r:.6g} in {count} iterations: the last changed it by "
                f"{change:.2g}"
            )
        self.consumption = (1 + r) * self.thresholds[0, 0] - fixed
        self.law = stationary_law(Transport(economy.assets, self.saving(), self.averages.chain))
        limit = economy.borrowing_limit
        supply, demand = float(economy.capital_of(self.law)) - limit, self.demand(r) - limit
        return (supply - demand) / (supply + demand) if supply + demand > 0 else 0.0

    def saving(self) -> Floats:
        """Return a' at the nodes, (n_e, n_a)."""
        assets, e = self.economy.assets, np.arange(len(self.economy.skill))[:, None]
        return egm.constant_saving(self.thresholds[0, 0], assets, assets, e)
