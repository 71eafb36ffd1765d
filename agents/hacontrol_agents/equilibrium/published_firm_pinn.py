"""PublishedFirmPinn: an industry's equilibrium by the first-order method that was published for it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_, parameters_to_vector, vector_to_parameters

from hacontrol_agents.equilibrium.industry_learner import IndustryLearner
from hacontrol_agents.learning import autodiff
from hacontrol_agents.learning.networks import MLP
from hacontrol_envs import FirmInvestment
from hacontrol_envs.arrays import Floats
from hacontrol_envs.core.parameters import number
from hacontrol_envs.errors import ParameterError
from hacontrol_envs.problems.firm_investment import STEEPNESS

NODES = 160
"""Gauss-Legendre nodes per axis (capital, log productivity) by which the learnt density is integrated."""


@final
@dataclass(kw_only=True)
class PublishedFirmPinn(IndustryLearner):
    """Find an equilibrium by two networks of raw capital and productivity, trained by Adam in turn, and a damped price.

    Each iteration, with theta(q) = theta_+ + (theta_- - theta_+)/(1 + e^{5q}), q = V_k - p and i = k q/theta(q),
      1. takes `steps` of Adam on the mean square of the HJB residual, uniformly over the box,

             P e^z k^alpha + k q^2/(2 theta(q)) - delta k V_k - kappa z V_z + sigma^2/2 V_zz - r V;

      2. takes as many on the density m = softplus(network)^2 with V held: mean square of the stationary Fokker-Planck
         residual -d_k[(i - delta k) m] + kappa d_z(z m) + sigma^2/2 m_zz, plus that of the current across the edges,
         plus (mass - 1)^2, all with weight one;
      3. estimates Y = E_m[e^z k^alpha] at uniform points, self-normalised, and moves the price part of the way to
         clearing: log P <- (1 - damping) log P - damping eta log Y.

    Every phase has a fresh Adam; the networks go on from where they were. The method is kept to be measured and is not
    made better than it was. Nothing sets V at the edges, so that the equation has solutions that are no value functions
    (convex in capital, for one), and residuals are absolute, so that a nearly uniform density leaves little of them.
    The density is reported as the network gives it, whatever its mass; moments of it are divided by its mass. The
    policy is cut to admissible rates, the control in the two residuals is not.

    `history` has the price, the change of its logarithm, the two losses ("loss" of V, "law" of m: mean squares, not
    relative) and the mass of m.
    """

    hidden: tuple[int, ...] = (64, 64, 64)
    """Widths of the hidden layers of either network."""
    iterations: int = 8
    """Iterations when `learn` is given no budget."""
    steps: int = 500
    """Steps of Adam on V, and on the density, in an iteration."""
    points: int = 2000
    """Points inside the box, drawn afresh for each step."""
    boundary_points: int = 1000
    """Points on the four edges of the box, drawn afresh for each step."""
    mass_points: int = 4000
    """Points by which the mass, and output, are estimated."""
    learning_rate: float = 3e-3
    """Learning rate of Adam."""
    gradient_clip: float = 1.0
    """Largest norm of a gradient."""
    damping: float = 0.7
    """Share of the way to the clearing price that the logarithm of the price goes in an iteration."""
    tolerance: float = 5e-4
    """Change of the logarithm of the price below which learning stops."""
    start_price: float = 1.0
    """Price in the first iteration."""

    name: ClassVar[str] = "hjb-fp-published"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("learning_rate", "gradient_clip", "damping", "tolerance", "start_price"):
            number(name, getattr(self, name), above=0.0)
        for name, least in (("iterations", 1), ("steps", 1), ("points", 1), ("boundary_points", 4), ("mass_points", 1)):
            if getattr(self, name) < least:
                raise ParameterError(f"{name} must be at least {least}, got {getattr(self, name)!r}")
        chosen = self.industry.firm(1.0).adjustment
        if chosen != "as-published":
            raise ParameterError(
                f'{self.name} has the published control q/theta(q) built in, which firms with adjustment="{chosen}" do '
                'not play: give it a FirmIndustry(adjustment="as-published"), or use HJBFokkerPlanckPinn'
            )
        draws = torch.Generator().manual_seed(self.seed or 0)
        self._v, self._m = (MLP(2, self.hidden, generator=draws).to(self.device) for _ in range(2))
        self._log_price, self._iteration = math.log(self.start_price), 0
        self._box = Box.of(self.firm)

    @property
    def firm(self) -> FirmInvestment:
        """One firm at the price so far."""
        return self.industry.firm(self.price)

    @property
    def price(self) -> float:
        return math.exp(self._log_price)

    @property
    def output(self) -> float:
        x, mass = self._quadrature()
        return float(mass @ _product(self.firm, x) / mass.sum())

    @property
    def capital(self) -> float:
        x, mass = self._quadrature()
        return float(mass @ x[:, 0] / mass.sum())

    @property
    def mass(self) -> float:
        """The integral of the density, which is one where it was learnt well."""
        return float(self._quadrature()[1].sum())

    def value(self, k: Floats, z: Floats) -> Floats:
        return self._on_points(k, z, lambda x: self._value(x).f)

    def policy(self, k: Floats, z: Floats) -> Floats:
        def rate(x: Tensor) -> Tensor:
            v = self._value(x)
            found: Tensor = self.firm.maximiser(x.new_zeros(len(x)), x, torch.stack([v.f_k, v.f_z], dim=1), v.f_zz)
            return found[:, 0]

        return self._on_points(k, z, rate)

    def density(self, k: Floats, z: Floats) -> Floats:
        return self._on_points(k, z, lambda x: torch.where(self._box.holds(x), self._raw_density(x), 0.0))

    def hjb_error(self, k: Floats, z: Floats) -> Floats:
        def error(x: Tensor) -> Tensor:
            firm, v = self.firm, self._value(x)
            found: Tensor = hjb_residual(firm, x, v).abs() / (firm.revenue(x) + firm.discount * v.f.abs())
            return found

        return self._on_points(k, z, error)

    def law_error(self, k: Floats, z: Floats) -> Floats:
        def error(x: Tensor) -> Tensor:
            firm, m = self.firm, self._density(x)
            residual = fokker_planck_residual(firm, x, *self._growth(x), m)
            reach = 1 + (x[:, 1] / firm.productivity_deviation) ** 2
            found: Tensor = residual.abs() / (firm.mean_reversion * reach * m.f)
            return found

        return self._on_points(k, z, error)

    def _learn(self, budget: int | None, report: Callable[..., bool]) -> None:
        while self._share_done(budget) < 1:
            seed = np.random.SeedSequence([self.seed or 0, self._iteration]).generate_state(1, np.uint64)
            draws = torch.Generator().manual_seed(int(seed[0] >> np.uint64(1)))
            loss = self._descend(self._v, self._value_loss, draws)
            law = self._descend(self._m, self._density_loss, draws)
            before, self._log_price = self._log_price, self._cleared(draws)
            self._iteration += 1
            self.evaluations += self.steps * (2 * self.points + self.boundary_points)
            diagnostics = {"price": self.price, "change": abs(self._log_price - before), "loss": loss, "law": law}
            if report(self._share_done(budget, ahead=1), **diagnostics, mass=self.mass):
                return

    def _met(self) -> bool:
        return self.history[-1]["change"] < self.tolerance

    def _share_done(self, budget: int | None, ahead: int = 0) -> float:
        rows = self.history[self.rows_before :]
        if rows and rows[-1]["change"] < self.tolerance:
            return 1.0
        return (len(rows) + ahead) / self.iterations if budget is None else self.evaluations / budget

    def _descend(self, network: MLP, loss_of: Callable[[torch.Generator], Tensor], draws: torch.Generator) -> float:
        """Take steps of a fresh Adam; return the loss before the last."""
        parameters = list(network.parameters())
        adam = torch.optim.Adam(parameters, lr=self.learning_rate)
        loss = torch.zeros(())
        for _ in range(self.steps):
            adam.zero_grad()
            loss = loss_of(draws)
            loss.backward()  # type: ignore[no-untyped-call]
            clip_grad_norm_(parameters, self.gradient_clip)
            adam.step()
        return float(loss.detach())

    def _value_loss(self, draws: torch.Generator) -> Tensor:
        x = self._uniform(draws, self.points)
        return hjb_residual(self.firm, x, self._value(x)).square().mean()

    def _density_loss(self, draws: torch.Generator) -> Tensor:
        firm, x, edges = self.firm, self._uniform(draws, self.points), self._on_edges(draws)
        residual = fokker_planck_residual(firm, x, *self._growth(x), self._density(x))
        along_k, along_z = current(firm, edges, self._growth(edges)[0], self._density(edges))
        half = len(edges) // 2
        across = torch.cat([along_k[:half], along_z[half:]])
        mass = (
            self._box.area * _squared_softplus(self._m(self._box.unit(self._uniform(draws, self.mass_points)))).mean()
        )
        return residual.square().mean() + across.square().mean() + (mass - 1).square()

    @torch.no_grad()
    def _cleared(self, draws: torch.Generator) -> float:
        """Return the next log P."""
        x = self._uniform(draws, self.mass_points)
        m = self._raw_density(x)
        output = float(m @ _product(self.firm, x) / m.sum())
        eta = self.industry.demand_elasticity
        return (1 - self.damping) * self._log_price - self.damping * eta * math.log(output)

    def _uniform(self, draws: torch.Generator, size: int) -> Tensor:
        """Return states (size, 2) uniform in the box."""
        u = 2 * torch.rand(size, 2, generator=draws, dtype=torch.float64) - 1
        return self._box.physical(u.to(self.device))

    def _on_edges(self, draws: torch.Generator) -> Tensor:
        """Return states uniform on the edges, as many on each: those of capital first, then those of productivity."""
        x = self._uniform(draws, self.boundary_points // 4 * 4)
        low, high = self._box.physical(x.new_tensor([[-1.0, -1.0], [1.0, 1.0]]))
        quarters = x.view(4, -1, 2)
        for place, (axis, end) in enumerate(((0, low), (0, high), (1, low), (1, high))):
            quarters[place, :, axis] = end[axis]
        return x

    def _value(self, x: Tensor) -> Derivatives:
        return derivatives(self._v, self._box, x)

    def _density(self, x: Tensor) -> Derivatives:
        return density_of(derivatives(self._m, self._box, x))

    def _raw_density(self, x: Tensor) -> Tensor:
        """Return m (B,) at states (B, 2)."""
        return _squared_softplus(self._m(self._box.unit(x))[:, 0])

    @torch.no_grad()
    def _growth(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return i - delta k and its derivative in k, (B,) each, under the learnt value."""
        _, gradient, hessian = autodiff.jet(self._v, self._box.unit(x))
        half = self._box.half[0]
        return capital_growth(self.firm, x, gradient[:, 0] / half, hessian[:, 0, 0] / half**2)

    @torch.no_grad()
    def _quadrature(self) -> tuple[Tensor, Tensor]:
        """Return states of the box, (NODES^2, 2), and the density's mass at each."""
        like = next(self._m.parameters())
        node, weight = (torch.as_tensor(part).to(like) for part in np.polynomial.legendre.leggauss(NODES))
        x = self._box.physical(torch.cartesian_prod(node, node))
        cell = torch.cartesian_prod(weight, weight).prod(1) * self._box.area / 4
        return x, cell * self._raw_density(x)

    @torch.no_grad()
    def _on_points(self, k: Floats, z: Floats, function: Callable[[Tensor], Tensor]) -> Floats:
        """Apply a function of states (B, 2) to capital and productivity of any one shape."""
        k, z = np.broadcast_arrays(np.asarray(k, dtype=np.float64), np.asarray(z, dtype=np.float64))
        x = torch.as_tensor(np.stack([k.ravel(), z.ravel()], axis=-1)).to(self.device)
        found: Floats = function(x).cpu().numpy().reshape(k.shape)
        return found

    def _tensors(self) -> dict[str, Tensor]:
        networks = {"value": self._v, "density": self._m}
        return {name: parameters_to_vector(network.parameters()).detach() for name, network in networks.items()}

    def _record(self) -> dict[str, Any]:
        return {"log_price": self._log_price, "iteration": self._iteration}

    def _restore(self, tensors: dict[str, Tensor], record: dict[str, Any]) -> None:
        vector_to_parameters(tensors["value"], self._v.parameters())
        vector_to_parameters(tensors["density"], self._m.parameters())
        self._log_price, self._iteration = record["log_price"], record["iteration"]


class Box(NamedTuple):
    """The box of capital and log productivity, both on a linear scale: centre and half its width along either."""

    centre: tuple[float, float]
    half: tuple[float, float]

    @classmethod
    def of(cls, firm: FirmInvestment) -> Box:
        """Return the box of a firm."""
        low, high = firm.capital_bounds
        return cls(((low + high) / 2, 0.0), ((high - low) / 2, float(firm.productivity_bound)))

    @property
    def area(self) -> float:
        """Area of the box, in units of capital."""
        return 4 * self.half[0] * self.half[1]

    def unit(self, x: Tensor) -> Tensor:
        """Return states x (..., 2) in unit coordinates, [-1, 1]^2 over the box."""
        return (x - x.new_tensor(self.centre)) / x.new_tensor(self.half)

    def physical(self, u: Tensor) -> Tensor:
        """Return the states x (..., 2) at unit coordinates u (..., 2)."""
        return u.new_tensor(self.centre) + u.new_tensor(self.half) * u

    def holds(self, x: Tensor) -> Tensor:
        """Tell whether states x (..., 2) are within the box, (...), edges included up to rounding."""
        return (self.unit(x).abs() <= 1 + 1e-12).all(-1)


class Derivatives(NamedTuple):
    """A function of capital and log productivity at points, with derivatives, each (B,)."""

    f: Tensor
    f_k: Tensor
    f_z: Tensor
    f_zz: Tensor


def derivatives(network: MLP, box: Box, x: Tensor) -> Derivatives:
    """Return a network's value and derivatives at states, differentiable in its parameters.

    Four streams h, h_k, h_z, h_zz go through the layers together; through an activation f they become
    f(h), f' h_k, f' h_z, f' h_zz + f'' h_z^2.

    Args:
        network, box, x: a network of unit coordinates; the box that they belong to; states, (B, 2).
    """
    along_k, along_z = (torch.diag(1 / x.new_tensor(box.half))[i].expand_as(x) for i in range(2))
    streams = torch.stack([box.unit(x), along_k, along_z, torch.zeros_like(x)])
    *hidden, last = (layer for layer in network.layers if isinstance(layer, nn.Linear))
    for layer, activation in zip(hidden, network.activations, strict=True):
        h, h_k, h_z, h_zz = streams @ layer.weight.T
        h = activation.value(h + layer.bias)
        first = activation.first(h)
        streams = torch.stack([h, first * h_k, first * h_z, first * h_zz + activation.second(h, first) * h_z**2])
    h, h_k, h_z, h_zz = streams @ last.weight[0]
    return Derivatives(h + last.bias, h_k, h_z, h_zz)


def density_of(g: Derivatives) -> Derivatives:
    """Return m = softplus(g)^2 with its derivatives."""
    soft, rise = torch.logaddexp(g.f, g.f.new_zeros(())), torch.sigmoid(g.f)
    first, second = 2 * soft * rise, 2 * rise**2 + 2 * soft * rise * (1 - rise)
    return Derivatives(soft**2, first * g.f_k, first * g.f_z, first * g.f_zz + second * g.f_z**2)


def _squared_softplus(g: Tensor) -> Tensor:
    return torch.logaddexp(g, g.new_zeros(())) ** 2


def steepness(firm: FirmInvestment, q: Tensor) -> tuple[Tensor, Tensor]:
    """Return theta(q) and its derivative, each of q's shape."""
    gap, share = firm.adjustment_cost_down - firm.adjustment_cost_up, torch.sigmoid(-STEEPNESS * q)
    return firm.adjustment_cost_up + gap * share, -STEEPNESS * gap * share * (1 - share)


def hjb_residual(firm: FirmInvestment, x: Tensor, v: Derivatives) -> Tensor:
    """Return P e^z k^alpha + k q^2/(2 theta(q)) - delta k V_k - kappa z V_z + sigma^2/2 V_zz - r V, (B,).

    Args:
        firm, x, v: the firm, at its price P; states, (B, 2); V and its derivatives there.
    """
    k, z = x.unbind(-1)
    q = v.f_k - firm.purchase_price
    theta, _ = steepness(firm, q)
    kept: Tensor = firm.revenue(x) + k * q**2 / (2 * theta) - firm.depreciation * k * v.f_k
    drifted = -firm.mean_reversion * z * v.f_z + firm.volatility**2 / 2 * v.f_zz
    return kept + drifted - firm.discount * v.f


def capital_growth(firm: FirmInvestment, x: Tensor, v_k: Tensor, v_kk: Tensor) -> tuple[Tensor, Tensor]:
    """Return i - delta k with i = k q/theta(q), q = V_k - p, and its derivative in k, (B,) each.

    Args:
        firm, x, v_k, v_kk: the firm; states, (B, 2); V_k and V_kk there, (B,) each.
    """
    k, q = x[:, 0], v_k - firm.purchase_price
    theta, slope = steepness(firm, q)
    rate = q / theta
    return k * (rate - firm.depreciation), rate - firm.depreciation + k * (1 / theta - q * slope / theta**2) * v_kk


def fokker_planck_residual(firm: FirmInvestment, x: Tensor, growth: Tensor, growth_k: Tensor, m: Derivatives) -> Tensor:
    """Return -d_k[growth m] + kappa d_z(z m) + sigma^2/2 m_zz, (B,): zero for a stationary density m.

    Args:
        firm, x, growth, growth_k, m: the firm; states, (B, 2); growth of capital and its derivative in k, (B,) each; m.
    """
    inflow = -growth_k * m.f - growth * m.f_k
    return inflow + firm.mean_reversion * (m.f + x[:, 1] * m.f_z) + firm.volatility**2 / 2 * m.f_zz


def current(firm: FirmInvestment, x: Tensor, growth: Tensor, m: Derivatives) -> tuple[Tensor, Tensor]:
    """Return the probability current along k, growth m, and along z, -kappa z m - sigma^2/2 m_z, (B,) each.

    Args:
        firm, x, growth, m: the firm; states, (B, 2); growth of capital there, (B,); the density m.
    """
    return growth * m.f, -firm.mean_reversion * x[:, 1] * m.f - firm.volatility**2 / 2 * m.f_z


def _product(firm: FirmInvestment, x: Tensor) -> Tensor:
    """Return e^z k^alpha, (B,)."""
    return torch.exp(x[:, 1]) * x[:, 0] ** firm.returns_to_scale
