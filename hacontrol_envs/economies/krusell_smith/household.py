"""KrusellSmith-v0: one household among many, at the prices that the others make."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cached_property
from typing import Any, Literal, final

import numpy as np
from numpy.typing import NDArray

from hacontrol_envs.arrays import Array, Floats, like, namespace, to_numpy
from hacontrol_envs.core.discrete import Observed, Successors
from hacontrol_envs.core.domain import Domain
from hacontrol_envs.core.parameters import spelt_out
from hacontrol_envs.core.picture import Picture
from hacontrol_envs.core.registration import register
from hacontrol_envs.core.solution import Solution
from hacontrol_envs.economies.krusell_smith.conditions import KrusellSmithConditions
from hacontrol_envs.economies.krusell_smith.judge import HouseholdJudge
from hacontrol_envs.economies.krusell_smith.policies import (
    MOST_SAVED,
    HouseholdPolicy,
    Observation,
    ObservationPolicy,
    of_observations,
    on_grid,
    share_of_saving,
    split,
    to_observations,
)
from hacontrol_envs.economies.krusell_smith.population import KEYWORDS, PopulationProblem, widened
from hacontrol_envs.economies.krusell_smith.solution import ReferenceSolution
from hacontrol_envs.errors import ParameterError, ResetError
from hacontrol_envs.lazy import warn_renamed
from hacontrol_envs.numerics.states import draw, whole


@final
class KrusellSmithHousehold(PopulationProblem):
    """One household of `KrusellSmith` at the prices that the others make.

    State: own assets a, own income state e, aggregate state z, and the law of the population. The action is the share s
    of cash on hand above the borrowing limit that is saved, a' = a_min + s (m - a_min), so c = (1 - s)(m - a_min), and
    the reward is u(c). The others follow `others`, whatever the household does: it is one of a continuum.

    Observed are own assets (above the limit, plus one, on a logarithmic scale), the level of e, that of Z, and of the
    law its mean K and its standard deviation, or with `observe="histogram"` all its masses.

    Args:
        calibration: "ssj" or "jedc", the set of defaults.
        parameters: any parameter of `KrusellSmith`, with 200 asset nodes unless told otherwise.
        others: "reference" (the solution of `KrusellSmith.reference_solution`), "steady state" (the policy that is
            optimal there, ignoring aggregate risk) or a household policy (`policies.HouseholdPolicy`); that of an agent
            is `problem.household_policy(agent.policy)`.
        observe: "moments" or "histogram".

    Raises:
        ParameterError: parameters that make no sense.
    """

    own = 2
    noise_dim = 2
    judge = HouseholdJudge()
    action = Domain(["share of cash on hand saved"], [0.0], [MOST_SAVED], units="above the limit")

    def __init__(
        self,
        calibration: str = "ssj",
        others: Literal["reference", "steady state"] | HouseholdPolicy = "reference",
        observe: Literal["moments", "histogram"] = "moments",
        **parameters: Any,
    ) -> None:
        if "population" in parameters:
            warn_renamed("population=", "others=")
            others = parameters.pop("population")
        super().__init__(calibration, parameters)
        if not callable(others) and others not in ("reference", "steady state"):
            raise ParameterError(f'others must be "reference", "steady state" or a household policy, got {others!r}')
        if observe not in ("moments", "histogram"):
            raise ParameterError(f'observe must be "moments" or "histogram", got {observe!r}')
        self.others, self.observed_law = others, observe
        self.shown = Observation(self.economy, observe == "histogram")
        self._parameters = {"calibration": calibration, **parameters}

    __signature__ = spelt_out(__init__, KEYWORDS)

    @property
    def parameters(self) -> dict[str, Any]:
        """The constructor's arguments; others who follow a function of the caller's are named "given"."""
        return {**self._arguments(), "others": "given" if callable(self.others) else self.others}

    def among(self, others: Any) -> KrusellSmithHousehold:
        """Return the same household among others, such as those that follow what an agent has learnt."""
        return KrusellSmithHousehold(**{**self._arguments(), "others": others})

    def with_population(self, population: Any) -> KrusellSmithHousehold:
        """Return the same household among others; deprecated in favour of `among`."""
        warn_renamed("with_population", "among")
        return self.among(population)

    @property
    def population(self) -> Any:
        """What the others follow; deprecated in favour of `others`."""
        warn_renamed("population", "others")
        return self.others

    def _arguments(self) -> dict[str, Any]:
        return {"others": self.others, "observe": self.observed_law, **self._parameters}

    @cached_property
    def state(self) -> Domain:  # type: ignore[override]
        """The box of states; the scales that learners meet are those of `observation`."""
        low, high = self.economy.assets[0], self.economy.assets[-1]
        last = len(self.economy.skill) - 1
        return self._box([("assets", low, high), ("income state", *widened(0.0, last))])

    @cached_property
    def observation(self) -> Domain:
        """The components of an observation; see the class."""
        economy, steady = self.economy, self.economy.steady_state(cut=True)
        span = economy.assets[-1] - economy.borrowing_limit
        levels = [widened(table.min(), table.max()) for table in (economy.skill, economy.productivity)]
        names, low, high = ["assets above the limit + 1", "skill", "productivity"], [1.0], [1.0 + span]
        low, high = low + [level[0] for level in levels], high + [level[1] for level in levels]
        if self.observed_law == "histogram":
            names += [f"mass {i}" for i in range(len(self._law_box))]
            return Domain(names, [*low, *np.zeros(len(self._law_box))], [*high, *self._law_box], _scales(len(names)))
        capital, deviation = (float(moment) for moment in self.shown.moments(steady.law))
        names += ["capital", "deviation of assets"]
        around = capital - economy.borrowing_limit
        low += [economy.borrowing_limit + 0.7 * around, 0.0]
        high += [economy.borrowing_limit + 1.4 * around, 2 * deviation + 0.1 * around]
        return Domain(names, low, high, _scales(len(names)), units=("goods", "", "", "goods", "goods"))

    @property
    def observation_bounds(self) -> tuple[Floats, Floats]:
        """Lowest and highest value that an observation can take, each (n,).

        A household may own more than the grid of the law holds, so its assets are unbounded above; all other components
        are bounded by the levels and the grid.
        """
        economy, histogram = self.economy, self.observed_law == "histogram"
        least, most = economy.assets[0], economy.assets[-1]
        cells = len(self._law_box) if histogram else 0
        laws = ([0.0] * cells, [1.0] * cells) if histogram else ([least, 0.0], [most, (most - least) / 2])
        ends = zip((1.0, np.inf), _ends(economy.skill), _ends(economy.productivity), laws, strict=True)
        low, high = (np.array([own, skill, level, *law]) for own, skill, level, law in ends)
        return low, high

    def observe(self, x: Array) -> Array:
        """Return own assets above the limit + 1, skill, productivity and law, (..., 5) or (..., 3 + n_e n_a)."""
        own = self.shown.own(x[..., 0], whole(x[..., 1]))
        common = self.shown.common(self.aggregate(x), self.law(x))
        return namespace(x).concat([own, common], axis=-1)

    def picture(self) -> Picture:
        """Return a picture of own assets and skill, K and Z, and the law with the household's place in it."""
        economy = self.economy
        skill = widened(economy.skill.min(), economy.skill.max())
        own = [("own assets", "goods", economy.borrowing_limit, float(economy.assets[-1])), ("own skill", "", *skill)]
        return self._picture(own, lambda x: [x[..., 0], economy.skill[whole(x[..., 1])]])

    def conditions(self) -> KrusellSmithConditions:
        """Return the equilibrium conditions of the economy, of whose households each is like this one."""
        return self.economy.conditions()

    def decode_observation(self, y: Floats) -> Observed:
        """Return the point (a, e, z, K) that observations y (..., n) show, and the law where all of it is observed."""
        return self.shown.decode(y)

    def action_of_saving(self, x: Array, saving: Array) -> Array:
        """Return the share (..., 1) of resources above the limit by which a household saves a' (...)."""
        return share_of_saving(self.economy, saving, *split(x))[..., None]

    def household_policy(self, policy: ObservationPolicy) -> HouseholdPolicy:
        """Return the household policy that an agent's `policy(t, y)` of this environment makes, for `others`."""
        return of_observations(self, policy)

    def seen(self, y: Floats) -> tuple[Floats, NDArray[np.int64], NDArray[np.int64], Floats]:
        """Return own assets, e, z and K; deprecated in favour of `decode_observation`."""
        warn_renamed("seen", "decode_observation, whose x is (a, e, z, K)")
        return split(self.decode_observation(y).x)

    def share_of(self, saved: Floats, y: Floats) -> Floats:
        """Return the action (..., 1) that saves a' at observations; deprecated in favour of `action_of_saving`."""
        warn_renamed("share_of(saved, y)", "action_of_saving(decode_observation(y).x, saved)")
        share: Floats = self.action_of_saving(self.decode_observation(y).x, saved)
        return share

    def _above_limit(self, x: Array) -> Array:
        """Return cash on hand above the borrowing limit, (...)."""
        capital = self.economy.capital_of(self.law(x))
        cash = self.economy.cash(x[..., 0], whole(x[..., 1]), self.aggregate(x), capital)
        return cash - self.economy.borrowing_limit

    def reward(self, x: Array, a: Array) -> Array:
        """The utility u(c) of consumption c in a quarter."""
        return self.economy.utility((1 - a[..., 0]) * self._above_limit(x))

    def transition(self, x: Floats, a: Floats, noise: Floats) -> Floats:
        """Move the aggregate state by the first normal, own income by the second, and the law by the population."""
        return self.period(x, a, noise)[0]

    def period(self, x: Floats, a: Floats, noise: Floats) -> tuple[Floats, Floats]:
        """Return `transition` and `reward`, with cash on hand computed once."""
        economy, z, e, law = self.economy, self.aggregate(x), whole(x[..., 1]), self.law(x)
        z_next, above, share = draw(economy.aggregate_chain[z], noise[..., 0]), self._above_limit(x), a[..., 0]
        e_next = draw(economy.income_chain[z, z_next, e], noise[..., 1])
        own = np.stack([economy.borrowing_limit + share * above, e_next, z_next], axis=-1)
        moved = self._moved(law, self._choice(z, law), z, z_next)
        return np.concatenate([own, moved], axis=-1), economy.utility((1 - share) * above)

    def successors(self, x: Array, a: Array) -> Successors:
        """Return the states after all pairs (z', e') with their exact probabilities. NumPy only."""
        economy, z, e = self.economy, self.aggregate(x), whole(x[..., 1])
        n_z, n_e = len(economy.productivity), self.shape[0]
        law = self.law(x)
        choice, saved = self._choice(z, law), economy.borrowing_limit + a[..., 0] * self._above_limit(x)
        after, odds = np.empty((*z.shape, n_z, n_e, x.shape[-1])), np.empty((*z.shape, n_z, n_e))
        after[..., 0], after[..., 1] = saved[..., None, None], np.arange(n_e)
        after[..., 2] = np.arange(n_z)[:, None]
        for following in range(n_z):
            after[..., following, :, 3:] = self._moved(law, choice, z, following)[..., None, :]
            odds[..., following, :] = (
                economy.aggregate_chain[z, following, None] * economy.income_chain[z, following, e]
            )
        return Successors(after.reshape(*z.shape, n_z * n_e, -1), odds.reshape(*z.shape, -1))

    def _choice(self, z: NDArray[np.int64], law: Floats) -> Floats:
        """Return what the population saves on the grid, (..., n_e, n_a)."""
        return on_grid(self.economy, self._others_policy, z, law)

    @cached_property
    def _others_policy(self) -> HouseholdPolicy:
        if callable(self.others):
            return self.others
        return self._reference.policy if self.others == "reference" else self.economy.steady_state(cut=True).policy

    def _draw_states(self, rng: np.random.Generator, size: int, spread: float) -> Floats:
        z, law = self.populations(rng, size, spread)
        cell = draw(law.reshape(size, -1), rng.standard_normal(size))
        e, node = np.divmod(cell, self.shape[1])
        own = np.stack([self.economy.assets[node], e, z], axis=-1)
        return np.concatenate([own, law.reshape(size, -1)], axis=-1)

    def refuse_state(self, x: Floats) -> None:
        """Raise ResetError for assets below the limit and for numbers or laws that are no states."""
        super().refuse_state(x)
        limit, last = self.economy.borrowing_limit, len(self.economy.skill) - 1
        if np.any(x[..., 0] < limit):
            raise ResetError(f"assets must be at least the borrowing limit {limit}, got {x[..., 0].min()}")
        if np.any((x[..., 1] != np.rint(x[..., 1])) | (x[..., 1] < 0) | (x[..., 1] > last)):
            raise ResetError(f"the income state must be a whole number from 0 to {last}, got {x[..., 1].ravel()[:5]}")

    @cached_property
    def _reference(self) -> ReferenceSolution:
        """The reference solution, computed once, in about a minute, with a progress bar on a terminal."""
        return self.economy.reference_solution(progress=sys.stderr.isatty(), cut=True)

    @cached_property
    def _solution(self) -> Solution | None:
        if self.others != "reference":
            return None
        reference = self._reference
        policy = to_observations(self, reference.saving)

        def value(t: Array, y: Array) -> Array:
            return like(reference.value(*split(self.decode_observation(to_numpy(y)).x)), y)

        euler = reference.euler.mean
        source = f"{len(self.economy.assets)} nodes of assets, endogenous grids and forecasts; Euler 10^{euler:.1f}"
        return Solution(value, policy, "numerical", source, self._value_error(value, policy))

    def _value_error(self, value: Callable[..., Array], policy: Callable[..., Array]) -> float:
        """Return a bound for |V - V*|, |TV - V|/(1 - beta) by contraction, from Bellman residuals at some states."""
        x = self.some_states(np.random.default_rng(0), 128)
        residual = self.bellman_residual(x, policy(0.0, self.observe(x)), lambda y: value(0.0, y))
        return float(np.abs(residual).max() / (1 - self.discount_factor))

    def solution(self, dt: float | None = None) -> Solution | None:
        """The reference solution, judged by its Euler and Den Haan errors, where the others follow it; else unknown."""
        return self._solution


def _scales(count: int) -> list[Literal["linear", "log"]]:
    """Return a logarithmic scale for assets and linear ones for the others."""
    return ["log", *["linear"] * (count - 1)]  # type: ignore[list-item]


def _ends(levels: Floats) -> tuple[float, float]:
    return float(levels.min()), float(levels.max())


register("KrusellSmith-v0", KrusellSmithHousehold, dt=1.0, max_episode_steps=200)
