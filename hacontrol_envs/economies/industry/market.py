"""Firms at one price of output: their value and policy on a grid, and their law."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np

from hacontrol_envs.arrays import Floats
from hacontrol_envs.errors import EquilibriumError
from hacontrol_envs.problems.firm_investment import FirmInvestment
from hacontrol_envs.solvers.grid import Grid, clustered_nodes
from hacontrol_envs.solvers.hjb import GridValue, improve, solve

BINDING = 1e-7
"""Share of firms within two nodes of a capital bound above which the bound is said to shape the equilibrium."""
SPREADS = 2.5
"""Standard deviations of the law around its mean within which nodes cluster."""


class Refinement(NamedTuple):
    """The market that clears on one grid."""

    shape: tuple[int, int]
    """Nodes of capital and productivity."""
    price: float
    """The price of output, P."""
    output: float
    """Output, Y."""
    capital: float
    """Mean capital of firms, K."""


@final
@dataclass(frozen=True)
class Market:
    """Firms at one price of output: their value and policy on a grid of N nodes, and their law."""

    firm: FirmInvestment
    """One of the firms, with the price among its parameters."""
    value: GridValue
    """The value of a firm on the grid."""
    rates: Floats
    """Investment rates at the nodes, (N,)."""
    masses: Floats
    """The law's masses at the nodes, (N,)."""
    negative: float
    """The negative mass that was set to zero in `masses`."""

    @classmethod
    def of(cls, grid: Grid, start: GridValue | None) -> Market:
        """Solve for value, policy and law of the firm that is the grid's problem, by policy iteration.

        Args:
            grid: grid of a `FirmInvestment`.
            start: value on another grid to begin from; None begins without one.
        """
        firm = grid.problem
        assert isinstance(firm, FirmInvestment)
        V, a = solve(grid, None if start is None else start.value(0.0, grid.x))
        return cls(firm, GridValue(grid, V), a[:, 0], *law_under(grid, a))

    def improved(self) -> Market:
        """Return the market of firms at the same price who do what is greedy for the value of these: one step of policy
        iteration, by which their value, and so what each would gain by deviating, is found to second order."""
        a = improve(self.grid, self.value.V)
        return Market(self.firm, GridValue(self.grid, self.grid.evaluate(a)), a[:, 0], *law_under(self.grid, a))

    @property
    def grid(self) -> Grid:
        """The grid on which value, policy and law were computed."""
        return self.value.grid

    def mean(self, values: Floats) -> float:
        """Return E_mu of values (N,) at the nodes."""
        return float(self.masses @ values)

    @property
    def output(self) -> float:
        """Output, Y = E_mu[e^z k^alpha]."""
        return self.mean(self.firm.revenue(self.grid.x)) / self.firm.price

    @property
    def capital(self) -> float:
        """Mean capital of firms, K = E_mu[k]."""
        return self.mean(self.grid.x[:, 0])

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


def difference(fine: Market, coarse: Market) -> tuple[float, ...]:
    """Return the relative differences of price, output and capital between two markets."""
    pairs = (fine.firm.price, coarse.firm.price), (fine.output, coarse.output), (fine.capital, coarse.capital)
    return tuple(abs(one / other - 1) for one, other in pairs)


def law_under(grid: Grid, a: Floats) -> tuple[Floats, float]:
    """Find the stationary masses (N,) of firms on a grid under rates a (N, 1), and the mass that was negative."""
    firm = grid.problem
    assert isinstance(firm, FirmInvestment)
    return grid.law(a, likely=int(np.argmin(np.abs(a[:, 0] - firm.depreciation) + np.abs(grid.x[:, 1]))))


def clustered_around(grid: Grid, masses: Floats, shape: tuple[int, int]) -> tuple[Floats, ...]:
    """Place nodes along each state, dense where the masses of a law on a grid are.

    Args:
        grid: grid of the law.
        masses: the law's masses at its nodes, (N,).
        shape: number of nodes to place along each state.
    """
    means = masses @ grid.unit
    spreads = np.sqrt(masses @ (grid.unit - means) ** 2)
    return tuple(
        clustered_nodes(count, mean, SPREADS * spread)
        for count, mean, spread in zip(shape, means, spreads, strict=True)
    )
