"""DEQN: deep equilibrium nets, which learn a saving rule from equilibrium conditions on economies that follow it."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, ClassVar, Literal, final, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from hacontrol_agents.core.agent import Agent
from hacontrol_agents.core.plain import refuse_unplain
from hacontrol_agents.core.subjects import make_saved_economy
from hacontrol_agents.core.verdicts import SEEN
from hacontrol_agents.euler.correction import POINTS, corrected, doubt
from hacontrol_agents.euler.euler_residual import Batch, Complementarity, EulerResidual
from hacontrol_agents.euler.saving_rule import Frame, LawInput, SavingRule
from hacontrol_agents.euler.training_economies import TrainingEconomies, TrainingPopulations, TrainingSavers
from hacontrol_agents.learning.adam import Adam
from hacontrol_agents.learning.optimizers import LevenbergMarquardt, StepReport
from hacontrol_envs import DiscreteProblem, EulerConditions, Problem
from hacontrol_envs.arrays import Array, Floats
from hacontrol_envs.core.conditions import PopulationConditions
from hacontrol_envs.core.parameters import count, number, one_of
from hacontrol_envs.errors import ParameterError

Optimizer = Literal["levenberg-marquardt", "adam"]

ROWS = 32_768
"""Most points at which the rule is evaluated at a time."""
ADAM_STEPS = 10
"""Steps of Adam that are taken in place of one of least squares."""


@final
@dataclass(kw_only=True)
class DEQN(Agent):
    """Learn the saving rule of a discrete-time economy from its Euler equation, on economies that follow it.

    Azinovic, Gaegauf and Scheidegger (2022). An economy, or the problem behind an environment, declares what the
    equation needs (`EulerConditions`); the rule is a network's correction to a simpler one (`SavingRule`), the
    equation's residual is in logs of consumption (`EulerResidual`). Each iteration draws points from its
    training economies, takes a few steps on the sum of squares at them, and lets the economies follow the rule for a
    few periods.
    Those steps are Levenberg and Marquardt's on a small float64 network: second order takes seconds where Adam does not
    arrive.

    A rule that starts from nothing, or is learnt badly, can lead its economies to where there is no capital, or more
    and more, and meet the conditions there: economies like that are refused.
    """

    economy: Any = field(default=None, kw_only=False)
    """The economy to learn: anything whose `conditions()` are `EulerConditions`, such as `KrusellSmith("ssj")`; None
    where `env` is given."""
    env: Any = None
    """An environment whose problem has such conditions, in which `predict` plays; None where `economy` is given."""

    hidden: tuple[int, ...] = (24, 24)
    """Widths of the network's hidden layers."""
    law_input: LawInput = "moments"
    """Moments of the law that the network sees: "moments" for the mean only; "learned moments" or "histogram" for
    more."""
    moments: int = 1
    """Number of learned moments, where `law_input` is "learned moments"."""
    complementarity: Complementarity = "minimum"
    """Function that joins the Euler equation and the limit in the residual: "minimum" or "fischer-burmeister"."""
    full_gradient: bool = True
    """Differentiate the residual through next period's states; False, as published elsewhere, does not."""
    warm_start: bool = True
    """Start from the solution of a simpler economy (the steady state's), where it is known; otherwise from a rule of
    thumb and populations of a simple form."""
    optimizer: Optimizer = "levenberg-marquardt"
    """Method of minimisation: "levenberg-marquardt" (least squares), or "adam", which takes ten times as many steps and
    uses the gradient only."""
    learning_rate: float = 1e-3
    """Learning rate of "adam" at first; it falls to a hundredth over `iterations`."""
    economies: int = 64
    """Number of training economies."""
    points: int = 2048
    """Points of one iteration, over all economies."""
    steps: int = 4
    """Steps of the optimizer in an iteration."""
    moves: int = 4
    """Periods that the economies move on in an iteration, from the first in which the residual is below `settled`."""
    settled: float = 3e-3
    """Root mean square of the residual below which the economies move on and the rule counts as learnt."""
    iterations: int = 40
    """Iterations when `learn` is given no budget."""

    name: ClassVar[str] = "deqn"
    learns: ClassVar[Any] = DiscreteProblem

    def __post_init__(self) -> None:
        super().__post_init__()
        self._refuse_bad_hyperparameters()
        about = self._learnt_about
        conditions = about.conditions()
        if not isinstance(conditions, EulerConditions):
            raise ParameterError(f"{type(about).__name__} declares no Euler conditions to learn from")
        self.conditions = conditions
        if self.law_input != "moments" and not isinstance(conditions, PopulationConditions):
            raise ParameterError(f"law_input={self.law_input!r} needs an economy with a population")
        near = conditions.near_consumption() if self.warm_start else None
        rng = np.random.default_rng([self.seed or 0, 2**31])
        self._training: TrainingEconomies
        if isinstance(conditions, PopulationConditions):
            self._training = TrainingPopulations(conditions, rng, self.economies, near is not None)
        else:
            self._training = TrainingSavers(conditions, rng, self.economies)
        first = self._batch(rng)
        x = torch.cat([part.reshape(-1, part.shape[-1]) for part in (first.x, first.cells)])
        known = conditions.simple_consumption if near is None else near
        self._rule = SavingRule(conditions, known, self.hidden, self.law_input, self.moments, self.seed or 0, x)
        self._rule.see(first.mass, first.cells[..., 0])
        self._residual = EulerResidual(self._rule, self.complementarity, self.full_gradient)
        self._least_squares, self._adam = LevenbergMarquardt(self._rule), Adam(self._rule.parameters())
        self._iteration, self._moving = 0, False

    @classmethod
    def learns_about(cls, kind: type) -> bool:
        """Tell whether problems or economies of this class may declare Euler conditions."""
        return super().learns_about(kind) or callable(getattr(kind, "conditions", None))

    def _refuse_subject(self) -> None:
        if (self.env is None) == (self.economy is None):
            raise ParameterError("give exactly one of economy and env")
        if self.env is not None:
            super()._refuse_subject()
        elif not callable(getattr(self.economy, "conditions", None)):
            raise ParameterError(
                f"an economy must have conditions() that return EulerConditions, got {self.economy!r}; an environment "
                "is given as env="
            )
        else:
            _parameters(self.economy)

    @property
    def _learnt_about(self) -> Any:
        """The economy, or the environment's problem."""
        return self.env.unwrapped.problem if self.economy is None else self.economy

    @property
    def problem(self) -> Problem:
        """The problem behind the environment.

        Raises:
            ParameterError: there is no environment.
        """
        self._refuse_no_env("a problem")
        return super().problem

    def _refuse_no_env(self, what: str) -> None:
        if self.env is None:
            raise ParameterError(
                f"{self._title} has no environment, and so not {what}: "
                "use `consumption` or `saving`, or learn with env="
            )

    def _refuse_bad_hyperparameters(self) -> None:
        known = {"law_input": LawInput, "complementarity": Complementarity, "optimizer": Optimizer}
        for name, options in known.items():
            one_of(name, getattr(self, name), get_args(options))
        for name in ("moments", "economies", "points", "steps", "iterations"):
            count(name, getattr(self, name))
        for name in ("moves", "settled", "learning_rate"):
            number(name, getattr(self, name), at_least=0.0)

    def saving(self, assets: Floats, e: NDArray[np.int64], z: NDArray[np.int64], law: Floats) -> Floats:
        """Return next period's assets a' (..., m) of savers.

        Args:
            assets: a of each saver, (..., m).
            e: numbers of the savers' states, (..., m).
            z: numbers of the aggregate states, (...).
            law: masses of savers by (e, a), (..., n_e, n_a).

        Raises:
            ParameterError: the economy has no population.
        """
        conditions = self.conditions
        if not isinstance(conditions, PopulationConditions):
            raise ParameterError(f"{self._subject()[0]} has no population; its rule is `consumption`")
        law = np.asarray(law, dtype=np.float64)
        capital = conditions.capital_of(law)[..., None]
        return self._saved(conditions.place(assets, e, np.asarray(z)[..., None], capital), law)

    def consumption(self, x: Floats, law: Floats | None = None) -> Floats:
        """Return c (...) at points x (..., n) of `conditions`, in economies with laws (..., n_e, n_a). None for `law`
        is enough where the rule sees no more of it than its mean.

        Raises:
            ParameterError: the rule sees more of the law than its mean, and no law is given.
        """
        return self._evaluated(self._rule.consumption, np.asarray(x, dtype=np.float64)[..., None, :], law)[..., 0]

    def policy(self, t: Array, x: Floats) -> Floats:
        """Return the environment's action (..., m) at observed states x (..., n); without an environment, c (..., 1) at
        points x.

        Raises:
            ParameterError: the rule sees more of the law than is observed.
        """
        if self.env is None:
            return self.consumption(x)[..., None]
        problem = self._learnt_about
        point, law = problem.decode_observation(np.asarray(x, dtype=np.float64))
        action: Floats = problem.action_of_saving(point, self._saved(point[..., None, :], law)[..., 0])
        return action

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[Floats, Any]:
        """Return the action in the environment's box for one observation or a batch of them, as SB3's `predict` does.

        Raises:
            LearningError: the action is not finite.
            ParameterError: there is no environment.
        """
        self._refuse_no_env("an action to predict")
        return super().predict(observation, state, episode_start, deterministic)

    def _saved(self, x: Floats, law: Floats | None) -> Floats:
        """Return a' (..., m) at points x (..., m, n) of economies with laws (..., n_e, n_a)."""
        return self._evaluated(self._rule.saving, x, law)

    def _evaluated(self, rule: Callable[[Tensor, Tensor], Tensor], x: Floats, law: Floats | None) -> Floats:
        """Return a rule's result (..., m) at points x (..., m, n) of economies with laws (..., n_e, n_a)."""
        moments = self._moments(law)
        lead = x.shape[:-1]
        k = moments.shape[-1]
        seen = moments if k == 0 else moments[..., None, :].expand(*lead, k).reshape(-1, k)
        points = x.reshape(-1, x.shape[-1])
        found = np.empty(len(points))
        with torch.no_grad():
            for start in range(0, len(points), ROWS):
                rows = slice(start, start + ROWS)
                some = torch.as_tensor(np.ascontiguousarray(points[rows])).to(self.device)
                found[rows] = rule(some, seen if k == 0 else seen[rows]).cpu().numpy()
        return found.reshape(lead)

    def _moments(self, law: Floats | None) -> Tensor:
        """Return the moments of laws, besides their means, that the rule sees, (..., k)."""
        rule, conditions = self._rule, self.conditions
        if not rule.moments or not isinstance(conditions, PopulationConditions):
            return torch.zeros(0, dtype=torch.float64, device=self.device)
        if law is None:
            raise ParameterError(
                f'law_input={self.law_input!r} needs the law, or an environment made with observe="histogram"'
            )
        with torch.no_grad():
            mass = torch.as_tensor(law.sum(axis=-2)).to(self.device)
            return rule.mean(mass, torch.tensor(conditions.assets).to(mass).expand(mass.shape))[0]

    def _batch(self, rng: np.random.Generator, points: int | None = None) -> Batch:
        return Batch(*(part.to(self.device) for part in self._training.batch(rng, points or self.points)))

    def _learn(self, budget: int | None, report: Callable[..., bool]) -> None:
        while self._share_done(budget) < 1:
            figures = self._iterate(np.random.default_rng([self.seed or 0, self._iteration]))
            self._iteration += 1
            stop = report(self._share_done(budget, ahead=1), **figures)
            self._training.refuse_trivial()
            if stop:
                return
        self._training.refuse_trivial_future(np.random.default_rng([self.seed or 0, 2**32]), self._saved)

    def _met(self) -> bool:
        """Tell whether the residual at fresh points, before they were learnt from, is below `settled`."""
        return self.history[-1]["residual"] < self.settled

    def _doubt(self) -> str:
        """Return why the rule is not certified: a Newton step at fresh points would change what it leads to."""
        rng = np.random.default_rng([self.seed or 0, 2**33])
        step = corrected(self._residual, self._batch(rng, POINTS))
        other = copy.copy(self)
        other._rule = step.rule
        apart = self._training.apart(self.seed or 0, self._saved, other._saved)
        return doubt(step, apart, self._training.strayed()) or super()._doubt()

    def _answers(self) -> dict[str, Any]:
        if self.law_input != "moments":
            return {}
        if self.env is not None:
            return super()._answers()
        return {"consumption": self.consumption(self.conditions.start(np.random.default_rng(0), SEEN))}

    def _subject(self) -> tuple[str, dict[str, Any]]:
        return super()._subject() if self.economy is None else (type(self.economy).__name__, _parameters(self.economy))

    def _setting(self) -> dict[str, Any]:
        return super()._setting() if self.economy is None else {}

    @classmethod
    def about(cls, subject: Any) -> dict[str, Any]:
        economy = subject is not None and not hasattr(subject, "unwrapped")
        return {"economy": subject, "env": None} if economy else {"economy": None, "env": subject}

    @classmethod
    def _rebuild(cls, record: dict[str, Any]) -> Any:
        """Return the environment, or where there was none the economy."""
        return super()._rebuild(record) if record["env"] else make_saved_economy(record)

    def _share_done(self, budget: int | None, ahead: int = 0) -> float:
        if budget is not None:
            return self.evaluations / budget
        return (len(self.history) - self.rows_before + ahead) / self.iterations

    def _iterate(self, rng: np.random.Generator) -> dict[str, float]:
        """Take steps at fresh points and move the economies on; return root mean squares of the residual before and
        after steps."""
        batch = self._batch(rng)
        before, after = self._descend(batch) if self.optimizer == "adam" else self._fit(batch)
        self._moving = self._moving or before < self.settled
        for _ in range(self.moves if self._moving else 0):
            self._training.move(rng, self._saved)
        return {"residual": before, "loss": after, **self._training.diagnostics()}

    def _fit(self, batch: Batch) -> tuple[float, float]:
        """Take steps of least squares, until one fails; return root mean squares of the residual before and after."""
        scale = 1 / math.sqrt(batch.x[..., 0].numel())

        def residual() -> Tensor:
            self.evaluations += self._residual.size(batch)
            return self._residual(batch).reshape(-1) * scale

        def with_jacobian() -> tuple[Tensor, Tensor]:
            self.evaluations += self._residual.size(batch)
            residual, columns = self._residual.with_jacobian(batch)
            return residual * scale, columns * scale

        reports: list[StepReport] = []
        while len(reports) < self.steps and (not reports or reports[-1].accepted):
            reports.append(self._least_squares.step(with_jacobian, residual))
        return math.sqrt(2 * reports[0].loss_before), math.sqrt(2 * reports[-1].loss_after)

    def _descend(self, batch: Batch) -> tuple[float, float]:
        """Take steps of Adam on the mean square; return root mean squares at the first and before the last of them."""
        rate = self.learning_rate * 0.01 ** min(self._iteration / self.iterations, 1.0)
        self._adam.set_learning_rate(rate)
        sizes = []
        for _ in range(ADAM_STEPS * self.steps):
            self._adam.zero_grad()
            self.evaluations += self._residual.size(batch)
            sizes.append(math.sqrt(self._residual.differentiate(batch)))
            self._adam.step()
        return sizes[0], sizes[-1]

    def _tensors(self) -> dict[str, Tensor]:
        rule = self._rule
        frames = {"frame": torch.stack(tuple(rule.frame)), "moment_frame": torch.stack(tuple(rule.moment_frame))}
        parameters = parameters_to_vector(rule.parameters()).detach()
        return {"parameters": parameters, **frames, **self._adam.tensors(), **self._training.tensors()}

    def _record(self) -> dict[str, Any]:
        least_squares = self._least_squares.state()
        return {"iteration": self._iteration, "moving": self._moving, "least_squares": least_squares}

    def _restore(self, tensors: dict[str, Tensor], record: dict[str, Any]) -> None:
        rule = self._rule
        vector_to_parameters(tensors["parameters"], rule.parameters())
        rule.frame, rule.moment_frame = Frame(*tensors["frame"]), Frame(*tensors["moment_frame"])
        self._adam.restore(tensors)
        self._least_squares.restore(record["least_squares"])
        self._training.restore(tensors)
        self._iteration, self._moving = record["iteration"], record["moving"]


def _parameters(economy: Any) -> dict[str, Any]:
    """Return the parameters of an economy: its `parameters`, or a dataclass's fields, or none."""
    own = getattr(economy, "parameters", None)
    if own is None:
        own = {f.name: getattr(economy, f.name) for f in fields(economy)} if is_dataclass(economy) else {}
    plain = {key: one.tolist() if isinstance(one, (np.ndarray, np.generic)) else one for key, one in own.items()}
    for key, one in plain.items():
        refuse_unplain(key, one)
    return plain
