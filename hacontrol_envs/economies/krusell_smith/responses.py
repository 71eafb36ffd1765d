"""Mean responses of a `KrusellSmith` economy's aggregates after log Z moves, under its global solution.

Every draw is a set of paths from one law that the economy visits: one for each state to which Z may move and one for
the state in which it stays, all moved by the same uniforms. Only the part of these paths that a *surrogate* does not
explain is estimated by their mean: with s = (log K, Gini, the square of log K less its mean),

    s' = B(Z) (1, s),    X = G(Z) (1, s)    for X one of the aggregates,

both fitted to the paths by least squares, have expectations that follow exactly from the chain of Z, for
E[s 1{Z = z}] moves by products of matrices. The response is the surrogate's expectation and the mean of the rest, which
is a thousandth of the response or less; its standard error is that of this mean. log Z has no rest: its response is the
chain's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from hacontrol_envs.arrays import Floats
from hacontrol_envs.core import parameters as read
from hacontrol_envs.core.figures import draw_response, panels
from hacontrol_envs.economies.krusell_smith.law_of_motion import by_state
from hacontrol_envs.economies.krusell_smith.market import Averages
from hacontrol_envs.economies.krusell_smith.paths import COLOURS, laws_along
from hacontrol_envs.economies.krusell_smith.policies import on_grid
from hacontrol_envs.errors import NumericalError, ParameterError
from hacontrol_envs.numerics import chains
from hacontrol_envs.numerics.inequality import gini
from hacontrol_envs.numerics.transport import Transport

if TYPE_CHECKING:
    from hacontrol_envs.economies.krusell_smith.economy import KrusellSmith
    from hacontrol_envs.economies.krusell_smith.solution import ReferenceSolution

UNITS = {
    "productivity": "percent",
    "output": "percent",
    "consumption": "percent",
    "capital": "percent",
    "investment": "percent of output",
    "wage": "percent",
    "interest_rate": "percentage points",
    "gini": "percentage points",
}
"""Unit of each aggregate in a figure, in the order of the fields of `ImpulseResponse`."""
MORE = {"output": "#8a5aa8", "investment": "#a8385d", "wage": "#7a6a4f", "interest_rate": "#33658a", "gini": "#777777"}
"""Colours of the lines of further aggregates."""
LARGEST = 100_000
"""Largest number of quarters and of draws."""


@final
@dataclass(frozen=True, eq=False)
class ImpulseResponse:
    """Mean differences between an economy in which log Z moved and one in which it stayed, (quarters + 1,) each."""

    productivity: Floats
    """Response of log Z."""
    output: Floats
    """Response of log output."""
    consumption: Floats
    """Response of log consumption."""
    capital: Floats
    """Response of log K; zero at first."""
    investment: Floats
    """Response of investment, relative to output at mean Z, labour and K."""
    wage: Floats
    """Response of log w."""
    interest_rate: Floats
    """Response of r, per quarter."""
    gini: Floats
    """Response of the Gini coefficient of assets; zero at first."""
    shock: float
    """Response of log Z on impact."""
    errors: Mapping[str, Floats]
    """Standard errors by name of the aggregate, (quarters + 1,) each; zero where the response is exact."""
    start: int | None = None
    """The state of Z before the move; None for a response to first order."""
    to: int | None = None
    """The state to which Z moved; None where it moved to two with some probability, or to first order."""

    def to_dict(self) -> dict[str, Floats]:
        """Return arrays (quarters + 1,): "quarter", aggregates by name, and their errors such as "capital_error"."""
        paths = {name: getattr(self, name) for name in UNITS}
        errors = {f"{name}_error": error for name, error in self.errors.items()}
        return {"quarter": np.arange(len(self.capital)), **paths, **errors}

    def plot(self) -> Any:
        """Draw the eight paths as a matplotlib Figure, with intervals of 95 % where there are standard errors.

        Raises:
            ParameterError: matplotlib is not installed.
        """
        figure, axes_of_all = panels(4, 3.6, rows=2)
        quarters, colours = np.arange(0.0, len(self.capital)), COLOURS | MORE
        for axes, (name, unit) in zip(axes_of_all, UNITS.items(), strict=True):
            path, error = 100 * getattr(self, name), 100 * self.errors[name]
            draw_response(axes, quarters, path, colours[name], error)
            axes.set(xlabel="quarters", ylabel=unit, title=name.replace("_", " "))
        moved = "to first order" if self.start is None else f"from state {self.start}"
        moved += "" if self.to is None else f" to state {self.to}"
        figure.suptitle(f"log Z moved by {self.shock:.4g} on impact, {moved}", fontsize="medium")
        return figure


def impulse_response(
    solution: ReferenceSolution,
    quarters: int = 80,
    *,
    start: int | None = None,
    to: int | None = None,
    shock: float | None = None,
    draws: int = 64,
    seed: int = 0,
) -> ImpulseResponse:
    """Estimate the response of economies that the solution's path visits while Z is in state `start`; see the module.

    Args:
        solution: the economy's global solution.
        quarters: length of the response after the move.
        start: state of Z before the move; None for the likeliest (the first of several).
        to: state of Z to which it moves; None for the next higher one, or lower where there is none.
        shock: instead of `to`, by how much log Z moves on impact, on average: to the two states around
            log Z(start) + shock, with the probabilities that have this mean.
        draws: paths of the chain, at least 2; they only decide how small `errors` are.
        seed: seed of the draws.

    Raises:
        ParameterError: arguments that make no sense, states that Z does not have or that the solution's sample does
            not hold, or a shock beyond the states of Z.
    """
    quarters = read.count("quarters", quarters, at_most=LARGEST)
    draws = read.count("draws", draws, at_least=2, at_most=LARGEST)
    seed = read.count("seed", seed, at_least=0)
    economy, (sample, laws) = solution.economy, solution.ergodic
    start, chances = _move(economy, start, to, shock)
    visited = np.flatnonzero(sample == start)
    if len(visited) == 0:
        raise ParameterError(
            f"start must be a state of Z that the solution's sample of the long run holds, one of "
            f"{np.unique(sample).tolist()}, got {start}: the economy is hardly ever there"
        )
    shares = chances - np.eye(len(chances))[start]
    moved = np.flatnonzero(shares).tolist()
    rng = np.random.default_rng(seed)
    # Each law as often as any other, but for what is left over.
    before, uniforms = laws[visited[np.resize(rng.permutation(len(visited)), draws)]], rng.random((quarters + 1, draws))
    arms = {then: _Arm.of(solution, start, then, before, uniforms) for then in {start, *moved}}
    surrogate, first = (
        _Surrogate.fitted(list(arms.values()), len(shares)),
        _after_one_quarter(solution, start, laws[visited]),
    )
    rest, mean = np.zeros((quarters + 1, draws, len(UNITS))), np.zeros((quarters + 1, len(UNITS)))
    for then in moved:
        rest += shares[then] * (arms[then].observed - surrogate.along(arms[then]))
        mean += shares[then] * surrogate.expected(economy.aggregate_chain, then, first, quarters)
    mean, error = mean + rest.mean(axis=1), rest.std(axis=1, ddof=1) / np.sqrt(draws)
    mean[:, 0], error[:, 0] = (
        chains.expected(economy.aggregate_chain, shares, np.log(economy.productivity), quarters),
        0,
    )
    if not np.all(np.isfinite([mean, error])):
        raise NumericalError(f"aggregates are not finite within {quarters} quarters: ask for fewer")
    averages, alpha, invested = Averages.of(economy), economy.capital_share, list(UNITS).index("investment")
    output = averages.productivity * solution.capital**alpha * averages.labour ** (1 - alpha)
    mean[:, invested] /= output
    error[:, invested] /= output
    only = int(np.argmax(chances)) if chances.max() == 1 else None
    paths, errors = (dict(zip(UNITS, columns.T, strict=True)) for columns in (mean, error))
    return ImpulseResponse(**paths, shock=float(mean[0, 0]), errors=MappingProxyType(errors), start=start, to=only)


def _move(economy: KrusellSmith, start: Any, to: Any, shock: Any) -> tuple[int, Floats]:
    """Return the state of Z before, and the probabilities (n_z,) of its states after the move."""
    n_z, levels = len(economy.productivity), np.log(economy.productivity)
    if start is None:
        start = int(np.argmax(chains.stationary(economy.aggregate_chain).round(12)))
    start = _read_state("start", start, n_z)
    if shock is None:
        to = (start + 1 if start + 1 < n_z else max(start - 1, 0)) if to is None else to
        return start, np.eye(n_z)[_read_state("to", to, n_z)]
    if to is not None:
        raise ParameterError(
            f"give either the state to which Z moves or the shock to log Z, got to={to!r} and {shock=}"
        )
    target = levels[start] + read.number("shock", shock)
    if not levels[0] <= target <= levels[-1]:
        low, high = levels[[0, -1]] - levels[start]
        raise ParameterError(
            f"shock must leave log Z within its states, from {low:.6g} to {high:.6g} around state {start}, "
            f"got {shock!r}; the steady state's impulse_response takes any, to first order"
        )
    return start, np.array([np.interp(target, levels, one) for one in np.eye(n_z)])


def _read_state(name: str, given: Any, n_z: int) -> int:
    state = read.count(name, given, at_least=0)
    if state >= n_z:
        raise ParameterError(f"Z has states 0 to {n_z - 1}; got {name}={state}")
    return state


def _after_one_quarter(solution: ReferenceSolution, z: int, laws: Floats) -> Floats:
    """Return the mean s, (3,), of the economies with these laws (S, n_e, n_a) a quarter after Z was z."""
    economy, now = solution.economy, np.full(len(laws), z)
    laws = laws @ Transport(economy.assets, on_grid(economy, solution.policy, now, laws), economy.income_chain[z, z])
    found: Floats = _state(solution, laws).mean(axis=0)
    return found


def _state(solution: ReferenceSolution, law: Floats) -> Floats:
    """Return s, (..., 3), of laws (..., n_e, n_a); see the module."""
    x = np.log(solution.economy.capital_of(law))
    return np.stack([x, gini(law, solution.economy.assets), (x - np.log(solution.capital)) ** 2], axis=-1)


class _Arm(NamedTuple):
    """Paths after a move of Z to one of its states, on the uniforms of all moves."""

    z: NDArray[np.int64]
    """States of Z, (T + 1, draws)."""
    state: Floats
    """State s, (T + 2, draws, 3); see the module."""
    observed: Floats
    """The aggregates that `UNITS` names, (T + 1, draws, 8)."""

    @classmethod
    def of(cls, solution: ReferenceSolution, start: int, then: int, law: Floats, uniforms: Floats) -> _Arm:
        """Simulate from laws (draws, n_e, n_a) while Z is `start`, and `then` a quarter later, which is quarter 0."""
        economy = solution.economy
        later = chains.draw(economy.aggregate_chain, np.full(len(law), then), uniforms)
        z = np.concatenate([np.full((1, len(law)), start), later])
        state = np.stack([_state(solution, now) for now in laws_along(economy, solution.policy, z, law)])[1:]
        z, capital, inequality = z[1:-1], np.exp(state[..., 0]), state[:-1, :, 1]
        invested = capital[1:] - (1 - economy.depreciation) * capital[:-1]
        capital, productivity, labour = capital[:-1], economy.productivity[z], economy.labour[z]
        output = productivity * capital**economy.capital_share * labour ** (1 - economy.capital_share)
        r, wage = economy.prices(capital, z)
        logs = (np.log(one) for one in (productivity, output, output - invested, capital))
        return cls(z, state, np.stack([*logs, invested, np.log(wage), r, inequality], axis=-1))


class _Surrogate(NamedTuple):
    """The surrogate s' - center = B(Z) (1, s - center) and X = G(Z) (1, s - center), see the module."""

    center: Floats
    """Mean of s, (3,)."""
    state: Floats
    """Coefficients B, (n_z, 3, 4)."""
    observed: Floats
    """Coefficients G, (n_z, 8, 4)."""

    @classmethod
    def fitted(cls, arms: Sequence[_Arm], states: int) -> _Surrogate:
        """Fit the surrogate by least squares to all quarters of some arms."""
        z = np.concatenate([arm.z.ravel() for arm in arms])
        now, after = (
            np.concatenate([arm.state[rows].reshape(-1, 3) for arm in arms]) for rows in (np.s_[:-1], np.s_[1:])
        )
        center = now.mean(axis=0)
        observed = np.concatenate([arm.observed.reshape(-1, len(UNITS)) for arm in arms])
        y = np.hstack([after - center, observed])
        found, _ = by_state(z, np.hstack([np.ones((len(now), 1)), now - center]), y, states)
        return cls(center, found[:, :3], found[:, 3:])

    def along(self, arm: _Arm) -> Floats:
        """Return X on an arm's paths of Z from its first s, (T + 1, draws, 8)."""
        s, found = arm.state[0] - self.center, np.empty_like(arm.observed)
        for t, z in enumerate(arm.z):
            regressors = np.insert(s, 0, 1.0, axis=-1)[..., None]
            found[t] = (self.observed[z] @ regressors)[..., 0]
            s = (self.state[z] @ regressors)[..., 0]
        return found

    def expected(self, chain: Floats, z: int, state: Floats, quarters: int) -> Floats:
        """Return the expectation of X from state z of the chain and this s, (quarters + 1, 8)."""
        law = np.zeros((len(chain), 4))  # E[(1, s - center) 1{Z = z}]
        law[z] = np.append(1.0, state - self.center)
        found = np.empty((quarters + 1, self.observed.shape[1]))
        for t in range(quarters + 1):
            found[t] = np.einsum("zxi,zi->x", self.observed, law)
            law = chain.T @ np.column_stack([law[:, 0], np.einsum("zxi,zi->zx", self.state, law)])
        return found
