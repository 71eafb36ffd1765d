"""The stationary equilibrium of `KrusellSmith`: households by endogenous grids, their law by a direct solution."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, final

import numpy as np
import scipy

from hacontrol_envs.arrays import Floats
from hacontrol_envs.core.solution import CrossSection, Solution
from hacontrol_envs.economies.economy import Equilibrium
from hacontrol_envs.economies.krusell_smith import sequence_space
from hacontrol_envs.economies.krusell_smith.market import Averages, Households, ShortGridError
from hacontrol_envs.errors import EquilibriumError, HacontrolError, NumericalError, TruncationWarning
from hacontrol_envs.numerics import egm
from hacontrol_envs.numerics.inequality import lorenz

if TYPE_CHECKING:
    from hacontrol_envs.economies.krusell_smith.economy import KrusellSmith
    from hacontrol_envs.economies.krusell_smith.responses import ImpulseResponse

BALANCED = 1e-7
"""Largest relative error of a steady state, in the market for capital and in the balance of goods."""
NOTICED, REFUSED = 1e-4, 1e-2
"""Shares of households at the top of a grid, or of output lost there, above which a solution is warned of and
refused."""
NEGLIGIBLE, MOST_TOP = 1e-6, 1e7
"""Share of households at the top, or of output lost there, below which a chosen grid is long enough, and its longest
end."""
FIRST_TOP, PROBE = 400.0, 100
"""End of the grid that is tried first, and number of nodes on which ends are tried."""
FARTHEST = 30.0
"""Largest |t| in the search of `_root`: a share of e^-30 of an interval."""
NO_RISK = 1e-12
"""Spread of earnings below which there is no risk."""


@final
@dataclass(frozen=True, eq=False)
class SteadyState(Equilibrium):
    """The equilibrium in which Z, L, earnings and P(e'|e) stay at their means and the law of (a, e) is stationary.

    For "ssj", where labour and incomes do not depend on Z, this is the economy with Z = 1. For "jedc" it is one without
    good or bad times: Z = 1, unemployment and earnings at their means over times (the insurance's budget balances), and
    P(e'|e) that of a household which does not know what times it is in.
    """

    unequal = "assets"

    economy: KrusellSmith
    """The economy whose steady state this is."""
    capital: float
    """Capital K, the mean of assets. [goods]."""
    interest_rate: float
    """Interest rate r. [1/quarter]."""
    wage: float
    """Wage w. [goods per unit of labour]."""
    law: Floats
    """Masses of households at states (e, a) of the nodes, (n_e, n_a); their sum is one."""
    consumption: Floats
    """Consumption c at the nodes, (n_e, n_a)."""
    saving: Floats
    """Assets a' that are chosen at the nodes, (n_e, n_a)."""
    thresholds: Floats
    """Assets at which a' = assets[i] is chosen, (n_e, n_a); see `egm`."""
    clearing_error: float
    """Log K supplied less log K demanded."""

    @property
    def signal(self) -> float:
        """The interest rate r, which households take as given."""
        return self.interest_rate

    @cached_property
    def solution(self) -> Solution:
        """Value and share saved (..., 1) at states x = (a, e), of `economy.individual(interest_rate)`."""
        return self.economy.individual(self.interest_rate).solution()

    @property
    def cross_section(self) -> CrossSection:
        """The law of households over states x = (a, e) at the nodes."""
        e, assets = np.meshgrid(np.arange(float(len(self.law))), self.economy.assets, indexing="ij")
        return CrossSection(np.stack([assets.ravel(), e.ravel()], axis=-1), self.law.ravel())

    @property
    def aggregates(self) -> dict[str, float]:
        """Capital, output, interest rate and wage by name."""
        prices = {"interest rate": self.interest_rate, "wage": self.wage}
        return {"capital": self.capital, "output": self.output, **prices}

    @property
    def individuals(self) -> dict[str, Floats]:
        """Assets, income from work, consumption and saving a' of households, each (M,), by name."""
        income = np.broadcast_to(self.wage * self.averages.earnings[:, None], self.law.shape)
        every = {"income": income, "consumption": self.consumption, "saving": self.saving}
        return {"assets": self.cross_section.x[:, 0], **{name: table.ravel() for name, table in every.items()}}

    @property
    def share_constrained(self) -> float:
        """Share of households at the borrowing limit."""
        return float(self.law[:, 0].sum())

    @property
    def share_at_top(self) -> float:
        """Share of households at the highest node: that the grid ends there matters less than this."""
        return float(self.law[:, -1].sum())

    @property
    def output(self) -> float:
        """Output, Y = Z K^alpha L^(1 - alpha) = C + delta K + `output_lost` Y, C the mean of `consumption`."""
        economy, mean = self.economy, self.averages
        return float(
            mean.productivity * self.capital**economy.capital_share * mean.labour ** (1 - economy.capital_share)
        )

    @property
    def output_lost(self) -> float:
        """The share of output that households would save above the grid, where nothing is kept."""
        return float((self.law * np.maximum(self.saving - self.economy.assets[-1], 0.0)).sum() / self.output)

    @property
    def goods_error(self) -> float:
        """Error of the balance of goods, (C + delta K + lost)/Y - 1."""
        used = (self.law * self.consumption).sum() + self.economy.depreciation * self.capital
        return float(used / self.output + self.output_lost - 1)

    def lorenz(self) -> tuple[Floats, Floats]:
        """Return shares of households, poorest first, and of assets that they hold, (n_a + 1,) each, from 0 to 1."""
        return lorenz(self.economy.assets, self.law.sum(axis=0))

    @property
    def gini(self) -> float:
        """Gini coefficient of assets: one less twice the area below the Lorenz curve."""
        people, wealth = self.lorenz()
        return float(1 - np.sum(np.diff(people) * (wealth[1:] + wealth[:-1])))

    def saving_at(self, assets: Floats, e: Any) -> Floats:
        """Return a' of households with these assets and states, broadcasting."""
        return egm.constant_saving(self.thresholds, self.economy.assets, assets, e)

    def consumption_at(self, assets: Floats, e: Any) -> Floats:
        """Return c of households with these assets and states, broadcasting."""
        cash = (1 + self.interest_rate) * np.asarray(assets) + self.wage * self.averages.earnings[np.asarray(e)]
        consumption: Floats = cash - self.saving_at(assets, e)
        return consumption

    def policy(self, assets: Floats, e: Any, z: Any, law: Floats) -> Floats:
        """Return a' (..., m) as if prices were always those of the steady state.

        Args:
            assets: own assets, (..., m).
            e: numbers of the households' income states, (..., m).
            z: states of Z, (...); ignored, as a household policy may.
            law: laws of households, (..., n_e, n_a); ignored.
        """
        return self.saving_at(assets, e)

    def impulse_response(
        self,
        shock: float | None = None,
        persistence: float | None = None,
        horizon: int = 300,
        *,
        productivity: Floats | None = None,
    ) -> ImpulseResponse:
        """Compute responses of aggregates to log Z to first order, with perfect foresight; see `sequence_space`.

        Args:
            shock: log Z less its mean at quarter 0; None for .01.
            persistence: factor by which log Z decays a quarter; None for the autocorrelations of the economy's chain.
            horizon: length of the response. [quarters].
            productivity: the whole path of log Z less its mean, (horizon + 1,), instead of a shock; None for the shock.

        Raises:
            ParameterError: arguments that make no sense.
            NumericalError: no path was found along which the market clears.
        """
        return sequence_space.impulse_response(self, shock, persistence, horizon, productivity)

    @cached_property
    def averages(self) -> Averages:
        """The means of Z, L, earnings and the chain of e at which the economy is steady."""
        return Averages.of(self.economy)

    def __repr__(self) -> str:
        figures = f"capital={self.capital:.8g}, interest_rate={self.interest_rate:.8g}, wage={self.wage:.8g}"
        shares = f"share_constrained={self.share_constrained:.4g}, share_at_top={self.share_at_top:.2g}"
        return f"SteadyState({figures}, {shares}, gini={self.gini:.4g})"


def check_top(economy: KrusellSmith, what: str, share_at_top: float, output_lost: float) -> None:
    """Warn where the end of the grid cuts off more than `NOTICED` of households or of output.

    Args:
        economy: the economy.
        what: name of the solution, for the message.
        share_at_top: share of households at the highest node.
        output_lost: share of output that is saved above it.

    Raises:
        EquilibriumError: it cuts off more than `REFUSED`.
    """
    if max(share_at_top, output_lost) <= NOTICED:
        return
    top = float(economy.assets[-1])
    told = (
        f"the grid cuts the law of the {what}: {100 * share_at_top:.2g} % of households are at asset_max={top:g}, and "
        f"{100 * output_lost:.2g} % of output is saved above it and lost; take a higher asset_max, or none: then it is "
        "chosen"
    )
    if max(share_at_top, output_lost) > REFUSED:
        raise EquilibriumError(told)
    warnings.warn(told, TruncationWarning, stacklevel=3)


def chosen_top(probe: Callable[[float], KrusellSmith]) -> float:
    """Find the least of 400, 800, 1600, ... at which a grid cuts off a negligible part of the steady state's law.

    Args:
        probe: function of an end that returns the economy on `PROBE` nodes up to it.

    Returns:
        That end; where there is no steady state, the end at which `solve` says why.
    """
    top = FIRST_TOP
    while top <= MOST_TOP:
        try:
            found = solve(probe(top))
        except ShortGridError:
            top *= 2
            continue
        except HacontrolError:
            return top
        if max(found.share_at_top, found.output_lost) <= NEGLIGIBLE:
            return top
        top *= 2
    return top


def solve(economy: KrusellSmith) -> SteadyState:
    """Solve for the stationary equilibrium: the interest rate at which savers own the capital that firms use.

    Raises:
        EquilibriumError: there is none, or its law of assets is not determined.
        NumericalError: the one found is none to within `BALANCED`.
    """
    households = Households(economy)
    if np.ptp(households.averages.earnings) <= NO_RISK:
        raise EquilibriumError(
            f"without risk to incomes the interest rate is 1/discount_factor - 1 = {households.patience:.6g}, capital "
            f"is {households.demand(households.patience):.6g} and every law of assets with that mean is stationary: "
            "there is no one steady state"
        )
    r = _root(households)
    households.excess(r)
    saving, wage = households.saving(), households.wage(r)
    cash = (1 + r) * economy.assets + wage * households.averages.earnings[:, None]
    capital = float(economy.capital_of(households.law))
    error = float(np.log(capital / households.demand(r))) if capital > 0 else np.nan
    found = SteadyState(
        economy, capital, r, wage, households.law, cash - saving, saving, households.thresholds[0, 0], error
    )
    if not (abs(error) <= BALANCED and abs(found.goods_error) <= BALANCED):
        raise NumericalError(
            f"no steady state was found: at the interest rate {r:.8g} households supply {np.expm1(error):.2g} more "
            f"capital than firms use, and {found.goods_error:.2g} of output is out of balance. With hardly any risk to "
            "incomes supply is too steep in the rate for rounding: then give more risk; else try more asset_nodes"
        )
    return found


def _root(households: Households) -> float:
    """Find the interest rate at which capital supplied is that demanded, in the highest interval that has one.

    The search is over t, where r = high - (high - low) / (1 + e^-t): what households supply rises without bound at
    1/beta - 1, about as one over the distance from there. From 5 % of the interval below its upper end the search goes
    to where supply and demand come closer; if several rates clear the market, it is the first met there.
    """
    why, cut = "", False
    for low, high in households.intervals():
        edge = high

        def excess(t: float, low: float = low, high: float = high) -> float:
            return households.excess(high - (high - low) * float(scipy.special.expit(t)))

        t, step = -3.0, -0.5 if (now := excess(-3.0)) < 0 else 0.5
        while now and abs(t) < FARTHEST:
            before, now = now, excess(t + step)
            if before * now < 0:
                t = float(scipy.optimize.brentq(excess, min(t, t + step), max(t, t + step), xtol=1e-10, rtol=1e-13))
                now = 0.0
            else:
                t, step = t + step, 1.6 * step
        economy = households.economy
        if not now:
            return high - (high - low) * float(scipy.special.expit(t))
        top = float(households.law[:, -1].sum())
        if now > 0:
            why = f"households save too much at every interest rate between {low:.4g} and {edge:.4g}"
        elif top > NEGLIGIBLE:
            cut, why = True, f"{100 * top:.3g} % of households are at asset_max={economy.assets[-1]:g}: raise it"
        elif high < households.patience and economy.borrowing_limit < 0:
            raise EquilibriumError(households.starved(high))
        else:
            why = f"households save too little at every interest rate up to {edge:.6g}: is there hardly any risk?"
    raise (ShortGridError if cut else EquilibriumError)(f"no interest rate clears the market for capital: {why}")
