"""MarketClearing: any economy's equilibrium by a root of its gap, with the individual's problem solved by any agent."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, final

import gymnasium as gym
import numpy as np
import torch
from scipy.optimize import brentq, root
from torch import Tensor

from hacontrol_agents.core.agent import Agent
from hacontrol_agents.core.registry import find_agent, make_agent
from hacontrol_agents.equilibrium.economy_learner import EconomyLearner
from hacontrol_envs import Problem, SDEEnv, Solution, registered_ids
from hacontrol_envs.arrays import Floats
from hacontrol_envs.core.parameters import number
from hacontrol_envs.core.registration import problem_class
from hacontrol_envs.errors import ConvergenceWarning, EquilibriumError, ParameterError, TruncationWarning

KNOWN = "known"
"""Name of the solver that asks the individual's problem for its solution."""
FIRST, GROWTH, FARTHEST = 0.25, 1.6, 40.0
"""First step of the search for a bracket, in the coordinate of `_Free`; growth of the step; and farthest coordinate
searched."""


@final
@dataclass(kw_only=True)
class MarketClearing(EconomyLearner):
    """Find the signal at which the gap of an economy is zero; the individual's problem is solved anew at every signal.

    A number is bracketed from the economy's first guess and found by Brent's method, an array by Powell's hybrid
    method (SciPy's). Nothing is known of the economy but what `Economy` states.
    """

    solver: str = KNOWN
    """Solver of the individual's problem: "known" for its own solution, or the name of an agent, such as "npi"."""
    tolerance: float = 1e-7
    """Largest |gap| at which the market is said to clear."""

    name: ClassVar[str] = "market-clearing"

    def __post_init__(self) -> None:
        super().__post_init__()
        number("tolerance", self.tolerance, above=0.0)
        if self.solver != KNOWN and not issubclass(find_agent(self.solver), Agent):
            raise ParameterError(f'solver must be "{KNOWN}" or an agent of environments, got {self.solver!r}')
        self._free = _Free.of(self.economy)
        self._start = self._free.back(np.asarray(self.economy.first_guess(), dtype=np.float64))
        self._tried: dict[bytes, Floats] = {}
        self._solution: Solution | None = None
        self._agent = None if self.solver == KNOWN else self._fresh_agent(self.signal)

    def __getstate__(self) -> dict[str, Any]:
        """Return everything but the solution, whose functions cannot be pickled: it is found again when asked for."""
        return {**self.__dict__, "_solution": None}

    @property
    def signal(self) -> float | Floats:
        return self._signal_at(self._best)

    def _signal_at(self, free: Floats) -> float | Floats:
        found = self._free.to(free)
        return found if found.ndim else float(found)

    @property
    def _best(self) -> Floats:
        """The free coordinates with the least gap of all that were tried."""
        if not self._tried:
            return self._start
        key = min(self._tried, key=lambda key: float(np.abs(self._tried[key]).max()))
        return np.frombuffer(key).reshape(self._start.shape)

    @property
    def solution(self) -> Solution:
        if self._solution is None:
            self._solution = self._known(self.signal) if self._agent is None else _as_solution(self._agent)
        return self._solution

    def _known(self, signal: float | Floats) -> Solution:
        problem: Problem = self.economy.individual(signal)
        if (known := problem.solution()) is None:
            raise ParameterError(f'{type(problem).__name__} knows no solution: give another solver than "{KNOWN}"')
        return known

    def _fresh_agent(self, signal: float | Floats) -> Any:
        return make_agent(self.solver, env=_env(self.economy.individual(signal)), seed=self.seed, device=self.device)

    def _solve(self, signal: float | Floats) -> Solution:
        """Solve the individual's problem at a signal, or let the agent learn it without its own warnings."""
        if self.solver == KNOWN:
            self._solution = self._known(signal)
            return self._solution
        self._agent = self._fresh_agent(signal)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            self._agent.learn()
        self.evaluations += self._agent.evaluations
        self._solution = _as_solution(self._agent)
        return self._solution

    def _learn(self, budget: int | None, report: Callable[..., bool]) -> None:

        def gap(free: Any) -> Floats:
            free = np.asarray(free, dtype=np.float64).reshape(self._start.shape)
            if (key := free.tobytes()) not in self._tried:
                found = self._gap(free)
                self._tried[key] = found
                size = float(np.abs(found).max())
                if report(len(self._tried) / 20, gap=size):
                    raise _StoppedError
                if size <= self.tolerance / 10 or (budget is not None and self.evaluations >= budget):
                    raise _FoundError
            return self._tried[key]

        try:
            if self._start.ndim:
                root(lambda free: gap(free).ravel(), self._start.ravel(), method="hybr", tol=1e-12)
            else:
                brentq(lambda free: float(gap(free)), *self._bracket(gap), xtol=1e-13, rtol=1e-14)
        except _FoundError:
            pass
        except _StoppedError:
            return
        report(1.0, gap=float(np.abs(self._gap(self._best)).max()))

    def _gap(self, free: Floats) -> Floats:
        """Return the gap at free coordinates, where the individual's problem is solved anew."""
        signal = self._signal_at(free)
        with warnings.catch_warnings():  # of grids that are too short at signals on the way
            warnings.simplefilter("ignore", TruncationWarning)
            law = self.economy.respond(signal, self._solve(signal).policy)
        self.evaluations += len(law.mass)
        return np.asarray(self.economy.gap(signal, law), dtype=np.float64)

    def _bracket(self, gap: Callable[[Floats], Floats]) -> tuple[float, float]:
        """Return two coordinates between which the gap, which rises, changes its sign."""
        here, now = float(self._start), float(gap(self._start))
        step = FIRST if now < 0 else -FIRST
        while abs(step) < FARTHEST:
            there = here + step
            after = float(gap(np.asarray(there)))
            if now * after <= 0:
                return here, there
            here, now, step = there, after, GROWTH * step
        raise EquilibriumError(
            f"no signal was found at which {type(self.economy).__name__} clears: up to {self._free.to(np.array(here))} "
            f"its gap is {now:.2g}"
        )

    def _met(self) -> bool:
        """Tell whether the last gap is within `tolerance`."""
        return self.history[-1]["gap"] <= self.tolerance

    def _tensors(self) -> dict[str, Tensor]:
        tried = [np.append(np.frombuffer(key), gap.ravel()) for key, gap in self._tried.items()]
        rows = np.stack(tried) if tried else np.empty((0, 2 * self._start.size))
        inner = {} if self._agent is None else self._agent._tensors()
        return {
            "tried": torch.tensor(rows),
            **{f"agent.{name}": tensor for name, tensor in inner.items()},
        }

    def _record(self) -> dict[str, Any]:
        return {"agent": None} if self._agent is None else {"agent": self._agent._record()}

    def _restore(self, tensors: dict[str, Tensor], record: dict[str, Any]) -> None:
        shape, size = self._start.shape, self._start.size
        rows = tensors["tried"].cpu().numpy()
        self._tried = {row[:size].tobytes(): row[size:].reshape(shape) for row in rows}
        self._solution = None
        if self._agent is not None:
            self._agent = self._fresh_agent(self.signal)
            own = {name.removeprefix("agent."): found for name, found in tensors.items() if name.startswith("agent.")}
            self._agent._restore(own, record["agent"])


class _FoundError(Exception):
    """Ends a search of SciPy's where the market clears, or the budget is spent."""


class _StoppedError(Exception):
    """Ends a search of SciPy's where the callback asks for it."""


@final
@dataclass(frozen=True)
class _Free:
    """A coordinate without bounds for signals between two bounds: log, logistic or the signal itself."""

    low: Floats
    high: Floats

    @classmethod
    def of(cls, economy: Any) -> _Free:
        low, high = (np.asarray(bound, dtype=np.float64) for bound in economy.signal_bounds)
        return cls(low, high)

    def to(self, free: Floats) -> Floats:
        """Return the signal at a coordinate."""
        low, high = np.isfinite(self.low), np.isfinite(self.high)
        with np.errstate(over="ignore", invalid="ignore"):
            inside = self.low + (self.high - self.low) / (1 + np.exp(-free))
            one_sided = np.where(low, self.low + np.exp(free), np.where(high, self.high - np.exp(-free), free))
            return np.asarray(np.where(low & high, inside, one_sided))

    def back(self, signal: Floats) -> Floats:
        """Return the coordinate of a signal."""
        low, high = np.isfinite(self.low), np.isfinite(self.high)
        with np.errstate(invalid="ignore", divide="ignore"):
            above, below = np.log(signal - self.low), np.log(self.high - signal)
            one_sided = np.where(low, above, np.where(high, -below, signal))
            return np.asarray(np.where(low & high, above - below, one_sided))


def _as_solution(agent: Agent) -> Solution:
    """Return what an agent has learnt of the individual's problem."""
    value = agent.value if "value" in agent.offers else _no_value
    return Solution(value, agent.policy, "numerical", f"learnt by {agent.name}", np.nan)


def _no_value(t: Any, x: Floats) -> Floats:
    return np.zeros(np.shape(x)[:-1])


def _env(problem: Problem) -> Any:
    """Return an environment of a problem: as it is registered, or with steps of one unit of time."""
    for id in registered_ids():
        if problem_class(id) is type(problem):
            return gym.make(id, **problem.parameters)
    return SDEEnv(problem, dt=1.0)
