"""Judge Krusell-Smith's steady states on small grids: chains, market, goods, law and Euler equation by plain NumPy."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.interpolate import CubicHermiteSpline

from hacontrol_benchmarks.measure.judges import WrongAnswer
from hacontrol_envs.arrays import Floats
from hacontrol_envs.economies.krusell_smith.economy import KrusellSmith
from hacontrol_envs.economies.krusell_smith.steady_state import SteadyState
from hacontrol_envs.errors import TruncationWarning

Uniform = Callable[[], float]


def draw(u: Uniform) -> dict[str, Any]:
    """Draw legal parameters of both calibrations, each left at its default now and then."""

    def between(low: float, high: float) -> float:
        return low + (high - low) * u()

    def spread(low: float, high: float) -> float:
        return math.exp(between(math.log(low), math.log(high)))

    calibration = "ssj" if u() < 0.6 else "jedc"
    given: dict[str, Any] = {
        "discount_factor": 1 - spread(1e-3, 0.2),
        "intertemporal_elasticity": 1.0 if u() < 0.1 else spread(0.02, 5.0),
        "capital_share": between(0.05, 0.8),
        "depreciation": 0.0 if u() < 0.1 else spread(1e-3, 1.0),
        "borrowing_limit": spread(1e-2, 100.0) * (1 if u() < 0.5 else -0.1) if u() < 0.4 else 0.0,
        "asset_max": spread(10.0, 5000.0) if u() < 0.4 else None,
    }
    given.update(_ssj(u, between, spread) if calibration == "ssj" else _jedc(u, between, spread))
    given = {name: value for name, value in given.items() if u() < 0.6}
    if calibration == "ssj" and u() < 0.85:
        given["productivity_method"] = "rouwenhorst"
    return {"calibration": calibration, **given, "asset_nodes": 40 + int(40 * u())}


def _ssj(
    u: Uniform, between: Callable[[float, float], float], spread: Callable[[float, float], float]
) -> dict[str, Any]:
    return {
        "productivity_persistence": 1 - spread(1e-4, 1.0),
        "productivity_deviation": spread(1e-4, 0.3),
        "productivity_states": 1 + int(9 * u()),
        "income_persistence": 1 - spread(1e-4, 1.0),
        "income_deviation": spread(1e-3, 2.0),
        "income_states": 2 + int(6 * u()),
    }


def _jedc(
    u: Uniform, between: Callable[[float, float], float], spread: Callable[[float, float], float]
) -> dict[str, Any]:
    good = spread(1e-3, 0.15)
    return {
        "productivity_deviation": spread(1e-4, 0.3),
        "productivity_duration": 1 + spread(0.1, 100.0),
        "unemployment_rates": [good * between(1.0, 3.0), good],
        "unemployment_durations": [1 + spread(0.05, 5.0), 1 + spread(0.05, 2.0)],
        "switching_factors": [between(0.6, 1.0), between(1.0, 1.4)],
        "hours": spread(0.3, 3.0),
        "insurance": 0.0 if u() < 0.2 else spread(1e-3, 1.0),
    }


def judge(parameters: dict[str, Any]) -> None:
    """Solve for the steady state, and test its chains, prices, market, goods, law and Euler equation."""
    economy = KrusellSmith(**parameters)
    _judge_chains(economy, parameters)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)
        found = economy.steady_state()
    averages = found.averages
    joint = _stationary(np.einsum("zy,zyef->zeyf", economy.aggregate_chain, economy.income_chain))
    by_z, by_e = joint.sum(axis=1), joint.sum(axis=0)
    _near("E Z", averages.productivity, by_z @ economy.productivity, 1e-9, parameters)
    _near("E L", averages.labour, by_z @ economy.labour, 1e-9, parameters)
    _near("E y", float(by_e @ averages.earnings), by_z @ economy.labour, 1e-8, parameters)
    alpha, delta = economy.capital_share, economy.depreciation
    K, L, Z = found.capital, averages.labour, averages.productivity
    _near("r + delta", found.interest_rate + delta, alpha * Z * (K / L) ** (alpha - 1), 2e-7, parameters)
    _near("w", found.wage, (1 - alpha) * Z * (K / L) ** alpha, 2e-7, parameters)
    if not -delta < found.interest_rate < 1 / economy.discount_factor - 1:
        raise WrongAnswer(f"r = {found.interest_rate} is outside its bounds: {parameters}")
    _judge_law(found, parameters)
    _judge_euler(found, parameters)


def _judge_chains(economy: KrusellSmith, parameters: dict[str, Any]) -> None:
    """Means 1 and, of "ssj", the persistence of log Z: exact by Rouwenhorst, within a factor of 2 by Tauchen."""
    if parameters["calibration"] != "ssj":
        return
    chain, log_z = economy.aggregate_chain, np.log(economy.productivity)
    if len(log_z) == 1:
        return
    law = _stationary(chain[:, None, :, None])[:, 0]
    _near("E Z", float(law @ economy.productivity), 1.0, 1e-9, parameters)
    deviation = parameters.get("productivity_deviation", 0.007)
    log_z = log_z - law @ log_z
    _near("sd log Z", math.sqrt(law @ log_z**2), deviation, 1e-8, parameters)
    apart = (law[:, None] * chain * (log_z - log_z[:, None]) ** 2).sum() / (2 * deviation**2)
    asked = 1 - parameters.get("productivity_persistence", 0.9)
    if parameters.get("productivity_method", "tauchen") == "rouwenhorst":
        _near("persistence of Z", apart, asked, 1e-8, parameters)
    elif not 0.49 < apart / asked < 2.01:
        raise WrongAnswer(f"log Z has persistence {1 - apart}: {parameters}")


def _judge_law(found: SteadyState, parameters: dict[str, Any]) -> None:
    """The law is one, its mean is K, it stays, and what is produced is consumed, invested or said to be lost."""
    economy, law, a = found.economy, found.law, found.economy.assets
    if not (law.min() >= 0 and np.all(np.isfinite(found.consumption)) and found.consumption.min() >= 0):
        raise WrongAnswer(f"negative masses or consumption: {parameters}")
    _near("mass", law.sum(), 1.0, 1e-10, parameters)
    _near("K", found.capital, (law * a).sum(), 1e-10, parameters)
    moved = np.zeros_like(law)
    saved = np.clip(found.saving, a[0], a[-1])
    below = np.clip(np.searchsorted(a, saved, side="right") - 1, 0, len(a) - 2)
    up = (saved - a[below]) / (a[below + 1] - a[below])
    for e in range(len(law)):
        np.add.at(moved[e], below[e], law[e] * (1 - up[e]))
        np.add.at(moved[e], below[e] + 1, law[e] * up[e])
    if not abs(found.averages.chain.T @ moved - law).sum() < 1e-9:
        raise WrongAnswer(f"the law moves: {parameters}")
    alpha = economy.capital_share
    output = found.averages.productivity * found.capital**alpha * found.averages.labour ** (1 - alpha)
    lost = (law * (found.saving - saved)).sum()
    used = (law * found.consumption).sum() + economy.depreciation * found.capital + lost
    _near("goods", used, output, 1e-6, parameters)
    _near("output lost", found.output_lost + 1, lost / output + 1, 1e-9, parameters)
    if max(lost / output, law[:, -1].sum()) > 0.01 * (1 + 1e-9):
        raise WrongAnswer(f"the grid cuts the law: {parameters}")


def _judge_euler(found: SteadyState, parameters: dict[str, Any]) -> None:
    """c^-gamma = beta R E c'^-gamma where a' is a node, c' by the cubic through the thresholds."""
    economy, a = found.economy, found.economy.assets
    R, income, gamma = 1 + found.interest_rate, found.wage * found.averages.earnings, economy.risk_aversion
    then = np.stack([R * a + y - _saving(at, a) for at, y in zip(found.thresholds, income, strict=True)])
    now = R * found.thresholds + income[:, None] - a
    now = np.where(abs(now) <= 1e-14 * income.max(), 0.0, now)  # rounding of incomes, where nothing is consumed
    if not then.min() >= 0 or not now.min() >= 0:
        raise WrongAnswer(f"consumption is negative: {parameters}")
    if np.any(then == 0):  # no income at a limit of zero: nobody goes there
        if np.any(now[:, 0] > 0) or now[:, 1:].min() <= 0:
            raise WrongAnswer(f"households run out of what they can consume: {parameters}")
        a, then, now = a[1:], then[:, 1:], now[:, 1:]
    lowest = then.min(axis=0)
    ahead = found.averages.chain @ (then / lowest) ** -gamma
    implied = lowest * (economy.discount_factor * R * ahead) ** (-1 / gamma)
    if not np.all(abs(implied / now - 1) < 1e-7):
        raise WrongAnswer(f"the Euler equation is off by {abs(implied / now - 1).max():.2g}: {parameters}")
    if np.any(np.diff(found.thresholds, axis=1) <= 0):
        raise WrongAnswer(f"thresholds do not increase: {parameters}")
    _judge_rivals(found, now, then, parameters)


def _judge_rivals(found: SteadyState, now: Floats, then: Floats, parameters: dict[str, Any]) -> None:
    """It does not pay to save more or less than a node and to undo that a quarter later: u(c) + beta E u(c') falls.

    With the Euler equation this is all there is to gain, since the problem is concave.
    """
    economy, R = found.economy, 1 + found.interest_rate
    gamma, a = economy.risk_aversion, economy.assets[-now.shape[1] :]

    def utility(x: Floats) -> Floats:
        """(x^(1 - gamma) - 1)/(1 - gamma)."""
        u: Floats = np.log(x) if gamma == 1 else np.expm1((1 - gamma) * np.log(x)) / (1 - gamma)
        return u

    for share in (-0.3, -0.01, 0.01, 0.3):
        more = share * now
        later = then[None] / now[:, None] + R * share  # of e, e', a': in units of consumption now
        possible = (later.min(axis=1) > 0) & (a + more >= economy.borrowing_limit)
        with np.errstate(all="ignore"):
            change = utility(later) - utility(later - R * share)
            gain = utility(np.array(1 - share)) + economy.discount_factor * np.einsum(
                "ef,efa->ea", found.averages.chain, change
            )
        if np.any(gain[possible] >= 0):
            raise WrongAnswer(f"saving {share:+.0%} of consumption for a quarter pays: {parameters}")


def _saving(at: Floats, a: Floats) -> Floats:
    """a' of owners of `a`, by the monotone cubic through (at, a), constant below and linear above."""
    h, d = np.diff(at), np.diff(a) / np.diff(at)
    slopes = np.empty_like(a)
    slopes[1:-1] = 3 * (h[:-1] + h[1:]) / ((2 * h[1:] + h[:-1]) / d[:-1] + (h[1:] + 2 * h[:-1]) / d[1:])
    slopes[0] = min(max(((2 * h[0] + h[1]) * d[0] - h[0] * d[1]) / (h[0] + h[1]), 0.0), 3 * d[0])
    slopes[-1] = d[-1]
    inside = CubicHermiteSpline(at, a, slopes)(np.clip(a, at[0], at[-1]))
    saved: Floats = np.where(a > at[-1], a[-1] + slopes[-1] * (a - at[-1]), inside)
    return saved


def _stationary(joint: Floats) -> Floats:
    """The stationary law (n, m) of a chain (n, m, n, m), by least squares."""
    shape = joint.shape[:2]
    size = math.prod(shape)
    matrix = joint.reshape(size, size).T - np.eye(size)
    found, *_ = np.linalg.lstsq(np.vstack([matrix, np.ones(size)]), np.append(np.zeros(size), 1.0), rcond=None)
    law: Floats = found.reshape(shape)
    return law


def _near(name: str, found: float, right: float, tolerance: float, parameters: dict[str, Any]) -> None:
    if not abs(found - right) <= tolerance * max(abs(right), 1e-3):
        raise WrongAnswer(f"{name} is {found!r}, should be {right!r}: {parameters}")
