"""Neural policy iteration: Howard's algorithm with a network for the value."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import numpy as np
import torch
from torch import Tensor

from hacontrol_agents.hjb.equations import Rows, data_rows, stack
from hacontrol_agents.hjb.hjb_agent import HJBAgent
from hacontrol_agents.hjb.sampling import uniform, values, widened
from hacontrol_agents.learning import autodiff
from hacontrol_envs.core.parameters import count, one_of


@final
@dataclass(kw_only=True)
class NeuralPolicyIteration(HJBAgent):
    """Evaluate a policy by a linear equation, improve it through the generator, repeat.

    Howard (1960); Jacka and Mijatovic (2017) in continuous time. Evaluation solves
    rho V = r(x, alpha(x)) + V_t + L^alpha V for a network V, by least squares (Levenberg-Marquardt, float64):
      * "residual": on the residual of that equation, at the points of `HJBAgent`.
      * "monte carlo": on what rollouts of length 1/rho, or to the horizon, earn from many starts, V itself beyond, with
        the martingale of the current V as control variate (`sampling.values`): their noise vanishes as V converges.

    Improvement is exact and pointwise: alpha(x) = argmax_a { r + L^a V } (see `HJBAgent`).

    `evaluations` counts rows of equations, each time their residual or Jacobian is taken in least squares, and steps of
    paths (those of visits by their expected number); the inner Newton steps of `greedy` are not counted.
    """

    evaluation: Literal["residual", "monte carlo"] = "residual"
    """Method of policy evaluation: "residual" or "monte carlo"."""
    evaluation_steps: int = 6
    """Most Levenberg-Marquardt steps in a policy evaluation; a stalled evaluation ends sooner."""
    trusted: float = 0.01
    """Root mean square above which an evaluation goes on for up to ten times as many steps: improving on a value that
    is far from its policy's can lead to worse and worse policies."""
    starts: int = 512
    """Number of starts of Monte Carlo values, half of them from the initial law and half from the box."""
    paths: int = 4
    """Number of rollouts from each start."""

    name: ClassVar[str] = "npi"

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("evaluation", self.evaluation, ("residual", "monte carlo"))
        for name in ("evaluation_steps", "starts", "paths"):
            count(name, getattr(self, name))

    def _iterate(self, rng: np.random.Generator) -> float:
        """Evaluate the policy once; the policy that is greedy for the value is the improvement."""
        points = self._points(rng)
        return self._fit(self._value_rows(rng) if self.evaluation == "monte carlo" else self._residual_rows(points))

    def _residual_rows(self, points: tuple[Tensor, Tensor]) -> Rows:
        """Return the rows r + V_t + L^a V - rho V = 0 at the present greedy actions, and boundary conditions."""
        a = self._act(*points)
        return stack(
            [
                self._equations(points, a, self._weights(points, a)),
                *self._edges(points),
            ]
        )

    def _value_rows(self, rng: np.random.Generator) -> Rows:
        """Return the rows V = Monte Carlo value."""
        time = self.problem.horizon or 1 / self.problem.discount
        steps = int(np.ceil(time / self._step))
        t, x = self._starts(rng, self.starts)
        earned = values(self._v, self._track, t, x, rng, paths=self.paths, time=time, steps=steps)
        self.evaluations += steps * self.paths * len(t)
        return data_rows(self._v, t, x, earned)

    def _starts(self, rng: np.random.Generator, size: int) -> tuple[Tensor, Tensor]:
        """Return starts (t, x), half from the law of X_0, half from the box."""
        first = size // 2
        x0 = torch.as_tensor(self.problem.initial_state(rng, first)).to(self._like)
        t, x = uniform(self.problem, rng, size - first, widened(self.problem, 1.25), self._like)
        return torch.cat([t.new_zeros(first), t]), torch.cat([x0, x])

    def _fit(self, rows: Rows) -> float:
        """Run Levenberg-Marquardt on the rows; return the final root mean square."""
        network = self._v.network

        def residual() -> Tensor:
            self.evaluations += len(rows.offset)
            with torch.no_grad():
                v, lv = autodiff.apply_generator(network, *rows.flow)
            return rows.offset + rows.rate_v * v + rows.rate_l * lv

        def residual_and_jacobian() -> tuple[Tensor, Tensor]:
            self.evaluations += len(rows.offset)
            v, lv, jacobian = self._v.linearised(rows.flow, rows.rate_v, rows.rate_l)
            return rows.offset + rows.rate_v * v + rows.rate_l * lv, jacobian

        rms, stalled = np.inf, 0
        for done in range(10 * self.evaluation_steps):
            if stalled == 2 or (done >= self.evaluation_steps and rms <= self.trusted):
                break
            step = self._least_squares.step(residual_and_jacobian, residual)
            stalled = stalled + 1 if step.loss_after > (1 - 1e-3) * step.loss_before else 0
            rms = math.sqrt(2 * step.loss_after)
        return rms
