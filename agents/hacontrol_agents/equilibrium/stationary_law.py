"""StationaryLaw: the law at which a controlled diffusion of two states rests, as a network for its log density."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, TypeAlias, final

import numpy as np
import torch
from torch import Tensor

from hacontrol_agents.learning import autodiff
from hacontrol_agents.learning.networks import MLP
from hacontrol_agents.learning.optimizers import LevenbergMarquardt
from hacontrol_envs import ControlProblem
from hacontrol_envs.arrays import like
from hacontrol_envs.core.domain import Domain
from hacontrol_envs.errors import ParameterError

SPREAD = 1.6
"""Standard deviation of the points at which the equation is learnt, in those of the law, so that its tails are seen."""
REACH = 6.5
"""Standard deviations from the law's mean beyond which nothing is learnt."""
EDGE = 0.15
"""Weight of the equations at edges, the same however far out a point is: laws that come near the end of their support
are learnt with it, and not with the weights of other points."""
QUADRATURE = 8.0
"""Standard deviations from the law's mean beyond which the density is neglected in integrals."""

Policy: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""Function that returns actions (B, m) at t (B,) and x (B, 2), differentiable in x; twice, if noise is controlled."""


class Frame(NamedTuple):
    """Coordinates w in which a law is about a standard normal one, of two states c on their scales: w_1 of the first,
    w_2 of the second given the first. w_1 = (c_1 - mean_1)/spread_1, w_2 = (c_2 - mean_2 - slope (c_1 - mean_1))
    / spread_2.
    """

    mean: tuple[float, float]
    spread: tuple[float, float]
    slope: float

    def to(self, c: Tensor) -> Tensor:
        """Return the coordinates w (..., 2) of points c (..., 2)."""
        return self.turn(c - c.new_tensor(self.mean))

    def back(self, w: Tensor) -> Tensor:
        """Return the points c (..., 2) with coordinates w (..., 2)."""
        first = self.spread[0] * w[..., 0]
        return torch.stack([first, self.slope * first + self.spread[1] * w[..., 1]], dim=-1) + w.new_tensor(self.mean)

    def turn(self, vectors: Tensor) -> Tensor:
        """Return the components in w, (..., 2), of vectors with components (..., 2) in c."""
        first, second = vectors[..., 0], vectors[..., 1]
        return torch.stack([first / self.spread[0], (second - self.slope * first) / self.spread[1]], dim=-1)


class Equations(NamedTuple):
    """Equations weight (source + drift . grad l + 1/2 |sigma' grad l|^2 + 1/2 tr(sigma sigma' Hess l)) = 0 in the
    logarithm l of a density, each at a point of its own."""

    points: Tensor
    """Coordinates w, (B, 2)."""
    source: Tensor
    """Constant of each equation, (B,)."""
    drift: Tensor
    """Factors of the gradient, (B, 2)."""
    columns: Tensor
    """The columns of sigma, (B, 2, d)."""
    weight: Tensor
    """Weight of each equation in the sum of squares, (B,)."""


@final
class StationaryLaw:
    """f = e^l / Z of two states on their scales, l = -|w|^2/2 + network(w), w the coordinates of `Frame`.

    Positive by construction; Z by Gauss-Legendre quadrature, so that the mass is one; and without flux through edges it
    does not reach, for the network is bounded and the Gaussian takes f to zero. With b and D = sigma sigma' those of w
    under the policy, by Ito's formula, f obeys d_t f = -div(b f) + 1/2 d_ij(D_ij f). Divided by f that is

        d_t l = -div c + (div D - b) . grad l + 1/2 D : (Hess l + grad l grad l'),    c = b - 1/2 div D,

    whose right side is zero where the law rests. It is minimised by Levenberg-Marquardt, and has no trivial solution
    f = 0 to fall into. Where a state k is reflected within the law's range, the current into the edge
    c_k - 1/2 (D grad l)_k is what reflection carries along the edge, 1/2 div(f tau)/f with tau_j = D_jk for the other
    state j: zero if the noise of the two is not correlated.

    Args:
        state: the two states; a reflecting one is the law's first coordinate. Edges of another kind must lie where the
            law does not come.
        hidden: widths of the network's hidden layers.
        seed: seed of the network's first weights.
        device: where torch computes.

    Raises:
        ParameterError: other than two states.
    """

    def __init__(self, state: Domain, hidden: tuple[int, ...], seed: int, device: str) -> None:
        if state.dimension != 2:
            raise ParameterError(f"a stationary law is learnt of two states, got {state!r}")
        self.network = MLP(2, hidden, generator=torch.Generator().manual_seed(seed)).to(device)
        self.network.layers[-1].weight.data.mul_(0.1)  # type: ignore[operator]
        self.optimizer = LevenbergMarquardt(self.network)
        self.state, self.reflecting = state, np.array([edge == "reflecting" for edge in state.edges])
        self.order = sorted((0, 1), key=lambda i: not self.reflecting[i])
        self.frame = Frame((0.0, 0.0), (1.0, 1.0), 0.0)
        self.log_mass = 0.0

    def place(self, x: Tensor) -> None:
        """Lay the frame around states x (S, 2) drawn from about the law, by their means, deviations and regression."""
        c = self.state.coordinates(x)[:, self.order]
        mean = c.mean(0)
        first, second = (c - mean).T
        slope = 0.0 if self.reflecting.all() else float(first @ second / (first @ first))
        spread = first.std(correction=0), (second - slope * first).std(correction=0)
        self.frame = Frame((float(mean[0]), float(mean[1])), (float(spread[0]), float(spread[1])), slope)

    def coordinates(self, x: Tensor) -> Tensor:
        """Return the coordinates w (..., 2) of states x (..., 2)."""
        return self.frame.to(self.state.coordinates(x)[..., self.order])

    def states(self, w: Tensor) -> Tensor:
        """Return the states x (..., 2) at coordinates w (..., 2)."""
        x: Tensor = self.state.from_coordinates(self.frame.back(w)[..., self.order])
        return x

    def points(self, rng: np.random.Generator, size: int, reach: float = REACH) -> Tensor:
        """Draw coordinates w (size, 2) at which to learn, between reflecting edges.

        Args:
            rng: draws the points.
            size: number of points.
            reach: standard deviations from the law's mean beyond which there are none, at most REACH.
        """
        w = torch.as_tensor(np.clip(rng.standard_normal((size, 2)) * SPREAD, -reach, reach)).to(self._like)
        low, high = self._range(REACH)
        return torch.where(w < low, 2 * low - w, torch.where(w > high, 2 * high - w, w)).clamp(low, high)

    @property
    def _like(self) -> Tensor:
        return next(self.network.parameters()).detach()

    def _range(self, reach: float) -> Tensor:
        """Return the lowest and the highest w, (2, 2): reflecting edges, or `reach` where they are beyond REACH."""
        sign = np.array([[-1.0], [1.0]])
        edges = (self.state.center + sign * self.state.half_width)[:, self.order]
        w = (edges - self.frame.mean) / self.frame.spread
        reached = self.reflecting[self.order] & (np.abs(w) < REACH)
        return torch.as_tensor(np.where(reached, w, sign * reach)).to(self._like)

    def equations(self, problem: ControlProblem, policy: Policy, w: Tensor) -> Equations:
        """Return the equations of a law that rests: one at each point, then one at every eighth, moved to each edge.

        Args:
            problem: the problem whose drift and diffusion move the law.
            policy: what is done.
            w: coordinates of the points, (B, 2).
        """
        ends = self._range(math.inf).tolist()
        edges = [(k, end) for side in ends for k, end in enumerate(side) if math.isfinite(end)]
        parts = [self._inside(problem, policy, w), *(self._at_edge(problem, policy, w[::8], *edge) for edge in edges)]
        return Equations(*(torch.cat(columns) for columns in zip(*parts, strict=True)))

    def _inside(self, problem: ControlProblem, policy: Policy, w: Tensor) -> Equations:
        """Return the equation of a law that rests at points w (B, 2)."""
        w = w.clone().requires_grad_()
        with torch.enable_grad():
            b, sigma = self._motion(problem, policy, w)
            spreading = _divergences(sigma @ sigma.mT, w)
            (source,) = _divergences((spreading / 2 - b)[:, None], w).T
        return _weighted(w, source, spreading - b, sigma)

    def _at_edge(self, problem: ControlProblem, policy: Policy, w: Tensor, k: int, end: float) -> Equations:
        """Return the equation of points (B, 2) on the edge w_k = end, where those of w are moved."""
        w = w.clone()
        w[:, k] = end
        w.requires_grad_()
        push = self.frame.turn(torch.eye(2).to(w)[k])
        with torch.enable_grad():
            b, sigma = self._motion(problem, policy, w)
            D = sigma @ sigma.mT
            along = D[:, k] - D[:, k, k, None] * push / push[k]
            source = b[:, k] - _divergences(D, w)[:, k] / 2 - _divergences(along[:, None], w)[:, 0] / 2
        made = _weighted(w, source, -(D[:, k] + along) / 2, torch.zeros_like(sigma))
        return made._replace(weight=torch.full_like(made.weight, EDGE / math.sqrt(len(w))))

    def _motion(self, problem: ControlProblem, policy: Policy, w: Tensor) -> tuple[Tensor, Tensor]:
        """Return drift (B, 2) and noise columns (B, 2, d) of w, differentiable in w."""
        x, t = self.states(w), w.new_zeros(len(w))
        a = policy(t, x)
        drift, columns = self.state.ito(x, problem.drift(t, x, a), problem.diffusion(t, x, a))
        half = like(self.state.half_width, x)
        return self.frame.turn((half * drift)[:, self.order]), self.frame.turn((half * columns.mT)[..., self.order]).mT

    def fit(self, equations: Equations, steps: int) -> float:
        """Take Levenberg-Marquardt steps on the equations; return the root mean square of what is left of them.

        Args:
            equations: what `equations` returned.
            steps: number of steps.
        """
        loss = 0.0
        for _ in range(steps):
            report = self.optimizer.step(lambda: self.linearised(equations), lambda: self.residual(equations))
            loss = report.loss_after
        return math.sqrt(2 * loss)

    def residual(self, equations: Equations) -> Tensor:
        """Return the left sides of equations, (B,)."""
        w, source, drift, sigma, weight = equations
        _, gradient, hessian = autodiff.jet(self.network, w)
        slope = gradient - w
        curvature = (sigma * (hessian @ sigma - sigma)).sum((1, 2)) + (sigma.mT @ slope[..., None]).square().sum((1, 2))
        return weight * (source + (drift * slope).sum(-1) + curvature / 2)

    def linearised(self, equations: Equations) -> tuple[Tensor, Tensor]:
        """Return the left sides of equations, (B,), and their derivatives in the network's P parameters, (B, P)."""
        w, _, drift, sigma, weight = equations
        slope = autodiff.gradient(self.network, w)[1] - w
        drift = drift + (sigma @ (sigma.mT @ slope[..., None]))[..., 0]
        jacobian = autodiff.parameter_jacobian(self.network, w, drift, sigma.contiguous(), 0.0, weight)[2]
        return self.residual(equations), jacobian

    def quadrature(self, nodes: int = 100) -> tuple[Tensor, Tensor]:
        """Return states (nodes^2, 2) and masses (nodes^2,) that sum to one, by which to take expectations. Renews the
        normaliser Z."""
        rule, weights = (torch.as_tensor(part).to(self._like) for part in np.polynomial.legendre.leggauss(nodes))
        low, high = self._range(QUADRATURE)
        w = (high + low) / 2 + (high - low) / 2 * torch.cartesian_prod(rule, rule)
        cell = torch.cartesian_prod(weights, weights).prod(1) * ((high - low) / 2).prod()
        log = self._log(w)
        top = log.max()
        mass = torch.exp(log - top) * cell
        if not math.prod(self.frame.spread) > 0:
            raise FloatingPointError("the spread of firms, who are all in one place")
        self.log_mass = float(mass.sum().log() + top) + math.log(math.prod(self.frame.spread))
        return self.states(w), mass / mass.sum()

    def _log(self, w: Tensor) -> Tensor:
        with torch.no_grad():
            log: Tensor = self.network(w)[..., 0] - (w * w).sum(-1) / 2
        return log

    def density(self, x: Tensor) -> Tensor:
        """Return the density (...) per unit of both states at x (..., 2); zero beyond reflecting edges."""
        state, log = self.state, self._log(self.coordinates(x)) - self.log_mass
        f = torch.exp(log) * (state.unit_derivatives(x)[0] * like(state.half_width, x)).prod(-1)
        outside = (x < like(state.low, x)) | (x > like(state.high, x))
        return torch.where((outside & torch.as_tensor(self.reflecting).to(x.device)).any(-1), torch.zeros_like(f), f)


def _weighted(w: Tensor, source: Tensor, drift: Tensor, sigma: Tensor) -> Equations:
    """Return equations weighted by 1/(1 + |w|^2), as their terms grow, and by the root of how many there are."""
    weight = 1 / (1 + (w * w).sum(-1)) / math.sqrt(len(w))
    return Equations(*(part.detach() for part in (w, source, drift, sigma, weight)))


def _divergences(fields: Tensor, w: Tensor) -> Tensor:
    """Return sum_j d fields_ij / d w_j, (B, k), of fields (B, k, 2) that are functions of w (B, 2), row by row."""
    if not fields.requires_grad:
        return torch.zeros_like(fields[..., 0])

    def slope(i: int, j: int) -> Tensor:
        return torch.autograd.grad(fields[:, i, j].sum(), w, create_graph=True, materialize_grads=True)[0][:, j]

    return torch.stack([slope(i, 0) + slope(i, 1) for i in range(fields.shape[1])], dim=1)
