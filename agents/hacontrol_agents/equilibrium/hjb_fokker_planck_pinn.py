"""HJBFokkerPlanckPinn: the stationary equilibrium of an industry by two networks and a price."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from hacontrol_agents.equilibrium.industry_learner import IndustryLearner
from hacontrol_agents.equilibrium.stationary_law import Equations, Frame, StationaryLaw
from hacontrol_agents.hjb.hjb_pinn import HJBPinn
from hacontrol_agents.hjb.sampling import Visits
from hacontrol_envs import FirmInvestment, SDEEnv
from hacontrol_envs.arrays import Floats
from hacontrol_envs.core.parameters import count, number
from hacontrol_envs.economies.industry.market import BINDING
from hacontrol_envs.errors import EquilibriumError

LAW_LEFT = 1e-6
"""Root mean square of the law's equation above which its steps are repeated."""
LAW_ROUNDS = 6
"""Most rounds of steps on the law in the first iteration with it; later iterations take at most two."""
LEARNT, WIDER = 4.0, 2.0
"""Standard deviations of the law within which V is learnt once there is a law, and the factor on that of capital at
given productivity. Farther out firms leave the points at which V is learnt, and V could be anything there."""
KNOWN = 1.4
"""Factor on that range, beyond which the policy is that of the nearest state within."""
FRAME = "mean_z", "mean_y", "spread_z", "spread_y", "slope"
"""Names in a file of the numbers of the law's frame: log productivity z is its first coordinate, log capital y its
second."""
SMALL_STEP, SMALL_LAW = 1e-5, 1e-4
"""Relative step of the price, and root mean square of the law's equation, below which an equilibrium is learnt."""
STEP, YEARS = 0.1, 40.0
"""Years for which firms hold an investment rate, and for which they are simulated, in an iteration."""


@final
@dataclass(kw_only=True)
class HJBFokkerPlanckPinn(IndustryLearner):
    """Solve a mean-field equilibrium by an HJB network, a Fokker-Planck network and Newton's method on the price.

    Each iteration
      1. improves V at the price so far, by Gauss-Newton steps on the maximised Hamiltonian (`HJBPinn`);
      2. finds output Y: first from simulated firms, which need only know roughly where they are going, over the whole
         range of capital; once the price settles, from the law of the policy (`StationaryLaw`), V and the law being
         learnt only where firms are;
      3. moves the price towards clearing, log P -= (log P + eta log Y)/(1 + eta alpha/(1 - alpha)): away from capital
         bounds Y scales as P^{alpha/(1-alpha)}, so this is Newton's step.

    The equilibrium itself is never told. Achdou, Han, Lasry, Lions and Moll (2022) for the equations; Raissi,
    Perdikaris and Karniadakis (2019) for networks that solve them.
    """

    start_price: float = 1.0
    """Price in the first iteration."""
    value_hidden: tuple[int, ...] = (56,)
    """Widths of the value network's hidden layers."""
    law_hidden: tuple[int, ...] = (32,)
    """Widths of the log-density network's hidden layers."""
    firms: int = 2048
    """Number of simulated firms."""
    settled: float = 3e-3
    """Relative change of the price below which simulation gives way to the law."""
    iterations: int = 30
    """Iterations with the law, when `learn` is given no budget; there are at most as many with simulated firms
    before."""
    steps: int = 10
    """Gauss-Newton steps on V in an iteration."""
    law_steps: int = 8
    """Levenberg-Marquardt steps on the law in an iteration."""
    law_points: int = 1600
    """Points at which the Fokker-Planck equation is learnt."""
    margin: float = 1.4
    """Factor on the range of simulated firms: V is learnt over that region before there is a law."""

    name: ClassVar[str] = "hjb-fp-pinn"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("start_price", "settled", "margin"):
            number(name, getattr(self, name), above=0.0)
        for name in ("firms", "iterations", "law_steps", "law_points"):
            count(name, getattr(self, name))
        self._log_price, self._output = math.log(self.start_price), math.nan
        self._iteration, self._in_law, self._step = 0, False, math.inf
        seed = self.seed or 0
        chosen: dict[str, Any] = {"hidden": self.value_hidden, "steps": self.steps, "margin": self.margin}
        self._firms = HJBPinn(env=self._env(), seed=seed, device=self.device, **chosen)
        self._law = StationaryLaw(self.firm.state, self.law_hidden, seed + 1, self.device)
        drawn = self.firm.initial_state(np.random.default_rng([seed, 2**31]), self.firms)
        self._x = torch.as_tensor(drawn).to(self.device)

    @property
    def firm(self) -> FirmInvestment:
        """One firm at the price so far."""
        return self.industry.firm(self.price)

    def _env(self) -> SDEEnv:
        return SDEEnv(self.firm, dt=STEP, scheme="euler")

    @property
    def price(self) -> float:
        return math.exp(self._log_price)

    @property
    def output(self) -> float:
        return self._output

    @property
    def capital(self) -> float:
        x, mass = self._law.quadrature()
        return float(mass @ x[:, 0])

    def value(self, k: Floats, z: Floats) -> Floats:
        found: Floats = self._firms.value(0.0, _states(k, z))
        return found

    def policy(self, k: Floats, z: Floats) -> Floats:
        """Return the investment rate iota(k, z) [1/year]; beyond where V is learnt, that of the nearest state where it
        is."""
        x = _states(k, z)
        if not self._fresh_law:
            w = self._law.coordinates(torch.as_tensor(x).to(self._x))
            most = KNOWN * w.new_tensor([LEARNT, WIDER * LEARNT])
            near = self.firm.state.confine(self._law.states(torch.clamp(w, -most, most))).cpu().numpy()
            x = np.where((w.abs() > most).any(-1).cpu().numpy()[..., None], near, x)
        found: Floats = self._firms.policy(0.0, x)[..., 0]
        return found

    def density(self, k: Floats, z: Floats) -> Floats:
        density: Floats = self._law.density(torch.as_tensor(_states(k, z)).to(self._x)).cpu().numpy()
        return density

    def hjb_error(self, k: Floats, z: Floats) -> Floats:
        x, firm = _states(k, z), self.firm
        jet, a = self._firms.jet(0.0, x), self._firms.policy(0.0, x)
        size = np.abs(firm.reward(0.0, x, a)) + firm.discount * np.abs(jet.v)
        error: Floats = np.abs(firm.hjb_residual(0.0, x, a, jet)) / size
        return error

    def law_error(self, k: Floats, z: Floats) -> Floats | None:
        """Return |d_t l| of `StationaryLaw` (...), relative to kappa (1 + |w|^2); None before there is a law."""
        if self._fresh_law:
            return None
        x = _states(k, z)
        w = self._law.coordinates(torch.as_tensor(x.reshape(-1, 2)).to(self._x))
        residual = self._law.residual(self._equations(w))[: len(w)]
        error: Floats = residual.abs().cpu().numpy() * math.sqrt(len(w)) / self.firm.mean_reversion
        return error.reshape(x.shape[:-1])

    @property
    def _fresh_law(self) -> bool:
        """Whether no iteration has used the law yet."""
        return not any("law" in row for row in self.history)

    def _learn(self, budget: int | None, report: Callable[..., bool]) -> None:
        while self._share_done(budget) < 1:
            rng = np.random.default_rng([self.seed or 0, self._iteration])
            diagnostics = self._with_law(rng) if self._in_law else self._with_firms(rng)
            self._iteration += 1
            self.evaluations, self._firms.evaluations = self.evaluations + self._firms.evaluations, 0
            if report(self._share_done(budget, ahead=1), price=self.price, change=abs(self._step), **diagnostics):
                return
        self._refuse_binding()

    def _met(self) -> bool:
        """Tell whether the last step of the price was small, and output came from a law that is learnt."""
        last = self.history[-1]
        return last["change"] <= SMALL_STEP and last.get("law", math.inf) <= SMALL_LAW

    def _share_done(self, budget: int | None, ahead: int = 0) -> float:
        rows = self.history[self.rows_before :]
        if budget is not None:
            return self.evaluations / budget
        return (len([row for row in rows if "law" in row]) + ahead * self._in_law) / self.iterations

    def _with_firms(self, rng: np.random.Generator) -> dict[str, float]:
        """Learn V over the whole range of capital, and find output from simulated firms."""
        loss = 0.0
        for _ in range(4 if self._iteration == 0 else 2):
            loss = self._firms.go_on(self._env(), self._visits(wide=True), rng)
        self._simulate(rng)
        self._clear(self._x, torch.full_like(self._x[:, 0], 1 / len(self._x)))
        if abs(self._step) < self.settled or self._iteration >= self.iterations:
            self._in_law = True
        return {"loss": loss}

    def _with_law(self, rng: np.random.Generator) -> dict[str, float]:
        """Learn V where firms are, and find output from the law."""
        fresh = self._fresh_law
        if fresh:
            self._simulate(rng)
            for _ in range(3):
                self._firms.go_on(self._env(), self._visits(), rng)
            self._simulate(rng)
            self._law.place(self._x)
        self._firms.box_share = 0.0  # no corners of a box, which the law's ellipse does not fill: only points around it
        loss = self._firms.go_on(self._env(), self._around_law(rng), rng)
        equations, left = self._equations(self._law.points(rng, self.law_points, LEARNT)), math.inf
        for _ in range(LAW_ROUNDS if fresh else 2):
            if left > LAW_LEFT:
                left = self._law.fit(equations, self.law_steps)
                self.evaluations += self.law_points * self.law_steps
        self._clear(*self._law.quadrature())
        return {"loss": loss, "law": left}

    def _equations(self, w: Tensor) -> Equations:
        """Return the equations of the law of firms at points w (B, 2), under the policy so far."""
        return self._law.equations(self.firm, self._firms._act, w)

    def _clear(self, x: Tensor, mass: Tensor) -> None:
        """Take Newton's step on the price, given states (S, 2) with masses (S,) where firms are."""
        self._output = float(mass @ self.firm.revenue(x)) / self.price
        self._step = self.industry.excess(self.price, self._output) / self.industry.excess_slope
        self._log_price -= self._step

    def _visits(self, wide: bool = False) -> Visits:
        """Return states where firms are; with `wide`, over all capital between its bounds."""
        u = self.firm.state.to_unit(self._x)
        low, high = u.clone(), u.clone()
        if wide:
            low[:, 0], high[:, 0] = -1.0, 1.0
        return Visits(u.new_zeros(len(u)), self._x, low, high)

    def _around_law(self, rng: np.random.Generator) -> Visits:
        """Return states around the law, its tails included."""
        w = self._law.points(rng, 4 * self.law_points, LEARNT) * self._x.new_tensor([1.0, WIDER])
        x = self.firm.state.confine(self._law.states(w))
        u = self.firm.state.to_unit(x)
        return Visits(u.new_zeros(len(u)), x, u, u)

    def _simulate(self, rng: np.random.Generator) -> None:
        """Let the simulated firms invest for some years; a rate is held over a step, which is exact in law."""
        firm, x = self.firm, self._x.cpu().numpy()
        for _ in range(round(YEARS / STEP)):
            rates = self._firms.policy(0.0, x)
            x = firm.exact_step(0.0, x, rates, STEP, rng.standard_normal((len(x), firm.exact_noise_dim)))
        self._x = torch.as_tensor(x).to(self._x)

    def _refuse_binding(self) -> None:
        """Raise EquilibriumError where the learnt law reaches a capital bound."""
        x, mass = self._law.quadrature()
        low, high = self.firm.capital_bounds
        for name, beyond in (("k_min", x[:, 0] <= low), ("k_max", x[:, 0] >= high)):
            share = float(mass[beyond].sum())
            if self._in_law and not share <= BINDING:
                raise EquilibriumError(
                    f"no equilibrium inside the box: at price {self.price:.6g} {share:.2g} of the firms are at {name} "
                    f"or beyond. Widen capital_bounds={self.firm.capital_bounds!r}"
                )

    def _tensors(self) -> dict[str, Tensor]:
        law = parameters_to_vector(self._law.network.parameters()).detach()
        return {"firms": self._x, "law": law, "value": self._firms._parameters()}

    def _record(self) -> dict[str, Any]:
        law = self._law
        return {
            "log_price": self._log_price,
            "output": None if math.isnan(self._output) else self._output,
            "iteration": self._iteration,
            "in_law": self._in_law,
            "step": None if math.isinf(self._step) else self._step,
            "frame": dict(zip(FRAME, (*law.frame.mean, *law.frame.spread, law.frame.slope), strict=True)),
            "law_optimizer": law.optimizer.state(),
            "value": self._firms._record(),
        }

    def _restore(self, tensors: dict[str, Tensor], record: dict[str, Any]) -> None:
        self._x, self._log_price = tensors["firms"], record["log_price"]
        self._output = math.nan if record["output"] is None else record["output"]
        self._step = math.inf if record["step"] is None else record["step"]
        self._iteration, self._in_law = record["iteration"], record["in_law"]
        vector_to_parameters(tensors["law"], self._law.network.parameters())
        *pairs, slope = (record["frame"][name] for name in FRAME)
        self._law.frame = Frame((pairs[0], pairs[1]), (pairs[2], pairs[3]), slope)
        self._law.optimizer.restore(record["law_optimizer"])
        self._firms.env = self._env()
        visits = self._visits(wide=not self._in_law)._asdict()
        value = {
            "parameters": tensors["value"],
            "wider": tensors["value"][:0],
            **{f"visits.{name}": part for name, part in visits.items()},
        }
        self._firms._restore(value, record["value"])
        self._firms._v.problem = self.firm
        self._law.quadrature()


def _states(k: Floats, z: Floats) -> Floats:
    return np.stack(np.broadcast_arrays(np.asarray(k, dtype=np.float64), np.asarray(z, dtype=np.float64)), axis=-1)
