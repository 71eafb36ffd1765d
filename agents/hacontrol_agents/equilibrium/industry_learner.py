"""IndustryLearner: base class of agents that find the equilibrium of a FirmIndustry."""

from __future__ import annotations

import abc
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, final

import numpy as np

from hacontrol_agents.equilibrium.economy_learner import EconomyLearner
from hacontrol_agents.equilibrium.industry_figure import industry_figure
from hacontrol_envs import FirmIndustry, Solution
from hacontrol_envs.arrays import Floats

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
