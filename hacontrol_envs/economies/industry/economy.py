"""FirmIndustry: a continuum of firms that invest, and the price that clears the market for their output."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterable
from typing import Any, Literal, final

import numpy as np
import scipy

from hacontrol_envs.arrays import Floats
from hacontrol_envs.core import parameters as read
from hacontrol_envs.core.registration import register_economy
from hacontrol_envs.core.solution import CrossSection
from hacontrol_envs.economies.economy import Economy
from hacontrol_envs.economies.industry.equilibrium import IndustryEquilibrium
from hacontrol_envs.economies.industry.judge import IndustryJudge
from hacontrol_envs.economies.industry.market import (
    SPREADS,
    Market,
    Refinement,
    clustered_around,
    difference,
    law_under,
)
from hacontrol_envs.errors import EquilibriumError, ParameterError
from hacontrol_envs.problems.firm_investment import FirmInvestment
from hacontrol_envs.solvers.grid import Grid, clustered_nodes
from hacontrol_envs.solvers.hjb import GridValue

CLEARED = 1e-9
"""Largest log P + eta log Y at which the market is said to clear."""
HOPELESS = 30.0
"""Multiple of the tolerance above which the next grid is not tried: 1.5 times as fine, at order 4 its error is a
fifth."""
SHAPES = (91, 71), (136, 106), (204, 158)
"""Nodes of capital and productivity of the grids, coarse to fine; each gives the start and the error of the next."""
NEGATIVE = 1e-4
"""Largest negative mass that is tolerated in the law of firms who follow a given policy."""

FIRM = {one.name: one.default for one in inspect.signature(FirmInvestment).parameters.values() if one.name != "price"}
"""Names and defaults of the parameters of `FirmInvestment` other than `price`, which the market determines."""


@final
class FirmIndustry(Economy):
    """Firms of `FirmInvestment`, each with its own productivity, that sell to a demand of constant elasticity.

    In a stationary equilibrium every firm invests optimally at the price P, their law mu over (k, z) is stationary,

        0 = -d_k[(iota - delta) k mu] + kappa d_z(z mu) + sigma^2/2 d_zz mu,    no flux through the edges, mass one,

    and the market clears: P = Y^{-eta}, Y = E_mu[e^z k^alpha]. Supply Y rises with P, so there is one such price.

    Args:
        demand_elasticity: eta >= 0, the elasticity of the price in output.
        firm_parameters: those of `FirmInvestment`, without `price`; no noise would leave no law, so volatility > 0.

    Raises:
        ParameterError: parameters that make no sense.
    """

    parameter_lists = (FirmInvestment,)
    solver = "equilibrium"
    example = """
        from hacontrol_envs import FirmIndustry

        truth = FirmIndustry().equilibrium()
        truth.impulse_response(shock=0.01, steps=60).plot().savefig("impulse.png")
    """

    def __init__(self, demand_elasticity: float = 1.0, **firm_parameters: Any) -> None:
        self.demand_elasticity = read.number("demand_elasticity", demand_elasticity, at_least=0.0)
        if "price" in firm_parameters:
            raise ParameterError("price is what the market of a FirmIndustry determines: leave it out")
        read.refuse_unknown("FirmIndustry", FirmIndustry, firm_parameters)
        self.firm_parameters = firm_parameters
        if self.firm(1.0).volatility == 0:
            raise ParameterError("volatility must be greater than 0: without noise all firms end at one point")

    __signature__ = read.spelt_out(__init__, FIRM)
    judge = IndustryJudge()
    signal_bounds = (0.0, np.inf)

    @property
    def parameters(self) -> dict[str, Any]:
        """The constructor's arguments as given."""
        return {"demand_elasticity": self.demand_elasticity, **self.firm_parameters}

    def firm(self, price: float) -> FirmInvestment:
        """Return one of the firms, at a price of output."""
        return FirmInvestment(price=price, **self.firm_parameters)

    @property
    def supply_elasticity(self) -> float:
        """d log Y / d log P = alpha/(1 - alpha) as long as no capital bound is felt; inf at constant returns."""
        alpha = self.firm(1.0).returns_to_scale
        return alpha / (1 - alpha) if alpha < 1 else np.inf

    def excess(self, price: float, output: float) -> float:
        """Return log P + eta log Y, zero where the market clears and rising in P."""
        return float(np.log(price) + self.demand_elasticity * np.log(output))

    @property
    def excess_slope(self) -> float:
        """Derivative of `excess` in log P, with output as elastic as `supply_elasticity` but at most 10."""
        return 1 + self.demand_elasticity * min(self.supply_elasticity, 10.0)

    def first_guess(self) -> float:
        """Return the price at which firms without noise would rest, with the mean of e^z that noise gives."""
        firm, eta, elasticity = self.firm(1.0), self.demand_elasticity, self.supply_elasticity
        if not np.isfinite(elasticity):
            return firm.resting_price
        surplus = elasticity * np.log(1 / firm.resting_price) + firm.productivity_deviation**2 / 2
        return float(np.exp(-eta * surplus / (1 + eta * elasticity)))

    def individual(self, signal: float | Floats) -> FirmInvestment:
        """Return a firm at the price `signal`, a number; see `firm`."""
        return self.firm(float(signal))

    def respond(self, signal: float | Floats, policy: Callable[[Any, Floats], Any]) -> CrossSection:
        """Find the stationary law of firms at the price `signal` who invest at the rates (..., 1) of a policy.

        It is computed by finite differences of order 4 on a grid clustered around the law; at a capital bound the
        nearest admissible rate is taken.

        Raises:
            EquilibriumError: the law is too rough for the grid: more than 1e-4 of its mass would be negative.
            NumericalError: no stationary law exists.
        """
        grid, _, masses, _ = self._followed(signal, policy)
        return CrossSection(grid.x, masses)

    def follow(self, signal: float | Floats, policy: Callable[[Any, Floats], Any]) -> Market:
        """Find value and law of firms at the price `signal` who invest at the rates (..., 1) of a policy.

        Raises:
            EquilibriumError: the law is too rough for the grid.
            NumericalError: no stationary law exists.
        """
        grid, rates, masses, negative = self._followed(signal, policy)
        return Market(self.individual(signal), GridValue(grid, grid.evaluate(rates)), rates[:, 0], masses, negative)

    def _followed(
        self, signal: float | Floats, policy: Callable[[Any, Floats], Any]
    ) -> tuple[Grid, Floats, Floats, float]:
        """Return a grid around the law of firms who follow a policy, their rates (N, 1), masses (N,), and the mass that
        was negative."""
        firm = self.individual(signal)

        def law(nodes: tuple[Floats, ...], order: Literal[1, 4]) -> tuple[Grid, Floats, Floats, float]:
            grid = Grid(firm, nodes, order)
            t = np.zeros(len(grid.x))
            rates = np.asarray(firm.admissible(t, grid.x, np.asarray(policy(t, grid.x))))
            return grid, rates, *law_under(grid, rates)

        rough, _, masses, _ = law(self._first_nodes(firm), 1)
        found = law(clustered_around(rough, masses, SHAPES[1]), 4)
        if found[-1] > NEGATIVE:
            raise EquilibriumError(
                f"the law of firms under this policy is too rough for a grid {SHAPES[1]}: {found[-1]:.1g} of mass "
                "would be negative"
            )
        return found

    def gap(self, signal: float | Floats, law: CrossSection) -> float:
        """Return log P + eta log Y at the price P = `signal`, with Y = E[e^z k^alpha] under the law; see `excess`."""
        price = float(signal)
        return self.excess(price, float(law.mean(self.firm(1.0).revenue(law.x))))

    def equilibrium(self, tolerance: float = 1e-6) -> IndustryEquilibrium:
        """Solve for the stationary equilibrium by finite differences of order 4 on grids clustered around the law.

        Args:
            tolerance: grids are refined until the estimated relative error of price, output and capital is below it.

        Raises:
            EquilibriumError: a capital bound shapes it, no price clears the market, or the finest grid is too coarse.
        """
        market, error, refinements = self._at_first_guess(), np.inf, list[Refinement]()
        for shape in SHAPES:
            coarse, market = market, self._clear(market, shape)
            market.refuse_binding()
            refinements.append(Refinement(shape, market.firm.price, market.output, market.capital))
            error = max(difference(market, coarse)) if coarse.grid.order == 4 else np.inf
            if max(error, market.negative) <= tolerance:
                return IndustryEquilibrium(self, market, error, tuple(refinements))
            if np.isfinite(error) and max(error, market.negative) > HOPELESS * tolerance:
                break
        grid = f"the finest grid {shape}" if shape == SHAPES[-1] else f"a grid {shape}, of which the next is no cure,"
        raise EquilibriumError(
            f"{grid} leaves a relative error of {error:.1g} and {market.negative:.1g} of negative mass, more than "
            f"tolerance={tolerance:g}: raise it, or narrow the box around the law"
        )

    def _at_first_guess(self) -> Market:
        """Solve for firms at the first guess of the price on a monotone grid, which shows where their law lies.

        With kinked costs: the published control, which is no argmax, needs a start near where policy iteration ends.
        """
        firm = dataclasses.replace(self.firm(self.first_guess()), adjustment="kinked")
        return Market.of(Grid(firm, self._first_nodes(firm)), None)

    def _first_nodes(self, firm: FirmInvestment) -> tuple[Floats, Floats]:
        """Place nodes of capital and log productivity around the state at which a firm would rest without noise."""
        center = firm.state.to_unit(np.array([firm.resting_capital, 0.0]))[0]
        spread = firm.productivity_deviation / firm.state.half_width[1]
        return clustered_nodes(81, center, 0.2), clustered_nodes(41, 0.0, SPREADS * spread)

    def _clear(self, start: Market, shape: tuple[int, int]) -> Market:
        """Find the market that clears, on a grid of this shape clustered around the law of `start`."""
        nodes = clustered_around(start.grid, start.masses, shape)
        known: dict[float, Market] = {}

        def excess(log_price: float) -> float:
            price = float(np.exp(log_price))
            value = list(known.values())[-1].value if known else start.value
            known[log_price] = market = Market.of(Grid(self.firm(price), nodes, 4), value)
            return self.excess(price, market.output)

        first = float(np.log(start.firm.price))
        second = first - excess(first) / self.excess_slope
        if second != first:
            scipy.optimize.root_scalar(excess, method="secant", x0=first, x1=second, xtol=1e-11, maxiter=30)
        market = min(known.values(), key=lambda market: abs(self.excess(market.firm.price, market.output)))
        gap = self.excess(market.firm.price, market.output)
        if abs(gap) > CLEARED:
            raise EquilibriumError(
                f"no price was found that clears the market: at {market.firm.price:.6g} log P + eta log Y is {gap:.2g}"
            )
        return market

    def comparative_statics(self, name: str, values: Iterable[float]) -> list[IndustryEquilibrium]:
        """Solve for the equilibrium at each value of the parameter `name`, such as "volatility"; see `plot_statics`."""
        return [FirmIndustry(**{**self.parameters, name: value}).equilibrium() for value in values]


register_economy("FirmIndustry", FirmIndustry)
