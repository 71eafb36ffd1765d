"""Suites as data: a TOML file lists problems and agents, and expands into tasks."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import msgspec

from hacontrol_benchmarks.tasks import Evaluation, Task, time_step
from hacontrol_envs.errors import ParameterError, UnknownNameError, nearest
from hacontrol_envs.parameters import number

FOLDER = Path(__file__).parent / "suites"


class ProblemEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A `[[problem]]` of a suite."""

    env: str
    parameters: dict[str, Any] = {}
    label: str = ""

    @property
    def name(self) -> str:
        """What the report calls it."""
        return self.label or self.env


class AgentEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An `[[agent]]` of a suite; `seeds` and `problems` narrow the suite's own."""

    name: str
    label: str = ""
    hyperparameters: dict[str, Any] = {}
    total_timesteps: int | None = None
    """Budget in state-action points."""
    physical_time: float | None = None
    """Budget in the problem's unit of time instead, all rows together: as much experience whatever dt is."""
    seeds: list[int] | None = None
    problems: list[str] | None = None

    def __post_init__(self) -> None:
        if self.total_timesteps is not None and self.physical_time is not None:
            raise ParameterError(f"agent {self.name!r} is given total_timesteps and physical_time; give one of them")
        for name in ("total_timesteps", "physical_time"):
            if getattr(self, name) is not None:
                number(name, getattr(self, name), above=0)

    def budget(self, problem: ProblemEntry) -> int | None:
        """State-action points on this problem: `total_timesteps`, or round(physical_time / dt); None leaves it to the
        agent.

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
        steps = round(self.physical_time / dt)
        if steps < 1:
            raise ParameterError(f"physical_time must hold at least a step of {dt:g}, got {self.physical_time:g}")
        return steps


class Suite(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A benchmark: every agent on every problem with every seed, unless an entry says otherwise."""

    name: str
    description: str
    seeds: list[int]
    problem: list[ProblemEntry]
    agent: list[AgentEntry]
    evaluation: Evaluation = Evaluation()

    def tasks(self) -> list[Task]:
        """The tasks, cheap problems first as the file lists them, each once.

        Raises:
            ParameterError: an agent is restricted to a problem that the suite lacks, or has a budget that a problem
                cannot count, or two tasks are the same.
        """
        expanded = [
            Task(
                problem=problem.name,
                env=problem.env,
                parameters=problem.parameters,
                label=agent.label or agent.name,
                agent=agent.name,
                hyperparameters=agent.hyperparameters,
                seed=seed,
                total_timesteps=agent.budget(problem),
                evaluation=self.evaluation,
            )
            for problem in self.problem
            for agent in self.agent
            if agent.problems is None or problem.name in agent.problems
            for seed in (self.seeds if agent.seeds is None else agent.seeds)
        ]
        self._refuse_unknown_problems()
        twice = [
            row
            for row, count in Counter((task.problem, task.label, task.seed) for task in expanded).items()
            if count > 1
        ]
        if twice:
            problem, label, seed = twice[0]
            raise ParameterError(
                f"suite {self.name!r} lists agent {label!r} with seed {seed} on {problem!r} twice; give each a label"
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


def suite_names() -> list[str]:
    """Names of the suites that come with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def suite_file(name: str) -> Path:
    """The TOML file of a suite by name, or at a path that ends in ".toml".

    Raises:
        UnknownNameError: there is no such suite or file.
    """
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    if not path.is_file():
        hint, known = nearest(name, suite_names()), ", ".join(suite_names())
        raise UnknownNameError(f"no suite is called {name!r}; {hint}there are: {known}, or give a .toml file")
    return path


def load_suite(name: str) -> Suite:
    """A suite by name, or from a path that ends in ".toml".

    Raises:
        UnknownNameError: there is no such suite or file.
        ParameterError: the file is not a suite; the message says where.
    """
    try:
        return msgspec.toml.decode(suite_file(name).read_bytes(), type=Suite)
    except (msgspec.MsgspecError, ValueError) as error:
        raise ParameterError(f"{name!r} is not a suite: {error}") from error
