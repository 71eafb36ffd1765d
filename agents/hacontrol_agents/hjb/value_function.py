"""ValueFunction: a network in a problem's unit coordinates, with derivatives in the problem's own."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hacontrol_agents.learning import autodiff
from hacontrol_agents.learning.networks import MLP
from hacontrol_envs import ControlProblem, Jet

REACH, FARTHEST, MOST_LOG = 8.0, 64.0, 500.0
"""Half-widths from the box's centre within which paths are held, so that a bad early policy does not overflow; on a log
scale up to FARTHEST, as far as log |V| stays below MOST_LOG."""


class Flow(NamedTuple):
    """Points in a network's coordinates z, and their motion under held actions."""

    z: Tensor
    """Unit coordinates of the state, then 2 t/T - 1 over a finite horizon, (B, inputs)."""
    drift: Tensor
    """Drift of z by Ito's formula, (B, inputs); its time component makes V_t part of the generator."""
    columns: Tensor
    """Noise columns of z, (B, inputs, d)."""


class ValueFunction:
    """The value V(t, x) = offset + scale * network(z(t, x)), z the unit coordinates of `problem.state` (and of time).

    No structure of the problem enters but its domain: which box, and which states are on a logarithmic scale. `log`
    says that the network's last layer is an exponential, so that what its other layers give is log |V|. `reach` is
    how far from the box's centre, in its half-widths, V is ever learnt.
    """

    def __init__(self, problem: ControlProblem, network: MLP) -> None:
        self.problem, self.network = problem, network
        self.offset, self.scale, self.log = 0.0, 1.0, False
        self.reach = REACH

    @property
    def lifetime(self) -> float:
        """Time for which rewards count: 1/rho, or T if that is shorter."""
        rho, horizon = self.problem.discount, self.problem.horizon
        return 1 / rho if horizon is None else min(horizon, 1 / max(rho, 1e-9))

    def coordinates(self, t: Tensor, x: Tensor) -> Tensor:
        """Return z (B, inputs) at times t (B,) and states x (B, n)."""
        u: Tensor = self.problem.state.to_unit(x)
        if self.problem.horizon is None:
            return u
        return torch.cat([u, (2 * t / self.problem.horizon - 1)[:, None]], dim=1)

    def physical(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return times (B,) and states (B, n) at coordinates z (B, inputs)."""
        n = self.problem.state.dimension
        x = self.problem.state.from_unit(z[:, :n])
        return (z.new_zeros(len(z)) if self.problem.horizon is None else self.problem.horizon * (z[:, n] + 1) / 2), x

    def flow(self, t: Tensor, x: Tensor, a: Tensor) -> Flow:
        """Return the points' coordinates and their motion under held actions.

        Args:
            t, x, a: times (B,), states (B, n) and physical actions (B, m).
        """
        problem = self.problem
        drift, columns = problem.state.ito(x, problem.drift(t, x, a), problem.diffusion(t, x, a))
        if problem.horizon is not None:
            clock = drift.new_full((len(x), 1), 2 / problem.horizon)
            drift = torch.cat([drift, clock], dim=1)
            columns = torch.cat([columns, columns.new_zeros(len(x), 1, columns.shape[-1])], dim=1)
        return Flow(self.coordinates(t, x), drift.contiguous(), columns.contiguous())

    def residual(self, reward: Tensor, flow: Flow) -> Tensor:
        """Return r + V_t + L^a V - rho V, (B,), for actions whose reward and flow are given; nothing is
        differentiable."""
        with torch.no_grad():
            v, lv = autodiff.apply_generator(self.network, *flow)
        return reward + self.scale * lv - self.problem.discount * (self.offset + self.scale * v)

    def linearised(self, flow: Flow, rate_v: Tensor, rate_l: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the network v (B,), its generator Lv (B,), and the derivative of rate_v v + rate_l Lv in parameters.

        The layer after an exponential is held: a constant that is added to a V of many sizes would drown it.

        Args:
            flow: points and their motion.
            rate_v, rate_l: factors, (B,).
        """
        v, lv, jacobian = autodiff.parameter_jacobian(self.network, *flow, rate_v, rate_l)
        if self.log:
            jacobian[:, -2:] = 0.0
        return v, lv, jacobian

    def weighted(self, t: Tensor, x: Tensor, a: Tensor, c: float) -> tuple[Flow, Tensor, Tensor, Tensor]:
        """Return the motion of points, and what weighting paths by psi = (V^2 + c^2)^(1/2) does to them.

        Args:
            t, x, a: times (B,), states (B, n) and physical actions (B, m).
            c: size below which V counts as c.

        Returns:
            The flow; the rate rho - (psi_t + L^a psi)/psi at which weights decay, (B,); sigma' grad log psi, which is
            added to the noise, (B, d); and |r + V_t + L^a V - rho V|/psi, (B,).
        """
        flow = self.flow(t, x, a)
        with torch.no_grad():
            v, lv = autodiff.apply_generator(self.network, *flow)
            _, slope = autodiff.gradient(self.network, flow.z)
        v, lv = self.offset + self.scale * v, self.scale * lv
        along = self.scale * (flow.columns.mT @ slope[:, :, None])[:, :, 0]
        square = v.square() + c * c
        square = square.clamp_min(torch.finfo(v.dtype).tiny)
        grown = v * lv / square + c * c / square.square() * along.square().sum(-1) / 2
        rho = self.problem.discount
        off = (self.problem.reward(t, x, a) + lv - rho * v).abs() / square.sqrt()
        return flow, rho - grown, (v / square)[:, None] * along, off

    def value(self, t: Tensor, x: Tensor) -> Tensor:
        """Return V (B,) at times t (B,) and states x (B, n)."""
        with torch.no_grad():
            v: Tensor = self.network(self.coordinates(t, x))
        return self.offset + self.scale * v[:, 0]

    def slope(self, t: Tensor, x: Tensor) -> Tensor:
        """Return V_x (B, n) at times t (B,) and states x (B, n), differentiable in x where x requires grad."""
        z = self.coordinates(t, x)
        if x.requires_grad:
            (gradient,) = torch.autograd.grad(self.network(z).sum(), z, create_graph=True)
        else:
            _, gradient = autodiff.gradient(self.network, z)
        first, _ = self.problem.state.unit_derivatives(x)
        slope: Tensor = self.scale * gradient[:, : x.shape[1]] * first
        return slope

    def jet(self, t: Tensor, x: Tensor) -> Jet:
        """Return V with all its derivatives: V_x = V_u u', V_xx = u' V_uu u' + diag(V_u u'')."""
        n = x.shape[1]
        v, gradient, hessian = autodiff.jet(self.network, self.coordinates(t, x))
        first, second = self.problem.state.unit_derivatives(x)
        v_xx = hessian[:, :n, :n] * first[:, :, None] * first[:, None, :] + torch.diag_embed(gradient[:, :n] * second)
        clock = 0.0 if self.problem.horizon is None else 2 / self.problem.horizon
        v_t, v_x = clock * gradient[:, -1], self.scale * gradient[:, :n] * first
        return Jet(self.offset + self.scale * v, self.scale * v_t, v_x, self.scale * v_xx)
