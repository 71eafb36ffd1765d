"""Paths of a `KrusellSmith` economy whose households follow some policy."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import numpy as np
from numpy.typing import NDArray

from hacontrol_envs.arrays import Floats
from hacontrol_envs.core import parameters as read
from hacontrol_envs.core.figures import panels
from hacontrol_envs.economies.krusell_smith.policies import HouseholdPolicy, on_grid
from hacontrol_envs.errors import ParameterError
from hacontrol_envs.numerics import chains
from hacontrol_envs.numerics.transport import Transport

if TYPE_CHECKING:
    from hacontrol_envs.economies.krusell_smith.economy import KrusellSmith

LONGEST = 10_000_000
"""Largest number of quarters of a path."""
UNCLOSED, MASSLESS = 1e-6, 1e-12
"""Largest deviation from one of the sum of a law's masses, and the largest negative mass that counts as zero."""
COLOURS = {"productivity": "#5b8c2a", "capital": "#0b6e8f", "consumption": "#d1691e"}
"""Colours of the lines, by variable."""


@final
@dataclass(frozen=True, eq=False)
class Path:
    """T quarters of one economy, or of several side by side (...)."""

    economy: KrusellSmith
    z: NDArray[np.int64]
    """States of Z, (T + 1, ...)."""
    capital: Floats
    """K, (T + 1, ...)."""
    kept: NDArray[np.int64]
    """Quarters whose laws are kept."""
    laws: Floats
    """Laws of households in the quarters `kept`, (count, ..., n_e, n_a)."""

    @property
    def productivity(self) -> Floats:
        """Productivity Z, (T + 1, ...)."""
        levels: Floats = self.economy.productivity[self.z]
        return levels

    @property
    def output(self) -> Floats:
        """Output, Z K^alpha L^(1 - alpha), (T + 1, ...)."""
        alpha, labour = self.economy.capital_share, self.economy.labour[self.z]
        made: Floats = self.productivity * self.capital**alpha * labour ** (1 - alpha)
        return made

    @property
    def consumption(self) -> Floats:
        """Consumption: output plus undepreciated capital less capital of the next quarter, (T, ...)."""
        kept = (1 - self.economy.depreciation) * self.capital[:-1] - self.capital[1:]
        consumed: Floats = self.output[:-1] + kept
        return consumed

    def plot(self, last: int = 400) -> Any:
        """Draw productivity, capital and consumption of the first economy over the last quarters, as a Figure.

        Raises:
            ParameterError: matplotlib is not installed, or `last` is no count of quarters.
        """
        last = read.count("last", last)
        figure, three = panels(3)
        for axes, name in zip(three, COLOURS, strict=True):
            values = getattr(self, name).reshape(len(getattr(self, name)), -1)[-last:, 0]
            axes.plot(np.arange(len(values)), values, color=COLOURS[name], linewidth=1.5)
            axes.set(xlabel="quarters", title=name)
        return figure


def path_of_z(
    economy: KrusellSmith, quarters: int, seed: int, count: int | None = None, first: Any = None
) -> NDArray[np.int64]:
    """Draw a path of states of Z, (quarters + 1,) or (quarters + 1, count).

    Args:
        economy: the economy whose chain is drawn from.
        quarters: length of the path. [quarters].
        seed: seed of the draws.
        count: number of paths side by side; None draws one without that axis.
        first: states at the start, a number or (count,); None draws them from their stationary law.

    Raises:
        ParameterError: no such number of quarters, paths or seed, or no such states.
    """
    quarters = read.count("quarters", quarters, at_least=0, at_most=LONGEST)
    rng = np.random.default_rng(read.count("seed", seed, at_least=0))
    size = () if count is None else (read.count("count", count),)
    if first is None:
        first = rng.choice(len(economy.productivity), size, p=economy.joint_law.sum(axis=1))
    states = np.broadcast_to(read_states(economy, np.atleast_1d(first)).reshape(np.shape(first)), size)
    return chains.draw(economy.aggregate_chain, states, rng.random((quarters, *size)))


def simulate(economy: KrusellSmith, policy: HouseholdPolicy, z: NDArray[np.int64], law: Floats, every: int = 0) -> Path:
    """Simulate economies whose households all follow a policy.

    Args:
        economy: the economy.
        policy: what households save.
        z: states of Z, (T + 1, ...).
        law: laws at the start, (..., n_e, n_a); a single law serves all paths.
        every: keep the laws of quarters 0, every, 2 every, ...; 0 keeps the last only.
    """
    z, every = read_states(economy, z), read.count("every", every, at_least=0)
    law = np.broadcast_to(read_law(economy, law), (*z.shape[1:], *np.shape(law)[-2:]))
    capital, kept, laws = list[Floats](), list[int](), list[Floats]()
    for t, now in enumerate(laws_along(economy, policy, z, law)):
        capital.append(economy.capital_of(now))
        if (every and t % every == 0) or (not every and t == len(z) - 1):
            kept.append(t)
            laws.append(now)
    return Path(economy, z, np.stack(capital), np.asarray(kept), np.stack(laws))


def laws_along(economy: KrusellSmith, policy: HouseholdPolicy, z: NDArray[np.int64], law: Floats) -> Iterator[Floats]:
    """Yield the laws (..., n_e, n_a) at every quarter of economies whose households follow a policy.

    Args:
        economy: the economy.
        policy: what households save.
        z: states of Z, (T + 1, ...).
        law: laws at the start, (..., n_e, n_a).
    """
    yield law
    for now, then in itertools.pairwise(z):
        choice = on_grid(economy, policy, now, law)
        law = law @ Transport(economy.assets, choice, economy.income_chain[now, then])
        yield law


def read_states(economy: KrusellSmith, given: Any) -> NDArray[np.int64]:
    """Read a path of states of Z, whole numbers (T + 1, ...).

    Raises:
        ParameterError: anything else.
    """
    z = read.whole_numbers("z", given)
    n_z = len(economy.productivity)
    if z.ndim == 0 or z.size == 0 or np.any((z < 0) | (z >= n_z)):
        raise ParameterError(
            f"z must be a path of states of Z, (T + 1, ...), from 0 to {n_z - 1}, got {read.short(given)}"
        )
    return z


def read_path(economy: KrusellSmith, given: Any) -> NDArray[np.int64]:
    """Read a path of states of Z of one economy, (T + 1,).

    Raises:
        ParameterError: anything else.
    """
    z = read_states(economy, given)
    if z.ndim != 1:
        raise ParameterError(f"z must be the path of one economy, (T + 1,), got shape {z.shape}")
    return z


def read_law(economy: KrusellSmith, given: Any) -> Floats:
    """Read laws (..., n_e, n_a) of an economy: masses that are not negative and sum to one.

    Raises:
        ParameterError: anything else.
    """
    shape = len(economy.skill), len(economy.assets)
    try:
        law = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ParameterError(f"a law must be an array of masses, (..., {shape}), got {read.short(given)}") from error
    if law.shape[-2:] != shape:
        raise ParameterError(f"a law must have shape (..., n_e, n_a) = (..., {shape}), got {law.shape}")
    mass = law.sum(axis=(-2, -1))
    if not (np.all(law >= -MASSLESS) and np.all(np.abs(mass - 1) <= UNCLOSED)):
        raise ParameterError(
            f"a law must have masses of at least 0 that sum to one, got {law.min()} and {read.short(mass)}"
        )
    return law
