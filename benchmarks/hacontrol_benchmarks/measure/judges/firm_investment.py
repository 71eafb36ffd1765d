"""Judge the investing firm: its value against a monotone scheme on other nodes, its policy against other actions."""

from __future__ import annotations

from typing import Any

import numpy as np

from hacontrol_benchmarks.measure.judges.draws import Uniform, log_uniform, require_close
from hacontrol_envs import FirmInvestment
from hacontrol_envs.arrays import Floats
from hacontrol_envs.solvers.grid import Grid
from hacontrol_envs.solvers.hjb import GridValue, solve

SHAPES = (25, 25), (49, 49), (97, 97)
"""Nodes of capital and productivity of the monotone scheme's grids."""


def draw(u: Uniform) -> dict[str, Any]:
    """Draw costs of adjustment from .03 to 100 each, with or without a wedge between prices, and noise."""
    given: dict[str, Any] = {
        "returns_to_scale": 0.1 + 0.8 * u() if u() < 0.95 else 1.0,
        "depreciation": log_uniform(u, 0.01, 0.3) if u() < 0.95 else 0.0,
        "discount": log_uniform(u, 0.01, 0.3),
        "mean_reversion": log_uniform(u, 0.05, 3.0),
        "volatility": log_uniform(u, 0.02, 0.8) if u() < 0.9 else 0.0,
        "adjustment_cost_up": log_uniform(u, 0.03, 100.0),
        "adjustment_cost_down": log_uniform(u, 0.03, 100.0),
        "price": log_uniform(u, 0.2, 3.0),
    }
    kind = u()
    if kind < 0.3:
        given["purchase_price"] = log_uniform(u, 0.3, 3.0)
        given["resale_price"] = given["purchase_price"] * u()
    elif kind < 0.4:
        given["adjustment"] = "smoothed"
    if u() < 0.3:
        given["capital_bounds"] = (log_uniform(u, 0.05, 0.5), log_uniform(u, 2.0, 20.0))
        given["productivity_bound"] = log_uniform(u, 1.0, 4.0)
    return given


def judge(parameters: dict[str, Any]) -> None:
    """Require the value of a monotone scheme to the errors of both, a policy that loses little, and finite steps.

    The scheme's error, of order 1, is about the last difference of its values; one and a half of that is allowed, since
    layers at the edges make extrapolation of coarse grids worse than the finest.
    """
    p = FirmInvestment(**parameters)
    found = p.solution()
    assert found is not None
    x = p.state.from_unit(np.random.default_rng(1).uniform(-1, 1, (2000, 2)))
    grids = [_monotone(p, shape) for shape in SHAPES]
    values = [grid.value(0.0, x) for grid in grids]
    allowed = found.error + 1.5 * np.abs(values[-1] - values[-2]).max()
    require_close("V", found.value(0.0, x), values[-1], allowed, parameters)
    fine = grids[-1]
    lost = fine.V - fine.grid.evaluate(found.policy(0.0, fine.grid.x))
    require_close("what the policy loses", np.maximum(lost, 0.0), 0.0, allowed, parameters)
    rng = np.random.default_rng(0)
    x, a = (box.from_unit(rng.uniform(-1, 1, (64, box.dimension))) for box in (p.state, p.action))
    for dt in (1e-3, 0.25):
        moved, paid = p.exact_transition(0.0, x, a, dt, rng.standard_normal((64, 1)))
        require_close("a state after a step", moved, p.state.clip(moved), 0.0, parameters)
        require_close("reward of a step", paid, paid, 0.0, parameters)


def _monotone(p: FirmInvestment, shape: tuple[int, int]) -> GridValue:
    grid = Grid(p, tuple(map(_nodes, shape)))
    return GridValue(grid, solve(grid)[0])


def _nodes(count: int) -> Floats:
    """Nodes dense at both ends, though not as Chebyshev's."""
    s = np.linspace(-1.0, 1.0, count)
    nodes: Floats = np.sin(0.9 * np.pi / 2 * s) / np.sin(0.9 * np.pi / 2)
    nodes[0], nodes[-1] = -1.0, 1.0
    return nodes
