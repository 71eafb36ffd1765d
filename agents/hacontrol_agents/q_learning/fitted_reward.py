"""FittedReward: the rate of reward as a smooth function of observations and actions, fitted to steps."""

from __future__ import annotations

import math
from typing import NamedTuple, final

import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from hacontrol_agents.learning.networks import ACTIVATIONS, MLP
from hacontrol_agents.learning.row_jacobian import call

__all__ = ["BeyondTangent", "FittedReward"]

WIDTH = 16
"""Width of the one hidden layer."""


class BeyondTangent(NamedTuple):
    """A function of actions less its tangent at a point."""

    value: Tensor
    """Value r(s, u) - r(s, m) - r_u(s, m).(u - m), (N,)."""
    bend: Tensor
    """Second derivatives r_uu(s, m), (N, m, m)."""


@final
class FittedReward:
    """Rate of reward r(s, u) fitted to steps: rates are observed, and without noise where an environment pays their
    conditional mean.

    One hidden layer of tanh, fitted by least squares with L-BFGS: (r - offset)/scale, or log(r/scale) where rewards
    have `one_sign`. Its parameters belong to no module: they are known, and not among those that moments determine.

    Args:
        observations, actions: widths of s and u.
        one_sign: all rewards have the sign of `scale`.
        generator: draws the parameters at the start.
    """

    def __init__(self, observations: int, actions: int, one_sign: bool, generator: torch.Generator) -> None:
        self.network = MLP(observations + actions, (WIDTH,), 1, generator=generator)
        self.actions, self.one_sign = actions, one_sign
        self.offset, self.scale = 0.0, 1.0

    def fit(self, s: Tensor, u: Tensor, rates: Tensor, steps: int = 500) -> float:
        """Fit rates by least squares from the present parameters; return the root mean square that is left.

        Args:
            s: observations, (N, observations).
            u: actions, (N, m).
            rates: rates of reward, (N,).
            steps: most steps of L-BFGS.
        """
        z = torch.cat([s, u], dim=1)
        target = torch.log(rates / self.scale) if self.one_sign else (rates - self.offset) / self.scale
        optimizer = torch.optim.LBFGS(
            self.network.parameters(),
            max_iter=steps,
            history_size=50,
            tolerance_grad=1e-10,
            tolerance_change=1e-12,
            line_search_fn="strong_wolfe",
        )

        def loss() -> Tensor:
            optimizer.zero_grad()
            square = (call(self.network, z).output[:, 0] - target).square().mean()
            square.backward()  # type: ignore[no-untyped-call]
            return square

        optimizer.step(loss)  # type: ignore[no-untyped-call]
        return math.sqrt(float(loss().detach()))

    @torch.no_grad()
    def __call__(self, s: Tensor, u: Tensor) -> Tensor:
        """Return r (N,) at observations s (N, observations) and actions u (N, m)."""
        return self._level(call(self.network, torch.cat([s, u], dim=1)).output[:, 0])

    @torch.no_grad()
    def beyond_tangent(self, s: Tensor, u: Tensor, mean: Tensor) -> BeyondTangent:
        """Return what r(s, .) has beyond its tangent at `mean`, and its second derivatives there.

        Args:
            s: observations, (N, observations).
            u: actions, (N, m).
            mean: actions of the tangent, (N, m).
        """
        here, tanh = call(self.network, torch.cat([s, mean], dim=1)), ACTIVATIONS["tanh"]
        h = here.inputs[1]
        first = tanh.first(h)
        second = tanh.second(h, first)
        weights, _, (outer,), _ = self.network.parameters()
        inner = weights[:, -self.actions :]
        products = (inner[:, :, None] * inner[:, None, :]).reshape(WIDTH, -1)
        slope = (outer * first) @ inner
        bend = ((outer * second) @ products).reshape(-1, self.actions, self.actions)
        level = self._level(here.output[:, 0])
        if self.one_sign:
            slope, bend = level[:, None] * slope, level[:, None, None] * (bend + slope[:, :, None] * slope[:, None, :])
        else:
            slope, bend = self.scale * slope, self.scale * bend
        return BeyondTangent(self(s, u) - level - (slope * (u - mean)).sum(1), bend)

    def tensors(self) -> dict[str, Tensor]:
        """Return what was fitted, and its units, as tensors by name."""
        units = torch.tensor([self.offset, self.scale], dtype=torch.float64)
        return {"reward": parameters_to_vector(self.network.parameters()).detach(), "reward.units": units}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take over what `tensors` returned."""
        vector_to_parameters(tensors["reward"], self.network.parameters())
        self.offset, self.scale = tensors["reward.units"].tolist()

    def _level(self, v: Tensor) -> Tensor:
        return self.scale * torch.exp(v) if self.one_sign else self.offset + self.scale * v
