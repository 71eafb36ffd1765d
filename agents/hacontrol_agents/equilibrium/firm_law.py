"""FirmLaw: the stationary law of firms as a network for its log density, and the Fokker-Planck residual."""

from __future__ import annotations

import math
from typing import NamedTuple, final

import numpy as np
import torch
from torch import Tensor

from hacontrol_agents.learning import autodiff
from hacontrol_agents.learning.networks import MLP
from hacontrol_agents.learning.optimizers import LevenbergMarquardt

SPREAD = 1.6
"""Standard deviation of the points at which the equation is learnt, in those of the law, so that its tails are seen."""
REACH = 6.5
"""Standard deviations from the law's mean beyond which nothing is learnt."""
QUADRATURE = 8.0
"""Standard deviations from the law's mean beyond which the density is neglected in integrals."""


class Frame(NamedTuple):
    """Coordinates w in which the law is about a standard normal one: w_1 of log productivity z, w_2 of log capital y
    given z: w_1 = (z - mean_z)/spread_z, w_2 = (y - mean_y - slope (z - mean_z))/spread_y.
    """

    mean_y: float
    mean_z: float
    spread_y: float
    spread_z: float
    slope: float

    @classmethod
    def of(cls, y: Tensor, z: Tensor, mass: Tensor) -> Frame:
        """Return the frame of points with masses: their means, spreads and regression slope.

        Args:
            y: log capital of the points, (S,).
            z: log productivity of the points, (S,).
            mass: masses that sum to one, (S,).
        """
        mean_y, mean_z = float(mass @ y), float(mass @ z)
        dy, dz = y - mean_y, z - mean_z
        variance = float(mass @ dz**2)
        slope = float(mass @ (dy * dz)) / variance
        return cls(mean_y, mean_z, math.sqrt(float(mass @ (dy - slope * dz) ** 2)), math.sqrt(variance), slope)

    def to(self, y: Tensor, z: Tensor) -> Tensor:
        """Return the coordinates w (..., 2) of log capital y and log productivity z, each (...)."""
        dz = z - self.mean_z
        return torch.stack([dz / self.spread_z, (y - self.mean_y - self.slope * dz) / self.spread_y], dim=-1)

    def back(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """Return log capital y and log productivity z, each (...), at coordinates w (..., 2)."""
        dz = self.spread_z * w[..., 0]
        return self.mean_y + self.slope * dz + self.spread_y * w[..., 1], self.mean_z + dz

    def turn(self, along_y: Tensor, along_z: Tensor) -> Tensor:
        """Return the components in w, (..., 2), of a vector with components along y and z, each (...)."""
        return torch.stack([along_z / self.spread_z, (along_y - self.slope * along_z) / self.spread_y], dim=-1)


UNPLACED = Frame(0.0, 0.0, 1.0, 1.0, 0.0)
"""Frame in use before it is known where the law is."""


class Motion(NamedTuple):
    """Motion of firms: dy = growth dt, dz = -reversion z dt + volatility dW."""

    growth: Tensor
    """Growth iota - delta of log capital at the points, (B,) [1/year]."""
    slope: Tensor
    """Derivative of `growth` in log capital at the points, (B,) [1/year]."""
    reversion: float
    volatility: float


@final
class FirmLaw:
    """f(y, z) = e^l / Z of log capital and log productivity, l = -|w|^2/2 + network(w), w the coordinates of `Frame`.

    Positive by construction; Z by Gauss-Legendre quadrature, so that the mass is one; and without flux through edges it
    does not reach, for the network is bounded and the Gaussian takes f to zero. Dividing the stationary Fokker-Planck
    equation 0 = -d_y(growth f) + kappa d_z(z f) + sigma^2/2 d_zz f by f gives

        R(l) = -growth_y - growth l_y + kappa + kappa z l_z + sigma^2/2 (l_zz + l_z^2) = 0,

    which is minimised by Levenberg-Marquardt; it has no trivial solution f = 0 to fall into. Where productivity is
    reflected within the law's range (|z| = bound), the current kappa z + sigma^2/2 l_z is zero.
    """

    def __init__(self, hidden: tuple[int, ...], bound: float, seed: int, device: str) -> None:
        self.network = MLP(2, hidden, generator=torch.Generator().manual_seed(seed)).to(device)
        self.network.layers[-1].weight.data.mul_(0.1)  # type: ignore[operator]
        self.optimizer = LevenbergMarquardt(self.network)
        self.bound, self.frame = bound, UNPLACED
        self.log_mass = 0.0

    def points(self, rng: np.random.Generator, size: int) -> tuple[Tensor, Tensor]:
        """Return coordinates w (size, 2) at which to learn, and a second set (N, 2) on reflecting edges, where |z| is
        the bound; N is 0 where the law reaches none."""
        w = torch.as_tensor(np.clip(rng.standard_normal((size, 2)) * SPREAD, -REACH, REACH)).to(self._like)
        low, high = self._range()
        w[:, 0] = torch.where(
            w[:, 0] < low, 2 * low - w[:, 0], torch.where(w[:, 0] > high, 2 * high - w[:, 0], w[:, 0])
        )
        w[:, 0].clamp_(low, high)
        edges = [end for end in (low, high) if abs(end) < REACH]
        on = [torch.stack([torch.full_like(w[::8, 1], end), w[::8, 1]], dim=1) for end in edges]
        return w, torch.cat(on) if on else w[:0]

    @property
    def _like(self) -> Tensor:
        return next(self.network.parameters()).detach()

    def _range(self) -> tuple[float, float]:
        """Return the reflecting edges in w_1, or REACH where they are farther."""
        ends = ((sign * self.bound - self.frame.mean_z) / self.frame.spread_z for sign in (-1, 1))
        low, high = ends
        return max(low, -REACH), min(high, REACH)

    def fit(self, points: tuple[Tensor, Tensor], motion: Motion, steps: int) -> float:
        """Take Levenberg-Marquardt steps on the residual; return its root mean square at the end, relative to the
        equation's terms.

        Args:
            points: coordinates w inside and on the edges, as `points` returns them.
            motion: motion of firms at the points.
            steps: number of steps.
        """
        loss = 0.0
        for _ in range(steps):
            report = self.optimizer.step(
                lambda: self._residual(points, motion, jacobian=True),  # type: ignore[arg-type, return-value]
                lambda: self._residual(points, motion)[0],
            )
            loss = report.loss_after
        return math.sqrt(2 * loss)

    def _residual(self, points: tuple[Tensor, Tensor], motion: Motion, jacobian: bool = False) -> tuple[Tensor, ...]:
        """Return R / (1 + |w|^2), the current at the edges, and with `jacobian` their derivatives in the parameters."""
        (w, on), frame = points, self.frame
        _, z = frame.back(w)
        sigma = frame.turn(torch.zeros_like(z), torch.full_like(z, motion.volatility))
        b = frame.turn(motion.growth, -motion.reversion * z)
        _, gradient, hessian = autodiff.jet(self.network, w)
        slope = gradient - w
        along = (sigma * slope).sum(-1)
        bend = (sigma * (hessian @ sigma[..., None])[..., 0]).sum(-1) - (sigma * sigma).sum(-1)
        weight = 1 / (1 + (w * w).sum(-1)) / math.sqrt(len(w))
        outflow = motion.reversion - motion.slope  # minus the divergence of the drift
        rows = [weight * (outflow - (b * slope).sum(-1) + (bend + along**2) / 2)]
        _, z_on = frame.back(on)
        across = frame.turn(torch.zeros_like(z_on), torch.full_like(z_on, motion.volatility**2 / 2))
        share = 1 / math.sqrt(max(len(on), 1))
        if len(on):
            _, gradient_on, _ = autodiff.jet(self.network, on)
            rows.append(share * (motion.reversion * z_on + (across * (gradient_on - on)).sum(-1)))
        if not jacobian:
            return (torch.cat(rows),)
        drift, still = sigma * along[:, None] - b, on.new_zeros(*on.shape, 1)
        parts = [autodiff.parameter_jacobian(self.network, w, drift, sigma[..., None].contiguous(), 0.0, weight)[2]]
        if len(on):
            parts.append(autodiff.parameter_jacobian(self.network, on, across, still, 0.0, share)[2])
        return torch.cat(rows), torch.cat(parts)

    def quadrature(self, nodes: int = 100) -> tuple[Tensor, Tensor, Tensor]:
        """Return y, z and masses that sum to one, each (nodes^2,), by which to take expectations. Renews the normaliser
        Z."""
        rule, weights = (torch.as_tensor(part).to(self._like) for part in np.polynomial.legendre.leggauss(nodes))
        low, high = self._range()
        low, high = (-QUADRATURE if low == -REACH else low), (QUADRATURE if high == REACH else high)
        first = (low + high) / 2 + (high - low) / 2 * rule
        w = torch.cartesian_prod(first, QUADRATURE * rule)
        cell = torch.cartesian_prod((high - low) / 2 * weights, QUADRATURE * weights).prod(1)
        log = self._log(w)
        top = log.max()
        mass = torch.exp(log - top) * cell
        self.log_mass = float(mass.sum().log() + top) + math.log(self.frame.spread_y * self.frame.spread_z)
        return *self.frame.back(w), mass / mass.sum()

    def _log(self, w: Tensor) -> Tensor:
        with torch.no_grad():
            log: Tensor = self.network(w.reshape(-1, 2))[:, 0].reshape(w.shape[:-1]) - (w * w).sum(-1) / 2
        return log

    def density(self, y: Tensor, z: Tensor) -> Tensor:
        """Return the density f (...) per unit of log capital y and log productivity z, each (...)."""
        f = torch.exp(self._log(self.frame.to(y, z)) - self.log_mass)
        return torch.where(z.abs() <= self.bound, f, torch.zeros_like(f))
