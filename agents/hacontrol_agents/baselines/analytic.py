"""Agents that learn nothing: the known optimum, a household's known policies, and random actions."""

from __future__ import annotations

import abc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np

from hacontrol_agents.core.agent import Agent
from hacontrol_envs import Jet, Solution
from hacontrol_envs.arrays import Array, Floats
from hacontrol_envs.economies.krusell_smith.household import KrusellSmithHousehold
from hacontrol_envs.economies.krusell_smith.policies import to_observations
from hacontrol_envs.economies.krusell_smith.solution import ReferenceSolution
from hacontrol_envs.economies.krusell_smith.steady_state import SteadyState
from hacontrol_envs.errors import ParameterError


@final
@dataclass(kw_only=True)
class AnalyticAgent(Agent):
    """Plays the known optimum of the problem: `problem.solution().policy`.

    The optimum of continuous time is played as it is, and loses a little at a finite step; with `sampled=True` it is
    the optimum of the environment's own sampled-data problem, which nothing can beat there.
    """

    sampled: bool = False
    """Play the optimum of the sampled-data problem at the environment's dt."""

    name: ClassVar[str] = "analytic"

    def __post_init__(self) -> None:
        super().__post_init__()
        solution = self.problem.solution(dt=self.env.unwrapped.dt) if self.sampled else self.problem.solution()
        if solution is None:
            kind = "sampled-data solution" if self.sampled else "solution"
            raise ParameterError(f"no {kind} of {type(self.problem).__name__} is known")
        self.solution: Solution = solution

    def __getstate__(self) -> dict[str, Any]:
        """Return everything but the solution, whose functions cannot be pickled: it is computed again."""
        return {name: held for name, held in self.__dict__.items() if name != "solution"}

    def __setstate__(self, held: dict[str, Any]) -> None:
        self.__dict__.update(held)
        self.__post_init__()

    def policy(self, t: Array, x: Floats) -> Floats:
        chosen: Floats = self.solution.policy(t, x)
        return chosen

    def value(self, t: Array, x: Floats) -> Floats:
        known: Floats = self.solution.value(t, x)
        return known

    def jet(self, t: Array, x: Floats) -> Jet:
        return self.solution.jet(t, x) if self.solution.jet else super().jet(t, x)

    @property
    def offers(self) -> frozenset[str]:
        """The name "value", and "jet" where the solution knows the value's derivatives."""
        return frozenset({"value", "jet"} if self.solution.jet else {"value"})

    def _learn(self, budget: int | None, report: Callable[..., bool]) -> None:
        """Do nothing: there is nothing to learn."""


@dataclass(kw_only=True)
class _KnownHousehold(Agent):
    """A household of `KrusellSmith` whose policy is known beforehand."""

    learns: ClassVar[Any] = KrusellSmithHousehold
    """The class of problems that the agent can play."""

    @property
    def problem(self) -> KrusellSmithHousehold:
        """The problem behind the environment."""
        problem: KrusellSmithHousehold = self.env.unwrapped.problem
        return problem

    @property
    @abc.abstractmethod
    def _equilibrium(self) -> ReferenceSolution | SteadyState:
        """The solution that is played."""

    @abc.abstractmethod
    def _saving(self, assets: Floats, e: Any, z: Any, capital: Floats) -> Floats:
        """Return a' (...) of households by what they observe."""

    def saving(self, assets: Floats, e: Any, z: Any, law: Floats) -> Floats:
        """Return next period's assets a' (..., m) by the solution that is played.

        Args:
            assets: a of each household, (..., m).
            e: numbers of the households' income states, (..., m).
            z: numbers of the aggregate states, (...).
            law: masses of households by (e, a), (..., n_e, n_a).
        """
        return self._equilibrium.policy(assets, e, z, law)

    def policy(self, t: Array, x: Floats) -> Floats:
        played: Floats = to_observations(self.problem, self._saving)(t, x)
        return played

    def _learn(self, budget: int | None, report: Callable[..., bool]) -> None:
        """Do nothing: there is nothing to learn."""


@final
@dataclass(kw_only=True)
class ReferenceAgent(_KnownHousehold):
    """Plays the reference solution: with the whole law in `saving`, and by observed capital in `policy`.

    `saving` knows the law. `policy` knows what is observed of it.
    """

    name: ClassVar[str] = "reference"

    @property
    def _equilibrium(self) -> ReferenceSolution:
        return self.problem.economy.reference_solution(cut=True)

    def _saving(self, assets: Floats, e: Any, z: Any, capital: Floats) -> Floats:
        return self._equilibrium.saving(assets, e, z, capital)


@final
@dataclass(kw_only=True)
class SteadyStateAgent(_KnownHousehold):
    """Plays what is optimal in the steady state, and ignores aggregate risk.

    What a solution has to improve on: its welfare is nearly the optimum's, its capital is not.
    """

    name: ClassVar[str] = "steady-state"

    @property
    def _equilibrium(self) -> SteadyState:
        return self.problem.economy.steady_state(cut=True)

    def _saving(self, assets: Floats, e: Any, z: Any, capital: Floats) -> Floats:
        return self._equilibrium.saving_at(assets, e)


@final
@dataclass(kw_only=True)
class RandomAgent(Agent):
    """Draws every action uniformly from the action box."""

    name: ClassVar[str] = "random"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._rng = np.random.default_rng(self.seed)

    def policy(self, t: Array, x: Floats) -> Floats:
        box = self.problem.action
        drawn: Floats = box.from_unit(self._rng.uniform(-1.0, 1.0, (*np.shape(x)[:-1], box.dimension)))
        return drawn

    def _learn(self, budget: int | None, report: Callable[..., bool]) -> None:
        """Do nothing: there is nothing to learn."""

    def _record(self) -> dict[str, Any]:
        return {"rng": self._rng.bit_generator.state}

    def _restore(self, tensors: dict[str, Any], record: dict[str, Any]) -> None:
        self._rng.bit_generator.state = record["rng"]
