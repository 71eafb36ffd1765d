"""Suites as data: a TOML file lists problems and agents, and expands into tasks."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from hacontrol_agents.core.files import content_of
from hacontrol_benchmarks.records.tasks import Evaluation, Task, time_step
from hacontrol_benchmarks.records.text import likeness, printable, refuse_unprintable
from hacontrol_envs.core.parameters import number, short
from hacontrol_envs.errors import ParameterError, UnknownNameError, nearest

FOLDER = Path(__file__).parents[1] / "suites"
"""Folder of the suites that come with the package."""
MOST_TASKS = 100_000
"""Largest number of tasks of a suite."""
MOST_BYTES = 1_000_000
"""Largest size of a suite's file. [bytes]."""


class ProblemEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A `[[problem]]` of a suite."""

    env: str
    """Id of the environment, or name of an economy."""
    parameters: dict[str, Any] = {}
    """Keyword arguments of the environment or economy."""
    label: str = ""
    """Name in the report; empty for `env`."""

    def __post_init__(self) -> None:
        refuse_unprintable("env", self.env)
        refuse_unprintable("a label", self.label)

    @property
    def name(self) -> str:
        """Name of the problem in the report."""
        return self.label or self.env


class AgentEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An `[[agent]]` of a suite; `seeds` and `problems` narrow the suite's own."""

    name: str
    """Name of the agent."""
    label: str = ""
    """Name in the report; empty for `name`."""
    hyperparameters: dict[str, Any] = {}
    """Keyword arguments of the agent."""
    total_timesteps: int | None = None
    """Budget in state-action points; None leaves it to `physical_time` or to the agent."""
    physical_time: float | None = None
    """Budget in the problem's unit of time instead, all rows together: the same amount of experience whatever dt is."""
    seeds: list[int] | None = None
    """Seeds of this agent; None for those of the suite."""
    problems: list[str] | None = None
    """Names of the problems that this agent is tried on; None for all."""

    def __post_init__(self) -> None:
        for what, name in (
            ("name", self.name),
            ("a label", self.label),
            *(("problems", one) for one in self.problems or ()),
        ):
            refuse_unprintable(what, name)
        if self.total_timesteps is not None and self.physical_time is not None:
            raise ParameterError(f"agent {self.name!r} is given total_timesteps and physical_time; give one of them")
        for name in ("total_timesteps", "physical_time"):
            if getattr(self, name) is not None:
                number(name, getattr(self, name), above=0)

    def budget(self, problem: ProblemEntry) -> int | None:
        """Return the budget on a problem in state-action points; None leaves it to the agent.

        It is `total_timesteps`, or round(physical_time / dt).

        Raises:
            ParameterError: `physical_time` on a problem without time step, or shorter than half of one.
        """
        if self.physical_time is None:
            return self.total_timesteps
        dt = time_step(problem.env, problem.parameters)
        if dt is None:
            raise ParameterError(
                f"agent {self.name!r} is given physical_time, which {problem.name!r} does not count: it is no "
                "environment with a time step; give total_timesteps"
            )
        steps = round(min(self.physical_time / dt, 1e18))
        if steps < 1:
            raise ParameterError(f"physical_time must hold at least a step of {dt:g}, got {self.physical_time:g}")
        return steps


class Suite(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A benchmark: every agent on every problem with every seed, unless an entry says otherwise."""

    name: str
    """Name of the suite, and of the folder of its results."""
    description: str
    """What the suite compares, for the report."""
    seeds: list[int]
    """Seeds of learning."""
    problem: list[ProblemEntry]
    """The problems."""
    agent: list[AgentEntry]
    """The agents."""
    evaluation: Evaluation = Evaluation()
    """Settings of the judge."""
    threads: int = 1
    """Number of threads of each task; see `Task.threads`."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,99}", self.name):
            raise ParameterError(
                "the name of a suite must be at most 100 letters, digits, spaces, dots, dashes and underscores, as its "
                f"results are kept in a folder of that name; got {short(self.name)}"
            )
        entries = len(self.problem) * sum(len(self.seeds if one.seeds is None else one.seeds) for one in self.agent)
        if entries > MOST_TASKS:
            raise ParameterError(
                f"suite {self.name!r} has {entries} tasks, more than the {MOST_TASKS} that are allowed"
            )

    def tasks(self) -> list[Task]:
        """Return the tasks, in the order of the file's problems, each once.

        Raises:
            ParameterError: an agent is restricted to a problem that the suite lacks, or has a budget that a problem
                cannot count, or two tasks are the same.
        """
        expanded = [
            Task(
                title=problem.name,
                env=problem.env,
                parameters=problem.parameters,
                label=agent.label or agent.name,
                agent=agent.name,
                hyperparameters=agent.hyperparameters,
                seed=seed,
                total_timesteps=agent.budget(problem),
                evaluation=self.evaluation,
                threads=self.threads,
            )
            for problem in self.problem
            for agent in self.agent
            if agent.problems is None or problem.name in agent.problems
            for seed in (self.seeds if agent.seeds is None else agent.seeds)
        ]
        self._refuse_unknown_problems()
        _refuse_alike(f"problems of suite {self.name!r}", (task.title for task in expanded))
        _refuse_alike(f"agents of suite {self.name!r}", (task.label for task in expanded))
        twice = [
            row for row, count in Counter((task.title, task.label, task.seed) for task in expanded).items() if count > 1
        ]
        if twice:
            title, label, seed = twice[0]
            raise ParameterError(
                f"suite {self.name!r} lists agent {label!r} with seed {seed} on {title!r} twice; give each a label"
            )
        return expanded

    def _refuse_unknown_problems(self) -> None:
        known = [problem.name for problem in self.problem]
        for agent in self.agent:
            for name in agent.problems or ():
                if name not in known:
                    raise ParameterError(
                        f"suite {self.name!r} has no problem {name!r} for {agent.name!r}; it has: {', '.join(known)}"
                    )


def _refuse_alike(what: str, names: Iterable[str]) -> None:
    """Raise ParameterError for two different names that print alike."""
    seen: dict[str, str] = {}
    for name in names:
        if (other := seen.setdefault(likeness(name), name)) != name:
            raise ParameterError(f"two {what} are called {other!r} and {name!r}, which print alike: rename one")


def suite_names() -> list[str]:
    """Return the names of the suites that come with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def suite_file(name: str) -> Path:
    """Return the TOML file of a suite by name, or at a path that ends in ".toml".

    Raises:
        UnknownNameError: there is no such suite or file.
    """
    if name in suite_names():
        return FOLDER / f"{name}.toml"
    if name.endswith(".toml") and "\0" not in name and os.path.isfile(name):
        return Path(name)
    hint, known = nearest(name[:100], suite_names()), ", ".join(suite_names())
    raise UnknownNameError(f"no suite is called {short(name)}; {hint}there are: {known}, or give a .toml file")


def load_suite(name: str) -> Suite:
    """Read a suite by name, or from a path that ends in ".toml".

    Raises:
        UnknownNameError: there is no such suite or file.
        ParameterError: the file is not a suite; the message says where.
        CheckpointError: the file cannot be read.
    """
    content = content_of(suite_file(name), "a suite", MOST_BYTES)
    try:
        return msgspec.toml.decode(content, type=Suite)
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as error:
        raise ParameterError(f"{printable(name)!r} is not a suite: {printable(str(error))}") from error
