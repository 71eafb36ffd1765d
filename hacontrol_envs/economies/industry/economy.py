"""FirmIndustry: a continuum of firms that invest, and the price that clears the market for their output."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, final

import numpy as np
import scipy

from hacontrol_envs.arrays import Floats
from hacontrol_envs.core import parameters as read
from hacontrol_envs.core.registration import register_economy
from hacontrol_envs.economies.industry.responses import ImpulseResponse, impulse_response
from hacontrol_envs.errors import EquilibriumError, ParameterError
from hacontrol_envs.problems.firm_investment import FirmInvestment
from hacontrol_envs.solvers.grid import Grid, clustered_nodes
from hacontrol_envs.solvers.hjb import GridValue, solve

BINDING = 1e-7
"""Share of firms within two nodes of a capital bound from which on the bound is said to shape the equilibrium."""
CLEARED = 1e-9
"""Largest log P + eta log Y at which the market is said to clear."""
SPREADS = 2.5
"""Nodes cluster within this many standard deviations of the law's mean."""
FLOOR = 1e-14
"""Below this share of the highest density a density is rounding."""
HOPELESS = 30.0
"""Multiple of the tolerance that the next grid, 1.5 times as fine, cannot cure: of order 4 it would be five times."""
SHAPES = (91, 71), (136, 106), (204, 158)
"""Nodes of capital and productivity: the equilibrium on a grid begins, and judges, that on the next."""

FIRM = {one.name: one.default for one in inspect.signature(FirmInvestment).parameters.values() if one.name != "price"}
"""Parameters of a firm that the market does not determine, with their defaults."""


@final
class FirmIndustry:
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

    def __init__(self, demand_elasticity: float = 1.0, **firm_parameters: Any) -> None:
        self.demand_elasticity = read.number("demand_elasticity", demand_elasticity, at_least=0.0)
        if "price" in firm_parameters:
            raise ParameterError("price is what the market of a FirmIndustry determines: leave it out")
        read.refuse_unknown("FirmIndustry", FirmIndustry, firm_parameters)
        self.firm_parameters = firm_parameters
        if self.firm(1.0).volatility == 0:
            raise ParameterError("volatility must be greater than 0: without noise all firms end at one point")

    __signature__ = read.spelt_out(__init__, FIRM)

    @property
    def parameters(self) -> dict[str, Any]:
        """The constructor's arguments as given."""
        return {"demand_elasticity": self.demand_elasticity, **self.firm_parameters}

    def firm(self, price: float) -> FirmInvestment:
        """One of the firms at a price of output."""
        return FirmInvestment(price=price, **self.firm_parameters)

    @property
    def supply_elasticity(self) -> float:
        """d log Y / d log P = alpha/(1 - alpha) as long as no capital bound is felt; inf at constant returns."""
        alpha = self.firm(1.0).returns_to_scale
        return alpha / (1 - alpha) if alpha < 1 else np.inf

    def excess(self, price: float, output: float) -> float:
        """log P + eta log Y, zero where the market clears and rising in P."""
        return float(np.log(price) + self.demand_elasticity * np.log(output))

    def first_guess(self) -> float:
        """The price at which firms without noise would rest, with the mean of e^z that noise gives."""
        firm, eta, elasticity = self.firm(1.0), self.demand_elasticity, self.supply_elasticity
        if not np.isfinite(elasticity):
            return firm.resting_price
        surplus = elasticity * np.log(1 / firm.resting_price) + firm.productivity_deviation**2 / 2
        return float(np.exp(-eta * surplus / (1 + eta * elasticity)))

    def equilibrium(self, tolerance: float = 1e-6) -> Equilibrium:
        """The stationary equilibrium, by finite differences of order 4 on grids clustered around the law.

        Args:
            tolerance: grids are refined until the estimated relative error of price, output and capital is below it.

        Raises:
            EquilibriumError: a capital bound shapes it, no price clears the market, or the finest grid is too coarse.
        """
        market, error, ladder = self._at_first_guess(), np.inf, list[Rung]()
        for shape in SHAPES:
            coarse, market = market, self._clear(market, shape)
            market.refuse_binding()
            ladder.append(Rung(shape, market.firm.price, market.output, market.capital))
            error = max(_gap(market, coarse)) if coarse.grid.order == 4 else np.inf
            if max(error, market.negative) <= tolerance:
                return Equilibrium(self, market, error, tuple(ladder))
            if np.isfinite(error) and max(error, market.negative) > HOPELESS * tolerance:
                break
        grid = f"the finest grid {shape}" if shape == SHAPES[-1] else f"a grid {shape}, of which the next is no cure,"
        raise EquilibriumError(
            f"{grid} leaves a relative error of {error:.1g} and {market.negative:.1g} of negative mass, more than "
            f"tolerance={tolerance:g}: raise it, or narrow the box around the law"
        )

    def _at_first_guess(self) -> _Market:
        """Firms at the first guess of the price on a monotone grid, to see where their law is.

        With kinked costs: the published control, which is no argmax, needs a start near where policy iteration ends.
        """
        firm = dataclasses.replace(self.firm(self.first_guess()), adjustment="kinked")
        center = firm.state.to_unit(np.array([firm.resting_capital, 0.0]))[0]
        spread = self.firm(1.0).productivity_deviation / firm.state.half_width[1]
        nodes = clustered_nodes(81, center, 0.2), clustered_nodes(41, 0.0, SPREADS * spread)
        return _Market.of(Grid(firm, nodes), None)

    def _clear(self, start: _Market, shape: tuple[int, int]) -> _Market:
        """The market that clears, on a grid of this shape clustered around the law of an earlier one."""
        nodes = start.clustered(shape)
        known: dict[float, _Market] = {}

        def excess(log_price: float) -> float:
            price = float(np.exp(log_price))
            value = list(known.values())[-1].value if known else start.value
            known[log_price] = market = _Market.of(Grid(self.firm(price), nodes, 4), value)
            return self.excess(price, market.output)

        first = float(np.log(start.firm.price))
        slope = 1 + self.demand_elasticity * min(self.supply_elasticity, 10.0)
        second = first - excess(first) / slope
        if second != first:
            scipy.optimize.root_scalar(excess, method="secant", x0=first, x1=second, xtol=1e-11, maxiter=30)
        market = min(known.values(), key=lambda market: abs(self.excess(market.firm.price, market.output)))
        gap = self.excess(market.firm.price, market.output)
        if abs(gap) > CLEARED:
            raise EquilibriumError(
                f"no price was found that clears the market: at {market.firm.price:.6g} log P + eta log Y is {gap:.2g}"
            )
        return market

    def comparative_statics(self, name: str, values: Iterable[float]) -> list[Equilibrium]:
        """The equilibrium at each of these values of a parameter, such as "volatility"; `plot_statics` draws them."""
        return [FirmIndustry(**{**self.parameters, name: value}).equilibrium() for value in values]


class Rung(NamedTuple):
    """The market that clears on one grid."""

    shape: tuple[int, int]
    """Nodes of capital and productivity."""
    price: float
    output: float
    capital: float


@final
@dataclass(frozen=True)
class _Market:
    """Firms at a price: what they are worth and do on a grid, and their law."""

    firm: FirmInvestment
    value: GridValue
    rates: Floats
    masses: Floats
    negative: float
    """Mass that was negative, and set to zero."""

    @classmethod
    def of(cls, grid: Grid, start: GridValue | None) -> _Market:
        """The market on a grid for one of its firms; policy iteration begins from the values `start`."""
        firm = grid.problem
        assert isinstance(firm, FirmInvestment)
        V, a = solve(grid, None if start is None else start.value(0.0, grid.x))
        rest = int(np.argmin(np.abs(a[:, 0] - firm.depreciation) + np.abs(grid.x[:, 1])))
        return cls(firm, GridValue(grid, V), a[:, 0], *grid.law(a, likely=rest))

    @property
    def grid(self) -> Grid:
        """Where it was computed."""
        return self.value.grid

    def mean(self, values: Floats) -> float:
        """E_mu of values at the nodes."""
        return float(self.masses @ values)

    @property
    def output(self) -> float:
        """Y = E_mu[e^z k^alpha]."""
        return self.mean(self.firm.revenue(self.grid.x)) / self.firm.price

    @property
    def capital(self) -> float:
        """K = E_mu[k]."""
        return self.mean(self.grid.x[:, 0])

    def clustered(self, shape: tuple[int, int]) -> tuple[Floats, ...]:
        """Nodes dense where the law is."""
        unit = self.grid.unit
        means = [self.mean(unit[:, i]) for i in range(2)]
        spreads = [np.sqrt(self.mean((unit[:, i] - mean) ** 2)) for i, mean in enumerate(means)]
        return tuple(
            clustered_nodes(count, mean, SPREADS * spread)
            for count, mean, spread in zip(shape, means, spreads, strict=True)
        )

    def refuse_binding(self) -> None:
        """Raise EquilibriumError where firms gather at a capital bound."""
        by_capital = self.masses.reshape(self.grid.shape).sum(axis=1)
        for share, name, bound in zip(
            (by_capital[:2].sum(), by_capital[-2:].sum()), ("k_min", "k_max"), self.firm.capital_bounds, strict=True
        ):
            if share > BINDING:
                raise EquilibriumError(
                    f"no equilibrium inside the box: at price {self.firm.price:.6g} the capital bound {name} = {bound} "
                    f"holds {share:.2g} of the firms. Widen capital_bounds={self.firm.capital_bounds!r}, or check the "
                    "parameters: at constant returns to scale no size of firm is stationary"
                )


def _gap(fine: _Market, coarse: _Market) -> tuple[float, ...]:
    """Relative differences of price, output and capital."""
    pairs = (fine.firm.price, coarse.firm.price), (fine.output, coarse.output), (fine.capital, coarse.capital)
    return tuple(abs(one / other - 1) for one, other in pairs)


@final
@dataclass(frozen=True)
class Equilibrium:
    """A stationary equilibrium of a `FirmIndustry`. Functions take capital k and log productivity z of one shape (...).

    Outside the box they are continued from its nearest point, the density as zero.
    """

    industry: FirmIndustry
    market: _Market
    error: float
    """Relative error of price, output and capital, estimated: the largest difference from a grid 2/3 as fine."""
    ladder: tuple[Rung, ...]
    """What the market was on ever finer grids, the last of which this is."""

    @property
    def firm(self) -> FirmInvestment:
        """One of the firms, at the equilibrium price."""
        return self.market.firm

    @property
    def price(self) -> float:
        """P."""
        return self.firm.price

    @property
    def output(self) -> float:
        """Y = E_mu[e^z k^alpha]."""
        return self.market.output

    @property
    def capital(self) -> float:
        """K = E_mu[k]."""
        return self.market.capital

    @property
    def clearing_error(self) -> float:
        """log P + eta log Y."""
        return self.industry.excess(self.price, self.output)

    def value(self, k: Floats, z: Floats) -> Floats:
        """V(k, z), the present value of a firm's profits."""
        found: Floats = self.market.value.value(0.0, _states(k, z))
        return found

    def policy(self, k: Floats, z: Floats) -> Floats:
        """The investment rate iota(k, z)."""
        found: Floats = self.market.value.policy(0.0, _states(k, z))[..., 0]
        return found

    def density(self, k: Floats, z: Floats) -> Floats:
        """The law's density per unit of capital and of log productivity."""
        x, box = _states(k, z), self.firm.state
        u = box.to_unit(x)
        inside = np.all(np.abs(u) <= 1, axis=-1)
        found: Floats = np.where(inside, np.exp(self._log_density.ev(u[..., 0], u[..., 1])) / x[..., 0], 0.0)
        return found

    @cached_property
    def _log_density(self) -> scipy.interpolate.RectBivariateSpline:
        """The logarithm of the density per unit of log capital, which is smooth, by quintic splines."""
        density = self.market.masses / self.market.grid.cells
        logs = np.log(np.maximum(density, FLOOR * density.max())).reshape(self.market.grid.shape)
        return scipy.interpolate.RectBivariateSpline(*self.market.grid.nodes, logs, kx=5, ky=5)

    def expectation(self, function: Callable[[Floats, Floats], Floats]) -> float:
        """E_mu of a function of (k, z)."""
        return self.market.mean(function(*self.market.grid.x.T))

    def impulse_response(self, shock: float = 0.01, years: float = 30.0, steps: int = 120) -> ImpulseResponse:
        """Price, output and capital after a shift of all firms' log productivity, which decays as any does.

        To first order in the shock, in general equilibrium and with perfect foresight; the error in time is of order
        (years/steps)^4, 2e-7 of the shock at the default. See `responses`.

        Args:
            shock: the shift of every z at time 0, between -1 and 1.
            years: until when.
            steps: of equal length, between 0 and `years`.

        Raises:
            ParameterError: arguments that make no sense, more dates than memory is meant for, or "as-published"
                adjustment, whose policy is no optimum.
            NumericalError: steps are too long, or the shock lasts too long.
        """
        return impulse_response(self, shock, years, steps)

    def __repr__(self) -> str:
        figures = f"price={self.price:.8g}, output={self.output:.8g}, capital={self.capital:.8g}"
        return f"Equilibrium({figures}, error={self.error:.1g})"


def _states(k: Floats, z: Floats) -> Floats:
    return np.stack(np.broadcast_arrays(np.asarray(k, dtype=np.float64), np.asarray(z, dtype=np.float64)), axis=-1)


register_economy("FirmIndustry", FirmIndustry)
