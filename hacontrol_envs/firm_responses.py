"""What an industry's price, output and capital do after a shock to everyone's productivity, and from one parameter on.

To first order around a stationary equilibrium. Every firm's log productivity is shifted by eps at time 0 and decays
from there as any z does, so that the law of firms starts from mu - eps d_z mu; there is perfect foresight. With hats
for derivatives in eps, g = d iota/d V_k the slope of the investment rule, and L the generator of its policy,

    r V^ = e^z k^alpha P^ + d_t V^ + L V^,    d_t mu^ = L' mu^ - d_k(k g V^_k mu),    mu^(0) = -d_z mu,
    Y^ = E_mu^[e^z k^alpha],    P^/P = -eta Y^/Y:

the envelope theorem leaves no term of the policy in the first. In time Crank and Nicolson's scheme, of order 2, with
one LU for all steps. What output at each date owes to the price at each other is a sum of products of a row that
depends on the first date and a column that depends on the second (Auclert, Bardoczy, Rognlie and Straub, 2021).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import numpy as np
from scipy import sparse
from scipy.linalg import hankel, solve
from scipy.sparse.linalg import splu

from hacontrol_envs import parameters as read
from hacontrol_envs.arrays import Floats
from hacontrol_envs.errors import ParameterError
from hacontrol_envs.figures import panels
from hacontrol_envs.problems.firm_investment import FirmInvestment

if TYPE_CHECKING:
    from hacontrol_envs.firm_industry import Equilibrium

TAIL = 40.0
"""Years after the last that is asked for in which prices still move; after these they are those of before the shock."""
NUDGE = 1e-6
"""Of V_k, to differentiate the investment rule."""
COLOURS = {"price": "#0b6e8f", "output": "#d1691e", "capital": "#5b8c2a"}


@final
@dataclass(frozen=True)
class ImpulseResponse:
    """Deviations of logarithms from a stationary equilibrium, each (steps + 1,), to first order in the shock."""

    shock: float
    """Shift of everyone's log productivity at time 0."""
    time: Floats
    """Years since."""
    price: Floats
    """Of P."""
    output: Floats
    """Of Y."""
    capital: Floats
    """Of K."""

    def plot(self) -> Any:
        """A matplotlib Figure of the three paths, in percent.

        Raises:
            ParameterError: matplotlib is not installed.
        """
        figure, axes_of_all = panels(3)
        for axes, name in zip(axes_of_all, COLOURS, strict=True):
            axes.plot(self.time, 100 * getattr(self, name), color=COLOURS[name], linewidth=2)
            axes.axhline(0.0, color="black", linewidth=0.8)
            axes.set(xlabel="years", title=f"{name}, percent")
        figure.suptitle(f"Log productivity of all firms shifted by {self.shock:g}", fontsize="medium")
        return figure


def plot_statics(name: str, values: Iterable[float], equilibria: Sequence[Equilibrium]) -> Any:
    """A matplotlib Figure of price, output and capital against a parameter.

    Args:
        name, values: as given to `FirmIndustry.comparative_statics`.
        equilibria: what it returned.

    Raises:
        ParameterError: matplotlib is not installed.
    """
    figure, axes_of_all = panels(3)
    for axes, variable in zip(axes_of_all, COLOURS, strict=True):
        found = [getattr(equilibrium, variable) for equilibrium in equilibria]
        axes.plot(list(values), found, "o-", color=COLOURS[variable], linewidth=2, markersize=4)
        axes.set(xlabel=name.replace("_", " "), title=variable)
    return figure


def impulse_response(equilibrium: Equilibrium, shock: float, years: float, steps: int) -> ImpulseResponse:
    """See `Equilibrium.impulse_response`."""
    read.number("shock", shock)
    read.number("years", years, above=0.0)
    if isinstance(steps, bool) or not isinstance(steps, (int, np.integer)) or steps < 1:
        raise ParameterError(f"steps must be a positive integer, got {steps!r}")
    if equilibrium.firm.adjustment == "as-published":
        raise ParameterError(
            'adjustment="as-published" is no argmax, so that the envelope theorem does not hold for it'
        )
    dt = years / steps
    price, masses = Linearised(equilibrium, dt).paths(steps + int(np.ceil(TAIL / dt)))
    x, firm = equilibrium.market.grid.x, equilibrium.firm
    output = masses @ firm.revenue(x) / firm.price / equilibrium.output
    capital = masses @ x[:, 0] / equilibrium.capital
    paths = (shock * path[: steps + 1] for path in (price, output, capital))
    return ImpulseResponse(shock, np.linspace(0.0, years, steps + 1), *paths)


@final
class Linearised:
    """The derivatives of an equilibrium on its grid of N nodes, and steps of length dt."""

    def __init__(self, equilibrium: Equilibrium, dt: float) -> None:
        market, firm = equilibrium.market, equilibrium.firm
        grid, x = market.grid, market.grid.x
        identity, L = sparse.eye_array(len(x)) / dt, grid.generator(market.rates[:, None])
        self._implicit, self._explicit = (identity - L / 2).tocsc(), (identity + L / 2).tocsr()
        self._lu = splu(self._implicit)
        first, _ = firm.state.unit_derivatives(x)
        along_k, along_z = (sparse.diags_array(first[:, i]) @ D for i, D in enumerate(grid.mean_differences))
        moved = market.masses * x[:, 0] * _rule_slope(firm, x, along_k @ market.value.V)
        self._migration = (along_k.T @ sparse.diags_array(moved) @ along_k).tocsr()
        self._shifted: Floats = along_z.T @ market.masses
        self._revenue, self._discounting = firm.revenue(x), float(np.exp(-firm.discount * dt))
        self._elasticity = equilibrium.industry.demand_elasticity / (equilibrium.output * equilibrium.price)

    def paths(self, steps: int) -> tuple[Floats, Floats]:
        """Derivatives in the shift of log P, (steps + 1,), and of the masses, (steps + 1, N); the market clears."""
        if self._elasticity == 0:
            return np.zeros(steps + 1), self._masses(np.zeros((steps + 1, len(self._revenue))))
        values = self._values(steps)
        price = self._clearing(values @ self._migration)
        return price, self._masses(hankel(price) @ values @ self._migration)

    def _values(self, steps: int) -> Floats:
        """V^ at j dates before a unit rise of log P at one date, (steps + 1, N)."""
        found = [self._lu.solve(self._revenue / 2)]
        for j in range(steps):
            before = self._lu.solve(self._explicit @ found[-1]) + (found[0] if j == 0 else 0.0)
            found.append(self._discounting * before)
        return np.stack(found)

    def _clearing(self, migration: Floats) -> Floats:
        """The path of log P at which log P + eta log Y is zero, from the migration j dates before its rise."""
        steps = len(migration) - 1
        worth = [self._lu.solve(self._revenue)]
        for _ in range(steps):
            worth.append(self._lu.solve(self._explicit @ worth[-1]))
        unmoved = np.stack([(self._implicit @ later) @ self._shifted for later in worth])
        felt = np.stack(worth) @ migration.T
        felt[:, 1:] = (felt[:, 1:] + felt[:, :-1]) / 2
        felt[:, 0] /= 2
        jacobian = np.zeros((steps + 1, steps + 1))
        for n in range(1, steps + 1):
            jacobian[n] = felt[n - 1]
            jacobian[n, 1:] += jacobian[n - 1, :-1]
        return np.asarray(solve(np.eye(steps + 1) + self._elasticity * jacobian, -self._elasticity * unmoved))

    def _masses(self, migration: Floats) -> Floats:
        """mu^ at each date, (steps + 1, N)."""
        found = [self._shifted]
        for now, then in itertools.pairwise(migration):
            found.append(self._lu.solve(self._explicit.T @ found[-1] + (now + then) / 2, trans="T"))
        return np.stack(found)


def _rule_slope(firm: FirmInvestment, x: Floats, v_k: Floats) -> Floats:
    """d iota/d V_k of the investment rule, (N,)."""
    up, down = (
        firm.maximiser(0.0, x, np.stack([v_k + nudge, 0 * v_k], axis=-1), None)[:, 0] for nudge in (NUDGE, -NUDGE)
    )
    slope: Floats = (up - down) / (2 * NUDGE)
    return slope
