"""SavingRule: savers' consumption as a network's correction to a known rule, which sees moments of a law."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple, final

import torch
from torch import Tensor, nn

from hacontrol_agents.learning.networks import MLP
from hacontrol_agents.learning.row_jacobian import Call, call
from hacontrol_envs.core.conditions import Consumption, EulerConditions, PopulationConditions

LawInput = Literal["moments", "learned moments", "histogram"]
"""Name of the moments of a law that a rule sees besides its mean."""

HATS = 8
"""Number of functions of wealth whose means stand for a histogram."""
BASIS_WIDTH = 8
"""Units of the network whose means over savers are the learned moments."""


class Choice(NamedTuple):
    """Choices of savers at points."""

    most: Tensor
    """Consumption at the limit, (...)."""
    wanted: Tensor
    """Consumption if there were no limit today, (...)."""
    call: Call
    """The network's call, with what its Jacobian needs."""


class Frame(NamedTuple):
    """An affine change of coordinates, u = (c - center)/half, (k,) each."""

    center: Tensor
    """Centre of the points, (k,)."""
    half: Tensor
    """Half of the points' range, (k,)."""

    @classmethod
    def around(cls, points: Tensor) -> Frame:
        """Return the frame that takes points (M, k) to [-1, 1]^k."""
        low, high = points.amin(0), points.amax(0)
        half = (high - low) / 2
        return cls((low + high) / 2, torch.where(half > 1e-9 * (1 + high.abs()), half, torch.ones_like(half)))


@final
class SavingRule(nn.Module):
    """c(x, mu) = min(c_0(x) exp N(x, q), most(x)): a known rule c_0 times the exponential of a network.

    most(x), m(x) - a_min unless work is chosen, is consumption of who saves a_min. The minimum puts the kink where
    resources end, wherever that is. N sees the point in the coordinates that the conditions declare, and of the law mu,
    whose mean is part of the point, further moments q = E_mu[b(a)]: none ("moments"), those of a small network b that
    is learnt with N ("learned moments": Han, Yang and E, 2021), or those of functions that are piecewise linear in log
    wealth (the "histogram", seen through them). All inputs are brought to [-1, 1] by frames found where learning
    starts. At first N is next to zero.
    """

    def __init__(
        self,
        conditions: EulerConditions,
        known: Consumption,
        hidden: Sequence[int],
        law_input: LawInput,
        moments: int,
        seed: int,
        start: Tensor,
    ) -> None:
        super().__init__()
        self.conditions, self.known, self.law_input = conditions, known, law_input
        draws = torch.Generator().manual_seed(seed)
        self.moments = {"moments": 0, "learned moments": moments, "histogram": HATS}[law_input]
        self.frame = Frame.around(conditions.coordinates(start.reshape(-1, start.shape[-1])))
        self.network = MLP(len(self.frame.center) + self.moments, hidden, generator=draws)
        self.basis = MLP(1, (BASIS_WIDTH,), moments, generator=draws) if law_input == "learned moments" else None
        with torch.no_grad():
            last = self.network.layers[-1]
            last.weight.mul_(0.01)  # type: ignore[operator]
        zero = start.new_zeros(self.moments)
        self.moment_frame = Frame(zero, zero + 1)
        self.to(start.device)

    def see(self, mass: Tensor, assets: Tensor) -> None:
        """Place the moments' frame around those of laws (B, R) over assets (B, R)."""
        if self.moments:
            with torch.no_grad():
                self.moment_frame = Frame.around(self.mean(mass, assets)[0])

    def forward(self, x: Tensor, q: Tensor) -> Choice:
        """Return the choices at points x (..., n) with framed moments q (..., k) of the law."""
        seen = (self.conditions.coordinates(x) - self.frame.center) / self.frame.half
        made = call(self.network, torch.cat([seen, q.expand(*seen.shape[:-1], self.moments)], dim=-1))
        resources = self.conditions.resources(x)
        wanted = self.known(x, resources) * torch.exp(made.output[..., 0])
        return Choice(self.conditions.affordable(x, resources - self.conditions.limit), wanted, made)

    def mean(self, mass: Tensor, assets: Tensor) -> tuple[Tensor, Call | None]:
        """Return framed moments (..., k) of laws (..., R) over assets (..., R), with the basis's call where it is
        learnt, otherwise None."""
        conditions = self.conditions
        if not isinstance(conditions, PopulationConditions) or not self.moments:
            return mass.new_zeros(*mass.shape[:-1], 0), None
        limit, top = conditions.limit, float(conditions.assets[-1])
        wealth = torch.log((assets - limit).clamp(min=0.0) + 1) / math.log(top - limit + 1)
        if self.basis is None:
            knots = torch.arange(1, HATS + 1, dtype=mass.dtype, device=mass.device) / (HATS + 1)
            made, values = None, (1 - (wealth[..., None] - knots).abs() * (HATS + 1)).clamp(min=0.0)
        else:
            made = call(self.basis, 2 * wealth[..., None] - 1)
            values = made.output
        moments = (mass[..., None] * values).sum(-2)
        return (moments - self.moment_frame.center) / self.moment_frame.half, made

    def consumption(self, x: Tensor, q: Tensor) -> Tensor:
        """Return c (...) at points x (..., n) with framed moments q (..., k) of the law."""
        choice = self(x, q)
        return torch.minimum(choice.wanted, choice.most)

    def saving(self, x: Tensor, q: Tensor) -> Tensor:
        """Return a' (...) at points x (..., n) with framed moments q (..., k) of the law."""
        choice = self(x, q)
        return self.saved(x, choice.most, torch.minimum(choice.wanted, choice.most))

    def saved(self, x: Tensor, most: Tensor, consumed: Tensor) -> Tensor:
        """Return a' (...) of savers who consume `consumed`.

        Args:
            x: points, (..., n).
            most: consumption at the limit, (...).
            consumed: consumption of no more than `most`, (...).
        """
        spending = self.conditions.spending
        found: Tensor = self.conditions.limit + (spending(x, most) - spending(x, consumed))
        return found
