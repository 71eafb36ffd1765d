"""Learner: base class of everything that learns, with verbs, a learning curve, and files."""

from __future__ import annotations

import abc
import dataclasses
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias, final

import numpy as np
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from typing_extensions import Self

from hacontrol_agents.core import checkpoint as files
from hacontrol_agents.core.hyperparameters import checked, refuse_device
from hacontrol_agents.core.plain import as_lists, as_tuples, shown
from hacontrol_agents.core.registry import find_agent, register_agent
from hacontrol_agents.core.verdicts import failure, first_not_finite, not_a_number, warn_unmet
from hacontrol_envs.core.parameters import refuse_unlisted, short
from hacontrol_envs.errors import CheckpointError, EquilibriumError, LearningError, ParameterError

if TYPE_CHECKING:
    from torch import Tensor

Callback: TypeAlias = "Callable[[Any], bool | None]"
"""Function that `learn` calls with the learner after every iteration; returning False stops learning."""


@dataclass(kw_only=True)
class Learner(abc.ABC):
    """Something that learns, with Stable-Baselines3's verbs, and can be saved to a file.

    A subclass is a dataclass whose fields are its hyperparameters and its subject, what it learns about; it names
    itself in `name` and states `_learn`. What it has learnt is what `_tensors`, `_record` and `_restore` carry to and
    from a file.
    """

    seed: int | None = None
    """Seed of everything random; None draws one."""
    device: str = "cpu"
    """Device on which torch computes, such as "cpu" or "cuda"."""

    name: ClassVar[str]
    """Name of the agent on the command line and on the leaderboard."""
    subject: ClassVar[str]
    """Name of the field that holds the subject of learning: "env", "economy" or "industry"."""
    learns: ClassVar[Any]
    """The class of problems or economies that the agent can learn."""
    default_budget: ClassVar[int | None] = None
    """Budget of `learn` when it is given none; None lets the learner decide when it has learnt."""

    evaluations: int = field(default=0, init=False)
    """State-action points at which the problem's coefficients, or the environment, were evaluated so far."""
    seconds: float = field(default=0.0, init=False)
    """Wall time spent in `learn` so far, in seconds."""
    history: list[dict[str, float]] = field(default_factory=list, init=False)
    """The learning curve: one row for each iteration, with at least "evaluations" and "seconds"."""
    converged: bool | None = field(default=None, init=False)
    """Whether the last row of `history` meets the learner's own stopping rule; None where it has no rule."""
    ending: Literal["", "certified", "not certified", "failed"] = field(default="", init=False)
    """How the last call of `learn` ended; empty before. "certified": the learner's own cheap certificate says that what
    it has learnt is right to its tolerance (`certify` makes the thorough one). "not certified": see `reason`. "failed":
    `learn` raised a LearningError or an EquilibriumError."""
    reason: str = field(default="", init=False)
    """Why the last call of `learn` did not end certified, and what to try."""
    rows_before: int = field(default=0, init=False)
    """Number of rows of `history` from earlier calls of `learn`. Rows of the present call, and of the call that it
    resumed, follow."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "name" in cls.__dict__:
            register_agent(cls)

    def __post_init__(self) -> None:
        if self.seed is None:
            self.seed = int(np.random.SeedSequence().generate_state(1)[0])
        if isinstance(self.seed, bool) or not isinstance(self.seed, (int, np.integer)) or not 0 <= self.seed < 2**63:
            raise ParameterError(f"seed must be a non-negative integer below 2**63, got {short(self.seed)}")
        self.seed = int(self.seed)
        for name, value in checked(type(self), {"device": self.device, **self.hyperparameters}):
            setattr(self, name, value)
        refuse_device(self.device)

    @final
    def learn(
        self,
        total_timesteps: int | None = None,
        callback: Callback | None = None,
        progress_bar: bool = False,
        checkpoint: str | os.PathLike[str] | None = None,
    ) -> Self:
        """Learn, and return self.

        Args:
            total_timesteps: budget in state-action points (see `evaluations`); None takes the agent's own default.
            callback: called with the agent after every iteration; returning False stops.
            progress_bar: show a bar on the terminal.
            checkpoint: a file that is replaced as learning goes on. If it exists, learning goes on from it, and ends
                with the same weights, to the bit, as if it had never been interrupted.

        `ending` says how it ended: certified, not certified for a `reason`, or failed. Where the learner has a rule of
        having learnt, `converged` says whether it was met, and a ConvergenceWarning says that the end is not certified,
        unless the budget was given or the callback stopped.

        Raises:
            ParameterError: a budget that is not a positive integer.
            CheckpointError: the checkpoint is damaged, or is of another agent, problem, seed or hyperparameters.
            LearningError: a figure, a weight, the policy or the value is not finite. The checkpoint, if there is one,
                remains as it was before.
        """
        if total_timesteps is not None and (isinstance(total_timesteps, bool) or int(total_timesteps) < 1):
            raise ParameterError(f"total_timesteps must be a positive integer or None, got {total_timesteps!r}")
        chosen = self.default_budget if total_timesteps is None else int(total_timesteps)
        budget = None if chosen is None else self.evaluations + chosen
        self.rows_before, self.ending, self.reason = len(self.history), "", ""
        if checkpoint is not None and Path(checkpoint).exists():
            self._resume(checkpoint)
        text, status = TextColumn("{task.description}"), TextColumn("{task.fields[status]}")
        columns = (text, BarColumn(), status, TimeElapsedColumn())
        with Progress(*columns, disable=not progress_bar, transient=True) as progress:
            task = progress.add_task(self._title, total=1.0, status="")
            started = time.perf_counter() - self.seconds

            stopped = False

            def report(done: float, **row: float) -> bool:
                """Note one iteration; True asks to stop."""
                nonlocal stopped
                self.seconds = time.perf_counter() - started
                self._refuse_not_finite(row)
                self.history.append({"evaluations": self.evaluations, "seconds": self.seconds, **row})
                status = "  ".join(f"{key} {number:.2e}" for key, number in row.items())
                progress.update(task, completed=min(done, 1.0), status=status)
                self.converged = self._met()
                if checkpoint is not None:
                    self.save(checkpoint)
                stopped = callback is not None and callback(self) is False
                return stopped

            try:
                self._learn(budget, report)
                self.seconds = time.perf_counter() - started
                self._conclude()
            except not_a_number() as error:
                failed = failure(self._title, self._rows, f"{type(error).__name__} ({error})")
                self.ending, self.reason = "failed", str(failed)
                raise failed from error
            except (EquilibriumError, LearningError) as error:
                self.ending, self.reason = "failed", str(error)
                raise
        if self.reason and self.converged is not None and total_timesteps is None and not stopped:
            warn_unmet(self._title, self._rows, self.reason)
        return self

    @abc.abstractmethod
    def _learn(self, budget: int | None, report: Callable[..., bool]) -> None:
        """Learn until `evaluations` reaches the budget; call `report(share done, **diagnostics)` each iteration."""

    def _met(self) -> bool | None:
        """Tell whether the last row of `history` meets the learner's stopping rule; None where it has no rule."""
        return None

    def _conclude(self) -> None:
        """Set how learning ended, once it has reported anything."""
        if self.history:
            self._refuse_not_finite({})
            self.converged = self._met()
            self.reason = self._doubt()
            self.ending = "not certified" if self.reason else "certified"

    def _doubt(self) -> str:
        """Return why what was learnt is not certified, and what to try; empty where the learner certifies it."""
        if self.converged is None:
            return "it has no certificate of its own: certify(agent, env) makes one"
        if not self.converged:
            return "its own rule of having learnt is not met: learn on, or try another seed or a larger network"
        return ""

    def _answers(self) -> dict[str, Any]:
        """Return arrays by name that must be finite: what the learner answers at some states."""
        return {}

    def _refuse_not_finite(self, row: dict[str, float]) -> None:
        """Raise LearningError where a diagnostic of an iteration, a tensor or an answer is not finite."""
        for what in (lambda: row, self._tensors, self._answers):
            name = first_not_finite(what())
            if name is not None:
                raise failure(self._title, self._rows, name)

    @property
    def _rows(self) -> list[dict[str, float]]:
        """Rows of `history` of the present call of `learn`."""
        return self.history[self.rows_before :]

    @property
    def _title(self) -> str:
        """The learner and its subject, in words."""
        return f"{self.name} on {self._subject()[0]}"

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """Every field that the constructor takes, by name, apart from the subject, the seed and the device."""
        return {name: getattr(self, name) for name in self.hyperparameter_names()}

    @classmethod
    def hyperparameter_names(cls) -> list[str]:
        """Return the names of the hyperparameters."""
        others = (*cls.about(None), "seed", "device")
        return [f.name for f in dataclasses.fields(cls) if f.init and f.name not in others]

    @classmethod
    def about(cls, subject: Any) -> dict[str, Any]:
        """Return the constructor's arguments that make `subject` the subject of learning."""
        return {cls.subject: subject}

    @classmethod
    def learns_about(cls, kind: type) -> bool:
        """Tell whether the agent can learn problems or economies of the class `kind`."""
        return issubclass(kind, cls.learns)

    @final
    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write everything to one file, atomically (see `hacontrol_agents.core.checkpoint`).

        Raises:
            LearningError: something that was learnt is not finite. No file is written or replaced.
        """
        record = {
            **self._identity(),
            "env": self._setting(),
            "evaluations": self.evaluations,
            "seconds": self.seconds,
            "history": self.history,
            "converged": self.converged,
            "ending": [self.ending, self.reason],
            "state": self._record(),
        }
        tensors = self._tensors()
        name = first_not_finite(tensors) or first_not_finite({"history": self.history, "state": record["state"]})
        if name is not None:
            raise LearningError(f"{self.name} is not saved, since what it has learnt is not finite: {name}")
        return files.write(path, tensors, record)

    @final
    @classmethod
    def load(cls, path: str | os.PathLike[str], env: Any = None, device: str = "cpu", *, economy: Any = None) -> Self:
        """Return the agent that a file holds.

        Args:
            path: a file that `save` wrote.
            env: an environment of the same problem; None for the one that the agent was saved with.
            device: where torch computes.
            economy: the same economy; None for the one that the agent was saved with.

        Raises:
            CheckpointError: the file is damaged, holds an agent of another class or problem, or names an economy that
                is not known here and must be given.
            ParameterError: both an environment and an economy are given.
        """
        if env is not None and economy is not None:
            raise ParameterError("give load one of env and economy, not both")
        tensors, record = files.read_agent(path)
        kind = find_agent(record["agent"])
        if not issubclass(kind, cls):
            raise CheckpointError(f"{os.fspath(path)!r} holds a {kind.__name__}, not a {cls.__name__}")
        refuse_unlisted(record["agent"], kind.hyperparameter_names(), record["hyperparameters"])
        given = economy if env is None else env
        about = kind.about(kind._rebuild(record) if given is None else given)
        agent = kind(**about, seed=record["seed"], device=device, **as_tuples(record["hyperparameters"]))
        agent._refuse_other(record, path)
        agent._adopt(tensors, record, path)
        return agent

    def _identity(self) -> dict[str, Any]:
        name, parameters = self._subject()
        return {
            "agent": self.name,
            "problem": name,
            "parameters": parameters,
            "hyperparameters": self.hyperparameters,
            "seed": self.seed,
        }

    @abc.abstractmethod
    def _subject(self) -> tuple[str, dict[str, Any]]:
        """Return the name of the subject's class, and its parameters, which together rebuild it."""

    @classmethod
    @abc.abstractmethod
    def _rebuild(cls, record: dict[str, Any]) -> Any:
        """Return the subject that a record names. A file cannot name code to run."""

    def _setting(self) -> dict[str, Any]:
        """Return the environment's settings (such as dt, scheme, episode_steps). Resuming requires the same settings;
        loading does not."""
        return {}

    def _refuse_other(self, record: dict[str, Any], path: str | os.PathLike[str]) -> None:
        for key, own in self._identity().items():
            if as_lists(own) != record[key]:
                raise CheckpointError(
                    f"{os.fspath(path)!r} was saved with {key} = {shown(record[key])}, not {shown(own)}"
                )

    def _resume(self, path: str | os.PathLike[str]) -> None:
        tensors, record = files.read_agent(path)
        self._refuse_other(record, path)
        if record["env"] != as_lists(self._setting()):
            raise CheckpointError(
                f"{os.fspath(path)!r} was learnt with {shown(record['env'])}, not {self._setting()}: to go on, "
                "make the environment as it was"
            )
        self._adopt(tensors, record, path)

    def _adopt(self, tensors: dict[str, Tensor], record: dict[str, Any], path: str | os.PathLike[str]) -> None:
        """Take over a file's tensors and record, once they have the form that this agent itself would write."""
        files.refuse_unlike(path, self._tensors(), tensors, self._record(), record["state"])
        self.evaluations, self.seconds, self.history = record["evaluations"], record["seconds"], record["history"]
        self.converged = record.get("converged")
        self.ending, self.reason = record.get("ending", ("", ""))
        try:
            self._restore({name: tensor.to(self.device) for name, tensor in tensors.items()}, record["state"])
        except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise CheckpointError(f"{os.fspath(path)!r} is not a whole {self.name}: {shown(error)}") from error

    def _tensors(self) -> dict[str, Tensor]:
        """Return what was learnt as tensors by name."""
        return {}

    def _record(self) -> dict[str, Any]:
        """Return what was learnt and is no tensor, as JSON can hold it."""
        return {}

    def _restore(self, tensors: dict[str, Tensor], record: dict[str, Any]) -> None:  # noqa: B027  (for those that learn nothing)
        """Take over what `_tensors` and `_record` returned."""
