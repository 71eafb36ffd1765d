"""ValueAndRate: a value V and a rate of advantage q whose normalisation holds in closed form."""

from __future__ import annotations

import math
from typing import NamedTuple, final

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from hacontrol_agents.learning.networks import MLP
from hacontrol_agents.learning.row_jacobian import call, jacobian
from hacontrol_agents.q_learning.fitted_reward import FittedReward

__all__ = ["ValueAndRate", "triangle"]


def triangle(actions: int) -> int:
    """Return the number of entries of a lower triangle, the factor of a curvature of this many actions."""
    return actions * (actions + 1) // 2


class Shape(NamedTuple):
    """Maximiser and curvature of q at states."""

    mean: Tensor
    """Maximiser m(s), (N, m)."""
    raw: Tensor
    """Output of the curvature's network, (N, triangle(m))."""
    factor: Tensor
    """Factor L of the curvature L L', (N, m, m)."""


@final
class ValueAndRate(nn.Module):
    """A value V(s) and a rate q(s, u), largest at u = m(s), with int exp(q/temperature) du = 1 over all of R^m.

    q(s, u) = -1/2 |L'(u - m(s))|^2 + temperature * (log det L - m/2 log(2 pi temperature))

    L(s) L(s)' is the curvature, L lower triangular with a positive diagonal. exp(q/temperature) is the density of
    N(m(s), temperature (L L')^{-1}); at temperature 0 the second term is its limit, 0: the largest q is 0.

    With a `reward` q has beside it r(s, u) - r(s, m) - r_u(s, m).(u - m), what reward lies beyond its tangent at m.
    Where r is concave in u the largest q still is at m; the temperature must be 0.

    Args:
        value: a module (N, observations) -> (N, 1): (V - value_offset)/value_scale, or log(V/value_scale) where V is
            `one_sign`ed.
        maximiser: a module (N, observations) -> (N, m): m, or artanh m where it is `bounded`.
        curvature: a module (N, observations) -> (N, triangle(m)): log L_ii in units of `rate_scale` to the power 1/2,
            then what is below L's diagonal, row by row.
        actions: m.
        bounded: m(s) lies in [-1, 1]^m, the box of actions, so that the largest q is attained.
        one_sign: V has the sign of `value_scale` everywhere.
        reward: rates of reward, None for a quadratic q.
    """

    def __init__(
        self,
        value: nn.Module,
        maximiser: nn.Module,
        curvature: nn.Module,
        actions: int,
        bounded: bool = True,
        one_sign: bool = False,
        reward: FittedReward | None = None,
    ) -> None:
        super().__init__()
        self.value_net, self.maximiser, self.curvature, self.actions = value, maximiser, curvature, actions
        self.bounded, self.one_sign, self.reward = bounded, one_sign, reward
        self.value_offset, self.value_scale, self.rate_scale, self.temperature = 0.0, 1.0, 1.0, 0.0
        self.value_size = sum(p.numel() for p in value.parameters())
        self._below = torch.tril_indices(actions, actions, -1)

    def value(self, s: Tensor) -> Tensor:
        """Return V (N,) at observations s (N, observations)."""
        v = _applied(self.value_net, s)[:, 0]
        return self.value_scale * torch.exp(v) if self.one_sign else self.value_offset + self.value_scale * v

    def mean(self, s: Tensor) -> Tensor:
        """Return q's maximiser m(s), (N, m), at observations s (N, observations)."""
        m = _applied(self.maximiser, s)
        return torch.tanh(m) if self.bounded else m

    @torch.no_grad()
    def sample(self, s: Tensor, rng: np.random.Generator) -> Tensor:
        """Return actions (N, m) drawn from N(m(s), temperature (L L')^{-1})."""
        mean, _, factor = self.shape(s)
        z = torch.as_tensor(rng.standard_normal(mean.shape)).to(mean)
        spread: Tensor = torch.linalg.solve_triangular(factor.mT, z[:, :, None], upper=True)[:, :, 0]
        return mean + math.sqrt(self.temperature) * spread

    def shape(self, s: Tensor) -> Shape:
        """Return q's maximiser and curvature at observations s (N, observations)."""
        m, raw = self.actions, _applied(self.curvature, s)
        factor = torch.diag_embed(raw[:, :m].exp())
        factor[:, self._below[0], self._below[1]] = raw[:, m:]
        return Shape(self.mean(s), raw, factor * math.sqrt(self.rate_scale))

    def rate(self, s: Tensor, u: Tensor) -> Tensor:
        """Return q (N,) at observations s (N, observations) and actions u (N, m)."""
        mean, _, factor = self.shape(s)
        y = (factor.mT @ (u - mean)[:, :, None])[:, :, 0]
        q: Tensor = -(y * y).sum(1) / 2 + self._normaliser(factor)
        return q if self.reward is None else q + self.reward.beyond_tangent(s, u.to(s), mean).value

    def value_gradient(self, s: Tensor) -> tuple[Tensor, Tensor]:
        """Return V (N,) and dV/d parameters (N, P), P those of `value`."""
        v = self.value(s)
        weight = v if self.one_sign else torch.full_like(v, self.value_scale)
        return v, _row_gradients(self.value_net, s, weight[:, None])

    def rate_gradient(self, s: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """Return q (N,) and dq/d parameters (N, P), P those of `maximiser`, then of `curvature`."""
        mean, _, factor = self.shape(s)
        away = u - mean
        y = (factor.mT @ away[:, :, None])[:, :, 0]
        q = -(y * y).sum(1) / 2 + self._normaliser(factor)
        by_mean = (factor @ y[:, :, None])[:, :, 0]
        if self.reward is not None:
            beyond = self.reward.beyond_tangent(s, u, mean)
            q = q + beyond.value
            by_mean = by_mean - (beyond.bend @ away[:, :, None])[:, :, 0]
        if self.bounded:
            by_mean = by_mean * (1 - mean * mean)
        by_factor = -away[:, :, None] * y[:, None, :]
        diagonal = torch.diagonal(by_factor * factor, dim1=1, dim2=2) + self.temperature
        below = by_factor[:, self._below[0], self._below[1]] * math.sqrt(self.rate_scale)
        of_curvature = _row_gradients(self.curvature, s, torch.cat([diagonal, below], dim=1))
        return q, torch.cat([_row_gradients(self.maximiser, s, by_mean), of_curvature], dim=1)

    def _normaliser(self, factor: Tensor) -> Tensor:
        log_volume = torch.diagonal(factor, dim1=1, dim2=2).log().sum(1)
        if self.temperature == 0:
            return torch.zeros_like(log_volume)
        return self.temperature * (log_volume - self.actions / 2 * math.log(2 * math.pi * self.temperature))


def _applied(module: nn.Module, s: Tensor) -> Tensor:
    found: Tensor = call(module, s).output if isinstance(module, MLP) else module(s)
    return found


def _row_gradients(module: nn.Module, s: Tensor, weight: Tensor) -> Tensor:
    """Return d(weight . module(s)) / d parameters, (N, parameters), for s (N, inputs) and weight (N, outputs)."""
    if isinstance(module, MLP):
        return jacobian(module, [call(module, s)], weight[:, 0], [weight])
    parameters = {name: p.detach() for name, p in module.named_parameters()}

    def weighted(p: dict[str, Tensor], one: Tensor, w: Tensor) -> Tensor:
        out: Tensor = functional_call(module, p, (one[None],))
        return (out[0] * w).sum()

    rows = vmap(grad(weighted), in_dims=(None, 0, 0))(parameters, s, weight)
    return torch.cat([rows[name].reshape(len(s), -1) for name in parameters], dim=1)
