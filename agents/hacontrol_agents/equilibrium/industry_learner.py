"""IndustryLearner: base class of agents that find the equilibrium of a FirmIndustry."""

from __future__ import annotations

import abc
import textwrap
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, final

import numpy as np

from hacontrol_agents.equilibrium.economy_learner import EconomyLearner
from hacontrol_agents.equilibrium.industry_figure import industry_figure
from hacontrol_envs import FirmIndustry, Solution
from hacontrol_envs.arrays import Floats
from hacontrol_envs.errors import EquilibriumError, NumericalError, ParameterError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


MOST_POLICY, MOST_PRICE, MOST_LAW = 3e-4, 3e-4, 3e-4
"""Largest changes, of an industry that is certified: of the policy by a step of policy iteration, of the price by the
market's clearing, and of output by the law's own equation; relative."""


@dataclass(kw_only=True)
class IndustryLearner(EconomyLearner):
    """Learns the stationary equilibrium of an industry: a price, what firms are worth and do, and their law.

    It knows the firms' problem and the demand, never the equilibrium. Functions take capital k and log productivity z
    of one shape (...), as those of `hacontrol_envs.Equilibrium`, with which they can be compared.
    """

    economy: FirmIndustry = field(init=False)
    """The industry, under the name that every learner of an economy has."""
    industry: FirmIndustry = field(kw_only=False)
    """The industry whose equilibrium is to be found."""

    subject: ClassVar[str] = "industry"
    learns: ClassVar[Any] = FirmIndustry

    def __post_init__(self) -> None:
        self.economy = self.industry
        super().__post_init__()

    @property
    def signal(self) -> float:
        """The output price P, as learnt so far."""
        return self.price

    @property
    def solution(self) -> Solution:
        """Functions `value` and `policy` as a `Solution` of states x = (k, z), (..., 2)."""

        def value(t: Any, x: Floats) -> Floats:
            return self.value(x[..., 0], x[..., 1])

        def policy(t: Any, x: Floats) -> Floats:
            return self.policy(x[..., 0], x[..., 1])[..., None]

        return Solution(value, policy, "numerical", f"learnt by {type(self).__name__}", np.nan)

    @property
    @abc.abstractmethod
    def price(self) -> float:
        """The output price P, as learnt so far."""

    @property
    @abc.abstractmethod
    def output(self) -> float:
        """Output Y = E_mu[e^z k^alpha] under the learnt law."""

    @property
    @abc.abstractmethod
    def capital(self) -> float:
        """Capital K = E_mu[k] under the learnt law."""

    @abc.abstractmethod
    def value(self, k: Floats, z: Floats) -> Floats:
        """Return V(k, z), the present value of a firm's profits."""

    @abc.abstractmethod
    def policy(self, k: Floats, z: Floats) -> Floats:
        """Return the investment rate iota(k, z) [1/year]."""

    @abc.abstractmethod
    def density(self, k: Floats, z: Floats) -> Floats:
        """Return the law's density per unit of capital and of log productivity."""

    def hjb_error(self, k: Floats, z: Floats) -> Floats | None:
        """Return |HJB residual| relative to the equation's terms; None where the learner cannot tell."""
        return None

    def law_error(self, k: Floats, z: Floats) -> Floats | None:
        """Return |Fokker-Planck residual| relative to the equation's terms; None where the learner cannot tell."""
        return None

    def _doubt(self) -> str:
        """Return why the equilibrium is not certified: the law, what firms would do instead, or the market's clearing.

        The law of the learnt policy at the learnt price is found by finite differences, and so is the value of it, for
        which a step of policy iteration is made: what firms would deviate to. The price is the one that clears the
        market of firms who have deviated. No equilibrium is computed, and nobody's optimum.
        """
        try:
            with np.errstate(all="ignore"):  # what is not finite is refused
                followed = self.industry.follow(self.price, self.solution.policy)
                better = followed.improved()
            followed.refuse_binding()
            better.refuse_binding()
        except (EquilibriumError, NumericalError, ParameterError, RuntimeError) as error:  # of SuperLU, where singular
            return f"no law is found of firms under its policy: {textwrap.shorten(str(error), 200)}"
        learn = "learn on, or try another seed or larger networks"
        law = abs(self.output / followed.output - 1)
        if not law <= MOST_LAW:
            return f"the law that it has learnt produces {law:.1g} more or less than that of its policy: {learn}"
        size = followed.mean(followed.rates**2)
        policy = np.sqrt(followed.mean((better.rates - followed.rates) ** 2) / size)
        if not policy <= MOST_POLICY:
            return f"firms gain by deviating from its investment rates, by {policy:.1g} of their size: {learn}"
        price = abs(self.industry.excess(self.price, better.output) / self.industry.excess_slope)
        if not price <= MOST_PRICE:
            return f"the market does not clear: its price is about {price:.1g} off: {learn}"
        return super()._doubt()

    def _answers(self) -> dict[str, Any]:
        x = self.industry.firm(self.price).initial_state(np.random.default_rng(0), 64)
        k, z = x[:, 0], x[:, 1]
        return {"price": self.price, "output": self.output, "value": self.value(k, z), "policy": self.policy(k, z)}

    @final
    def plot(self, truth: Any = None) -> Figure:
        """Draw value, policy, law, convergence and residuals; with `truth`, the true ones dashed.

        Raises:
            ParameterError: matplotlib is not installed.
        """
        return industry_figure(self, truth)
