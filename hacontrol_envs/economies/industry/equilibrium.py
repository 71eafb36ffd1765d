"""IndustryEquilibrium: the price at which firms' supply meets demand, with the value, policy and law of firms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, final

import numpy as np
import scipy

from hacontrol_envs.arrays import Floats
from hacontrol_envs.core.solution import CrossSection, Solution
from hacontrol_envs.economies.economy import Equilibrium
from hacontrol_envs.economies.industry.market import Market, Refinement
from hacontrol_envs.economies.industry.responses import ImpulseResponse, impulse_response
from hacontrol_envs.problems.firm_investment import FirmInvestment
from hacontrol_envs.renamed import warn

if TYPE_CHECKING:
    from hacontrol_envs.economies.industry.economy import FirmIndustry

FLOOR = 1e-14
"""Smallest density, as a share of the highest; below it a density is rounding error."""


@final
@dataclass(frozen=True)
class IndustryEquilibrium(Equilibrium):
    """A stationary equilibrium of a `FirmIndustry`. Functions take capital k and log productivity z of one shape (...).

    Outside the box functions are continued from its nearest point; the density is zero there.
    """

    unequal = "capital"

    industry: FirmIndustry
    """The industry whose equilibrium this is."""
    market: Market
    """Firms at the equilibrium price on the finest grid."""
    error: float
    """Estimated relative error of price, output and capital: the largest difference from a grid 2/3 as fine."""
    refinements: tuple[Refinement, ...]
    """The market that clears on each of ever finer grids, of which this equilibrium is the last."""

    @property
    def ladder(self) -> tuple[Refinement, ...]:
        """The refinements; deprecated."""
        warn("ladder", "refinements")
        return self.refinements

    @property
    def firm(self) -> FirmInvestment:
        """One of the firms, at the equilibrium price."""
        return self.market.firm

    @property
    def price(self) -> float:
        """The price of output, P."""
        return self.firm.price

    @property
    def signal(self) -> float:
        """The price P, which firms take as given."""
        return self.price

    @property
    def solution(self) -> Solution:
        """Value V(t, x) and investment rate (..., 1) at states x = (k, z), (..., 2).

        Nodes cluster where firms are, and there V is as exact as `error` says; over the whole box its error is not
        estimated (NaN), for which `firm.solution()` is better.
        """
        found, grid = self.market.value, self.market.grid
        source = f"finite differences of order {grid.order} on {' x '.join(map(str, grid.shape))} nodes around the law"
        return Solution(found.value, found.policy, "numerical", source, np.nan, found.jet)

    @property
    def cross_section(self) -> CrossSection:
        """The law of firms over the grid's nodes, x = (k, z)."""
        return CrossSection(self.market.grid.x, self.market.masses)

    @property
    def aggregates(self) -> dict[str, float]:
        """Price, output and capital by name."""
        return {"price": self.price, "output": self.output, "capital": self.capital}

    @property
    def individuals(self) -> dict[str, Floats]:
        """Capital, productivity e^z, the investment rate, output and value of firms, each (M,), by name."""
        x, market = self.market.grid.x, self.market
        return {
            "capital": x[:, 0],
            "productivity": np.exp(x[:, 1]),
            "investment rate": market.rates,
            "output": self.firm.revenue(x) / self.price,
            "value": market.value.V,
        }

    @property
    def output(self) -> float:
        """Output, Y = E_mu[e^z k^alpha]."""
        return self.market.output

    @property
    def capital(self) -> float:
        """Mean capital of firms, K = E_mu[k]."""
        return self.market.capital

    @property
    def clearing_error(self) -> float:
        """Excess of the price, log P + eta log Y, which is zero where the market clears exactly."""
        return self.industry.excess(self.price, self.output)

    def value(self, k: Floats, z: Floats) -> Floats:
        """Return V(k, z), the present value of a firm's profits."""
        found: Floats = self.market.value.value(0.0, _states(k, z))
        return found

    def policy(self, k: Floats, z: Floats) -> Floats:
        """Return the investment rate iota(k, z)."""
        found: Floats = self.market.value.policy(0.0, _states(k, z))[..., 0]
        return found

    def density(self, k: Floats, z: Floats) -> Floats:
        """Return the law's density per unit of capital and of log productivity."""
        x, box = _states(k, z), self.firm.state
        u = box.to_unit(x)
        inside = np.all(np.abs(u) <= 1, axis=-1)
        found: Floats = np.where(inside, np.exp(self._log_density.ev(u[..., 0], u[..., 1])) / x[..., 0], 0.0)
        return found

    @cached_property
    def _log_density(self) -> scipy.interpolate.RectBivariateSpline:
        """Quintic splines of the logarithm of the density per unit of log capital, which is smooth."""
        density = self.market.masses / self.market.grid.cells
        logs = np.log(np.maximum(density, FLOOR * density.max())).reshape(self.market.grid.shape)
        return scipy.interpolate.RectBivariateSpline(*self.market.grid.nodes, logs, kx=5, ky=5)

    def expectation(self, function: Callable[[Floats, Floats], Floats]) -> float:
        """Return E_mu of a function of capital k (N,) and log productivity z (N,)."""
        return self.market.mean(function(*self.market.grid.x.T))

    def impulse_response(self, shock: float = 0.01, years: float = 30.0, steps: int = 120) -> ImpulseResponse:
        """Compute price, output and capital after a shift of all firms' log productivity, which decays as any does.

        The response is of first order in the shock, in general equilibrium and with perfect foresight; the error in
        time is of order (years/steps)^4, 2e-7 of the shock at the default. See `responses`.

        Args:
            shock: shift of every z at time 0, between -1 and 1.
            years: length of the response. [years].
            steps: number of steps of equal length between 0 and `years`.

        Raises:
            ParameterError: arguments that make no sense, more dates than memory is meant for, or "as-published"
                adjustment, whose policy is no optimum.
            NumericalError: steps are too long, or the shock lasts too long.
        """
        return impulse_response(self, shock, years, steps)

    def __repr__(self) -> str:
        figures = f"price={self.price:.8g}, output={self.output:.8g}, capital={self.capital:.8g}"
        return f"IndustryEquilibrium({figures}, error={self.error:.1g})"


def _states(k: Floats, z: Floats) -> Floats:
    return np.stack(np.broadcast_arrays(np.asarray(k, dtype=np.float64), np.asarray(z, dtype=np.float64)), axis=-1)
