"""FirmInvestment-v0: capital under convex, possibly kinked, adjustment costs and Ornstein-Uhlenbeck productivity."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple, final, get_args

import numpy as np
import scipy

from hacontrol_envs.arrays import Array, Floats, namespace
from hacontrol_envs.core import parameters as read
from hacontrol_envs.core.domain import Domain, Edge
from hacontrol_envs.core.problem import ControlProblem
from hacontrol_envs.core.registration import register
from hacontrol_envs.core.solution import Solution
from hacontrol_envs.errors import NumericalError, ParameterError
from hacontrol_envs.numerics.cache import cached_by_step
from hacontrol_envs.numerics.compiled import over_rows
from hacontrol_envs.numerics.reflected_ou import ReflectedOU
from hacontrol_envs.solvers import held_actions
from hacontrol_envs.solvers.grid import edge_nodes
from hacontrol_envs.solvers.hjb import GridValue, grid_solution, monotone_solution, refine

Adjustment = Literal["kinked", "smoothed", "as-published"]

STEEPNESS = 5.0
"""Steepness of the smoothed cost from theta_- to theta_+ as the shadow price passes the price of capital."""
SHAPES = ((41, 61), (61, 91), (81, 141))
"""Nodes of capital and productivity in the grids of `solution()`: the last two tell its error."""
NESTED = ((41, 61), (81, 121), (161, 241))
"""Nodes of capital and productivity in grids of order 1, each twice as fine as the one before."""
NEWTON_STEPS = 12
"""Newton steps to invert the smoothed rule; it converges to rounding in at most eight from where it starts."""


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class FirmInvestment(ControlProblem):
    """Invest to maximise the present value of a competitive firm's profits, at a given price of its output.

    Capital k and log productivity z, dk = (iota - delta) k dt, dz = -kappa z dt + sigma dW; the action is the
    investment rate iota = i/k; r = P e^z k^alpha - k L(iota), discounted at `discount`. Capital obeys the state
    constraint k in [k_min, k_max]; productivity is reflected at +-z_max.

    With q = V_k - p the marginal value of capital over its price, the Hamiltonian term max_iota {iota V_k - L} and the
    action iota* that attains it are, by `adjustment`:
      * "kinked": L = p_+ iota + theta_+/2 iota^2 above zero and p_- iota + theta_-/2 iota^2 below, so that
        iota* = (V_k - p_+)_+/theta_+ - (p_- - V_k)_+/theta_-: nothing is done where p_- <= V_k <= p_+ (Abel and
        Eberly, 1994).
      * "smoothed": q^2/(2 theta(q)), theta(q) = theta_+ + (theta_- - theta_+)/(1 + e^{5q}), and iota* is its derivative
        in q. One price of capital, p_+ = p_-. L is the Legendre transform.
      * "as-published": the control q/theta(q), under the cost L = p iota + theta(q) iota^2/2 that makes the same
        Hamiltonian term come out. It is *not* the argmax under that cost; it is kept because it was published.

    Learners act in -p_-/theta_- <= iota <= a bound that the optimum exceeds only where productivity is more than six
    stationary standard deviations high or capital very low; there the optimum under the bound is meant. At a capital
    bound the rate is cut to the nearest that does not leave. One that is held over a step of length dt may not leave
    during the step: it is cut to delta + ln(k_min/k)/dt <= iota <= delta + ln(k_max/k)/dt.

    Time is in years.
    """

    returns_to_scale: float = 0.35
    """alpha, the elasticity of output in capital, in (0, 1]."""
    depreciation: float = 0.08
    """delta, the share of capital that wears off. [1/year]."""
    discount: float = 0.05
    """r, the rate at which profits are discounted. [1/year]."""
    mean_reversion: float = 0.5
    """kappa, how fast log productivity returns to zero. [1/year]."""
    volatility: float = 0.2
    """sigma of log productivity; zero is allowed. [1/year^(1/2)]."""
    adjustment_cost_up: float = 2.0
    """theta_+, the slope of the marginal cost of investing. [money x years/goods]."""
    adjustment_cost_down: float = 6.0
    """theta_-, the slope of the marginal cost of disinvesting. [money x years/goods]."""
    purchase_price: float = 1.0
    """p_+, what a unit of capital costs. [money/goods]."""
    resale_price: float = 1.0
    """p_- <= p_+, what a unit of capital brings. [money/goods]."""
    price: float = 1.0
    """P, what a unit of output brings. [money/output]."""
    capital_bounds: Any = (0.2, 5.0)
    """(k_min, k_max), the least and the most capital. [goods]."""
    productivity_bound: float = 2.5
    """z_max, at which log productivity is reflected, and at minus which."""
    adjustment: Adjustment = "kinked"
    """Which cost of adjustment: "kinked", "smoothed" or "as-published"."""

    horizon = None
    noise_dim = 1
    controlled_diffusion = False
    time_unit = "years"

    def __post_init__(self) -> None:
        positive = ("returns_to_scale", "discount", "mean_reversion", "adjustment_cost_up", "adjustment_cost_down")
        for name in (*positive, "purchase_price", "price", "productivity_bound"):
            read.number(name, getattr(self, name), above=0.0)
        for name in ("depreciation", "volatility", "resale_price"):
            read.number(name, getattr(self, name), at_least=0.0)
        if self.returns_to_scale > 1:
            raise ParameterError(f"returns_to_scale must be at most 1, got {self.returns_to_scale!r}")
        if self.resale_price > self.purchase_price:
            raise ParameterError(
                f"resale_price={self.resale_price!r} exceeds purchase_price={self.purchase_price!r}: "
                "buying and selling capital would pay without bound"
            )
        bounds = read.array("capital_bounds", self.capital_bounds)
        if bounds.shape != (2,) or not 0 < bounds[0] < bounds[1]:
            raise ParameterError(f"capital_bounds must be (low, high) with 0 < low < high, got {self.capital_bounds!r}")
        read.one_of("adjustment", self.adjustment, get_args(Adjustment))
        if self.adjustment != "kinked":
            self._refuse_unsmooth()
        _ = self.state, self.action

    def _refuse_unsmooth(self) -> None:
        if self.resale_price != self.purchase_price:
            raise ParameterError(
                f"adjustment={self.adjustment!r} has one price of capital, got purchase_price={self.purchase_price!r} "
                f'and resale_price={self.resale_price!r}; use "kinked"'
            )
        q = np.linspace(-self.purchase_price - 5, 10, 3001)
        rates = np.linspace(self.action.low[0], self.action.high[0], 1001)
        with np.errstate(all="ignore"):
            inverted = np.abs(self._smooth_rule(self._shadow_price(rates)).rate - rates) <= 1e-12
        if np.any(self._smooth_rule(q).slope <= 0) or not np.all(inverted):
            raise ParameterError(
                f"adjustment={self.adjustment!r} has no convex cost that can be computed at "
                f"adjustment_cost_up={self.adjustment_cost_up!r} and "
                f"adjustment_cost_down={self.adjustment_cost_down!r}: bring them closer together"
            )

    @cached_property
    def state(self) -> Domain:  # type: ignore[override]
        """Capital in its bounds, on a logarithmic scale, and log productivity in [-z_max, z_max]."""
        low, high = self.capital_bounds
        L = self.productivity_bound
        edges: tuple[Edge, Edge] = ("constrained", "reflecting")
        return Domain(["capital", "log productivity"], [low, -L], [high, L], ("log", "linear"), edges, ("goods", ""))

    @cached_property
    def action(self) -> Domain:  # type: ignore[override]
        """Investment rates iota from -p_-/theta_- to twice what is best at six standard deviations of productivity."""
        low = min(-self.resale_price / self.adjustment_cost_down, -0.02)
        return Domain(["investment rate"], [low], [2 * self._highest_rate], units="1/year")

    @property
    def productivity_deviation(self) -> float:
        """sigma/sqrt(2 kappa), the stationary standard deviation of an unreflected z."""
        return float(self.volatility / np.sqrt(2 * self.mean_reversion))

    @property
    def _marginal_product(self) -> float:
        """Marginal product at which capital rests without noise: V_k = p_+ + theta_+ delta, iota = delta."""
        delta, theta = self.depreciation, self.adjustment_cost_up
        return (self.discount + delta) * (self.purchase_price + theta * delta) - theta * delta**2 / 2

    @property
    def _highest_rate(self) -> float:
        """Rate where V_k is the present value of `_marginal_product` from z = 6 standard deviations on."""
        z, kappa, rate = 6 * self.productivity_deviation, self.mean_reversion, self.discount + self.depreciation
        z = min(z, self.productivity_bound)
        worth = scipy.integrate.quad(lambda t: np.exp(-rate * t + z * np.exp(-kappa * t)), 0, np.inf)[0]
        dear = self._marginal_product * worth - self.purchase_price
        return float(max(dear / self.adjustment_cost_up, self.depreciation + 0.1))

    @property
    def resting_price(self) -> float:
        """The price of output at which one unit of capital would neither grow nor fall without noise."""
        return self._marginal_product / self.returns_to_scale

    @cached_property
    def resting_capital(self) -> float:
        """Capital, within the bounds, that would neither grow nor fall without noise."""
        low, high = self.capital_bounds
        if self.returns_to_scale == 1:
            return float(np.sqrt(low * high))
        log_k = (np.log(self.price) - np.log(self.resting_price)) / (1 - self.returns_to_scale)
        return float(np.exp(np.clip(log_k, np.log(low), np.log(high))))

    def drift(self, t: Array, x: Array, a: Array) -> Array:
        k, z = x[..., 0], x[..., 1]
        return namespace(x).stack([(a[..., 0] - self.depreciation) * k, -self.mean_reversion * z], axis=-1)

    def diffusion(self, t: Array, x: Array, a: Array) -> Array:
        xp, one = namespace(x), namespace(x).ones_like(x[..., 0])
        return xp.stack([0 * one, self.volatility * one], axis=-1)[..., None]

    def reward(self, t: Array, x: Array, a: Array) -> Array:
        """P e^z k^alpha - k L(iota), profits in money per year."""
        return self.revenue(x) - x[..., 0] * self.cost(a[..., 0])

    def revenue(self, x: Array) -> Array:
        """Return revenue P e^z k^alpha, (...), in money per year, in states x (..., 2)."""
        return self.price * namespace(x).exp(x[..., 1]) * x[..., 0] ** self.returns_to_scale

    def cost(self, rate: Array) -> Array:
        """Return L(iota), (...), the cost of adjustment per unit of capital and year, at rates iota (...)."""
        xp = namespace(rate)
        if self.adjustment == "kinked":
            up, down = xp.maximum(rate, 0 * rate), xp.minimum(rate, 0 * rate)
            bought = (self.purchase_price + self.adjustment_cost_up / 2 * up) * up
            return bought + (self.resale_price + self.adjustment_cost_down / 2 * down) * down
        q = self._shadow_price(rate)
        return rate * (self.purchase_price + q) - self._smooth_rule(q).gain

    def maximiser(self, t: Array, x: Array, v_x: Array, v_xx: Array) -> Array:
        """Return iota* of the class docstring at V_k = v_x[..., 0]; of "as-published" the control, no argmax."""
        xp, v_k = namespace(x), v_x[..., 0]
        if self.adjustment == "kinked":
            up = xp.maximum(v_k - self.purchase_price, 0 * v_k) / self.adjustment_cost_up
            rate = up - xp.maximum(self.resale_price - v_k, 0 * v_k) / self.adjustment_cost_down
        else:
            rate = self._smooth_rule(v_k - self.purchase_price).rate
        return self.admissible(t, x, self.action.clip(rate[..., None]))

    def admissible(self, t: Array, x: Array, a: Array, dt: float = 0.0) -> Array:
        """Cut iota to at least delta at k_min and at most delta at k_max; with dt, to what the class says."""
        xp, k, (low, high) = namespace(x), x[..., :1], self.capital_bounds
        delta = xp.ones_like(a) * self.depreciation
        if dt == 0:
            return xp.where(k <= low, xp.maximum(a, delta), xp.where(k >= high, xp.minimum(a, delta), a))
        return xp.minimum(xp.maximum(a, delta + xp.log(low / k) / dt), delta + xp.log(high / k) / dt)

    def exact_step(self, t: Array, x: Floats, a: Floats, dt: float, noise: Floats) -> Floats:
        return self.exact_transition(t, x, a, dt, noise)[0]

    def exact_reward(self, t: Array, x: Floats, a: Floats, dt: float) -> Floats:
        return self.exact_transition(t, x, a, dt, np.zeros(1))[1]

    def exact_transition(
        self, t: Array, x: Floats, a: Floats, dt: float, noise: Floats, out: tuple[Floats, Floats] | None = None
    ) -> tuple[Floats, Floats]:
        """Return k e^{(iota - delta) dt} at the admissible rate with a reflected Ornstein-Uhlenbeck z, and the reward.

        The reward is P k^alpha int_0^dt e^{(alpha (iota - delta) - r) s} E[e^{z_s}] ds
        - k L(iota) int_0^dt e^{(iota - delta - r) s} ds. A state beyond its bounds counts as the nearest within.
        """
        process = self._productivity(dt)

        def fill(x: Floats, a: Floats, noise: Floats, x_next: Floats, reward: Floats) -> None:
            x = self.state.clip(x)
            k, z, rate = x[:, 0].copy(), x[:, 1].copy(), self.admissible(t, x, a, dt)[:, 0].copy()
            growth = rate - self.depreciation
            x_next[:, 0], x_next[:, 1] = k * np.exp(growth * dt), process.step(z, noise[:, 0])
            x_next[...] = self.state.clip(x_next)
            held = self._annuity(growth, dt)
            revenue = process.discounted_exponential(z, self.returns_to_scale * growth - self.discount)
            reward[:] = self.price * k**self.returns_to_scale * revenue - k * self.cost(rate) * held

        return over_rows(fill, x, a, noise, out)

    def _annuity(self, growth: Floats, dt: float) -> Floats:
        """int_0^dt e^{(growth - r) s} ds, (...)."""
        net = (growth - self.discount) * dt
        annuity: Floats = dt * np.divide(np.expm1(net), net, out=np.ones_like(net), where=net != 0)
        return annuity

    @cached_by_step
    def _productivity(self, dt: float) -> ReflectedOU:
        return ReflectedOU(self.mean_reversion, self.volatility, self.productivity_bound, dt)

    def _smooth_rule(self, q: Array) -> _SmoothRule:
        """H(q) = q^2/(2 theta(q)), the rate that is played there, and that rate's derivative."""
        xp, gap = namespace(q), self.adjustment_cost_down - self.adjustment_cost_up
        s = 1 / (1 + xp.exp(xp.clip(STEEPNESS * q, -700.0, 700.0)))
        theta = self.adjustment_cost_up + gap * s
        first = -STEEPNESS * gap * s * (1 - s)
        second = STEEPNESS**2 * gap * s * (1 - s) * (1 - 2 * s)
        gain = q * q / (2 * theta)
        if self.adjustment == "as-published":
            return _SmoothRule(gain, q / theta, 1 / theta - q * first / theta**2)
        rate = q / theta - gain * first / theta
        bend = 2 * first / theta**2 * q - gain * (2 * first**2 / theta**2 - second / theta)
        return _SmoothRule(gain, rate, 1 / theta - bend)

    def _shadow_price(self, rate: Array) -> Array:
        """The q at which the smoothed rule plays this rate, (...), by Newton's method from the side's own theta."""
        xp = namespace(rate)
        q = rate * xp.where(rate < 0, self.adjustment_cost_down * xp.ones_like(rate), self.adjustment_cost_up)
        for _ in range(NEWTON_STEPS):
            rule = self._smooth_rule(q)
            q = q - (rule.rate - rate) / rule.slope
        return q

    def initial_state(self, rng: np.random.Generator, size: int) -> Floats:
        """Capital within a quarter of the steady state without noise, productivity from its stationary law."""
        low, high = self.capital_bounds
        k = self.resting_capital * np.exp(rng.uniform(-0.25, 0.25, size))
        z = self.productivity_deviation * rng.standard_normal(size)
        drawn: Floats = self.state.confine(np.stack([np.clip(k, low, high), z], axis=-1))
        return drawn

    def solution(self, dt: float | None = None) -> Solution | None:
        """The optimum by finite differences, with `dt` by policy iteration; None for "as-published", no optimum."""
        if self.adjustment == "as-published":
            return None
        return self._numerical if dt is None else self._sampled(dt)

    @cached_property
    def _numerical(self) -> Solution:
        """Solution of order 4; where policy iteration does not settle on that, of order 1, extrapolated."""
        try:
            return grid_solution(refine(self, (edge_nodes, edge_nodes), SHAPES))
        except NumericalError:
            return self._monotone

    @cached_property
    def _monotone(self) -> Solution:
        return monotone_solution(self, (edge_nodes, edge_nodes), NESTED)

    @cached_by_step
    def _sampled(self, dt: float) -> Solution:
        """The optimum of actions held over dt.

        Its policy is `maximiser` at an interpolated v of `_held_price`, which is smooth where the rate, changing sign,
        has kinks.
        """
        found = held_actions.refine(self, dt, (edge_nodes, edge_nodes), SHAPES[-2:], self._numerical.value)
        grid = found[-1].value.grid
        price = GridValue(grid, self._held_price(found[-1], dt))

        def policy(t: Array, x: Array) -> Array:
            v = price.value(t, x)[..., None]
            return self.admissible(t, x, self.maximiser(t, x, v, v), dt)

        return held_actions.held_solution(found, policy)

    def _held_price(self, held: held_actions.Held, dt: float) -> Floats:
        """The marginal value of capital v (N,) at which `maximiser` plays what is best to hold over dt.

        With g = iota - delta, k' = k e^{g dt}, S(g) = int_0^dt e^{(alpha g - r) s} E[e^{z_s}] ds and
        h(g) = int_0^dt e^{(g - r) s} ds, the best iota, where it is not cut, solves L'(iota) = v,

            v = ( P k^alpha S'(g) - k L(iota) h'(g) + d/dg e^{-r dt} E V(k', z') ) / (k h(g)).
        """
        grid, (k, z), rate = held.value.grid, held.value.grid.x.T, held.a[:, 0]
        growth, width, small = rate - self.depreciation, self.state.half_width[0], 1e-4
        process, alpha = self._productivity(dt), self.returns_to_scale

        def present_value(g: Floats) -> Floats:
            revenue = process.discounted_exponential(z, alpha * g - self.discount)
            worth: Floats = self.price * k**alpha * revenue - k * self.cost(rate) * self._annuity(g, dt)
            return worth

        now = (present_value(growth + small) - present_value(growth - small)) / (2 * small)
        moved = np.clip(grid.unit[:, 0] + growth * dt / width, -1.0, 1.0)
        later = held.later.ev(moved, grid.unit[:, 1], dx=1) * dt / width
        price: Floats = (now + later) / (k * self._annuity(growth, dt))
        return price


class _SmoothRule(NamedTuple):
    gain: Array
    rate: Array
    slope: Array


register("FirmInvestment-v0", FirmInvestment, dt=0.25, max_episode_steps=200)
