"""ReferenceSolution: the equilibrium of `KrusellSmith` with aggregate risk, as functions, figures and paths."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from hacontrol_envs.arrays import Floats
from hacontrol_envs.core import parameters as read
from hacontrol_envs.core.solution import CrossSection, Solution
from hacontrol_envs.economies.economy import Equilibrium
from hacontrol_envs.economies.krusell_smith import accuracy as measures
from hacontrol_envs.economies.krusell_smith import fixed_point
from hacontrol_envs.economies.krusell_smith.law_of_motion import Beliefs, LawOfMotion, Moment, Nodes
from hacontrol_envs.economies.krusell_smith.paths import Path, path_of_z, read_law, read_path
from hacontrol_envs.economies.krusell_smith.policies import on_grid, split
from hacontrol_envs.economies.krusell_smith.responses import ImpulseResponse, impulse_response
from hacontrol_envs.economies.krusell_smith.value import HouseholdValue
from hacontrol_envs.errors import ParameterError
from hacontrol_envs.numerics import egm

if TYPE_CHECKING:
    from hacontrol_envs.economies.krusell_smith.economy import KrusellSmith


class Ergodic(NamedTuple):
    """States of the economy that a long path visits, equally spaced in time."""

    z: NDArray[np.int64]
    """States of Z, (S,)."""
    laws: Floats
    """Laws of households in these states, (S, n_e, n_a)."""


@final
@dataclass(frozen=True, eq=False)
class ReferenceSolution(Equilibrium):
    """A global solution: households know their own state, Z, K and, unless told otherwise, a moment v of the law.

    Functions of K alone take v = 0, see `Moment`. Figures of accuracy are of a path that it was not found on.
    """

    unequal = "assets"

    economy: KrusellSmith
    """The economy whose equilibrium this is."""
    form: str
    """Form of beliefs: "two moments", "log-linear" or "quadratic"."""
    thresholds: Floats
    """Own assets at which a' = assets[i] is chosen, (n_z, n_k, n_e, n_a); see `egm`."""
    nodes: Nodes
    """Nodes of capital and the moment."""
    moment: Moment
    """The moment of the law that households know."""
    beliefs: Beliefs
    """Beliefs of households about log K' and v'."""
    beliefs_r2: Floats
    """R2 of the beliefs about K', for every Z, (n_z,)."""
    gap: float
    """Largest difference, in logs, between beliefs and what the economy did when they were found."""
    law_of_motion: LawOfMotion
    """log K' = b0(Z) + b1(Z) log K, as fitted to the path on which beliefs were found."""
    r2: Floats
    """R2 of the law of motion, for every Z, (n_z,)."""
    ergodic: Ergodic
    """States of the economy on the path on which the solution is judged."""
    den_haan: measures.PathErrors
    """Den Haan's errors: those of the law of motion's forecast over 10 000 quarters, in percent."""
    euler: measures.EulerErrors
    """Euler errors at all cells of 200 laws of that path, log10."""
    share_at_top: float
    """Mean share of households at the highest node: that the grid ends there matters less than this."""
    output_lost: float
    """Mean share of output that households would save above the grid, where nothing is kept."""

    @property
    def capital(self) -> float:
        """The mean of K over all times, by the law of motion."""
        return self.law_of_motion.mean_capital(self.economy.aggregate_chain)

    @property
    def signal(self) -> Floats:
        """The coefficients of `beliefs`, by which households forecast capital and the moment."""
        return self.beliefs.coefficients

    @property
    def solution(self) -> Solution:
        """Value and saving a', (..., 1), at points x = (a, e, z, K) where v = 0; the error of the value is NaN."""

        def value(t: Any, x: Floats) -> Floats:
            return self.value(*split(x))

        def policy(t: Any, x: Floats) -> Floats:
            return self.saving(*split(x))[..., None]

        return Solution(value, policy, "numerical", f"endogenous grids and forecasts ({self.form})", math.nan)

    @property
    def cross_section(self) -> CrossSection:
        """The mean over `ergodic` of the laws of households, over points x = (a, e, z, K)."""
        z, laws = self.ergodic
        every = np.arange(len(self.economy.skill))[:, None], z[:, None, None], self.capital_along[:, None, None]
        x = np.stack(np.broadcast_arrays(self.economy.assets, *every), axis=-1).reshape(-1, 4)
        return CrossSection(x, laws.ravel() / len(laws))

    @property
    def capital_along(self) -> Floats:
        """K of the laws in `ergodic`, (S,)."""
        return np.asarray(self.economy.capital_of(self.ergodic.laws))

    @property
    def aggregates(self) -> dict[str, float]:
        """Means over `ergodic` of capital, output, interest rate and wage, by name."""
        economy, z, capital = self.economy, self.ergodic.z, self.capital_along
        prices, labour = economy.prices(capital, z), economy.labour[z]
        output = (prices.interest_rate + economy.depreciation) * capital + prices.wage * labour
        every = {"capital": capital, "output": output, "interest rate": prices.interest_rate, "wage": prices.wage}
        return {name: float(np.mean(values)) for name, values in every.items()}

    @property
    def individuals(self) -> dict[str, Floats]:
        """Assets, income from work, consumption and saving a' of households, each (M,), by name."""
        economy, (z, laws) = self.economy, self.ergodic
        assets, e = self.cross_section.x[:, 0], np.arange(len(economy.skill))[:, None]
        now, capital = z[:, None, None], self.capital_along[:, None, None]
        wage = economy.prices(capital, now).wage
        saving = on_grid(economy, self.policy, z, laws)
        every = {
            "income": np.broadcast_to(wage * economy.earnings[now, e], laws.shape),
            "consumption": economy.cash(economy.assets, e, now, capital) - saving,
            "saving": saving,
        }
        return {"assets": assets, **{name: table.ravel() for name, table in every.items()}}

    def policy(self, assets: Floats, e: Any, z: Any, law: Floats) -> Floats:
        """Return what households save, a' (..., m), in an economy whose law of households is known.

        Args:
            assets, e, z, law: own assets and income states (..., m), states of Z (...), laws (..., n_e, n_a).
        """
        capital = np.asarray(self.economy.capital_of(law))
        v = self.moment.of(law, capital, z) if len(self.nodes.bounds) > 1 else np.zeros(capital.shape)
        return self.saving(assets, e, np.asarray(z)[..., None], capital[..., None], v[..., None])

    def saving(self, assets: Any, e: Any, z: Any, capital: Any, v: Any = 0.0) -> Floats:
        """Return what households save, a'; fast where z, capital and v are constant along the last axes.

        Args:
            assets, e: own assets, and numbers of the income states; all arguments broadcast.
            z, capital, v: numbers of the states of Z, K, and the moment, which is 0 where it is as usual.
        """
        own = np.asarray(assets, dtype=np.float64), np.asarray(e, dtype=np.int64)
        common = np.asarray(z, dtype=np.int64), np.log(capital), np.asarray(v, dtype=np.float64)
        shape, economies = np.broadcast_shapes(*(x.shape for x in own), *(x.shape for x in common)), common
        shared = np.broadcast_shapes(*(x.shape for x in economies))
        outer = (1,) * (len(shape) - len(shared)) + shared
        while outer and outer[-1] == 1:
            outer = outer[:-1]
        outer, trailing = shape[: len(outer)], (1,) * (len(shape) - len(outer))
        points, states = np.broadcast_to(own[0], shape), np.broadcast_to(own[1], shape)
        now, x, rest = (np.broadcast_to(one, outer + trailing).reshape(-1) for one in common)
        count, out = math.prod(outer), np.empty(shape)
        egm.choose(
            self.thresholds,
            self.economy.assets,
            np.ascontiguousarray(now),
            np.ascontiguousarray(self.nodes.weights(x, rest)),
            np.ascontiguousarray(points).reshape(count, -1),
            np.ascontiguousarray(states).reshape(count, -1),
            out.reshape(count, -1),
        )
        return out

    def saving_on_grid(self, z: Any, capital: Any, v: Any = 0.0) -> Floats:
        """Return a' at the nodes of assets, (..., n_e, n_a).

        Args:
            z: numbers of the aggregate state, (...).
            capital: K, (...).
            v: the moment measured from its usual value at this K, (...).
        """
        now, K, rest = (np.asarray(x)[..., None, None] for x in (z, capital, v))
        return self.saving(self.economy.assets, np.arange(len(self.economy.skill))[:, None], now, K, rest)

    def consumption(self, assets: Any, e: Any, z: Any, capital: Any, v: Any = 0.0) -> Floats:
        """Return households' consumption, m - a'.

        Args:
            assets, e, z, capital, v: own assets, income states, states of Z, K, and the moment; they broadcast.
        """
        cash: Floats = self.economy.cash(assets, e, z, capital)
        return cash - self.saving(assets, e, z, capital, v)

    def value(self, assets: Any, e: Any, z: Any, capital: Any, v: Any = 0.0) -> Floats:
        """Return households' expected discounted utility, solved for when it is first needed.

        Args:
            assets, e, z, capital, v: own assets, income states, states of Z, K, and the moment; they broadcast.
        """
        return self._value(assets, e, z, capital, v)

    @cached_property
    def _value(self) -> HouseholdValue:
        return HouseholdValue(self)

    def simulate(
        self,
        quarters: int,
        seed: int = 0,
        *,
        z: NDArray[np.int64] | None = None,
        law: Floats | None = None,
        every: int = 0,
    ) -> Path:
        """Simulate a path of one economy.

        Args:
            quarters, seed: length of the path, and seed of Z and of the choice among `ergodic`.
            z: states of Z, (quarters + 1,); None draws them.
            law: law at the start, (n_e, n_a); None for one of `ergodic`, with Z as it was then.
            every: keep the laws of quarters 0, every, 2 every, ...; 0 keeps none.

        Raises:
            ParameterError: arguments that make no sense, a law without `z`, or no law that belongs to `z`.
        """
        quarters, every = read.count("quarters", quarters), read.count("every", every, at_least=0)
        seed, z = read.count("seed", seed, at_least=0), None if z is None else read_path(self.economy, z)
        if law is None:
            kept = [seed % len(self.ergodic.z)] if z is None else np.flatnonzero(self.ergodic.z == z[0]).tolist()
            if not kept:
                raise ParameterError("none of the laws in `ergodic` is of the first state of z: give the law, too")
            first = kept[0]
            law = self.ergodic.laws[first]
            z = path_of_z(self.economy, quarters, seed, first=self.ergodic.z[first]) if z is None else z
        if z is None:
            raise ParameterError("simulate was given a law without z: which states of Z does it belong to?")
        law = read_law(self.economy, law)
        if law.ndim != 2:
            raise ParameterError(f"simulate moves one law, (n_e, n_a), got shape {law.shape}; paths.simulate moves any")
        keep = -(-len(z) // every) if every else 0
        arrays = self.thresholds, self.nodes, self.moment, z, law
        capital, _, laws = fixed_point.simulate(self.economy, *arrays, max(every, 1), keep)
        return Path(self.economy, z, capital, np.arange(keep) * every, laws)

    def impulse_response(self, quarters: int = 80, **arguments: Any) -> ImpulseResponse:
        """Estimate the response to a change of Z; see `responses.impulse_response` for the arguments."""
        return impulse_response(self, quarters, **arguments)

    def __repr__(self) -> str:
        figures = f"capital={self.capital:.6g}, euler={self.euler.mean:.2f}, den_haan={self.den_haan.mean:.2g}"
        return f"ReferenceSolution({figures}, gap={self.gap:.1g}, share_at_top={self.share_at_top:.2g})"
