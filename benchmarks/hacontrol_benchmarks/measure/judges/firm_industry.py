"""Judge an industry: its market clears, its law is stationary, and firms do no better, all on a monotone grid."""

from __future__ import annotations

from typing import Any

import numpy as np

from hacontrol_benchmarks.measure.judges.draws import Uniform, log_uniform, require_close
from hacontrol_envs import FirmIndustry
from hacontrol_envs.solvers.grid import Grid, clustered_nodes
from hacontrol_envs.solvers.hjb import solve

SHAPES = (41, 31), (81, 61), (161, 121)
"""Nodes of capital and productivity of the monotone scheme's grids, around the law."""
TOLERANCE = 1e-4


def draw(u: Uniform) -> dict[str, Any]:
    """Draw elasticities of demand from .05 to 10, in boxes of capital that are wide enough for most."""
    given: dict[str, Any] = {
        "demand_elasticity": log_uniform(u, 0.05, 10.0) if u() < 0.9 else 0.0,
        "returns_to_scale": 0.15 + 0.5 * u(),
        "depreciation": log_uniform(u, 0.03, 0.2),
        "discount": log_uniform(u, 0.02, 0.2),
        "mean_reversion": log_uniform(u, 0.2, 2.0),
        "volatility": log_uniform(u, 0.05, 0.4),
        "adjustment_cost_up": log_uniform(u, 0.2, 20.0),
        "adjustment_cost_down": log_uniform(u, 0.2, 50.0),
        "capital_bounds": (0.02, 60.0),
    }
    kind = u()
    if kind < 0.3:
        given["purchase_price"] = log_uniform(u, 0.5, 2.0)
        given["resale_price"] = given["purchase_price"] * (0.5 + 0.5 * u())
    elif kind < 0.4:
        given["adjustment"] = "smoothed"
    return given


def judge(parameters: dict[str, Any]) -> None:
    """Solve for the equilibrium, and test market, replacement, productivity and a monotone scheme's figures.

    The market clears, purchases replace depreciation, productivity spreads as its own law says, and at the price found
    a monotone scheme on three grids gives the same output and capital, to within the differences between its grids.
    """
    found = FirmIndustry(**parameters).equilibrium(TOLERANCE)
    firm, market = found.firm, found.market
    gap = np.log(found.price) + found.industry.demand_elasticity * np.log(found.output)
    require_close("log P + eta log Y", gap, 0.0, 1e-8, parameters)
    k, z = market.grid.x.T
    bought, used = market.mean(market.rates * k), firm.depreciation * found.capital
    require_close("investment", bought, used, 10 * TOLERANCE * used, parameters)
    deviation = firm.productivity_deviation
    if firm.productivity_bound > 6 * deviation:
        spread = np.sqrt(market.mean(z**2))
        require_close("the deviation of productivity", spread, deviation, TOLERANCE * deviation, parameters)
    require_close("mass", found.expectation(lambda k, z: np.ones_like(k)), 1.0, 1e-12, parameters)
    unit = market.grid.unit
    means = market.masses @ unit
    spreads = np.sqrt(market.masses @ (unit - means) ** 2)
    rows = []
    for shape in SHAPES:
        nodes = tuple(clustered_nodes(n, m, 4 * s) for n, m, s in zip(shape, means, spreads, strict=True))
        grid = Grid(firm, nodes)
        _, a = solve(grid)
        masses, _ = grid.law(a, int(np.argmin(np.abs(a[:, 0] - firm.depreciation) + np.abs(grid.x[:, 1]))))
        k, z = grid.x.T
        rows.append(np.log([masses @ (np.exp(z) * k**firm.returns_to_scale), masses @ k]))
    allowed = 2 * TOLERANCE + np.ptp(rows, axis=0)
    require_close("log output and capital", np.log([found.output, found.capital]), rows[-1], allowed, parameters)
