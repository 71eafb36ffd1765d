"""EconomyLearner: base class of agents that find the equilibrium of an economy."""

from __future__ import annotations

import abc
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from hacontrol_agents.core.learner import Learner
from hacontrol_agents.core.plain import shown
from hacontrol_agents.core.subjects import make_subject
from hacontrol_envs import CrossSection, Economy, Equilibrium, Solution, registered_economies
from hacontrol_envs.arrays import Floats
from hacontrol_envs.core.figures import filled
from hacontrol_envs.errors import CheckpointError, ParameterError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SEEN = 64
"""Number of states at which answers must be finite."""


@dataclass(kw_only=True)
class EconomyLearner(Learner):
    """Learns the equilibrium of an economy: a signal, what is optimal at it, and the law that confirms it.

    It knows the individual's problem and how decision makers make the signal (see `Economy`), never the equilibrium. A
    subclass states `_learn`, `signal` and `solution`.
    """

    economy: Any = field(kw_only=False)
    """The economy whose equilibrium is to be found."""

    subject: ClassVar[str] = "economy"
    learns: ClassVar[Any] = Economy
    """The class of economies that the agent can learn."""

    def __post_init__(self) -> None:
        super().__post_init__()
        given = getattr(self, self.subject)
        if not isinstance(given, self.learns):
            raise ParameterError(f"{self.subject} must be a {self.learns.__name__}, got {given!r}")

    @property
    @abc.abstractmethod
    def signal(self) -> float | Floats:
        """The signal that decision makers take as given, as learnt so far: a number or an array."""

    @property
    @abc.abstractmethod
    def solution(self) -> Solution:
        """Value and policy of the individual's problem at the learnt signal; their error is not known."""

    @property
    def cross_section(self) -> CrossSection:
        """The law of decision makers who follow the learnt policy at the learnt signal."""
        found: CrossSection = self.economy.respond(self.signal, self.solution.policy)
        return found

    def plot(self, truth: Equilibrium | None = None) -> Figure:
        """Draw each component of the policy under the law, and the gap over iterations; with `truth`, the true ones
        dashed.

        Raises:
            ParameterError: matplotlib is not installed.
        """
        law, problem = (self if truth is None else truth).cross_section, self.economy.individual(self.signal)
        names = problem.action.names
        figure, grid = filled(len(names) + 1)
        order = np.argsort(law.x[:, 0], kind="stable")
        seen = order[law.mass[order] > 0]
        for j, (axes, action) in enumerate(zip(grid, names, strict=False)):
            for solution, style in ((self.solution, "C0."), (getattr(truth, "solution", None), "kx")):
                if solution is not None:
                    axes.plot(law.x[seen, 0], np.asarray(solution.policy(0.0, law.x[seen]))[:, j], style, markersize=2)
            axes.set(xlabel=problem.state.names[0], ylabel=action, title="policy under the law (true: black)")
        gaps = [abs(row["gap"]) for row in self.history if row.get("gap")]
        grid[-1].semilogy(range(1, len(gaps) + 1), gaps, "o-", color="C0")
        grid[-1].set(xlabel="signals tried", ylabel="|gap|", title="clearing")
        return figure

    def _answers(self) -> dict[str, Any]:
        problem = self.economy.individual(self.signal)
        x = problem.initial_state(np.random.default_rng(0), SEEN)
        return {
            "signal": np.asarray(self.signal),
            "value": self.solution.value(0.0, x),
            "policy": self.solution.policy(0.0, x),
        }

    def _subject(self) -> tuple[str, dict[str, Any]]:
        return type(self.economy).__name__, self.economy.parameters

    @classmethod
    def _rebuild(cls, record: dict[str, Any]) -> Any:
        """Return the economy that a record names; only registered ones are built."""
        if record["env"]:
            raise CheckpointError(f"a {cls.__name__} is learnt without an environment, not with {shown(record['env'])}")
        for name, kind in registered_economies().items():
            if kind.__name__ == record["problem"] and issubclass(kind, cls.learns):
                return make_subject(name, record["parameters"])
        raise CheckpointError(
            f"a {cls.__name__} is about a {cls.learns.__name__}, and no registered one is called "
            f"{shown(record['problem'])}; pass env= to load"
        )
