"""Calibrations of problems and economies at random, wide but such as people use.

A draw depends on its seed and its number alone. What the problem refuses is drawn again, and so are linear systems that
their optimum lets grow: they leave every box, and the known optimum's actions are not those of an actuator with bounds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from hacontrol_agents.core.subjects import make_subject
from hacontrol_envs import LQR, Economy, FirmIndustry
from hacontrol_envs.errors import HacontrolError

Draw = Callable[[np.random.Generator], dict[str, Any]]
"""Function that draws parameters."""


def lqr(rng: np.random.Generator) -> dict[str, Any]:
    """Draw 1 to 4 states with real or turning modes, three in ten of them unstable, and 1 to 4 controls."""
    n = int(rng.integers(1, 5))
    m = int(rng.integers(1, n + 1))
    modes = np.diag(np.where(rng.random(n) < 0.3, 1.0, -1.0) * _log_uniform(rng, 0.05, 2.0, n))
    if n > 1 and rng.random() < 0.5:
        turn = _log_uniform(rng, 0.1, 2.0)
        modes[0, 1], modes[1, 0], modes[1, 1] = turn, -turn, modes[0, 0]
    mixing = np.eye(n) + 0.5 * rng.standard_normal((n, n)) / np.sqrt(n)
    loading = rng.standard_normal((n, n)) / np.sqrt(n)
    return {
        "state_matrix": (mixing @ modes @ np.linalg.inv(mixing)).round(6).tolist(),
        "control_matrix": (rng.standard_normal((n, m)) * _log_uniform(rng, 0.3, 3.0)).round(6).tolist(),
        "state_cost": _symmetric(loading @ loading.T * _log_uniform(rng, 0.1, 10.0) + 0.01 * np.eye(n)),
        "control_cost": np.diag(_log_uniform(rng, 0.1, 10.0, m)).tolist(),
        "noise_matrix": (rng.standard_normal((n, n)) * _log_uniform(rng, 0.03, 1.0) / np.sqrt(n)).round(6).tolist(),
        "discount": _log_uniform(rng, 0.02, 1.0),
    }


def merton(rng: np.random.Generator) -> dict[str, Any]:
    """Draw risk aversion from .3 to 30, one to three assets, discounts from .01 to .2."""
    assets = int(rng.integers(1, 4))
    rate = float(rng.uniform(0.0, 0.05))
    sharpe = _log_uniform(rng, 0.05, 0.6, assets)
    volatility = _log_uniform(rng, 0.08, 0.4, assets)
    factors = np.eye(assets) + np.tril(rng.uniform(-0.5, 0.8, (assets, assets)), -1)
    factors /= np.linalg.norm(factors, axis=1, keepdims=True)
    return {
        "risk_aversion": _log_uniform(rng, 0.3, 30.0),
        "discount": _log_uniform(rng, 0.01, 0.2),
        "risk_free_rate": rate,
        "expected_return": (rate + sharpe * volatility).tolist(),
        "volatility": (volatility[:, None] * factors).tolist(),
    }


def firm(rng: np.random.Generator) -> dict[str, Any]:
    """Draw the price of output, the volatility and persistence of productivity, returns to scale and costs."""
    up, price, returns = _log_uniform(rng, 0.5, 8.0), _log_uniform(rng, 0.6, 1.6), float(rng.uniform(0.25, 0.75))
    depreciation, discount = float(rng.uniform(0.04, 0.15)), _log_uniform(rng, 0.03, 0.1)
    cost = discount + depreciation + up * depreciation * (discount + depreciation / 2)
    capital = (price * returns / cost) ** (1 / (1 - returns))  # at which a firm without noise stays
    spread, mean_reversion = _log_uniform(rng, 0.05, 0.5), _log_uniform(rng, 0.1, 1.5)
    reach = float(np.exp(1.5 + 2 * spread / (1 - returns)))
    return {
        "price": price,
        "capital_bounds": [capital / reach, capital * reach],
        "volatility": spread * float(np.sqrt(2 * mean_reversion)),
        "mean_reversion": mean_reversion,
        "returns_to_scale": returns,
        "adjustment_cost_up": up,
        "adjustment_cost_down": up * _log_uniform(rng, 1.0, 5.0),
        "depreciation": depreciation,
        "discount": discount,
    }


def brock_mirman(rng: np.random.Generator) -> dict[str, Any]:
    """Draw discount factors from .8 to .998, capital shares from .1 to .8, persistence to .99, deviations to .3."""
    return {
        "discount_factor": 1 - _log_uniform(rng, 0.002, 0.2),
        "capital_share": float(rng.uniform(0.1, 0.8)),
        "productivity_persistence": float(rng.uniform(0.0, 0.99)),
        "productivity_deviation": _log_uniform(rng, 0.005, 0.3),
    }


def industry(rng: np.random.Generator) -> dict[str, Any]:
    """Draw elasticities of demand from .1 to 3, firms as `firm` does, and boxes that are up to e times too wide."""
    drawn = {**firm(rng), "demand_elasticity": _log_uniform(rng, 0.1, 3.0)}
    price, bounds = drawn.pop("price"), np.array(drawn.pop("capital_bounds"))
    guess = FirmIndustry(**drawn).first_guess()
    scale = (guess / price) ** (1 / (1 - drawn["returns_to_scale"]))  # of the capital at which firms rest
    wider = np.exp(rng.uniform(0.0, 1.0, 2) * (-1, 1))
    return {**drawn, "capital_bounds": (scale * bounds * wider).tolist()}


def krusell_smith(rng: np.random.Generator) -> dict[str, Any]:
    """Draw patience, risk aversion from .7 to 5, shocks to income and productivity, and borrowing limits, in "ssj"."""
    return {
        "calibration": "ssj",
        "discount_factor": 1 - _log_uniform(rng, 0.006, 0.03),
        "intertemporal_elasticity": _log_uniform(rng, 0.2, 1.5),
        "capital_share": float(rng.uniform(0.28, 0.42)),
        "depreciation": _log_uniform(rng, 0.012, 0.04),
        "productivity_persistence": float(rng.uniform(0.75, 0.97)),
        "productivity_deviation": _log_uniform(rng, 0.004, 0.03),
        "productivity_states": 3,
        "productivity_method": "rouwenhorst",
        "income_persistence": float(rng.uniform(0.85, 0.98)),
        "income_deviation": float(rng.uniform(0.2, 0.8)),
        "borrowing_limit": 0.0 if rng.random() < 0.5 else -_log_uniform(rng, 0.1, 1.0),
        "asset_nodes": 200,
    }


DRAWS: dict[str, tuple[str, Draw]] = {
    "lqr": ("LQR-v0", lqr),
    "merton": ("Merton-v0", merton),
    "firm": ("FirmInvestment-v0", firm),
    "brock_mirman": ("BrockMirman-v0", brock_mirman),
    "industry": ("FirmIndustry", industry),
    "krusell_smith": ("KrusellSmith", krusell_smith),
}
"""By name: the id of the environment or name of the economy, and the function that draws its parameters."""


def drawn(name: str, seed: int, index: int) -> tuple[str, dict[str, Any]]:
    """Return the id of an environment, or the name of an economy, and legal parameters.

    Args:
        name: one of `DRAWS`.
        seed: seed of the draws.
        index: number of the draw.
    """
    id, draw = DRAWS[name]
    rng = np.random.default_rng([seed, index])
    while True:
        parameters = draw(rng)
        try:
            made = make_subject(id, parameters)
        except HacontrolError:
            continue
        problem = None if isinstance(made, Economy) else made.unwrapped.problem
        if not (isinstance(problem, LQR) and _grows(problem)):
            return id, parameters


def _grows(problem: LQR) -> bool:
    """Tell whether the optimum lets states grow, which then leave any box of states and actions."""
    solution = problem.solution()
    closed = problem.A + problem.B @ np.asarray(solution.policy(0.0, np.eye(len(problem.A)))).T
    return bool(np.linalg.eigvals(closed).real.max() >= 0)


def _log_uniform(rng: np.random.Generator, low: float, high: float, size: int | None = None) -> Any:
    found = low * (high / low) ** rng.random(size)
    return float(found) if size is None else found


def _symmetric(matrix: Any) -> list[list[float]]:
    found = np.tril(matrix.round(6))
    symmetric: list[list[float]] = (found + np.tril(found, -1).T).tolist()
    return symmetric
