"""The response of a `KrusellSmith` steady state to a path of log Z that is foreseen from quarter 0, to first order.

With hats for deviations from the steady state, S_{t+1} the assets that households choose in quarter t,

    S^_{t+1} = sum_s J_r[t, s] r^_s + J_w[t, s] w^_s,    r^ = r_K K^ + r_Z log Z^,    w^ = w_K K^ + w_Z log Z^,

and the market for capital clears, K^_t = S^_t with K^_0 = 0: one linear system. The Jacobians J (T, T) of the
households' block come from one iteration backward and one forward (the fake-news algorithm of Auclert, Bardoczy,
Rognlie and Straub 2021): what a household does j quarters before a price that is known to change depends on j only, so

    J[t, s] = J[t - 1, s - 1] + E_{t-1} . D_s,    J[0, s] = law . a'^_s,

where a'^_j (n_e, n_a) is the change of choices j quarters ahead, D_j what that does to the law of the next quarter, and
E_t = T^t a' what households in each cell will have chosen t quarters later, on average. Households' choices are
differentiated by central differences of the endogenous grid method on the steady state's own nodes, the lottery that
moves the law exactly. Prices after the last quarter are those of the steady state.

Auclert, A., Bardoczy, B., Rognlie, M. and Straub, L. (2021). Using the sequence-space Jacobian to solve and estimate
heterogeneous-agent models. Econometrica 89, 2375-2408.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, final

import numpy as np
import scipy

from hacontrol_envs.arrays import Floats
from hacontrol_envs.core import parameters as read
from hacontrol_envs.economies.krusell_smith.responses import UNITS, ImpulseResponse
from hacontrol_envs.errors import NumericalError, ParameterError
from hacontrol_envs.numerics import chains, egm
from hacontrol_envs.numerics.inequality import gini_gradient
from hacontrol_envs.numerics.transport import Transport

if TYPE_CHECKING:
    from hacontrol_envs.economies.krusell_smith.economy import KrusellSmith
    from hacontrol_envs.economies.krusell_smith.steady_state import SteadyState

NUDGE = 1e-5
"""Step of central differences in 1 + r, and in w relative to its level."""
TAIL = 400
"""Quarters after the last requested one in which prices still move."""
LONGEST = 2_000
"""Largest number of quarters of a response."""
LARGEST = 25_000_000
"""Largest number of quarters times cells: 200 MB an array."""
CUT = 1e-2
"""Largest change of capital that half the tail may make, relative to its largest deviation; prices after the whole tail
change it by about the square of that."""
CLEARED = 1e-9
"""Largest difference of K^ from the assets of the law that it moves, relative to capital and the largest log Z^."""


def impulse_response(
    steady: SteadyState, shock: float | None, persistence: float | None, horizon: int, productivity: Any
) -> ImpulseResponse:
    """Compute the linear response of a steady state to a path of log Z; see `SteadyState.impulse_response`.

    Args:
        steady: the steady state.
        shock: log Z less its mean at quarter 0; None for .01.
        persistence: factor by which log Z decays a quarter; None for the autocorrelations of the economy's chain.
        horizon: length of the response. [quarters].
        productivity: the whole path of log Z less its mean, (horizon + 1,), instead of a shock; None for the shock.
    """
    horizon = read.count("horizon", horizon, at_most=LONGEST)
    path = _path_of_z(steady.economy, shock, persistence, horizon, productivity)
    if len(path) * steady.law.size > LARGEST:
        most = LARGEST // steady.law.size - TAIL - 1
        raise ParameterError(f"horizon must be at most {most} quarters on {steady.law.size} nodes, got {horizon}")
    found = Linearised(steady, horizon + TAIL).aggregates(path)
    paths = dict(zip(UNITS, found[:, : horizon + 1], strict=True))
    errors = MappingProxyType(dict.fromkeys(UNITS, np.zeros(horizon + 1)))
    return ImpulseResponse(**paths, shock=float(path[0]), errors=errors)


def _path_of_z(economy: KrusellSmith, shock: Any, persistence: Any, horizon: int, productivity: Any) -> Floats:
    """Return log Z^, (horizon + TAIL + 1,)."""
    if productivity is not None:
        if shock is not None or persistence is not None:
            raise ParameterError("give either the path of productivity, or a shock and its persistence")
        path = read.array("productivity", productivity)
        if path.shape != (horizon + 1,) or np.abs(path).max() > 1:
            raise ParameterError(
                f"productivity must be deviations of log Z, from -1 to 1, of shape ({horizon + 1},) for this horizon, "
                f"got {read.short(productivity)}"
            )
        return np.append(path, np.zeros(TAIL))
    shock = 0.01 if shock is None else read.number("shock", shock)
    if abs(shock) > 1:
        raise ParameterError(
            f"shock must lie between -1 and 1, for the response is of first order in it, got {shock!r}"
        )
    if persistence is not None:
        persistence = read.number("persistence", persistence, at_least=0.0)
        if persistence > 1:
            raise ParameterError(f"persistence must be at most 1, got {persistence!r}")
        decaying: Floats = shock * persistence ** np.arange(horizon + TAIL + 1.0)
        return decaying
    law, levels = chains.stationary(economy.aggregate_chain), np.log(economy.productivity)
    levels = levels - law @ levels
    variance = float(law @ levels**2)
    if variance == 0:
        raise ParameterError("Z does not move in this economy, so that its chain has no persistence: give one")
    covariance = chains.expected(economy.aggregate_chain, law * levels, levels, horizon + TAIL)
    return np.asarray(shock * (covariance / variance))


class _Announced(NamedTuple):
    """Effects of a unit change of one price that is known j quarters ahead."""

    law: Floats
    """Changes D_j of the next quarter's law, (T, n_e n_a)."""
    jacobian: Floats
    """Derivatives J[t, s] of the assets chosen in quarter t, (T, T)."""


@final
class Linearised:
    """A steady state's derivatives in prices at T = `quarters` + 1 dates."""

    def __init__(self, steady: SteadyState, quarters: int) -> None:
        self.steady, self.economy, self.dates = steady, steady.economy, quarters + 1
        assets = self.economy.assets
        self.saving = np.clip(steady.saving, assets[0], assets[-1])  # as the lottery does
        self.inside = self.saving == steady.saving
        self.transport = Transport(assets, self.saving, steady.averages.chain)

    @cached_property
    def interest_rate(self) -> _Announced:
        """The derivatives in r."""
        return self._announced(NUDGE, 0.0)

    @cached_property
    def wage(self) -> _Announced:
        """The derivatives in w."""
        return self._announced(0.0, NUDGE * self.steady.wage)

    def aggregates(self, log_z: Floats) -> Floats:
        """Return deviations along a path of log Z^ (T,) of the aggregates that `UNITS` names, (8, T).

        Raises:
            NumericalError: the market does not clear along the path that was found.
        """
        steady, economy = self.steady, self.economy
        alpha, delta, K = economy.capital_share, economy.depreciation, steady.capital
        output = (steady.interest_rate + delta) * K / alpha
        r_z, w_z = steady.interest_rate + delta, steady.wage
        r_k, w_k = (alpha - 1) * r_z / K, alpha * w_z / K
        in_k = r_k * self.interest_rate.jacobian + w_k * self.wage.jacobian
        in_z = r_z * self.interest_rate.jacobian + w_z * self.wage.jacobian
        capital, shorter = (_clearing(in_k, in_z, log_z, dates) for dates in (self.dates, self.dates - TAIL // 2))
        cut = np.abs(capital[: self.dates - TAIL] - shorter[: self.dates - TAIL]).max()
        if not cut <= CUT * np.abs(capital).max():
            raise NumericalError(
                f"what happens more than {self.dates - TAIL // 2} quarters ahead still moves capital, "
                f"by {cut / K:.2g}: give a shock that lasts less long"
            )
        r, w = r_k * capital + r_z * log_z, w_k * capital + w_z * log_z
        laws = self._laws(r, w)
        supplied = economy.capital_of(laws)
        error = np.abs(supplied - capital).max() / K
        if not error <= CLEARED * np.abs(log_z).max():
            raise NumericalError(f"along the path that was found the market for capital misses clearing by {error:.2g}")
        made = output * (log_z + alpha * capital / K)
        invested = np.append(capital[1:], np.nan) - (1 - delta) * capital
        consumed = made - invested
        inequality = laws.reshape(self.dates, -1) @ gini_gradient(steady.law, economy.assets).ravel()
        consumption = output - delta * K
        return np.stack(
            [log_z, made / output, consumed / consumption, capital / K, invested / output, w / w_z, r, inequality]
        )

    def _laws(self, r: Floats, w: Floats) -> Floats:
        """Return deviations of the law, (T, n_e, n_a), along those of prices, (T,)."""
        T = self.dates
        moved = np.zeros((T, self.steady.law.size))
        for price, announced in ((r, self.interest_rate), (w, self.wage)):
            ahead = np.concatenate([price, np.zeros(T)])
            # The price j quarters after t, for all t and j.
            moved += np.lib.stride_tricks.sliding_window_view(ahead, T)[:T] @ announced.law
        laws = np.zeros((T, *self.steady.law.shape))
        for t in range(T - 1):
            laws[t + 1] = laws[t] @ self.transport + moved[t].reshape(self.steady.law.shape)
        return laws

    @cached_property
    def _expected(self) -> Floats:
        """E_t, (T - 1, n_e n_a)."""
        found = [self.saving]
        for _ in range(self.dates - 2):
            found.append(self.transport @ found[-1])
        return np.stack(found).reshape(self.dates - 1, -1)

    def _announced(self, r: float, w: float) -> _Announced:
        """Compute the effects of a change of prices by r and w, one of which is zero."""
        steady, T = self.steady, self.dates
        law, jacobian = np.empty((T, steady.law.size)), np.empty((T, T))
        both = zip(self._choices(r, w), self._choices(-r, -w), strict=True)
        for j, (up, down) in enumerate(both):
            change = np.where(self.inside, (up - down) / (2 * (r + w)), 0.0)
            jacobian[0, j], law[j] = np.vdot(steady.law, change), self._migration(change).ravel()
        jacobian[1:] = self._expected @ law.T
        for t in range(1, T):
            jacobian[t, 1:] += jacobian[t - 1, :-1]
        return _Announced(law, jacobian)

    def _migration(self, change: Floats) -> Floats:
        """Return the derivative of the next law, (n_e, n_a), in the choices of all cells along `change` (n_e, n_a)."""
        assets, saving = self.economy.assets, self.saving
        k = np.clip(np.searchsorted(assets, saving, side="right") - 1, 0, len(assets) - 2)
        flow = self.steady.law * change / np.diff(assets)[k]
        moved = np.zeros_like(flow)
        rows = np.arange(len(flow))[:, None]
        np.add.at(moved, (rows, k), -flow)
        np.add.at(moved, (rows, k + 1), flow)
        migrated: Floats = self.steady.averages.chain.T @ moved
        return migrated

    def _choices(self, r: float, w: float) -> Iterator[Floats]:
        """Yield a' at the nodes, (n_e, n_a), j = 0, ..., T - 1 quarters before prices rise by r and w for a quarter."""
        thresholds = self.steady.thresholds[None, None].copy()
        for j in range(self.dates):
            now, ahead = ((r, w) if j == when else (0.0, 0.0) for when in (0, 1))
            step_back(self.steady, thresholds, now, ahead)
            yield chosen(self.economy, thresholds)


def _clearing(in_k: Floats, in_z: Floats, log_z: Floats, dates: int) -> Floats:
    """Return K^ at the first so many dates, if later prices are those of the steady state.

    Args:
        in_k: derivatives of assets chosen in K, (T, T).
        in_z: derivatives of assets chosen in log Z, (T, T).
        log_z: deviations of log Z, (T,).
        dates: number of dates, at most T.
    """
    # K_0 is given, and the assets chosen at the last date are nobody's capital.
    gap = np.eye(dates - 1) - in_k[: dates - 1, 1:dates]
    return np.append(0.0, scipy.linalg.solve(gap, in_z[: dates - 1, :dates] @ log_z[:dates]))


def step_back(steady: SteadyState, thresholds: Floats, now: tuple[float, float], ahead: tuple[float, float]) -> None:
    """Replace tomorrow's thresholds (1, 1, n_e, n_a) by today's, in place.

    Args:
        steady: the steady state, from whose prices `now` and `ahead` are deviations.
        thresholds: tomorrow's thresholds, (1, 1, n_e, n_a); overwritten.
        now: deviations of r and w today.
        ahead: deviations of r and w tomorrow.
    """
    economy, mean = steady.economy, steady.averages
    gross, ahead_gross = (np.full((1, 1), 1 + steady.interest_rate + r) for r, _ in (now, ahead))
    income, ahead_income = ((steady.wage + w) * mean.earnings.reshape(1, 1, -1) for _, w in (now, ahead))
    egm.iterate(
        thresholds,
        economy.assets,
        np.ones((1, 1, 1, 1)),
        gross,
        income,
        ahead_gross[..., None],
        ahead_income[:, :, None],
        np.ascontiguousarray(mean.chain[None, :, None, :]),
        economy.discount_factor,
        economy.risk_aversion,
        1,
        0.0,
    )


def chosen(economy: KrusellSmith, thresholds: Floats) -> Floats:
    """Return a' at the nodes, (n_e, n_a), by thresholds (1, 1, n_e, n_a)."""
    return egm.constant_saving(
        thresholds[0, 0], economy.assets, economy.assets, np.arange(thresholds.shape[2])[:, None]
    )
