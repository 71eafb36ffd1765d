"""Draw households against the reference: consumption, distribution of assets, path of capital, Euler errors."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from matplotlib.axes import Axes

from hacontrol_agents import Agent
from hacontrol_benchmarks.reporting.figures import TRUTH, colours
from hacontrol_envs.economies.krusell_smith.accuracy import INHABITED, euler_residuals
from hacontrol_envs.economies.krusell_smith.household import KrusellSmithHousehold
from hacontrol_envs.economies.krusell_smith.judge import checked
from hacontrol_envs.economies.krusell_smith.paths import Path, path_of_z, simulate
from hacontrol_envs.economies.krusell_smith.policies import HouseholdPolicy, of_agent
from hacontrol_envs.simulation.picture_scales import Scale

QUARTERS = 200
"""Length of the path on which all policies are compared. [quarters]."""
BINS = 50
"""Most bins of a histogram."""
RICHEST = 0.999
"""Share of households whose assets lie within the range that is drawn."""
ROUNDING = 1e-16
"""Smallest error that is drawn; smaller ones are drawn there."""

Panel: TypeAlias = "Callable[[Axes], None]"


class HouseholdScene:
    """Economies whose households all follow an agent, and that of the reference, from the same law along the same Z.

    c(a, e) is at the first quarter, in the lowest, a middle and the highest state e; law, Lorenz curve and Euler errors
    are at the last, each in the economy that the policy itself has led to. Assets are drawn on a stretched axis.

    Args:
        agents: agents by the name that they have in the legend.
        problem: the household among others who follow the reference.
        seed: seed of the path of Z, and of the population at its start.
    """

    def __init__(self, agents: dict[str, Agent], problem: KrusellSmithHousehold, seed: int) -> None:
        self.economy, self.reference = problem.economy, problem.economy.reference_solution()
        self.colours = colours(agents)
        self.policies: dict[str, HouseholdPolicy] = {
            name: checked(of_agent(agent, problem.economy, problem)) for name, agent in agents.items()
        }
        first = seed % len(self.reference.ergodic.z)
        self.law = self.reference.ergodic.laws[first]
        self.z = path_of_z(self.economy, QUARTERS, seed, first=self.reference.ergodic.z[first])
        self.scale = Scale.stretched(self.economy.borrowing_limit)

    def panels(self) -> list[Panel]:
        """Return all panels, since every policy of a household has all of them."""
        return [self.consumption, self.histogram, self.lorenz, self.capital, self.euler]

    @cached_property
    def paths(self) -> list[tuple[HouseholdPolicy, Path, dict[str, Any]]]:
        """Policies, their economies and the style of their lines: agents, then the reference on top."""
        every = [(policy, {"color": self.colours[name], "linewidth": 2.0}) for name, policy in self.policies.items()]
        every.append((self.reference.policy, TRUTH))
        return [(one, simulate(self.economy, one, self.z, self.law), style) for one, style in every]

    @cached_property
    def last(self) -> int:
        """The number of the highest node that is drawn: nearly all households of all economies have less."""
        mass = np.mean([path.laws[-1].sum(axis=0) for _, path, _ in self.paths], axis=0)
        return min(int(np.searchsorted(np.cumsum(mass), RICHEST)) + 1, len(self.economy.assets) - 1)

    def consumption(self, axes: Axes) -> None:
        """Draw c over assets in three states e, at the first quarter's prices."""
        own, states = self.economy.assets[: self.last + 1], len(self.economy.skill)
        capital = float(self.economy.capital_of(self.law))
        for e in sorted({0, (states - 1) // 2, states - 1}):
            which = np.full(len(own), e)
            cash = self.economy.cash(own, which, self.z[0], capital)
            for policy, _, style in self.paths:
                axes.plot(self.scale.place(own), cash - policy(own, which, self.z[0], self.law), **style)
        skills = ", ".join(f"{self.economy.skill[e]:.3g}" for e in sorted({0, (states - 1) // 2, states - 1}))
        self._over_assets(axes, f"consumption at skill {skills}", "goods a quarter")

    def histogram(self, axes: Axes) -> None:
        """Draw the distribution of assets, each bin holding the same number of nodes."""
        size = -(-len(self.economy.assets) // BINS)
        bins = np.arange(0, len(self.economy.assets), size)
        place = self.scale.place(self.economy.assets)
        edges = np.concatenate([[place[0]], (place[bins[1:] - 1] + place[bins[1:]]) / 2, place[-1:]])
        for _, path, style in self.paths:
            shares = 100 * np.add.reduceat(path.laws[-1].sum(axis=0), bins)
            axes.stairs(shares, edges, **{"baseline": None, **style})
        self._over_assets(axes, f"households after {QUARTERS} quarters", "% in each bin")

    def lorenz(self, axes: Axes) -> None:
        """Draw the share of assets that the poorest households own, by their share."""
        assets = self.economy.assets
        for _, path, style in self.paths:
            masses = path.laws[-1].sum(axis=0)
            people, wealth = np.cumsum(masses), np.cumsum(masses * assets)
            axes.plot(100 * np.append(0.0, people / people[-1]), 100 * np.append(0.0, wealth / wealth[-1]), **style)
        axes.plot([0, 100], [0, 100], color="0.7", linewidth=0.8)
        axes.set(xlabel="households, poorest first (%)", ylabel="% of assets", title="Lorenz curve")

    def capital(self, axes: Axes) -> None:
        """Draw K over time."""
        for _, path, style in self.paths:
            axes.plot(np.arange(QUARTERS + 1), path.capital, **style)
        axes.set(xlabel="time (quarters)", ylabel="goods", title="capital on common productivity")

    def euler(self, axes: Axes) -> None:
        """Draw the mean over e, by mass, of |relative Euler error| where there are households."""
        z, place = self.z[-1:], self.scale.place(self.economy.assets)
        for policy, path, style in self.paths:
            law = path.laws[-1]
            errors = euler_residuals(self.economy, policy, z, law[None])[0]
            there = law.sum(axis=0) > INHABITED
            mean = (errors * law).sum(axis=0)[there] / law.sum(axis=0)[there]
            axes.semilogy(place[there], np.maximum(mean, ROUNDING), **{**style, "linewidth": 1.2})
        self._over_assets(axes, "Euler error", "relative to consumption")

    def _over_assets(self, axes: Axes, title: str, unit: str) -> None:
        ends = self.scale.place(self.economy.assets[[0, self.last]])
        limits = float(ends[0]), float(ends[1])
        axes.set_xlim(*limits)
        places, labels = self.scale.ticks(limits, 6)
        axes.set_xticks(list(places), labels)
        axes.set(xlabel="assets (goods)", ylabel=unit, title=title)
