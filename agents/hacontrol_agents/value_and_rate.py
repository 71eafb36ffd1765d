"""ValueAndRate: a value V and a rate of advantage q whose normalisation holds in closed form."""

from __future__ import annotations

import math
from typing import final

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from hacontrol_agents.networks import MLP
from hacontrol_agents.row_jacobian import call, jacobian

__all__ = ["ValueAndRate", "head_size"]


def head_size(actions: int) -> int:
    """Numbers that describe q at a state: the maximiser (m,) and the lower triangle of the curvature's factor."""
    return actions + actions * (actions + 1) // 2


@final
class ValueAndRate(nn.Module):
    """V(s), and q(s, u) quadratic in the action u with int exp(q/temperature) du = 1 over all of R^m.

    q(s, u) = -1/2 |L(s)'(u - m(s))|^2 + temperature * (log det L(s) - m/2 log(2 pi temperature))

    L L' is the curvature, L lower triangular with a positive diagonal: exp(q/temperature) is the density of
    N(m(s), temperature (L L')^{-1}). At temperature 0 the second term is its limit, 0: the largest q is 0.

    Args:
        value: a module (N, observations) -> (N, 1), the value in units of `value_scale` and up to `value_offset`.
        head: a module (N, observations) -> (N, head_size(actions)): m, then log L_ii in units of `rate_scale` to the
            power 1/2, then what is below L's diagonal, row by row.
        actions: m.
    """

    def __init__(self, value: nn.Module, head: nn.Module, actions: int) -> None:
        super().__init__()
        self.value_net, self.head, self.actions = value, head, actions
        self.value_offset, self.value_scale, self.rate_scale, self.temperature = 0.0, 1.0, 1.0, 0.0
        self.value_size = sum(p.numel() for p in value.parameters())
        self._below = torch.tril_indices(actions, actions, -1)

    def value(self, s: Tensor) -> Tensor:
        """V, (N,)."""
        return self.value_offset + self.value_scale * _applied(self.value_net, s)[:, 0]

    def gibbs(self, s: Tensor) -> tuple[Tensor, Tensor]:
        """m (N, m) and L (N, m, m)."""
        return self._split(_applied(self.head, s))

    @torch.no_grad()
    def sample(self, s: Tensor, rng: np.random.Generator) -> Tensor:
        """Actions (N, m) drawn from exp(q/temperature); m(s) at temperature 0."""
        mean, factor = self.gibbs(s)
        z = torch.as_tensor(rng.standard_normal(mean.shape)).to(mean)
        spread: Tensor = torch.linalg.solve_triangular(factor.mT, z[:, :, None], upper=True)[:, :, 0]
        return mean + math.sqrt(self.temperature) * spread

    def rate(self, s: Tensor, u: Tensor) -> Tensor:
        """q, (N,)."""
        mean, factor = self.gibbs(s)
        y = (factor.mT @ (u - mean)[:, :, None])[:, :, 0]
        return -(y * y).sum(1) / 2 + self._normaliser(factor)

    def value_gradient(self, s: Tensor) -> tuple[Tensor, Tensor]:
        """V (N,) and dV/d parameters (N, those of `value`)."""
        weight = s.new_full((len(s), 1), self.value_scale)
        return self.value(s), _row_gradients(self.value_net, s, weight)

    def rate_gradient(self, s: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """q (N,) and dq/d parameters (N, those of `head`)."""
        mean, factor = self.gibbs(s)
        away = u - mean
        y = (factor.mT @ away[:, :, None])[:, :, 0]
        q = -(y * y).sum(1) / 2 + self._normaliser(factor)
        by_mean = (factor @ y[:, :, None])[:, :, 0]
        by_factor = -away[:, :, None] * y[:, None, :]
        diagonal = torch.diagonal(by_factor * factor, dim1=1, dim2=2) + self.temperature
        below = by_factor[:, self._below[0], self._below[1]] * math.sqrt(self.rate_scale)
        return q, _row_gradients(self.head, s, torch.cat([by_mean, diagonal, below], dim=1))

    def _split(self, out: Tensor) -> tuple[Tensor, Tensor]:
        m = self.actions
        factor = torch.diag_embed(out[:, m : 2 * m].exp())
        factor[:, self._below[0], self._below[1]] = out[:, 2 * m :]
        return out[:, :m], factor * math.sqrt(self.rate_scale)

    def _normaliser(self, factor: Tensor) -> Tensor:
        log_volume = torch.diagonal(factor, dim1=1, dim2=2).log().sum(1)
        if self.temperature == 0:
            return torch.zeros_like(log_volume)
        return self.temperature * (log_volume - self.actions / 2 * math.log(2 * math.pi * self.temperature))


def _applied(module: nn.Module, s: Tensor) -> Tensor:
    found: Tensor = call(module, s).output if isinstance(module, MLP) else module(s)
    return found


def _row_gradients(module: nn.Module, s: Tensor, weight: Tensor) -> Tensor:
    """d(weight . module(s)) / d parameters, one row for each of s (N, inputs), weight (N, outputs): (N, parameters)."""
    if isinstance(module, MLP):
        return jacobian(module, [call(module, s)], weight[:, 0], [weight])
    parameters = {name: p.detach() for name, p in module.named_parameters()}

    def weighted(p: dict[str, Tensor], one: Tensor, w: Tensor) -> Tensor:
        out: Tensor = functional_call(module, p, (one[None],))
        return (out[0] * w).sum()

    rows = vmap(grad(weighted), in_dims=(None, 0, 0))(parameters, s, weight)
    return torch.cat([rows[name].reshape(len(s), -1) for name in parameters], dim=1)
