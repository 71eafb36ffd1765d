"""The endogenous grid method (Carroll 2006) on (a, e, Z, K), and the policy functions that come out of it.

A policy is a table of *thresholds*: at thresholds[z, k, e, i] the household owns just what makes it choose
a' = assets[i] in state (e, z) when capital is at node k. Below the first it is constrained. Unlike a' at fixed assets,
a threshold is smooth in capital, kink and all, so that it is interpolated there by polynomials; in between, a' is the
monotone cubic of Fritsch and Butland (1984) through the thresholds, one-sided at the first.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hacontrol_envs.arrays import Floats
from hacontrol_envs.numerics.compiled import compiled

Cubic: TypeAlias = tuple[Floats, Floats, Floats]
"""The monotone cubic a' of own assets: thresholds, their spacings in the first n_a - 1 places, and slopes, (n_a,)
each."""


def asset_grid(low: float, high: float, nodes: int) -> Floats:
    """Place nodes from `low` to `high`, dense at `low`: a = low + (high - low) u^2.5 with u uniform, (nodes,).

    The lottery spreads wealth by a variance in proportion to the square of the spacing, so that the spacing where most
    wealth is decides how true capital is: of several forms this one came nearest with the same nodes.

    Args:
        low, high: least and largest assets.
        nodes: number of nodes.
    """
    grid: Floats = low + (high - low) * np.linspace(0.0, 1.0, nodes) ** 2.5
    return grid


@compiled
def interpolate(thresholds: Floats, z: int, e: int, weights: Floats, steps: Floats, cubic: Cubic) -> None:
    """Write the monotone cubic of one state, with thresholds weighted between the nodes of capital.

    Args:
        thresholds: assets at which each node is chosen, (n_z, n_k, n_e, n_a).
        z, e: numbers of the aggregate and of the own state.
        weights: of capital between the nodes, (n_k,).
        steps: spacings of the nodes of assets, (n_a - 1,).
        cubic: filled; see `Cubic`.
    """
    at, widths, slopes = cubic
    n_a = len(at)
    at[:] = 0.0
    for j in range(len(weights)):
        w = weights[j]
        row = thresholds[z, j, e]
        if w != 0.0:
            for i in range(n_a):
                at[i] += w * row[i]
    for i in range(n_a - 1):
        widths[i] = at[i + 1] - at[i]
    for i in range(1, n_a - 1):
        before, after = widths[i - 1], widths[i]
        below, above = steps[i - 1], steps[i]
        bent = (2 * after + before) * before * above + (after + 2 * before) * after * below
        slopes[i] = 3 * (before + after) * below * above / bent
    first, second = steps[0] / widths[0], steps[1] / widths[1]
    end = first + widths[0] * (first - second) / (widths[0] + widths[1])
    slopes[0] = min(max(end, 0.0), 3 * first)
    slopes[n_a - 1] = steps[n_a - 2] / widths[n_a - 2]


@compiled
def risen(t: float, rise: float, left: float, right: float) -> float:
    """Return how far the cubic has risen at the share t of an interval.

    Args:
        t: share of the interval, from 0 to 1.
        rise: rise over the whole interval.
        left, right: slopes at its ends, times its width.
    """
    return t * (left + t * (3 * rise - 2 * left - right + t * (left + right - 2 * rise)))


@compiled
def iterate(
    thresholds: Floats,
    assets: Floats,
    weights: Floats,
    gross: Floats,
    income: Floats,
    forecast_gross: Floats,
    forecast_income: Floats,
    chain: Floats,
    discount_factor: float,
    risk_aversion: float,
    most: int,
    tolerance: float,
) -> tuple[int, float]:
    """Iterate on the Euler equation u'(c) = beta E[(1 + r') u'(c')], in place.

    Powers are taken of consumption relative to the lowest that may follow, so that none overflows whatever the risk
    aversion; where zero may follow (no income at a limit of zero), consumption is zero.

    Args:
        thresholds: assets at which each node is chosen, (n_z, n_k, n_e, n_a).
        assets: nodes, (n_a,).
        weights: of tomorrow's capital between the nodes, for every z', (n_z, n_k, n_z, n_k).
        gross, forecast_gross: 1 + r today, (n_z, n_k), and at tomorrow's capital, (n_z, n_k, n_z).
        income, forecast_income: from work, today, (n_z, n_k, n_e), and tomorrow, (n_z, n_k, n_z, n_e).
        chain: P(z', e'|z, e), (n_z, n_e, n_z, n_e).
        discount_factor, risk_aversion: beta per period, and gamma of u(c) = c^{1-gamma}/(1-gamma).
        most: iterations.
        tolerance: of the largest change of a threshold relative to consumption.

    Returns:
        Iterations and the last change: not a number as soon as one is not, infinite where consumption is negative.
    """
    n_z, n_k, n_e, n_a = thresholds.shape
    known, steps, lowest = thresholds.copy(), assets[1:] - assets[:-1], np.ones(n_a)
    cubic = np.empty(n_a), np.empty(n_a), np.empty(n_a)
    later, future = np.empty((n_z, n_e, n_a)), np.empty((n_e, n_a))
    count, change = 0, np.inf
    while count < most and change > tolerance:
        count += 1
        change = 0.0
        for z in range(n_z):
            for k in range(n_k):
                _consume_later(known, assets, steps, weights, z, k, forecast_gross, forecast_income, cubic, later)
                _expect(later, z, k, forecast_gross, chain, risk_aversion, lowest, future)
                change = _move(
                    thresholds, z, k, assets, future, lowest, gross, income, discount_factor, risk_aversion, change
                )
        known[:] = thresholds
    return count, change


@compiled
def _consume_later(
    thresholds: Floats,
    assets: Floats,
    steps: Floats,
    weights: Floats,
    z: int,
    k: int,
    gross: Floats,
    income: Floats,
    cubic: Cubic,
    later: Floats,
) -> None:
    """Write what owners of the nodes consume in every state (z', e'), (n_z, n_e, n_a); see `iterate`."""
    (n_z, n_e, n_a), (at, widths, slopes) = later.shape, cubic
    for y in range(n_z):
        mix, R = weights[z, k, y], gross[z, k, y]
        for f in range(n_e):
            interpolate(thresholds, y, f, mix, steps, cubic)
            i, y_f = 0, income[z, k, y, f]
            for m in range(n_a):
                a = assets[m]
                while i < n_a - 1 and at[i + 1] <= a:
                    i += 1
                if a < at[0]:
                    save = assets[0]
                elif i == n_a - 1:
                    save = assets[i] + slopes[i] * (a - at[i])
                else:
                    h = widths[i]
                    save = assets[i] + risen((a - at[i]) / h, steps[i], h * slopes[i], h * slopes[i + 1])
                later[y, f, m] = R * a + y_f - save


@compiled
def _expect(
    later: Floats,
    z: int,
    k: int,
    gross: Floats,
    chain: Floats,
    risk_aversion: float,
    lowest: Floats,
    future: Floats,
) -> None:
    """Write E[(1 + r') u'(c')], (n_e, n_a), of consumption relative to the lowest, and overwrite consumption.

    At a risk aversion of 1 or 2 nothing overflows, and `lowest` is left at one.
    """
    n_z, n_e, n_a = later.shape
    if risk_aversion != 1.0 and risk_aversion != 2.0:
        lowest[:] = np.inf
        for y in range(n_z):
            for f in range(n_e):
                for m in range(n_a):
                    if not later[y, f, m] >= lowest[m]:
                        lowest[m] = later[y, f, m]
    future[:] = 0.0
    for y in range(n_z):
        R = gross[z, k, y]
        for f in range(n_e):
            if risk_aversion == 1.0:
                for m in range(n_a):
                    later[y, f, m] = R / later[y, f, m]
            elif risk_aversion == 2.0:
                for m in range(n_a):
                    later[y, f, m] = R / (later[y, f, m] * later[y, f, m])
            else:
                for m in range(n_a):
                    ratio = later[y, f, m] / lowest[m] if lowest[m] != 0.0 else 1.0
                    later[y, f, m] = R * ratio**-risk_aversion
            for e in range(n_e):
                p = chain[z, e, y, f]
                if p != 0.0:
                    for m in range(n_a):
                        future[e, m] += p * later[y, f, m]


@compiled
def _move(
    thresholds: Floats,
    z: int,
    k: int,
    assets: Floats,
    future: Floats,
    lowest: Floats,
    gross: Floats,
    income: Floats,
    discount_factor: float,
    risk_aversion: float,
    change: float,
) -> float:
    """Overwrite the thresholds of (z, k); return the largest change relative to consumption, `change` included."""
    R = gross[z, k]
    for e in range(future.shape[0]):
        y_e = income[z, k, e]
        for m in range(future.shape[1]):
            u = discount_factor * future[e, m]
            if risk_aversion == 1.0:
                c = 1 / u
            elif risk_aversion == 2.0:
                c = 1 / np.sqrt(u)
            else:
                c = lowest[m] * u ** (-1 / risk_aversion)
            found = (c + assets[m] - y_e) / R
            moved = abs(found - thresholds[z, k, e, m])
            if c > 0.0:
                moved /= c
            elif not (c == 0.0 and moved == 0.0):
                moved = np.inf if c <= 0.0 else np.nan
            if change == change and not moved <= change:
                change = moved
            thresholds[z, k, e, m] = found
    return change


@compiled
def choose(
    thresholds: Floats,
    assets: Floats,
    z: NDArray[np.int64],
    weights: Floats,
    points: Floats,
    e: NDArray[np.int64],
    out: Floats,
) -> None:
    """Fill `out` with the savings a' of households in N economies.

    Args:
        thresholds: assets at which each node is chosen, (n_z, n_k, n_e, n_a).
        assets: nodes, (n_a,).
        z: aggregate states, (N,).
        weights: of capital between the nodes, (N, n_k).
        points: own assets, (N, m).
        e: own states, (N, m).
        out: a', (N, m).
    """
    (n_e, n_a), steps = thresholds.shape[2:], assets[1:] - assets[:-1]
    at, widths, slopes = np.empty((n_e, n_a)), np.empty((n_e, n_a)), np.empty((n_e, n_a))
    for n in range(len(points)):
        for f in range(n_e):
            interpolate(thresholds, z[n], f, weights[n], steps, (at[f], widths[f], slopes[f]))
        i = 0
        for m in range(points.shape[1]):
            a, f = points[n, m], e[n, m]
            if a < at[f, 0]:
                out[n, m] = assets[0]
                continue
            if a >= at[f, n_a - 1]:
                out[n, m] = assets[n_a - 1] + slopes[f, n_a - 1] * (a - at[f, n_a - 1])
                continue
            i = _found(at[f], a, i)
            h = widths[f, i]
            out[n, m] = assets[i] + risen((a - at[f, i]) / h, steps[i], h * slopes[f, i], h * slopes[f, i + 1])


@compiled
def _found(at: Floats, a: float, i: int) -> int:
    """Return the interval of thresholds (n_a,) in which a lies: i, the one after it, or wherever it is."""
    if i < len(at) - 2 and at[i + 1] <= a < at[i + 2]:
        return i + 1
    if at[i] <= a < at[i + 1]:
        return i
    low, high = 0, len(at) - 1
    while high - low > 1:
        middle = (low + high) // 2
        if at[middle] <= a:
            low = middle
        else:
            high = middle
    return low


def constant_saving(thresholds: Floats, assets: Floats, points: Any, e: Any) -> Floats:
    """Return the savings a' (...) of households at constant prices.

    Args:
        thresholds: assets at which each node is chosen, (n_e, n_a).
        assets: nodes, (n_a,).
        points, e: own assets and states, which broadcast to (...).
    """
    own, states = np.broadcast_arrays(np.asarray(points, dtype=np.float64), np.asarray(e, dtype=np.int64))
    out, one = np.empty((1, own.size)), np.ones((1, 1))
    flat = np.ascontiguousarray(own).reshape(1, -1), np.ascontiguousarray(states).reshape(1, -1)
    choose(thresholds[None, None], assets, np.zeros(1, dtype=np.int64), one, *flat, out)
    return out.reshape(own.shape)
