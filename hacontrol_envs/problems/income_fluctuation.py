"""IncomeFluctuation: a household that saves against income risk at an interest rate that stays."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, final

import numpy as np
import scipy

from hacontrol_envs.arrays import Array, Floats, like, namespace, to_numpy
from hacontrol_envs.core import parameters as read
from hacontrol_envs.core.discrete import DiscreteProblem, Successors
from hacontrol_envs.core.domain import Domain
from hacontrol_envs.core.solution import CrossSection, Solution
from hacontrol_envs.errors import NumericalError, ParameterError, ResetError, TruncationWarning
from hacontrol_envs.numerics import chains, egm
from hacontrol_envs.numerics.hermite import hermite
from hacontrol_envs.numerics.states import draw, whole
from hacontrol_envs.numerics.transport import Transport, stationary_law

MOST_SAVED = 0.9999
"""Largest share of cash on hand that can be saved."""
MOST, CONVERGED, FOUND = 20_000, 1e-13, 1e-10
"""Most iterations on the policy, relative change of consumption that ends them, and change up to which one is found."""
PROBABLE = 1e-9
"""Amount by which the sum of a row of the chain may differ from one."""
NOTICED = 1e-4
"""Share of households at the end of the grid above which `cross_section` warns."""
STARTING = 0.2
"""Share of the range of assets, from its lower end, in which episodes start."""


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class IncomeFluctuation(DiscreteProblem):
    """Save against income that a Markov chain decides, at an interest rate that stays.

        max E sum_t beta^t u(c_t),    c + a' = m = (1 + r) a + y(e),    a' >= a_min,    u(c) = c^{1-gamma}/(1-gamma)

    (log c at gamma = 1). The state is own assets a and the number e of the income state, and all of it is observed. The
    action is the share s of cash on hand above the limit that is saved: a' = a_min + s (m - a_min). It is the decision
    maker of the economies of Bewley, Huggett (1993) and Aiyagari (1994); `cross_section` is the law of many of them.

    Raises:
        ParameterError: parameters that make no sense, or at which a household saves without bound or may have nothing
            to consume.
    """

    interest_rate: float = 0.02
    """r, per period, below 1/beta - 1."""
    income: tuple[float, ...] = (0.5, 1.5)
    """y(e), goods per period, (n_e,)."""
    chain: tuple[tuple[float, ...], ...] = ((0.9, 0.1), (0.1, 0.9))
    """P(e'|e), (n_e, n_e)."""
    discount_factor: float = 0.96
    """beta, per period."""
    risk_aversion: float = 2.0
    """gamma."""
    borrowing_limit: float = 0.0
    """a_min, goods."""
    asset_max: float = 100.0
    """The highest node of assets, goods; a household may own more."""
    asset_nodes: int = 300
    """Nodes of assets on which the solution is found, dense at the limit."""

    noise_dim = 1
    time_unit = "periods"
    action = Domain(["share of cash on hand saved"], [0.0], [MOST_SAVED], units="above the limit")

    def __post_init__(self) -> None:
        beta = read.number("discount_factor", self.discount_factor, above=0.0)
        if beta >= 1:
            raise ParameterError(f"discount_factor must be below 1, got {self.discount_factor!r}")
        read.number("risk_aversion", self.risk_aversion, above=0.0)
        limit = read.number("borrowing_limit", self.borrowing_limit)
        read.number("asset_max", self.asset_max, above=limit)
        read.count("asset_nodes", self.asset_nodes, at_least=10, at_most=100_000)
        r, income = read.number("interest_rate", self.interest_rate, above=-1.0), self._levels
        if income.ndim != 1 or len(income) < 2 or income.min() < 0:
            raise ParameterError(f"income must be at least two numbers, none negative, got {self.income!r}")
        odds = self._odds
        if odds.shape != (len(income),) * 2 or odds.min() < 0 or np.any(np.abs(odds.sum(axis=1) - 1) > PROBABLE):
            raise ParameterError(f"chain must be {len(income)} rows of probabilities that sum to one: {self.chain!r}")
        if beta * (1 + r) >= 1:
            raise ParameterError(
                f"interest_rate must be below 1/discount_factor - 1 = {1 / beta - 1:.6g}, got {r:g}: a household would "
                "save without bound"
            )
        if r * limit + income.min() <= 0:
            raise ParameterError(
                f"at borrowing_limit={limit:g} and interest_rate={r:g} a household with the lowest income, "
                f"{income.min():g}, has nothing to consume: bring the limit nearer to 0, or raise that income"
            )

    @cached_property
    def _levels(self) -> Floats:
        return read.array("income", self.income)

    @cached_property
    def _odds(self) -> Floats:
        return read.array("chain", self.chain)

    @cached_property
    def assets(self) -> Floats:
        """Nodes of assets, (n_a,), increasing from `borrowing_limit` to `asset_max`."""
        return egm.asset_grid(self.borrowing_limit, self.asset_max, self.asset_nodes)

    @cached_property
    def state(self) -> Domain:  # type: ignore[override]
        """Assets up to `asset_max` and the number of the income state."""
        return Domain(
            ["assets", "income state"],
            [self.borrowing_limit, 0.0],
            [self.asset_max, len(self._levels) - 1.0],
            units=("goods", ""),
        )

    @property
    def observation_bounds(self) -> tuple[Floats, Floats]:
        """Assets from the limit up, without an upper bound, and the numbers of the income states."""
        return self.state.low, np.array([np.inf, self.state.high[1]])

    @cached_property
    def stationary_income(self) -> Floats:
        """The stationary law of the income state, (n_e,)."""
        return chains.stationary(self._odds)

    def initial_state(self, rng: np.random.Generator, size: int) -> Floats:
        """Assets uniform over the lowest fifth of the box, income by its stationary law."""
        return self._drawn(rng, size, STARTING)

    def some_states(self, rng: np.random.Generator, size: int) -> Floats:
        """Draw assets uniform over the box, and income by its stationary law."""
        return self._drawn(rng, size, 1.0)

    def _drawn(self, rng: np.random.Generator, size: int, share: float) -> Floats:
        low = self.borrowing_limit
        assets = low + share * (self.asset_max - low) * rng.uniform(size=size)
        e = draw(np.broadcast_to(self.stationary_income, (size, len(self._levels))), rng.standard_normal(size))
        return np.stack([assets, e], axis=-1, dtype=np.float64)

    def refuse_state(self, x: Floats) -> None:
        """Raise ResetError for assets below the limit, or an income state that is none."""
        if np.any(x[..., 0] < self.borrowing_limit):
            raise ResetError(f"assets must be at least the borrowing limit {self.borrowing_limit}, got {x[..., 0]}")
        last = len(self._levels) - 1
        if np.any((x[..., 1] != np.rint(x[..., 1])) | (x[..., 1] < 0) | (x[..., 1] > last)):
            raise ResetError(f"the income state must be a whole number from 0 to {last}, got {x[..., 1]}")

    def cash_above_limit(self, x: Array) -> Array:
        """Return m - a_min, goods, (...), in states x (..., 2)."""
        income = like(self._levels, x)[whole(x[..., 1])]
        return (1 + self.interest_rate) * x[..., 0] + income - self.borrowing_limit

    def utility(self, c: Array) -> Array:
        """Return u(c), (...), of consumption c (...), goods."""
        gamma = self.risk_aversion
        return namespace(c).log(c) if gamma == 1 else c ** (1 - gamma) / (1 - gamma)

    def reward(self, x: Array, a: Array) -> Array:
        """u(c), (...)."""
        return self.utility((1 - a[..., 0]) * self.cash_above_limit(x))

    def saving_of_action(self, x: Array, a: Array) -> Array:
        """Return a' (...) in states x (..., 2) under actions a (..., 1), shares of what is above the limit."""
        return self.borrowing_limit + a[..., 0] * self.cash_above_limit(x)

    def action_of_saving(self, x: Array, saving: Array) -> Array:
        """Return the share (..., 1) by which a household in states x (..., 2) saves a' (...), as far as it can."""
        share = (saving - self.borrowing_limit) / self.cash_above_limit(x)
        return namespace(share).clip(share, 0.0, MOST_SAVED)[..., None]

    def transition(self, x: Floats, a: Floats, noise: Floats) -> Floats:
        """Return what was saved, and the next income state."""
        e = draw(self._odds[whole(x[..., 1])], noise[..., 0])
        return np.stack([self.saving_of_action(x, a), e], axis=-1, dtype=np.float64)

    def successors(self, x: Array, a: Array) -> Successors:
        """Return all income states, with their probabilities."""
        xp, n = namespace(x), len(self._levels)
        odds = like(self._odds, x)[whole(x[..., 1])]
        saved = xp.broadcast_to(self.saving_of_action(x, a)[..., None], odds.shape)
        e = xp.broadcast_to(like(np.arange(float(n)), x), odds.shape)
        return Successors(xp.stack([saved, e], axis=-1), odds)

    def cross_section(self, policy: Callable[[Any, Floats], Any]) -> CrossSection:
        """Find the stationary law of households who follow a policy, with what they save spread over `assets`.

        Warns with TruncationWarning where more than 1e-4 of them are at `asset_max`.

        Args:
            policy: times and states (..., 2) to the action (..., 1), as `solution().policy` is.

        Raises:
            ParameterError: a policy that is not finite.
        """
        nodes = self._nodes(self.assets)
        share = np.clip(np.asarray(policy(0.0, nodes), dtype=np.float64), 0.0, MOST_SAVED)
        saving = self.saving_of_action(nodes, share)
        law = stationary_law(Transport(self.assets, saving, self._odds))
        if (top := float(law[:, -1].sum())) > NOTICED:
            told = f"{100 * top:.2g} % of households are at asset_max={self.asset_max:g}, where the grid ends: raise it"
            warnings.warn(told, TruncationWarning, stacklevel=2)
        return CrossSection(nodes.reshape(-1, 2), law.ravel())

    def _nodes(self, assets: Floats) -> Floats:
        """States (n_e, n_a, 2) of all income states at these assets."""
        return np.stack(np.meshgrid(np.arange(float(len(self._levels))), assets, indexing="ij")[::-1], axis=-1)

    def solution(self, dt: float | None = None) -> Solution:
        """The optimum by endogenous grids (Carroll, 2006), the same for any `dt`: the only step is one period.

        Its error is estimated by how far the value on half as many nodes is from it.

        Raises:
            NumericalError: no policy was found.
        """
        return self._solution

    @cached_property
    def _solution(self) -> Solution:
        count = self.asset_nodes
        fine, coarse = (self._solved(nodes) for nodes in (count, (count + 1) // 2))
        at = self._nodes(coarse.assets)
        error = float(np.abs(self._value(fine, at) - self._value(coarse, at)).max())

        def policy(t: Array, x: Array) -> Array:
            at = to_numpy(x)
            return like(self.action_of_saving(at, self._chosen(fine, at)), x)

        def value(t: Array, x: Array) -> Array:
            return like(self._value(fine, to_numpy(x)), x)

        return Solution(value, policy, "numerical", f"endogenous grids on {count} nodes of assets", error)

    def _solved(self, count: int) -> _Found:
        """Thresholds by iteration on the Euler equation, then V and its slope (1 + r) u'(c) at the nodes."""
        assets, n_e = egm.asset_grid(self.borrowing_limit, self.asset_max, count), len(self._levels)
        gross, chain = np.full((1, 1), 1 + self.interest_rate), np.ascontiguousarray(self._odds[None, :, None, :])
        first = self._levels.mean() + (assets - self.borrowing_limit) / 9
        fixed = assets - self._levels[:, None]
        thresholds = ((first + fixed) / (1 + self.interest_rate))[None, None]
        steps, change = egm.iterate(
            thresholds,
            assets,
            np.ones((1, 1, 1, 1)),
            gross,
            self._levels.reshape(1, 1, -1),
            gross.reshape(1, 1, 1),
            self._levels.reshape(1, 1, 1, -1),
            chain,
            self.discount_factor,
            self.risk_aversion,
            MOST,
            CONVERGED,
        )
        if not change <= FOUND:
            raise NumericalError(f"no policy was found in {steps} iterations: the last changed it by {change:.2g}")
        found = _Found(assets, thresholds, np.empty((n_e, count)), np.empty((n_e, count)))
        self._evaluate(found)
        return found

    def _evaluate(self, found: _Found) -> None:
        """Fill in V and its slope: V = u + beta E[V(a', e')], with V a cubic of Hermite between nodes, is linear."""
        n_e, n_a = found.values.shape
        nodes = self._nodes(found.assets)
        saved = self._chosen(found, nodes)
        consumed = self.cash_above_limit(nodes) + self.borrowing_limit - saved
        found.slopes[:] = (1 + self.interest_rate) * consumed**-self.risk_aversion
        place, (low, high, low_slope, high_slope) = hermite(found.assets, saved)
        row = np.arange(n_e * n_a).reshape(n_e, n_a)
        matrix, right = scipy.sparse.csr_matrix((n_e * n_a,) * 2), self.utility(consumed)
        for e in range(n_e):
            odds = self.discount_factor * self._odds[:, e, None]
            below, above = e * n_a + place, e * n_a + place + 1
            for column, weight in ((below, odds * low), (above, odds * high)):
                entry = (weight.ravel(), (row.ravel(), column.ravel()))
                matrix += scipy.sparse.csr_matrix(entry, shape=matrix.shape)
            slope = found.slopes[e]
            right = right + odds * (low_slope * slope[place] + high_slope * slope[place + 1])
        found.values[:] = scipy.sparse.linalg.spsolve(
            scipy.sparse.identity(n_e * n_a, format="csr") - matrix, right.ravel()
        ).reshape(n_e, n_a)

    def _chosen(self, found: _Found, x: Floats) -> Floats:
        """a' (...) at states x (..., 2)."""
        return egm.constant_saving(found.thresholds[0, 0], found.assets, x[..., 0], whole(x[..., 1]))

    def _value(self, found: _Found, x: Floats) -> Floats:
        """V (...) at states x (..., 2): above the grid by its slope."""
        own, e = np.asarray(x[..., 0]), whole(x[..., 1])
        place, (low, high, low_slope, high_slope) = hermite(found.assets, own)
        beyond = np.maximum(own - found.assets[-1], 0.0)
        values: Floats = low * found.values[e, place] + high * found.values[e, place + 1]
        values += low_slope * found.slopes[e, place] + (high_slope + beyond) * found.slopes[e, place + 1]
        return values


class _Found(NamedTuple):
    """A solution on nodes."""

    assets: Floats
    """(n_a,)."""
    thresholds: Floats
    """Assets at which each node is chosen, (1, 1, n_e, n_a); see `egm`."""
    values: Floats
    """V, (n_e, n_a)."""
    slopes: Floats
    """dV/da, (n_e, n_a)."""
