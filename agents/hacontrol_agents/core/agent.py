"""Agent: base class of what learns, or knows, a policy for an environment."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from hacontrol_agents.core.learner import Learner
from hacontrol_agents.core.offers import OFFERED
from hacontrol_agents.core.subjects import make_saved_env
from hacontrol_agents.core.verdicts import SEEN
from hacontrol_agents.core.wrappers import episode_steps, refuse_changing
from hacontrol_envs import Jet, Problem
from hacontrol_envs.arrays import Array, Floats
from hacontrol_envs.errors import LearningError, ParameterError
from hacontrol_envs.simulation.env import SDEVectorEnv


@dataclass(kw_only=True)
class Agent(Learner):
    """Learns a policy for an environment whose problem is known.

    A subclass states `policy`, and `value`, `jet` and `rate` where it learns them.
    """

    env: Any
    """A Gymnasium environment, single or vector, whose `unwrapped` has a `problem` (any of hacontrol_envs). Wrappers
    that change observations, actions or rewards are refused; other wrappers are ignored."""

    subject: ClassVar[str] = "env"
    learns: ClassVar[Any] = Problem
    """The class of problems that the agent can learn."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._refuse_subject()

    def _refuse_subject(self) -> None:
        """Raise ParameterError for an environment that the agent cannot learn from."""
        problem = getattr(getattr(self.env, "unwrapped", None), "problem", None)
        if not isinstance(problem, Problem):
            raise ParameterError(f'env must be an hacontrol environment, such as gym.make("LQR-v0"); got {self.env!r}')
        if not isinstance(problem, self.learns):
            raise ParameterError(f"{self.name} learns a {self.learns.__name__}, which {type(problem).__name__} is not")
        refuse_changing(self.env)
        if self.env.unwrapped.finite and episode_steps(self.env) < self.env.unwrapped.episode_steps:
            raise ParameterError(
                "env has a TimeLimit below the finite horizon of its problem, which agents learn to the end: leave "
                "the wrapper out, or change the horizon"
            )

    @property
    def problem(self) -> Problem:
        """The problem behind the environment."""
        problem: Problem = self.env.unwrapped.problem
        return problem

    @abc.abstractmethod
    def policy(self, t: Array, x: Floats) -> Floats:
        """Return the physical action (..., m) at times t and observed states x (..., n), both in physical units."""

    def value(self, t: Array, x: Floats) -> Floats:
        """Return the learnt value (...) at times t and observed states x (..., n), both in physical units."""
        raise NotImplementedError(f"{type(self).__name__} learns no value function")

    def jet(self, t: Array, x: Floats) -> Jet:
        """Return the learnt value and its derivatives at times t and observed states x (..., n)."""
        raise NotImplementedError(f"{type(self).__name__} learns no value function")

    def rate(self, t: Array, x: Floats, a: Floats) -> Floats:
        """Return the learnt q = r + L^a V - rho V, (...), per unit of time.

        Args:
            t: times, with the leading axes of x or a single number.
            x: observed states in physical units, (..., n).
            a: physical actions, (..., m).
        """
        raise NotImplementedError(f"{type(self).__name__} learns no rate of advantage")

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[Floats, Any]:
        """Return the action in the environment's box for one observation or a batch of them, as SB3's `predict` does.

        Args:
            observation: one observation of the environment, or a batch with a leading axis.
            state: returned unchanged; there for SB3's signature.
            episode_start, deterministic: ignored; there for SB3's signature.

        Raises:
            LearningError: the action is not finite.
        """
        env = self.env.unwrapped
        t, x = env.from_observation(np.asarray(observation))
        action = env.from_physical(np.asarray(self.policy(t, x)))
        if not np.isfinite(action).all():
            raise LearningError(f"{type(self).__name__} plays an action that is not finite at {observation!r}")
        return np.clip(action, -1.0, 1.0).astype(np.float32), state

    @property
    def offers(self) -> frozenset[str]:
        """The names among `value`, `jet` and `rate` that the agent's class defines."""
        return frozenset(name for name in OFFERED if getattr(type(self), name) is not getattr(Agent, name))

    def _answers(self) -> dict[str, Any]:
        rng = np.random.default_rng(0)
        x = self._seen(rng)
        t = rng.uniform(0.0, self.problem.horizon or 0.0, SEEN)
        return {"policy": self.policy(t, x), **({"value": self.value(t, x)} if "value" in self.offers else {})}

    def _seen(self, rng: np.random.Generator) -> Floats:
        """Return observations of `SEEN` states, (SEEN, n), at which answers must be finite."""
        found: Floats = self.problem.observe(self.problem.some_states(rng, SEEN))
        return found

    def _vector_env(self, num_envs: int) -> SDEVectorEnv:
        """Return a vector environment to learn from, whose rows reset in the step that ends their episode."""
        return SDEVectorEnv(self.problem, num_envs, autoreset_mode="SameStep", **self._setting())

    def _subject(self) -> tuple[str, dict[str, Any]]:
        return type(self.problem).__name__, self.problem.parameters

    def _setting(self) -> dict[str, Any]:
        env = self.env.unwrapped
        return {"dt": env.dt, "scheme": env.scheme, "episode_steps": episode_steps(self.env)}

    @classmethod
    def _rebuild(cls, record: dict[str, Any]) -> Any:
        """Return the environment that a record names; only registered problems are built."""
        return make_saved_env(record)
