"""Task: everything that decides one row of the leaderboard, and nothing else."""

from __future__ import annotations

import hashlib
import importlib
import re
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import msgspec

import hacontrol_envs
from hacontrol_agents import find_agent
from hacontrol_agents.core.plain import as_tuples, refuse_unplain, shown
from hacontrol_agents.core.subjects import make_subject
from hacontrol_benchmarks.records.text import refuse_unprintable
from hacontrol_envs.core.parameters import count, number, refuse_unknown, short
from hacontrol_envs.errors import HacontrolError, ParameterError, UnknownNameError
from hacontrol_envs.renamed import warn

if TYPE_CHECKING:
    from hacontrol_agents import Learner

MOST = 1_000_000
"""Largest number of paths, points or steps of an evaluation."""
MOST_THREADS = 256
"""Largest number of threads of a task."""
READABLE = 200
"""Most characters of an id before its hash: files are called by ids, and systems allow 255."""


class Evaluation(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings of the judge: numbers of paths, points and steps, and its seed."""

    paths: int = 128
    """Number of trajectories over which the regret is averaged, four from each initial state."""
    points: int = 4096
    """Number of states visited by the optimum, and in the box, at which policy, value and residual are compared."""
    max_steps: int = 5000
    """Largest number of steps of a trajectory."""
    seed: int = 20_250
    """Seed of the judge, the same for all agents: they face the same initial states and the same noise."""
    certify: bool | None = None
    """Whether to bound what policies lose by certificates, which take 3 to 50 seconds each; None where no optimum is
    known."""

    def __post_init__(self) -> None:
        for name in ("paths", "points", "max_steps"):
            count(name, getattr(self, name), at_least=4, at_most=MOST)
        count("seed", self.seed, at_least=0, at_most=2**63 - 1)


class _Renaming(msgspec.StructMeta):
    """Metaclass of `Task`, by which `Task(problem=...)` still works, and warns."""

    def __call__(self, *args: Any, **fields: Any) -> Any:
        if "problem" in fields and "title" not in fields:
            warn("Task(problem=...)", "Task(title=...)")
            fields["title"] = fields.pop("problem")
        return super().__call__(*args, **fields)


class Task(
    msgspec.Struct,
    metaclass=_Renaming,
    frozen=True,
    forbid_unknown_fields=True,
    kw_only=True,
    rename={"title": "problem"},
):
    """One agent, one environment, one seed, one budget.

    In files `title` is "problem", as in those of version 0.1: ids are made from it.
    """

    title: str
    """Name in the report of the environment with these parameters."""
    env: str
    """Id of the environment, as `gym.make` takes it, or name of an economy; "module:name" of one that is not ours."""
    parameters: dict[str, Any] = {}
    """Keyword arguments of the environment: of the problem, and `dt`, `scheme`; or of the economy."""
    label: str
    """Name in the report of the agent with these hyperparameters."""
    agent: str
    """Name of the agent, or "module:Class" of one that is not ours."""
    hyperparameters: dict[str, Any] = {}
    """Keyword arguments of the agent, apart from the environment and the seed."""
    seed: int = 0
    """Seed of learning."""
    total_timesteps: int | None = None
    """Budget in state-action points; None leaves it to the agent."""
    evaluation: Evaluation = Evaluation()
    """Settings of the judge."""
    threads: int = 1
    """Number of threads of torch and of linear algebra. Rounding of sums, and so results, depend on it."""

    def __post_init__(self) -> None:
        refuse_unprintable("a title", self.title)
        refuse_unprintable("a label", self.label)
        count("seed", self.seed, at_least=0, at_most=2**63 - 1)
        count("threads", self.threads, at_most=MOST_THREADS)
        if self.total_timesteps is not None:
            count("total_timesteps", self.total_timesteps, at_most=10**15)
        refuse_unplain("parameters", self.parameters)
        refuse_unplain("hyperparameters", self.hyperparameters)

    @property
    def problem(self) -> str:
        """The title; deprecated."""
        warn("Task.problem", "Task.title")
        return self.title

    @property
    def id(self) -> str:
        """A readable name and a hash of the whole content: the same task has the same id everywhere.

        `threads` is left out of the content where it is 1, and `certify` where it is None, as before there were any.
        """
        content = re.sub(
            rb',"certify":null(},"threads":\d+}\Z)', rb"\1", msgspec.json.encode(self, order="deterministic")
        )
        content = re.sub(rb',"threads":1}\Z', b"}", content)
        digest = hashlib.sha256(content).hexdigest()
        readable = re.sub(r"[^A-Za-z0-9.]+", "-", f"{self.title} {self.label} {self.seed}")
        return f"{readable[-READABLE:]}-{digest[:12]}"

    def make_env(self) -> Any:
        """Make the environment, or the economy; one that is not ours is imported, which runs its module's code.

        Raises:
            UnknownNameError, ParameterError: there is none of this id, or it does not take these parameters.
        """
        module, separator, name = self.env.rpartition(":")
        if separator:
            try:
                importlib.import_module(module)
            except (ImportError, ValueError, TypeError) as error:
                raise UnknownNameError(f"no module is found at {short(self.env)}: {shown(error)}") from error
        return make_subject(name, self.parameters)

    @property
    def subject(self) -> str:
        """Id or name of the environment or economy, without the module that registers it."""
        return self.env.rpartition(":")[2]

    def make_agent(self, env: Any) -> Learner:
        """Make the agent, before learning, on an environment or an economy.

        Raises:
            UnknownNameError, ParameterError: there is none of this name, or it has no such hyperparameter.
        """
        kind, arguments = agent_class(self.agent), as_tuples(self.hyperparameters)
        refuse_unknown(self.agent, kind, arguments)
        for name in ("self", *about(kind, None), "seed"):
            if name in arguments:
                raise ParameterError(f"{name!r} is not a hyperparameter of {self.agent!r}: the task says it")
        try:
            agent: Learner = kind(**about(kind, env), seed=self.seed, **arguments)
        except HacontrolError:
            raise
        except (ArithmeticError, MemoryError) as error:
            raise ParameterError(
                f"{self.agent!r} has a hyperparameter too large or too small to compute with: {shown(error)}"
            ) from error
        return agent


def time_step(env: str, parameters: dict[str, Any]) -> float | None:
    """Return dt of an environment, as given or as registered; None for what is no environment of ours.

    Raises:
        ParameterError: the parameters' dt is not a positive number.
    """
    name = env.rpartition(":")[2]
    if name not in hacontrol_envs.registered_ids():
        return None
    return number("dt", parameters.get("dt", gym.spec(name).kwargs["dt"]), above=0)


def about(kind: Any, subject: Any) -> dict[str, Any]:
    """Return the arguments by which a class of agents is told what it learns about: `env`, where it says nothing."""
    arguments: dict[str, Any] = kind.about(subject) if hasattr(kind, "about") else {"env": subject}
    return arguments


def agent_class(name: str) -> Any:
    """Return the agent called `name`, or the class at "module:Class", whose import runs the module's code.

    Raises:
        UnknownNameError: there is none.
    """
    module, separator, attribute = name.partition(":")
    if not separator:
        return find_agent(name)
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise UnknownNameError(f"no agent class is found at {short(name)}: {shown(error)}") from error
    if not isinstance(found, type):
        raise UnknownNameError(f"no agent class is found at {short(name)}: it is a {type(found).__name__}")
    return found
