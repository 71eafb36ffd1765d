"""Merton-v0: consumption and portfolio choice in continuous time."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import Any, final

import numpy as np
import scipy

from hacontrol_envs.arrays import Array, Floats, broadcast_time, dot, like, matvec, namespace
from hacontrol_envs.core import parameters as read
from hacontrol_envs.core.domain import Domain
from hacontrol_envs.core.problem import ControlProblem
from hacontrol_envs.core.registration import register
from hacontrol_envs.core.solution import Jet, Solution
from hacontrol_envs.errors import NumericalError, ParameterError
from hacontrol_envs.numerics import consumption
from hacontrol_envs.numerics.cache import cached_by_step
from hacontrol_envs.numerics.compiled import over_rows
from hacontrol_envs.numerics.transitions import portfolio, saturated

LEAST_INDEPENDENCE = 1e-6
"""Smallest over largest singular value that the volatility of assets may have, each row scaled to length 1. The best
portfolio solves a system whose condition number is the inverse square of that: what is known to a millionth of a
millionth then decides where all wealth is."""
MOST_ASSETS = 100
"""Most risky assets: the best portfolio of more, in long decimals, takes many seconds."""
LARGEST = 290.0
"""Powers of ten, up and down, within which utilities, values and their derivatives must lie over the box."""


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Merton(ControlProblem):
    """Consume, and hold risky assets, out of wealth X > 0.

    a = (pi, k): fractions of wealth in the risky assets, then consumption per unit of wealth.
    dX = [r_f + pi'(mu - r_f) - k] X dt + X pi'Sigma dW,  r = u(k X),  g = bequest * u(X),  u(c) = c^{1-g}/(1-g) (log c
    at risk aversion g = 1). Then pi* = (Sigma Sigma')^{-1}(mu - r_f)/g at all times; with M = r_f + (mu - r_f)'pi*/2
    and nu = (rho - (1-g) M)/g, consumption is k*(t) = 1/f(t), where f solves f' = nu f - 1, f(T) = bequest^{1/g}: the
    constant f = 1/nu over an infinite horizon. The value is f^g x^{1-g}/(1-g), or f log x + h(t) at g = 1. Over an
    infinite horizon nu > 0 is necessary for a finite value, and required. Merton (1969, 1971).

    Learners meet wealth in [0.1, 10] on a logarithmic scale, and act in a box around the optimum (not centred on it) in
    which every constant action has a finite value. The action is held as fractions over a step, so wealth is lognormal
    over it, and the sampled-data optimum of an infinite horizon is the continuous one.
    """

    risk_free_rate: float = 0.03
    """r_f, the return of riskless wealth. [1/year]."""
    expected_return: Any = 0.08
    """mu, a number or one for each risky asset. [1/year]."""
    volatility: Any = 0.20
    """Sigma: a number, one for each asset, or a matrix (assets, noise_dim). [1/year^(1/2)]."""
    risk_aversion: float = 2.0
    """g, relative risk aversion; 1 is log utility."""
    discount: float = 0.05
    """rho, the rate at which utility is discounted. [1/year]."""
    horizon: float | None = None
    """T; None for an infinite horizon. [years]."""
    bequest: float = 1.0
    """Weight of u(X_T) at a finite horizon; positive."""

    time_unit = "years"  # as the default rates are

    def __post_init__(self) -> None:
        read.number("risk_free_rate", self.risk_free_rate)
        read.number("risk_aversion", self.risk_aversion, above=0.0)
        read.number("discount", self.discount, at_least=0.0)
        read.number("bequest", self.bequest, above=0.0)
        if self.horizon is not None:
            read.number("horizon", self.horizon, above=0.0)
        self._refuse_redundant_assets()
        if not np.all(np.abs([*self.fractions, self.riskless_equivalent, self.nu]) < 1e100):
            raise ParameterError(
                f"the best portfolio is too large to compute with, pi* = {read.short(self.fractions.tolist())} with "
                f"M = {self.riskless_equivalent:.3g}: raise volatility or risk_aversion"
            )
        if self.horizon is None and self.nu <= 0:
            g, M = self.risk_aversion, self.riskless_equivalent
            raise ParameterError(
                "lifetime utility is infinite: discount - (1 - risk_aversion) * M > 0 is violated, with "
                f"M = risk_free_rate + (excess return)'pi*/2 = {M:.6g}: "
                f"{self.discount:.6g} - ({1 - g:.6g}) * {M:.6g} = {self.nu * g:.6g}. Raise discount, or give a horizon"
            )
        self._refuse_what_no_float_holds()
        _ = self.state, self.action

    def _refuse_redundant_assets(self) -> None:
        sizes = np.abs(self.sigma).max(axis=1, keepdims=True)
        scaled = self.sigma / np.where(sizes > 0, sizes, 1.0)
        scaled /= np.maximum(np.linalg.norm(scaled, axis=1, keepdims=True), 1.0)
        squares = np.maximum(np.linalg.eigvalsh(scaled @ scaled.T), 0.0)
        ratio = float(np.sqrt(squares[0] / squares[-1])) if squares[-1] > 0 else 0.0
        if ratio < LEAST_INDEPENDENCE:
            raise ParameterError(
                "an asset is redundant, or nearly so: volatility must have full row rank, but its smallest singular "
                f"value is {ratio:.1g} of its largest, rows of length 1; at least {LEAST_INDEPENDENCE:g} is needed"
            )

    def _refuse_what_no_float_holds(self) -> None:
        """Raise ParameterError unless f, V, V_xx and utility at the action box's ends are floats all over the box."""
        g, left, wealth = self.risk_aversion, np.array([self.horizon or 0.0, 0.0]), np.log([[0.1], [10.0]])
        with np.errstate(all="ignore"):
            log_f = np.full(2, -np.log(self.nu))
            if self.horizon is not None:
                z = -self.nu * left
                flow = np.log(left) + np.where(z > 50, z - np.log(z), np.log(scipy.special.exprel(np.minimum(z, 50.0))))
                log_f = np.logaddexp(np.log(self.bequest) / g + z, flow)
            powers = [log_f]
            if g != 1:
                powers += [g * log_f + power * wealth for power in (1 - g, -g, -1 - g)]
                powers += [(1 - g) * (wealth - log_f + edge) for edge in (-self._shortfall, 1.0)]
            reach = np.concatenate([np.ravel(power) for power in powers]) / np.log(10)
        if not np.all(np.abs(reach) <= LARGEST):
            ends = "" if self.horizon is None else f", horizon={self.horizon!r} and bequest={self.bequest!r}"
            raise ParameterError(
                f"no float holds the utilities and values at risk_aversion={g!r}{ends}: between wealth 0.1 and 10 they "
                f"reach from 10^{reach.min():.0f} to 10^{reach.max():.0f}. Bring risk_aversion closer to 1"
                f"{'' if self.horizon is None else ', bequest closer to 1, or shorten the horizon'}"
            )

    @cached_property
    def expected(self) -> Floats:
        """Expected returns mu of the risky assets, (assets,), per year."""
        mu = np.atleast_1d(read.array("expected_return", self.expected_return))
        if mu.ndim != 1:
            raise ParameterError(f"expected_return must be a number or a vector, got shape {mu.shape}")
        if len(mu) > MOST_ASSETS:
            raise ParameterError(f"there may be at most {MOST_ASSETS} risky assets, got {len(mu)}")
        return mu

    @cached_property
    def excess(self) -> Floats:
        """Excess returns mu - r_f of the risky assets, (assets,), per year."""
        excess: Floats = self.expected - self.risk_free_rate
        return excess

    @property
    def assets(self) -> int:
        """Number of risky assets."""
        return len(self.expected)

    @cached_property
    def sigma(self) -> Floats:
        """Volatility Sigma, (assets, noise_dim), per square root of a year."""
        given = read.array("volatility", self.volatility)
        if given.ndim == 1 and len(given) == self.assets:
            given = np.diag(given)
        return read.matrix("volatility", given, self.assets)

    @property
    def noise_dim(self) -> int:  # type: ignore[override]
        """Number of sources of noise."""
        return int(self.sigma.shape[1])

    @cached_property
    def _portfolio(self) -> consumption.Portfolio:
        return consumption.best_portfolio(
            self.expected, self.sigma, self.risk_free_rate, self.risk_aversion, self.discount
        )

    @property
    def fractions(self) -> Floats:
        """Optimal fractions of wealth in the risky assets pi*, (assets,)."""
        return self._portfolio.fractions

    @property
    def riskless_equivalent(self) -> float:
        """M, the riskless rate that is as good as the best portfolio."""
        return self._portfolio.riskless_equivalent

    @property
    def nu(self) -> float:
        """nu = (rho - (1-g) M)/g, the optimal consumption-wealth ratio over an infinite horizon."""
        return self._portfolio.nu

    @cached_property
    def state(self) -> Domain:  # type: ignore[override]
        """Wealth in [0.1, 10] on a logarithmic scale."""
        return Domain(["wealth"], [0.1], [10.0], "log", units="goods")

    @cached_property
    def action(self) -> Domain:  # type: ignore[override]
        """Fractions in [pi* - w, pi* + w/2], consumption in [k*/4, k* (1 + 1/2 / max(g - 1, 1/2))].

        At risk aversion above 37 it begins at k* 4^{-36/(g-1)}, where utility is 4^36 times that of k*.

        w_i |Sigma_i| sums to at most sqrt(0.8 k*/(g max(g - 1, 1/2))), which keeps every constant action's value finite
        over an infinite horizon. Over a finite one w is at least a millionth of pi*, and consumption spans
        [min k*(t)/4, 1.5 max k*(t)].
        """
        g, spare = self.risk_aversion, max(self.risk_aversion - 1, 0.5)
        ratios = 1 / self._f(np.array([0.0, 1.0]) * (self.horizon or 0.0))
        reach = np.sqrt(0.8 * ratios[0] / (g * spare))
        width = reach / (self.assets * np.linalg.norm(self.sigma, axis=1))
        if self.horizon is not None:
            width = np.maximum(width, 1e-6 * np.abs(self.fractions))
        elif np.any(width < 1e-12 * np.abs(self.fractions)):
            raise ParameterError(
                f"lifetime utility is hardly finite: discount - (1 - risk_aversion) * M = {self.nu * g:.3g} leaves no "
                "room around the best fractions. Raise discount, or give a horizon"
            )
        top = ratios[0] * (1 + 0.5 / spare) if self.horizon is None else 1.5 * ratios.max()
        names = ["risky fraction"] if self.assets == 1 else [f"risky fraction {i + 1}" for i in range(self.assets)]
        low = np.append(self.fractions - width, ratios.min() * np.exp(-self._shortfall))
        high = np.append(self.fractions + width / 2, top)
        units = [*["share of wealth"] * self.assets, "1/year"]
        return Domain([*names, "consumption / wealth"], low, high, units=units)

    @property
    def _shortfall(self) -> float:
        """Distance from log k* down to the lower end of the action box."""
        return float(np.log(4.0) * min(1.0, 36 / max(self.risk_aversion - 1, 1.0)))

    def drift(self, t: Array, x: Array, a: Array) -> Array:
        return (self._mean_growth(a) * x[..., 0])[..., None]

    def diffusion(self, t: Array, x: Array, a: Array) -> Array:
        return (x * matvec(self.sigma.T, a[..., :-1]))[..., None, :]

    def reward(self, t: Array, x: Array, a: Array) -> Array:
        """u(k X), the utility of consumption per year."""
        return self._utility(a[..., -1] * x[..., 0])

    def maximiser(self, t: Array, x: Array, v_x: Array, v_xx: Array) -> Array | None:
        """Return pi = -(Sigma Sigma')^{-1}(mu - r_f) V_x/(x V_xx) and k = V_x^{-1/g}/x, one asset clipped to the box.

        None with several assets, whose fractions the box may bind together. Where V is not concave the Hamiltonian
        is largest at an end of the box; where it does not rise with wealth, at the most consumption.
        """
        if self.assets > 1:
            return None
        xp, wealth, slope, bend = namespace(x), x[..., 0], v_x[..., 0], v_xx[..., 0, 0]
        ahead = float(self.excess[0]) * slope
        one = xp.ones_like(wealth)
        concave = bend < 0
        inner = -ahead / (float(self.sigma[0] @ self.sigma[0]) * wealth * xp.where(concave, bend, -one))
        low, high = (float(end[0]) for end in (self.action.low, self.action.high))
        edge = xp.where(ahead + float(self.sigma[0] @ self.sigma[0]) * wealth * bend * (low + high) / 2 > 0, high, low)
        fraction = xp.where(concave, inner, edge * one)
        rising = slope > 0
        ratio = xp.where(
            rising, xp.where(rising, slope, one) ** (-1 / self.risk_aversion) / wealth, self.action.high[1] * one
        )
        return self.action.clip(xp.stack([fraction, ratio], axis=-1))

    def terminal_reward(self, x: Array) -> Array:
        """bequest * u(X), the utility of the wealth that is left."""
        return saturated(self.bequest * self._utility(x[..., 0]))

    def initial_state(self, rng: np.random.Generator, size: int) -> Floats:
        """Wealth in [1/2, 2], uniform in its logarithm."""
        drawn: Floats = np.exp(rng.uniform(-np.log(2.0), np.log(2.0), (size, 1)))
        return drawn

    def _mean_growth(self, a: Array) -> Array:
        """Drift of dX/X."""
        return self.risk_free_rate + dot(like(self.excess, a), a[..., :-1]) - a[..., -1]

    def _utility(self, c: Array) -> Array:
        g = self.risk_aversion
        with np.errstate(over="ignore"):
            return namespace(c).log(c) if g == 1 else saturated(c ** (1 - g) / (1 - g))

    def exact_step(self, t: Array, x: Floats, a: Floats, dt: float, noise: Floats) -> Floats:
        return self.exact_transition(t, x, a, dt, noise)[0]

    def exact_reward(self, t: Array, x: Floats, a: Floats, dt: float) -> Floats:
        return self.exact_transition(t, x, a, dt, np.zeros(self.noise_dim))[1]

    def exact_transition(
        self, t: Array, x: Floats, a: Floats, dt: float, noise: Floats, out: tuple[Floats, Floats] | None = None
    ) -> tuple[Floats, Floats]:
        """Return lognormal wealth and u(k x) int_0^dt e^{-c s} ds, c = rho - (1-g)(growth - g variance/2)."""

        def fill(x: Floats, a: Floats, noise: Floats, x_next: Floats, reward: Floats) -> None:
            portfolio(x, a, noise, self._constants(dt), self.excess, self.sigma, x_next, reward)

        return over_rows(fill, x, a, noise, out)

    @cached_by_step
    def _constants(self, dt: float) -> Floats:
        """r_f, rho, g, dt, int_0^dt e^{-rho s} ds and int_0^dt s e^{-rho s} ds."""
        rho = float(self.discount)
        flow = consumption.discounting(rho, dt)
        return np.array([self.risk_free_rate, rho, self.risk_aversion, dt, flow, consumption.discounted_time(rho, dt)])

    def constant_action_value(self, x: Floats, a: Floats) -> Floats:
        """Return the value of holding action a (..., assets + 1) forever from wealth x (..., 1), (...); or -inf.

        x^{1-g}/(1-g) k^{1-g} / (rho - (1-g)(r_f + pi'(mu - r_f) - k - g |Sigma'pi|^2/2)). Infinite horizon only.
        """
        if self.horizon is not None:
            raise ParameterError(f"constant_action_value is for an infinite horizon, but horizon={self.horizon}")
        g, loading = self.risk_aversion, matvec(self.sigma.T, a[..., :-1])
        growth, variance = self._mean_growth(a), dot(loading, loading)
        utility = self._utility(a[..., -1] * x[..., 0])
        if g == 1:
            return np.asarray(utility / self.discount + (growth - variance / 2) / self.discount**2)
        rate = self.discount - (1 - g) * (growth - g * variance / 2)
        with np.errstate(divide="ignore"):
            value: Floats = np.where(rate > 0, utility / np.maximum(rate, 0.0), -np.inf if g > 1 else np.inf)
        return value

    def solution(self, dt: float | None = None) -> Solution:
        """Merton's closed form; with `dt` over a finite horizon, backward induction on the consumption ratio."""
        if dt is not None and self.horizon is not None:
            return self._sampled_solution(read.number("dt", dt, above=0.0), self.horizon)
        h, h_t = (self._h, self._h_t) if self.risk_aversion == 1 else (np.zeros_like, np.zeros_like)
        return self._solution(lambda t: 1 / self._f(t), self._f, self._f_t, h, h_t, "Merton (1969, 1971)")

    def _f(self, t: Floats) -> Floats:
        """f' = nu f - 1, f(T) = bequest^{1/g}."""
        if self.horizon is None:
            return np.full_like(t, 1 / self.nu)
        left = self.horizon - t
        f: Floats = self.bequest ** (1 / self.risk_aversion) * np.exp(-self.nu * left) + consumption.discounting(
            self.nu, left
        )
        return f

    def _f_t(self, t: Floats) -> Floats:
        """nu f - 1 without what cancels."""
        if self.horizon is None:
            return np.zeros_like(t)
        f_t: Floats = (self.nu * self.bequest ** (1 / self.risk_aversion) - 1) * np.exp(-self.nu * (self.horizon - t))
        return f_t

    def _h(self, t: Floats) -> Floats:
        rho, M = self.discount, self.riskless_equivalent
        if self.horizon is None:
            return np.full_like(t, (np.log(rho) + M / rho - 1) / rho)
        return consumption.log_level(rho, M, self.bequest, self.horizon - t)[0]

    def _h_t(self, t: Floats) -> Floats:
        if self.horizon is None:
            return np.zeros_like(t)
        return consumption.log_level(self.discount, self.riskless_equivalent, self.bequest, self.horizon - t)[1]

    def _sampled_solution(self, dt: float, horizon: float) -> Solution:
        steps = read.steps(horizon, dt)
        k, f, h = self._sampled_table(dt, steps, horizon)
        if not np.all(np.isfinite([k[1:], f[1:], h[1:]])):
            raise NumericalError(f"backward induction over {steps} steps of dt={dt} is not finite: shorten the horizon")

        def at(table: Floats) -> Any:
            return lambda t: table[steps - np.rint(t / dt).astype(int)]

        source = "backward induction on k (one root per step), after Merton (1969)"
        found = self._solution(at(k), at(f), None, at(h), None, source)
        g, M = self.risk_aversion, self.riskless_equivalent
        exponents = horizon * (self.discount + abs(1 - g) * (abs(M) + np.max(k[1:])))
        rounding = 8 * np.finfo(float).eps * (steps + g + exponents)
        sizes = [np.abs(found.value(dt * np.arange(steps + 1), np.full((steps + 1, 1), x))).max() for x in (0.1, 10.0)]
        return dataclasses.replace(found, kind="numerical", error=float(rounding * max(sizes)))

    def _sampled_table(self, dt: float, steps: int, horizon: float) -> tuple[Floats, Floats, Floats]:
        """k, f and h with 0 .. steps steps to go; the best fractions stay pi*, whatever k."""
        rho, g, M = self.discount, self.risk_aversion, self.riskless_equivalent
        if g != 1:
            k, f = consumption.held_ratios(self.bequest ** (1 / g), rho - (1 - g) * M, g, dt, steps)
            return k, f, np.zeros(steps + 1)
        f = self._f(horizon - dt * np.arange(steps + 1.0))
        gamma, flow = np.exp(-rho * dt), consumption.discounting(rho, dt)
        drag = consumption.discounted_time(rho, dt) + gamma * dt * f[:-1]
        k = np.append(np.nan, flow / drag)
        paid = np.log(k[1:]) * flow + (M - k[1:]) * drag
        h = scipy.signal.lfilter([1.0], [1.0, -gamma], np.append(0.0, paid))
        return k, f, h

    def _solution(self, k: Any, f: Any, f_t: Any, h: Any, h_t: Any, source: str) -> Solution:
        g = self.risk_aversion

        def of_time(table: Any, t: Array, x: Array) -> Array:
            return like(table(np.asarray(broadcast_time(t, x), dtype=np.float64)), x)

        def value(t: Array, x: Array) -> Array:
            F = of_time(f, t, x)
            return F**g * self._utility(x[..., 0]) + of_time(h, t, x)

        def policy(t: Array, x: Array) -> Array:
            xp = namespace(x)
            ratio = of_time(k, t, x)[..., None]
            return xp.concat([xp.broadcast_to(like(self.fractions, x), (*x.shape[:-1], self.assets)), ratio], axis=-1)

        def jet(t: Array, x: Array) -> Jet:
            F, F_t, wealth = of_time(f, t, x), of_time(f_t, t, x), x[..., 0]
            v_t = g * F ** (g - 1) * F_t * self._utility(wealth) + of_time(h_t, t, x)
            v_x = F**g * wealth ** (-g)
            return Jet(value(t, x), v_t, v_x[..., None], (-g * v_x / wealth)[..., None, None])

        return Solution(value, policy, "closed form", source, 0.0, jet if f_t else None)


register("Merton-v0", Merton, dt=0.25, max_episode_steps=200)
