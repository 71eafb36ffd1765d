"""Task: everything that decides one row of the leaderboard, and nothing else."""

from __future__ import annotations

import hashlib
import importlib
import re
from typing import Any

import gymnasium as gym
import msgspec

import hacontrol_envs
from hacontrol_agents import Learner, find_agent
from hacontrol_agents.agent import as_tuples
from hacontrol_envs.errors import UnknownNameError, nearest
from hacontrol_envs.parameters import number, refuse_unknown


class Evaluation(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How carefully an agent is judged."""

    paths: int = 128
    """Trajectories over which the regret is averaged, four from each initial state."""
    points: int = 4096
    """States on the optimal law, and as many in the box, at which policy, value and residual are compared."""
    max_steps: int = 5000
    """A trajectory is followed at most this many steps."""
    seed: int = 20_250
    """Seed of the judge, the same for all agents: they face the same initial states and the same noise."""

    def __post_init__(self) -> None:
        for name in ("paths", "points", "max_steps"):
            if getattr(self, name) < 4:
                raise ValueError(f"{name} must be at least 4, got {getattr(self, name)}")


class Task(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One agent, one environment, one seed, one budget."""

    problem: str
    """What the report calls the environment with these parameters."""
    env: str
    """Id of the environment, as `gym.make` takes it, or name of an economy."""
    parameters: dict[str, Any] = {}
    """Its keyword arguments: of the problem, and `dt`, `scheme`; or of the economy."""
    label: str
    """What the report calls the agent with these hyperparameters."""
    agent: str
    """Name of the agent, or "module:Class" of one that is not ours."""
    hyperparameters: dict[str, Any] = {}
    """Its keyword arguments, apart from the environment and the seed."""
    seed: int = 0
    """Seed of learning."""
    total_timesteps: int | None = None
    """Budget in state-action points; None leaves it to the agent."""
    evaluation: Evaluation = Evaluation()
    """How it is judged."""

    @property
    def id(self) -> str:
        """A readable name and a hash of the whole content: the same task has the same id everywhere."""
        digest = hashlib.sha256(msgspec.json.encode(self, order="deterministic")).hexdigest()
        readable = re.sub(r"[^A-Za-z0-9.]+", "-", f"{self.problem} {self.label} {self.seed}")
        return f"{readable}-{digest[:12]}"

    def make_env(self) -> Any:
        """The environment, or the economy.

        Raises:
            UnknownNameError, ParameterError: there is none of this id, or it does not take these parameters.
        """
        economies = hacontrol_envs.economies()
        if self.env in economies:
            return economies[self.env](**self.parameters)
        if self.env not in hacontrol_envs.registered_ids():
            known = [*hacontrol_envs.registered_ids(), *economies]
            hint = nearest(self.env, known)
            raise UnknownNameError(f"no environment is called {self.env!r}; {hint}there are: {', '.join(known)}")
        env: gym.Env[Any, Any] = gym.make(self.env, **self.parameters)
        return env

    def make_agent(self, env: Any) -> Learner:
        """The agent, before learning, on an environment or an economy.

        Raises:
            UnknownNameError, ParameterError: there is none of this name, or it has no such hyperparameter.
        """
        kind, arguments = agent_class(self.agent), as_tuples(self.hyperparameters)
        refuse_unknown(self.agent, kind, arguments)
        agent: Learner = kind(**{getattr(kind, "subject", "env"): env}, seed=self.seed, **arguments)
        return agent


def time_step(env: str, parameters: dict[str, Any]) -> float | None:
    """dt of an environment, as its parameters say or as it is registered; None for all that is no environment of ours.

    Raises:
        ParameterError: the parameters' dt is not a positive number.
    """
    if env not in hacontrol_envs.registered_ids():
        return None
    return number("dt", parameters.get("dt", gym.spec(env).kwargs["dt"]), above=0)


def agent_class(name: str) -> Any:
    """The agent called `name`, or the class at "module:Class".

    Raises:
        UnknownNameError: there is none.
    """
    module, separator, attribute = name.partition(":")
    if not separator:
        return find_agent(name)
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UnknownNameError(f"no agent class is found at {name!r}: {error}") from error
