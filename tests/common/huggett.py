"""An economy of our own in one file: Huggett (1993), where households lend to each other and nobody else.

Nothing in the packages knows it: `register_economy` makes it known, any learner of economies learns it, and
`hacontrol run` ranks them by the judge that every economy has.
"""

from __future__ import annotations

from typing import Any

from scipy.optimize import brentq

from hacontrol_envs import CrossSection, Economy, Equilibrium, IncomeFluctuation, register_economy
from hacontrol_envs.core import parameters as read
from hacontrol_envs.errors import EquilibriumError


class Huggett(Economy):
    """Households of `IncomeFluctuation` whose bonds are in zero net supply: E[a] = 0 at the interest rate r."""

    def __init__(self, borrowing_limit: float = -2.0, low_income: float = 0.1, asset_nodes: int = 200) -> None:
        self.borrowing_limit = read.number("borrowing_limit", borrowing_limit)
        self.low_income = read.number("low_income", low_income, above=0.0)
        self.asset_nodes = asset_nodes

    @property
    def parameters(self) -> dict[str, Any]:
        names = "borrowing_limit", "low_income", "asset_nodes"
        return {name: getattr(self, name) for name in names}

    def first_guess(self) -> float:
        return 0.0

    @property
    def signal_bounds(self) -> tuple[float, float]:
        """The poorest can still pay their interest, and nobody saves without bound."""
        return -0.9, min(1 / 0.96 - 1, -self.low_income / self.borrowing_limit)

    def individual(self, signal) -> IncomeFluctuation:
        return IncomeFluctuation(
            interest_rate=float(signal),
            income=(self.low_income, 1.0),
            chain=((0.5, 0.5), (0.075, 0.925)),
            discount_factor=0.96,
            risk_aversion=1.5,
            borrowing_limit=self.borrowing_limit,
            asset_max=60.0,
            asset_nodes=self.asset_nodes,
        )

    def respond(self, signal, policy) -> CrossSection:
        return self.individual(signal).cross_section(policy)

    def gap(self, signal, law) -> float:
        """Mean assets, in units of the debt that is allowed."""
        return float(law.mean(law.x[:, 0])) / -self.borrowing_limit

    def equilibrium(self) -> HuggettEquilibrium:
        def gap(r: float) -> float:
            return self.gap(r, self.respond(r, self.individual(r).solution().policy))

        low, high = -0.2, self.signal_bounds[1] - 4e-3
        if gap(low) * gap(high) > 0:
            raise EquilibriumError(f"no interest rate between {low} and {high:.4g} clears the market for bonds")
        return HuggettEquilibrium(self, brentq(gap, low, high, xtol=1e-12))


class HuggettEquilibrium(Equilibrium):
    """The interest rate at which nobody lends more than others borrow."""

    unequal = "consumption"

    def __init__(self, economy: Huggett, rate: float) -> None:
        self.economy, self.rate = economy, rate
        self.household = economy.individual(rate)

    @property
    def signal(self) -> float:
        return self.rate

    @property
    def solution(self):
        return self.household.solution()

    @property
    def cross_section(self) -> CrossSection:
        return self.household.cross_section(self.solution.policy)

    @property
    def aggregates(self) -> dict[str, float]:
        return {"interest rate": self.rate}

    @property
    def individuals(self):
        x = self.cross_section.x
        cash = self.household.cash_above_limit(x)
        income = x[:, 1] * 1.0 + (1 - x[:, 1]) * self.economy.low_income
        return {"assets": x[:, 0], "income": income, "consumption": (1 - self.solution.policy(0.0, x)[:, 0]) * cash}


register_economy("Huggett", Huggett)
