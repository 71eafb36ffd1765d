"""Paths of a `KrusellSmith` economy whose households follow some policy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from hacontrol_envs import chains
from hacontrol_envs.arrays import Floats
from hacontrol_envs.figures import panels
from hacontrol_envs.krusell_smith import KrusellSmith
from hacontrol_envs.transport import Transport

HouseholdPolicy: TypeAlias = Callable[[Floats, NDArray[np.int64], NDArray[np.int64], Floats], Floats]
"""a' (..., m) of m households in each of some economies: of own assets and e (..., m), Z (...), law (..., n_e, n_a)."""

COLOURS = {"productivity": "#5b8c2a", "capital": "#0b6e8f", "consumption": "#d1691e"}


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
    """Their laws, (count, ..., n_e, n_a)."""

    @property
    def productivity(self) -> Floats:
        """Z, (T + 1, ...)."""
        levels: Floats = self.economy.productivity[self.z]
        return levels

    @property
    def output(self) -> Floats:
        """Z K^alpha L^(1 - alpha), (T + 1, ...)."""
        alpha, labour = self.economy.capital_share, self.economy.labour[self.z]
        made: Floats = self.productivity * self.capital**alpha * labour ** (1 - alpha)
        return made

    @property
    def consumption(self) -> Floats:
        """What is neither invested nor kept, (T, ...)."""
        kept = (1 - self.economy.depreciation) * self.capital[:-1] - self.capital[1:]
        consumed: Floats = self.output[:-1] + kept
        return consumed

    def plot(self, last: int = 400) -> Any:
        """A matplotlib Figure of productivity, capital and consumption over the last quarters, of the first economy.

        Raises:
            ParameterError: matplotlib is not installed.
        """
        figure, three = panels(3)
        for axes, name in zip(three, COLOURS, strict=True):
            values = getattr(self, name).reshape(len(getattr(self, name)), -1)[-last:, 0]
            axes.plot(np.arange(len(values)), values, color=COLOURS[name], linewidth=1.5)
            axes.set(xlabel="quarters", title=name)
        return figure


def path_of_z(
    economy: KrusellSmith, quarters: int, seed: int, count: int | None = None, first: Any = None
) -> NDArray[np.int64]:
    """States of Z, (quarters + 1,) or (quarters + 1, count), from the states `first` or from their stationary law."""
    rng = np.random.default_rng(seed)
    size = () if count is None else (count,)
    if first is None:
        first = rng.choice(len(economy.productivity), size, p=economy.joint_law.sum(axis=1))
    states = np.broadcast_to(np.asarray(first, dtype=np.int64), size)
    return chains.draw(economy.aggregate_chain, states, rng.random((quarters, *size)))


def on_grid(economy: KrusellSmith, policy: HouseholdPolicy, z: Any, law: Floats) -> Floats:
    """a' at the nodes, (..., n_e, n_a), of economies in states z (...) with these laws (..., n_e, n_a)."""
    n_e, n_a = law.shape[-2:]
    batch = law.shape[:-2]
    assets = np.broadcast_to(np.tile(economy.assets, n_e), (*batch, n_e * n_a))
    e = np.broadcast_to(np.repeat(np.arange(n_e), n_a), (*batch, n_e * n_a))
    return np.asarray(policy(assets, e, np.asarray(z), law), dtype=np.float64).reshape(law.shape)


def simulate(economy: KrusellSmith, policy: HouseholdPolicy, z: NDArray[np.int64], law: Floats, every: int = 0) -> Path:
    """The economies along states z (T + 1, ...) from laws (..., n_e, n_a).

    Args:
        economy, policy: what its households do.
        z, law: see above; one law may do for all.
        every: keep the laws of quarters 0, every, 2 every, ...; 0 keeps the last only.
    """
    law = np.broadcast_to(law, (*z.shape[1:], *np.shape(law)[-2:]))
    capital, kept, laws = [economy.capital_of(law)], list[int](), list[Floats]()
    for t in range(len(z)):
        if (every and t % every == 0) or (not every and t == len(z) - 1):
            kept.append(t)
            laws.append(law)
        if t < len(z) - 1:
            choice = on_grid(economy, policy, z[t], law)
            law = law @ Transport(economy.assets, choice, economy.income_chain[z[t], z[t + 1]])
            capital.append(economy.capital_of(law))
    return Path(economy, z, np.stack(capital), np.asarray(kept), np.stack(laws))
