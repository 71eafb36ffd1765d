"""HJBPinn: the residual of the maximised Hamiltonian, minimised over a network for the value."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final, get_args

import numpy as np
import torch
from torch import Tensor

from hacontrol_agents.hjb.equations import Rows, stack
from hacontrol_agents.hjb.hjb_agent import HJBAgent
from hacontrol_agents.hjb.sampling import Visits, uniform
from hacontrol_agents.hjb.value_function import Flow
from hacontrol_agents.learning import autodiff
from hacontrol_envs.core.parameters import count, one_of
from hacontrol_envs.errors import ParameterError

Optimizer = Literal["levenberg-marquardt", "l-bfgs", "adam"]


@final
@dataclass(kw_only=True)
class HJBPinn(HJBAgent):
    """Minimise the mean square of F(V) = max_a { r + V_t + L^a V } - rho V over networks V.

    Raissi, Perdikaris and Karniadakis (2019) for the idea. The maximum moves with V, and by the envelope theorem adds
    nothing to the derivative of F, which is that of r + V_t + L^a V - rho V at the maximiser a. So a Gauss-Newton step
    costs what a step of policy evaluation costs, and is one of policy iteration at the same time: unlike
    `NeuralPolicyIteration` no policy is evaluated to the end before the next.

    F has solutions that are no value functions (the other root of a Riccati equation). The first iteration is therefore
    linear: it evaluates the centre of the action box, and Newton's method from the value of a policy leads to the
    optimum (Kleinman, 1968).

    Points are those of `HJBAgent`; of those in the region, `adaptive` are drawn where the residual is large.
    """

    optimizer: Optimizer = "levenberg-marquardt"
    """Method of minimisation: "levenberg-marquardt" (Gauss-Newton with damping and acceleration), or "l-bfgs" or
    "adam", which use the gradient only."""
    steps: int = 10
    """Steps of the optimizer between fresh points; of "l-bfgs" and "adam" ten times as many, each as cheap as one of
    ten trials."""
    pilot: int = 60
    """Most steps of the first, linear iteration; it ends sooner when its root mean square is below 1 %."""
    learning_rate: float = 1e-3
    """Learning rate of "adam"."""
    adaptive: float = 0.5
    """Share of the region's points that are drawn, from ten times as many, in proportion to |F| plus its mean."""

    name: ClassVar[str] = "hjb-pinn"

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("optimizer", self.optimizer, get_args(Optimizer))
        for name in ("steps", "pilot"):
            count(name, getattr(self, name))
        if not 0 <= self.adaptive <= 1:
            raise ParameterError(f"adaptive must be a share in [0, 1], got {self.adaptive!r}")

    def go_on(self, env: Any, visits: Visits, rng: np.random.Generator) -> float:
        """Run one iteration from the present value on another environment of the same domain; return the root mean
        square that is left.

        Args:
            env: the environment, whose problem replaces the present one.
            visits: states that a policy visits in it.
            rng: draws the points.
        """
        self.env, self._v.problem, self._visits = env, env.unwrapped.problem, visits
        loss = self._iterate(rng)
        self._learnt = True
        return loss

    def _iterate(self, rng: np.random.Generator) -> float:
        points = self._refined(rng)
        weight = self._weights(points, self._act(*points))
        rows = _Moving(self, points, weight)
        if self.optimizer == "levenberg-marquardt":
            return self._gauss_newton(rows)
        return self._descend(rows)

    def _refined(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Return points of the region and states visited, a share of the former moved to where the residual is
        large."""
        t, x = self._points(rng)
        moved = int(self.adaptive * self.box_share * len(t))
        if moved == 0 or not self._learnt:
            return t, x
        candidates = uniform(self.problem, rng, 10 * moved, self._region, self._like)
        a = self._act(*candidates)
        residual = self._v.residual(self.problem.reward(*candidates, a), self._v.flow(*candidates, a))
        size = (residual * self._weights(candidates, a)).abs().cpu().numpy()
        self.evaluations += len(size)
        total = float(size.sum())
        if not math.isfinite(total):
            raise FloatingPointError("the residual at candidate points")
        odds = (size + size.mean()) / (2 * total) if total > 0 else None
        chosen = rng.choice(len(size), moved, replace=False, p=odds)
        drawn = torch.as_tensor(chosen).to(x.device)
        return torch.cat([candidates[0][drawn], t[moved:]]), torch.cat([candidates[1][drawn], x[moved:]])

    def _gauss_newton(self, rows: _Moving) -> float:
        rms, stalled = np.inf, 0
        for _ in range(self.steps if self._learnt else self.pilot):
            step = self._least_squares.step(rows.residual_and_jacobian, rows.residual)
            rms = math.sqrt(2 * step.loss_after)
            stalled = stalled + 1 if step.loss_after > (1 - 1e-3) * step.loss_before else 0
            if stalled == 2 or (not self._learnt and rms < 0.01):
                break
        return rms

    def _descend(self, rows: _Moving) -> float:
        parameters, steps = list(self._v.network.parameters()), 10 * self.steps
        kind: Any = torch.optim.Adam(parameters, lr=self.learning_rate)
        if self.optimizer == "l-bfgs":
            kind = torch.optim.LBFGS(parameters, max_iter=steps, history_size=100, line_search_fn="strong_wolfe")
        loss = torch.zeros(())

        def closure() -> Tensor:
            nonlocal loss
            kind.zero_grad()
            loss = rows.residual(differentiable=True).square().sum()
            loss.backward()  # type: ignore[no-untyped-call]
            return loss

        for _ in range(1 if self.optimizer == "l-bfgs" else steps):
            kind.step(closure)
        return math.sqrt(float(loss.detach()))


@final
class _Moving:
    """Equations at fixed points whose actions move with the network's parameters.

    They move at every Gauss-Newton step. Where sigma depends on the action they cost V's Hessian, and are held over the
    trials of a step: to first order, by the envelope theorem, that is the same.
    """

    def __init__(self, agent: HJBPinn, points: tuple[Tensor, Tensor], weight: Tensor) -> None:
        self.agent, self.points, self.weight = agent, points, weight
        self.guess: Tensor | None = None
        self.rows: Rows | None = None

    def _rows(self) -> Rows:
        agent = self.agent
        with torch.no_grad():
            a = agent._act(*self.points, self.guess)
            self.guess = a
            rows = stack(
                [
                    agent._equations(self.points, a, self.weight),
                    *agent._edges(self.points),
                ]
            )
        agent.evaluations += len(rows.offset)
        return rows

    def residual(self, differentiable: bool = False) -> Tensor:
        held = self.rows if self.agent.problem.controlled_diffusion and not differentiable else None
        rows = self._rows() if held is None else held
        with torch.set_grad_enabled(differentiable):
            v, lv = autodiff.apply_generator(self.agent._v.network, *rows.flow)
            return rows.offset + rows.rate_v * v + rows.rate_l * lv

    def residual_and_jacobian(self) -> tuple[Tensor, Tensor]:
        rows, network = self._rows(), self.agent._v.network
        self.rows = rows
        flow = self._linearised(rows.flow)
        v, lv, jacobian = self.agent._v.linearised(flow, rows.rate_v, rows.rate_l)
        if flow is not rows.flow:
            with torch.no_grad():
                v, lv = autodiff.apply_generator(network, *rows.flow)
        return rows.offset + rows.rate_v * v + rows.rate_l * lv, jacobian

    def _linearised(self, flow: Flow) -> Flow:
        """Return the flow in whose direction V's slope p moves r + b . p at the control a(p): d(r + b . p)/dp.

        It is b itself where a maximises, by the envelope theorem; a control that is no argmax adds r_a a' + p . b_a a'.
        """
        agent, (t, x) = self.agent, self.points
        problem = agent.problem
        if not agent._learnt or problem.controlled_diffusion:
            return flow
        p = agent._v.slope(t, x).requires_grad_()
        with torch.enable_grad():
            a = problem.maximiser(t, x, p, None)
            if a is None:
                return flow
            height = problem.hamiltonian(t, x, problem.admissible(t, x, a), p, torch.zeros_like(t))
            (moved,) = torch.autograd.grad(height.sum(), p)
        first, second = problem.state.unit_derivatives(x)
        sigma = problem.diffusion(t, x, a.detach())
        drift = flow.drift.clone()
        drift[: len(x), : x.shape[1]] = first * moved + second * (sigma * sigma).sum(-1) / 2
        return flow._replace(drift=drift)
