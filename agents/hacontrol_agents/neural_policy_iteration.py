"""Neural policy iteration: Howard's algorithm with a network for the value."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, final

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector

from hacontrol_agents import autodiff
from hacontrol_agents.agent import Agent
from hacontrol_agents.greedy import greedy
from hacontrol_agents.networks import MLP
from hacontrol_agents.optimizers import LevenbergMarquardt
from hacontrol_agents.sampling import REACH, Visits, uniform, values, visit
from hacontrol_agents.value_function import Flow, ValueFunction
from hacontrol_envs import Jet
from hacontrol_envs.arrays import Array, Floats
from hacontrol_envs.errors import ParameterError


class Rows(NamedTuple):
    """A batch of linear equations in V: offset + rate_v * net + rate_l * (generator of net) = 0, one a row."""

    flow: Flow
    rate_v: Tensor
    rate_l: Tensor
    offset: Tensor


@final
@dataclass(kw_only=True)
class NeuralPolicyIteration(Agent):
    """Evaluate a policy by a linear equation, improve it through the generator, repeat.

    Howard (1960); Jacka and Mijatovic (2017) in continuous time. Evaluation solves
    rho V = r(x, alpha(x)) + V_t + L^alpha V for a network V, by least squares (Levenberg-Marquardt, float64):
      * "residual": on the residual of that equation, relative to the size of its terms, at points of a box and at
        states that the policy visits. On a box the equation has many solutions, which differ by what happens outside;
        the difference shrinks inwards as E[e^{-rho tau}], tau the time of leaving the box. So the box is widened until
        discounted paths stay in it.
      * "monte carlo": on what rollouts of length 1/rho, or to the horizon, earn from many starts, V itself beyond, with
        the martingale of the current V as control variate (`sampling.values`): their noise vanishes as V converges.

    Improvement is exact and pointwise: alpha(x) = argmax_a { r + L^a V } at V's derivatives (`greedy`); there is no
    policy network whose own error would hide V's.

    Coordinates: the network sees the unit coordinates of the problem's domain (LQR: x, scaled; Merton: log wealth), and
    gives V up to a constant and a factor, or with `value_scale="log"` its logarithm. No homogeneity or quadratic form
    is assumed.

    `evaluations` counts rows of equations, each time their residual or Jacobian is taken in least squares, and steps of
    paths (those of visits by their expected number); the inner Newton steps of `greedy` are not counted.
    """

    evaluation: Literal["residual", "monte carlo"] = "residual"
    """How a policy is evaluated."""
    hidden: tuple[int, ...] | None = None
    """Widths of the value network's hidden layers; None for one of 24 + 4 n units, n the dimension of the state, or
    over a finite horizon two of 16."""
    activation: str = "tanh"
    """Their activation."""
    value_scale: Literal["auto", "linear", "log"] = "auto"
    """Whether V or log |V| is what the layers give; "auto": log where a state is on a log scale and rewards have one
    sign."""
    iterations: int = 60
    """Policy iterations when `learn` is given no budget."""
    evaluation_steps: int = 6
    """Levenberg-Marquardt steps per policy evaluation, at most; a stalled evaluation ends sooner ..."""
    trusted: float = 0.01
    """... and one whose root mean square is still above this goes on for up to ten times as many: improving on a value
    that is far from its policy's can lead to worse and worse policies."""
    points: int | None = None
    """Residual rows per evaluation; None for four times the number of network parameters."""
    box_share: float = 0.5
    """Share of them uniform in the box; the others are states that the policy visits."""
    visits: int = 512
    """Paths that show where the policy leads; run in the first five iterations, which settle the box and the law."""
    margin: float = 2.0
    """The box is widened to this many times the reach of the farthest path of the visits; by a quarter at least."""
    starts: int = 512
    """Starts of Monte Carlo values, half of them from the initial law and half from the box."""
    paths: int = 4
    """Rollouts from each start."""
    rollout_step: float | None = None
    """Length of a step of rollouts in time; None for the environment's. Visits, which only show where to look, take
    steps five times as long."""
    residual_tolerance: float = 1e-9
    """Stop once the 95 % quantile of |HJB residual| / mean |reward| at fresh points is below this ..."""
    change_tolerance: float = 1e-4
    """... and the network's parameters moved less than this, relatively, in the last iteration."""

    name: ClassVar[str] = "npi"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.evaluation not in ("residual", "monte carlo"):
            raise ParameterError(f'evaluation must be "residual" or "monte carlo", got {self.evaluation!r}')
        if self.value_scale not in ("auto", "linear", "log"):
            raise ParameterError(f'value_scale must be "auto", "linear" or "log", got {self.value_scale!r}')
        for name in ("iterations", "evaluation_steps", "visits", "starts", "paths"):
            if getattr(self, name) < 1:
                raise ParameterError(f"{name} must be at least 1, got {getattr(self, name)!r}")
        self._iteration = 0
        self._learnt = False
        self._v = self._fresh_value(np.random.default_rng([self.seed or 0, 2**31]))
        self._optimizer = LevenbergMarquardt(self._v.network)
        self._like = parameters_to_vector(self._v.network.parameters()).detach()
        self._visits = Visits(
            *(self._like.new_zeros(shape) for shape in ((0,), (0, self.problem.state.dimension), (0,)))
        )

    def _fresh_value(self, rng: np.random.Generator) -> ValueFunction:
        """A value of the size of a lifetime's reward at the centre of the action box."""
        problem = self.problem
        t, x = uniform(problem, rng, 1024, 1.0, torch.zeros((), dtype=torch.float64, device=self.device))
        reward = problem.reward(t, x, problem.action.from_unit(x.new_zeros(len(x), problem.action.dimension)))
        one_sign = bool((reward < 0).all() or (reward > 0).all())
        log = self.value_scale == "log" or (self.value_scale == "auto" and bool(problem.state.log.any()) and one_sign)
        if log and not one_sign:
            raise ParameterError('value_scale="log" needs rewards of one sign')
        draws = torch.Generator().manual_seed(self.seed or 0)
        inputs = problem.state.dimension + (problem.horizon is not None)
        hidden = ((24 + 4 * inputs,) if problem.horizon is None else (16, 16)) if self.hidden is None else self.hidden
        layers = [self.activation] * len(hidden) + ["exp"] * log
        network = MLP(inputs, (*hidden, 1) if log else hidden, activation=layers, generator=draws)
        if log:
            network.layers[-1].weight.data.fill_(1.0)  # type: ignore[operator]
        size = self._lifetime * float(reward.mean())
        v = ValueFunction(problem, network.to(self.device))
        v.log = log
        v.offset, v.scale = (0.0, size) if log else (size, abs(size))
        return v

    def policy(self, t: Array, x: Floats) -> Floats:
        return self._on_points(t, x, self._act)  # type: ignore[no-any-return]

    def value(self, t: Array, x: Floats) -> Floats:
        return self._on_points(t, x, self._v.value)  # type: ignore[no-any-return]

    def jet(self, t: Array, x: Floats) -> Jet:
        return Jet(*self._on_points(t, x, self._v.jet))

    def _on_points(self, t: Array, x: Floats, function: Callable[[Tensor, Tensor], Any]) -> Any:
        """A function of tensors t (B,), x (B, n) applied to arrays with any leading axes."""
        x = np.asarray(x, dtype=np.float64)
        lead = x.shape[:-1]
        flat_t = torch.as_tensor(np.broadcast_to(t, lead).reshape(-1).copy()).to(self._like)
        found = function(flat_t, torch.as_tensor(x.reshape(-1, x.shape[-1])).to(self._like))
        parts = found if isinstance(found, tuple) else (found,)
        arrays = [part.cpu().numpy().reshape(*lead, *part.shape[1:]) for part in parts]
        return tuple(arrays) if isinstance(found, tuple) else arrays[0]

    def _track(self, t: Tensor, x: Tensor, guess: Tensor | None) -> Tensor:
        """The greedy action along a path: one Newton step from the action before, which is close to it."""
        return self._act(t, x, guess, 50 if guess is None else 1)

    def _act(self, t: Tensor, x: Tensor, guess: Tensor | None = None, steps: int = 50) -> Tensor:
        """The greedy action; before anything is learnt, the centre of the action box."""
        problem = self.problem
        if guess is None:
            guess = problem.action.from_unit(x.new_zeros(len(x), problem.action.dimension))
        if not self._learnt:
            return guess
        if problem.controlled_diffusion:
            jet = self._v.jet(t, x)
            return greedy(problem, t, x, jet.v_x, jet.v_xx, guess, steps)
        return greedy(problem, t, x, self._v.slope(t, x), None, guess, steps)

    def _learn(self, budget: int | None, report: Callable[..., bool]) -> None:
        while self._share_done(budget) < 1:
            figures = self._iterate(np.random.default_rng([self.seed or 0, self._iteration]))
            self._iteration += 1
            if report(self._share_done(budget, ahead=1), **figures):
                return

    def _share_done(self, budget: int | None, ahead: int = 0) -> float:
        """How much of this call of `learn` is done, what went before a kill included; 1 on convergence."""
        rows = self.history[self.rows_before :]
        converged = (
            rows and rows[-1]["residual"] <= self.residual_tolerance and rows[-1]["change"] <= self.change_tolerance
        )
        if converged:
            return 1.0
        return (len(rows) + ahead) / self.iterations if budget is None else self.evaluations / budget

    def _iterate(self, rng: np.random.Generator) -> dict[str, float]:
        """One evaluation and improvement; the figures of the learning curve."""
        if self._iteration < 5:
            self._visits = self._visit(rng)
        points = self._points(rng)
        rows = self._value_rows(rng) if self.evaluation == "monte carlo" else self._residual_rows(points)
        before = self._parameters()
        loss = self._fit(rows)
        self._learnt = True
        change = (self._parameters() - before).norm() / before.norm()
        return {"residual": self._hjb_residual(self._points(rng)), "loss": loss, "change": float(change)}

    def _parameters(self) -> Tensor:
        return parameters_to_vector(self._v.network.parameters()).detach().clone()

    def _starts(self, rng: np.random.Generator, size: int) -> tuple[Tensor, Tensor]:
        """Half from the law of X_0, half from the box."""
        first = size // 2
        x0 = torch.as_tensor(self.problem.initial_state(rng, first)).to(self._like)
        t, x = uniform(self.problem, rng, size - first, 1.25, self._like)
        return torch.cat([t.new_zeros(first), t]), torch.cat([x0, x])

    @property
    def _lifetime(self) -> float:
        """How long rewards count: 1/rho, or T if that is shorter."""
        rho, horizon = self.problem.discount, self.problem.horizon
        return 1 / rho if horizon is None else min(horizon, 1 / max(rho, 1e-9))

    @property
    def _step(self) -> float:
        return float(self.rollout_step or self.env.unwrapped.dt)

    def _visit(self, rng: np.random.Generator) -> Visits:
        x = torch.as_tensor(self.problem.initial_state(rng, self.visits)).to(self._like)
        seen = visit(self._v, self._track, x.new_zeros(len(x)), x, rng, 5 * self._step)
        self.evaluations += int(len(x) * self._lifetime / (5 * self._step))
        return seen

    def _points(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Points of the widened box, and states visited."""
        size = self.points or 4 * len(self._like)
        inside = int(size * self.box_share)
        margin = max(1.25, min(self.margin * float(self._visits.reach.max()), REACH))
        t, x = uniform(self.problem, rng, inside, margin, self._like)
        drawn = torch.as_tensor(rng.integers(0, len(self._visits.t), size - inside)).to(x.device)
        return torch.cat([t, self._visits.t[drawn]]), torch.cat([x, self._visits.x[drawn]])

    def _residual_rows(self, points: tuple[Tensor, Tensor]) -> Rows:
        """r + V_t + L^a V - rho V = 0 at the greedy actions, relative to their size |r| + rho |V|; at T, V = g."""
        v, problem = self._v, self.problem
        a = self._act(*points)
        reward = problem.reward(*points, a)
        size = reward.abs() + v.value(*points).abs() / self._lifetime
        weight = 1 / (size if v.log else size + 0.03 * size.mean()) / math.sqrt(len(a))
        rates = -problem.discount * v.scale * weight, v.scale * weight
        rows = Rows(v.flow(*points, a), *rates, weight * (reward - problem.discount * v.offset))
        if problem.horizon is None:
            return rows
        x = points[1][::4]
        end = self._data_rows(x.new_full((len(x),), problem.horizon), x, problem.terminal_reward(x))
        return _stack(rows, end)

    def _value_rows(self, rng: np.random.Generator) -> Rows:
        """V = its Monte Carlo value."""
        time = self.problem.horizon or 1 / self.problem.discount
        steps = int(np.ceil(time / self._step))
        t, x = self._starts(rng, self.starts)
        earned = values(self._v, self._track, t, x, rng, paths=self.paths, time=time, steps=steps)
        self.evaluations += steps * self.paths * len(t)
        return self._data_rows(t, x, earned)

    def _data_rows(self, t: Tensor, x: Tensor, value: Tensor) -> Rows:
        """V = value, relative to the value's size."""
        v = self._v
        z = v.coordinates(t, x)
        still = Flow(z, torch.zeros_like(z), z.new_zeros(*z.shape, self.problem.noise_dim))
        weight = 1 / (value.abs() + 0.1 * value.abs().mean() + 1e-3 * abs(v.scale)) / math.sqrt(len(t))
        return Rows(still, v.scale * weight, torch.zeros_like(weight), weight * (v.offset - value))

    def _fit(self, rows: Rows) -> float:
        """Levenberg-Marquardt on the rows; the final root mean square."""
        network = self._v.network

        def residual() -> Tensor:
            self.evaluations += len(rows.offset)
            with torch.no_grad():
                v, lv = autodiff.apply_generator(network, *rows.flow)
            return rows.offset + rows.rate_v * v + rows.rate_l * lv

        def residual_and_jacobian() -> tuple[Tensor, Tensor]:
            self.evaluations += len(rows.offset)
            v, lv, jacobian = autodiff.parameter_jacobian(network, *rows.flow, rows.rate_v, rows.rate_l)
            return rows.offset + rows.rate_v * v + rows.rate_l * lv, jacobian

        rms, stalled = np.inf, 0
        for done in range(10 * self.evaluation_steps):
            if stalled == 2 or (done >= self.evaluation_steps and rms <= self.trusted):
                break
            step = self._optimizer.step(residual_and_jacobian, residual)
            stalled = stalled + 1 if step.loss_after > (1 - 1e-3) * step.loss_before else 0
            rms = math.sqrt(2 * step.loss_after)
        return rms

    def _hjb_residual(self, points: tuple[Tensor, Tensor]) -> float:
        """95 % quantile of |max_a {r + V_t + L^a V} - rho V| / mean |r|."""
        a = self._act(*points)
        reward = self.problem.reward(*points, a)
        residual = self._v.residual(reward, self._v.flow(*points, a))
        self.evaluations += len(a)
        return float(torch.quantile(residual.abs(), 0.95) / reward.abs().mean())

    def _tensors(self) -> dict[str, Tensor]:
        return {"parameters": self._parameters(), **{f"visits.{k}": v for k, v in self._visits._asdict().items()}}

    def _record(self) -> dict[str, Any]:
        return {
            "iteration": self._iteration,
            "learnt": self._learnt,
            "offset": self._v.offset,
            "scale": self._v.scale,
            "optimizer": self._optimizer.state(),
        }

    def _restore(self, tensors: dict[str, Tensor], record: dict[str, Any]) -> None:
        torch.nn.utils.vector_to_parameters(tensors["parameters"], self._v.network.parameters())
        self._visits = Visits(*(tensors[f"visits.{name}"] for name in Visits._fields))
        self._learnt = record["learnt"]
        self._iteration, self._v.offset, self._v.scale = record["iteration"], record["offset"], record["scale"]
        self._optimizer.restore(record["optimizer"])


def _stack(first: Rows, second: Rows) -> Rows:
    flow = Flow(*(torch.cat(pair) for pair in zip(first.flow, second.flow, strict=True)))
    return Rows(flow, *(torch.cat(pair) for pair in zip(first[1:], second[1:], strict=True)))
