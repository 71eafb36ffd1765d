"""Responses of an industry's price, output and capital to an aggregate shock, and their dependence on a parameter.

To first order around a stationary equilibrium. Every firm's log productivity is shifted by eps at time 0 and decays
from there as any z does, so that the law of firms starts from mu - eps d_z mu; there is perfect foresight. With hats
for derivatives in eps, g = d iota/d V_k the slope of the investment rule, and L the generator of its policy,

    r V^ = e^z k^alpha P^ + d_t V^ + L V^,    d_t mu^ = L' mu^ - d_k(k g V^_k mu),    mu^(0) = -d_z mu,
    Y^ = E_mu^[e^z k^alpha],    P^/P = -eta Y^/Y:

by the envelope theorem the first has no term of the policy. Time is discretised by Crank and Nicolson's scheme, of
order 2, with one LU for all steps, extrapolated from two lengths of the step to order 4. The derivative of output at
each date in the price at each other is a sum of products of a row that depends on the first date and a column that
depends on the second (Auclert, Bardoczy, Rognlie and Straub, 2021).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import numpy as np
import scipy

from hacontrol_envs.arrays import Floats
from hacontrol_envs.core import parameters as read
from hacontrol_envs.core.figures import draw_response, panels
from hacontrol_envs.errors import NumericalError, ParameterError
from hacontrol_envs.problems.firm_investment import FirmInvestment
from hacontrol_envs.solvers.grid import SMOOTH

if TYPE_CHECKING:
    from hacontrol_envs.economies.industry.equilibrium import IndustryEquilibrium

TAIL = 40.0
"""Years after the last requested one in which prices still move; later prices are those of before the shock."""
LARGEST = 20_000_000
"""Largest number of dates times nodes: 160 MB an array."""
COARSE = 0.03
"""Largest difference between the paths of two lengths of the step, relative to the shock."""
CUT = 0.02
"""Largest change of log P that half the tail may make, relative to its largest deviation; prices after the whole tail
change it by about the square of that."""
NUDGE = 1e-6
"""Step in V_k by which the investment rule is differentiated."""
COLOURS = {"price": "#0b6e8f", "output": "#d1691e", "capital": "#5b8c2a"}
"""Colours of the lines, by variable."""


@final
@dataclass(frozen=True)
class ImpulseResponse:
    """Deviations of logarithms from a stationary equilibrium, each (steps + 1,), to first order in the shock."""

    shock: float
    """Shift of everyone's log productivity at time 0."""
    time: Floats
    """Years since the shock."""
    price: Floats
    """Deviation of log P."""
    output: Floats
    """Deviation of log Y."""
    capital: Floats
    """Deviation of log K."""
    error: float = 0.0
    """Largest change by extrapolation in the step, relative to the shock; the error that remains is far smaller."""

    def to_dict(self) -> dict[str, Floats]:
        """Return arrays (steps + 1,) by name: "time", "price", "output" and "capital"."""
        return {name: getattr(self, name) for name in ("time", *COLOURS)}

    def plot(self) -> Any:
        """Draw the paths of price, output and capital in percent, as a matplotlib Figure.

        Raises:
            ParameterError: matplotlib is not installed.
        """
        figure, axes_of_all = panels(3)
        for axes, name in zip(axes_of_all, COLOURS, strict=True):
            draw_response(axes, self.time, 100 * getattr(self, name), COLOURS[name])
            axes.set(xlabel="years", ylabel="percent", title=name)
        figure.suptitle(f"Log productivity of all firms shifted by {self.shock:g}", fontsize="medium")
        return figure


def plot_statics(name: str, values: Iterable[float], equilibria: Sequence[IndustryEquilibrium]) -> Any:
    """Draw price, output and capital against a parameter, as a matplotlib Figure.

    Args:
        name: the parameter, as given to `FirmIndustry.comparative_statics`.
        values: its values.
        equilibria: the equilibrium at each value.

    Raises:
        ParameterError: matplotlib is not installed.
    """
    figure, axes_of_all = panels(3)
    for axes, variable in zip(axes_of_all, COLOURS, strict=True):
        found = [getattr(equilibrium, variable) for equilibrium in equilibria]
        axes.plot(list(values), found, "o-", color=COLOURS[variable], linewidth=2, markersize=4)
        axes.set(xlabel=name.replace("_", " "), title=variable)
    return figure


def impulse_response(equilibrium: IndustryEquilibrium, shock: float, years: float, steps: int) -> ImpulseResponse:
    """Compute the response of an equilibrium to an aggregate shock; see `IndustryEquilibrium.impulse_response`.

    Args:
        equilibrium: the stationary equilibrium before the shock.
        shock: shift of every firm's log productivity at time 0, between -1 and 1.
        years: length of the response. [years].
        steps: number of steps of equal length between 0 and `years`.
    """
    shock, years, steps = (
        read.number("shock", shock),
        read.number("years", years, above=0.0),
        read.count("steps", steps),
    )
    if abs(shock) > 1:
        raise ParameterError(
            f"shock must lie between -1 and 1, for the response is of first order in it, got {shock!r}"
        )
    if equilibrium.firm.adjustment == "as-published":
        raise ParameterError(
            'adjustment="as-published" is no argmax, so that the envelope theorem does not hold for it'
        )
    nodes, dt = len(equilibrium.market.grid.x), years / steps
    if 2 * (steps + TAIL / dt + 1) * nodes > LARGEST:
        raise ParameterError(
            f"steps={steps} in years={years:g} are steps of {dt:.3g} years, with {TAIL:g} years after them more than "
            f"memory is meant for on {nodes} nodes: take at most {LARGEST // (2 * nodes)} steps in all"
        )
    coarse, fine = _aggregates(equilibrium, dt, steps), _aggregates(equilibrium, dt / 2, 2 * steps)[:, ::2]
    (price, output, capital), error = shock * (4 * fine - coarse) / 3, float(np.abs(fine - coarse).max()) / 3
    if not error <= COARSE:
        raise NumericalError(
            f"steps of {dt:.3g} years are too long: halving them changes the response by {error:.1g} of the shock. "
            f"Raise steps={steps}, or lower years={years:g}"
        )
    return ImpulseResponse(shock, np.linspace(0.0, years, steps + 1), price, output, capital, error)


def _aggregates(equilibrium: IndustryEquilibrium, dt: float, steps: int) -> Floats:
    """Return derivatives of log P, log Y and log K in the shift, (3, steps + 1)."""
    price, masses = Linearised(equilibrium, dt).paths(steps, int(np.ceil(TAIL / dt)))
    x, firm = equilibrium.market.grid.x, equilibrium.firm
    output = masses @ firm.revenue(x) / firm.price / equilibrium.output
    capital = masses @ x[:, 0] / equilibrium.capital
    return np.stack([price[: steps + 1], output, capital])


@final
class Linearised:
    """The derivatives of an equilibrium on its grid of N nodes, in time steps of length dt."""

    def __init__(self, equilibrium: IndustryEquilibrium, dt: float) -> None:
        market, firm = equilibrium.market, equilibrium.firm
        grid, x = market.grid, market.grid.x
        identity, L = scipy.sparse.eye_array(len(x)) / dt, grid.generator(market.rates[:, None])
        self._implicit, self._explicit = (identity - L / 2).tocsc(), (identity + L / 2).tocsr()
        self._lu = scipy.sparse.linalg.splu(self._implicit, **SMOOTH)
        first, _ = firm.state.unit_derivatives(x)
        along_k, along_z = (scipy.sparse.diags_array(first[:, i]) @ D for i, D in enumerate(grid.mean_differences))
        moved = market.masses * x[:, 0] * _rule_slope(firm, x, along_k @ market.value.V)
        self._migration = (along_k.T @ scipy.sparse.diags_array(moved) @ along_k).tocsr()
        self._shifted: Floats = along_z.T @ market.masses
        self._revenue, self._discounting = firm.revenue(x), float(np.exp(-firm.discount * dt))
        self._elasticity = equilibrium.industry.demand_elasticity / (equilibrium.output * equilibrium.price)

    def paths(self, steps: int, tail: int = 0) -> tuple[Floats, Floats]:
        """Return derivatives in the shift of log P, (T + 1,), T = steps + tail, and of the masses, (steps + 1, N).

        The market clears at each of the T + 1 dates. Prices after the last date are those of before the shock.

        Raises:
            NumericalError: with half the tail the price within `steps` would differ noticeably.
        """
        if self._elasticity == 0:
            return np.zeros(steps + tail + 1), self._masses(np.zeros((steps + 1, len(self._revenue))))
        values, worth = self._backward(steps + tail)
        migration = values @ self._migration
        price, shorter = self._clearing(migration, worth, (steps + tail + 1, steps + tail - tail // 2 + 1))
        cut = np.abs(price[: steps + 1] - shorter[: steps + 1]).max() / np.abs(price).max()
        if not cut <= CUT:
            raise NumericalError(
                f"what happens {tail // 2} steps after the last that is asked for still moves the price, by "
                f"{cut:.1g} of its largest deviation: the shock lasts too long beside the firms' patience"
            )
        return price, self._masses((scipy.linalg.hankel(price) @ migration)[: steps + 1])

    def _backward(self, steps: int) -> tuple[Floats, Floats]:
        """Return V^ and expected revenue, j dates before log P rises by one for a date, (steps + 1, N) each."""
        both = [self._lu.solve(self._revenue[:, None] * [0.5, 1.0])]
        decay = np.array([self._discounting, 1.0])
        for j in range(steps):
            before = self._lu.solve(self._explicit @ both[-1])
            before[:, 0] += both[0][:, 0] if j == 0 else 0.0
            both.append(decay * before)
        values, worth = np.stack(both, axis=-1).transpose(1, 2, 0)
        return np.ascontiguousarray(values), np.ascontiguousarray(worth)

    def _clearing(self, migration: Floats, worth: Floats, dates: tuple[int, ...]) -> list[Floats]:
        """Return paths of log P over the first n dates, for each n in `dates`, at which log P + eta log Y is zero.

        Args:
            migration: derivative of the masses' flow j dates before log P rises by one for a date, (T + 1, N).
            worth: revenue expected j dates ahead, (T + 1, N).
            dates: numbers of dates, each at most T + 1.
        """
        unmoved = worth @ (self._implicit.T @ self._shifted)
        felt = worth @ migration.T
        felt[:, 1:] = (felt[:, 1:] + felt[:, :-1]) / 2
        felt[:, 0] /= 2
        jacobian = np.zeros((len(worth), len(worth)))
        for n in range(1, len(worth)):
            jacobian[n] = felt[n - 1]
            jacobian[n, 1:] += jacobian[n - 1, :-1]
        return [
            np.asarray(
                scipy.linalg.solve(np.eye(n) + self._elasticity * jacobian[:n, :n], -self._elasticity * unmoved[:n])
            )
            for n in dates
        ]

    def _masses(self, migration: Floats) -> Floats:
        """Return mu^ at each date, (steps + 1, N)."""
        found = [self._shifted]
        for now, then in itertools.pairwise(migration):
            found.append(self._lu.solve(self._explicit.T @ found[-1] + (now + then) / 2, trans="T"))
        return np.stack(found)


def _rule_slope(firm: FirmInvestment, x: Floats, v_k: Floats) -> Floats:
    """Return d iota/d V_k of the investment rule, (N,)."""
    up, down = (
        firm.maximiser(0.0, x, np.stack([v_k + nudge, 0 * v_k], axis=-1), None)[:, 0] for nudge in (NUDGE, -NUDGE)
    )
    slope: Floats = (up - down) / (2 * NUDGE)
    return slope
