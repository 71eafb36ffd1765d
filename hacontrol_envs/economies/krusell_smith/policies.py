"""A household's policy in one form, and all translations to and from it.

The form is `HouseholdPolicy`: assets, e, z and the law of households to next period's assets a'. Economies, judges and
environments take no other. What else says how households save, and what translates it:

* a policy of observations, as agents on `KrusellSmith-v0` have: `of_observations`, and back `to_observations`;
* the action, a share of cash on hand above the borrowing limit: `saving_of_share`, and back `share_of_saving`;
* a' at all nodes of the histogram: `on_grid`; the shares there, actions of the planner: `to_shares`;
* the policy of an agent that has learnt a steady state, at constant prices: `of_steady_state`;
* whatever an agent offers: `of_agent`.

Solutions and agents that see the law have the form themselves (`SteadyState.policy`, `ReferenceSolution.policy`, which
goes through K and the moment of its beliefs, and `saving` of agents). `Observation` says what an observation shows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from hacontrol_envs.arrays import Array, Floats, like, namespace, to_numpy
from hacontrol_envs.core.discrete import Observed
from hacontrol_envs.errors import ParameterError
from hacontrol_envs.numerics.states import nearest, whole

if TYPE_CHECKING:
    from hacontrol_envs.economies.krusell_smith.economy import KrusellSmith
    from hacontrol_envs.economies.krusell_smith.household import KrusellSmithHousehold

HouseholdPolicy: TypeAlias = Callable[[Floats, NDArray[np.int64], NDArray[np.int64], Floats], Floats]
"""Function of own assets and e (..., m), Z (...) and law (..., n_e, n_a) that returns what m households save, a'
(..., m)."""
ObservationPolicy: TypeAlias = Callable[[Any, Any], Any]
"""Function of time and observations y (..., k) in physical units that returns physical actions (..., m)."""

MOST_SAVED = 0.999
"""Largest share of cash on hand that can be saved: something is left to consume, and no optimum saves as much."""


def on_grid(economy: KrusellSmith, policy: HouseholdPolicy, z: Any, law: Floats) -> Floats:
    """Return a' at the nodes, (..., n_e, n_a), by a policy.

    Args:
        economy: the economy.
        policy: what households save.
        z: states of Z, (...).
        law: laws of households in these states, (..., n_e, n_a).
    """
    n_e, n_a = law.shape[-2:]
    batch = law.shape[:-2]
    assets = np.broadcast_to(np.tile(economy.assets, n_e), (*batch, n_e * n_a))
    e = np.broadcast_to(np.repeat(np.arange(n_e), n_a), (*batch, n_e * n_a))
    return np.asarray(policy(assets, e, np.asarray(z), law), dtype=np.float64).reshape(law.shape)


def saving_of_share(economy: KrusellSmith, share: Array, assets: Array, e: Any, z: Any, capital: Array) -> Array:
    """Return a' of households who save a share of cash on hand above the limit; all arguments broadcast.

    Args:
        economy: the economy.
        share: share saved, from 0 to `MOST_SAVED`.
        assets, e, z, capital: own assets, numbers of the states of e and Z, and K, which determines prices.
    """
    limit = economy.borrowing_limit
    return limit + share * (economy.cash(assets, e, z, capital) - limit)


def share_of_saving(economy: KrusellSmith, saving: Array, assets: Array, e: Any, z: Any, capital: Array) -> Array:
    """Return the share of cash on hand above the limit by which households save a', as far as they can.

    Args:
        economy: the economy.
        saving: next period's assets a'.
        assets, e, z, capital: as in `saving_of_share`.
    """
    limit = economy.borrowing_limit
    share = (saving - limit) / (economy.cash(assets, e, z, capital) - limit)
    return namespace(share).clip(share, 0.0, MOST_SAVED)


def split(x: Array) -> tuple[Array, Array, Array, Array]:
    """Return own assets, the numbers of e and z, and K, each (...), of points x = (a, e, z, K), (..., 4)."""
    return x[..., 0], whole(x[..., 1]), whole(x[..., 2]), x[..., 3]


@final
@dataclass(frozen=True)
class Observation:
    """What an observation y of `KrusellSmith-v0` shows: own assets above the limit + 1, skill, Z, and the law.

    The law is shown by its mean K and its standard deviation, (..., 5), or by all its masses, (..., 3 + n_e n_a).
    """

    economy: KrusellSmith
    """The economy that is observed."""
    histogram: bool
    """Whether all masses of the law are shown, rather than two moments."""

    def own(self, assets: Array, e: Array) -> Array:
        """Return what is shown of households with these assets and states, (..., 2)."""
        xp, economy = namespace(assets), self.economy
        return xp.stack([assets - economy.borrowing_limit + 1, like(economy.skill, assets)[e]], axis=-1)

    def common(self, z: Array, law: Array) -> Array:
        """Return what is shown of economies in states z (...) with these laws, (..., 3) or (..., 1 + n_e n_a)."""
        xp, level = namespace(law), like(self.economy.productivity, law)[z]
        if self.histogram:
            return xp.concat([level[..., None], law.reshape(*z.shape, -1)], axis=-1)
        return xp.stack([level, *self.moments(law)], axis=-1)

    def moments(self, law: Array) -> tuple[Array, Array]:
        """Return mean and standard deviation of assets, each (...)."""
        xp, assets = namespace(law), like(self.economy.assets, law)
        mean = self.economy.capital_of(law)
        square = xp.sum(law * (assets - mean[..., None, None]) ** 2, axis=(-2, -1))
        return mean, square**0.5

    def decode(self, y: Floats) -> Observed:
        """Return the points (a, e, z, K), (..., 4), that observations show, and the law where all of it is shown."""
        economy, law, capital = self.economy, None, y[..., 3]
        e, z = nearest(economy.skill, y[..., 1]), nearest(economy.productivity, y[..., 2])
        if self.histogram:
            shown = _masses(economy, y[..., 3:])
            mass = shown.sum(axis=(-2, -1), keepdims=True)
            capital, law = economy.capital_of(shown) / mass[..., 0, 0], shown / mass
        assets = y[..., 0] - 1 + economy.borrowing_limit
        return Observed(np.stack(np.broadcast_arrays(assets, e, z, capital), axis=-1).astype(np.float64), law)


def of_observations(problem: KrusellSmithHousehold, policy: ObservationPolicy) -> HouseholdPolicy:
    """Return the policy of households who all play a policy of observations of `problem`."""
    return partial(_played, problem, policy)  # not a closure, as these cannot be pickled


def _played(
    problem: KrusellSmithHousehold,
    policy: ObservationPolicy,
    assets: Floats,
    e: NDArray[np.int64],
    z: NDArray[np.int64],
    law: Floats,
) -> Floats:
    """Return a' (..., m) of households; a `HouseholdPolicy` once its first two arguments are given."""
    economy, shown = problem.economy, problem.shown
    common = shown.common(z, law)[..., None, :]
    every = np.broadcast_to(common, (*assets.shape, common.shape[-1]))
    share = np.asarray(policy(0.0, np.concatenate([shown.own(assets, e), every], axis=-1)))[..., 0]
    capital = economy.capital_of(law)[..., None]
    saved: Floats = saving_of_share(economy, np.clip(share, 0.0, MOST_SAVED), assets, e, z[..., None], capital)
    return saved


def to_observations(problem: KrusellSmithHousehold, saving: Callable[..., Floats]) -> ObservationPolicy:
    """Return the policy of observations of `problem` by which a household saves `saving(assets, e, z, K)`, (...)."""

    def policy(t: Any, y: Array) -> Array:
        x = problem.decode_observation(to_numpy(y)).x
        return like(problem.action_of_saving(x, saving(*split(x))), y)

    return policy


def to_shares(economy: KrusellSmith, policy: HouseholdPolicy) -> ObservationPolicy:
    """Return the policy of observations (Z, masses), (..., 1 + n_e n_a), whose actions are shares saved at all cells.

    Args:
        economy: the economy that is observed.
        policy: what households save.
    """

    def shares(t: Any, y: Floats) -> Floats:
        z, shown = nearest(economy.productivity, y[..., 0]), _masses(economy, y[..., 1:])
        law = shown / shown.sum(axis=(-2, -1), keepdims=True)
        capital, e = economy.capital_of(law)[..., None, None], np.arange(len(economy.skill))[:, None]
        saved = on_grid(economy, policy, z, law)
        found: Floats = share_of_saving(economy, saved, economy.assets, e, z[..., None, None], capital)
        return found.reshape(*y.shape[:-1], -1)

    return shares


def _masses(economy: KrusellSmith, y: Floats) -> Floats:
    """Return masses (..., n_e n_a) as laws (..., n_e, n_a)."""
    return y.reshape(*y.shape[:-1], len(economy.skill), len(economy.assets))


def of_agent(agent: Any, economy: KrusellSmith, problem: KrusellSmithHousehold | None = None) -> HouseholdPolicy:
    """Return the household policy of an agent: its `saving`, or what its `policy` makes households do.

    Args:
        agent: the agent.
        economy: the economy.
        problem: the problem of the environment on which the agent plays; None where it has learnt an economy.

    Raises:
        ParameterError: an agent of an economy that has neither `saving` nor learnt a steady state.
    """
    saving: HouseholdPolicy | None = getattr(agent, "saving", None)
    if saving is not None:
        return saving
    return of_steady_state(agent, economy) if problem is None else of_observations(problem, agent.policy)


def of_steady_state(agent: Any, economy: KrusellSmith) -> HouseholdPolicy:
    """Return the household policy of an agent that has learnt a steady state, which ignores Z and the law.

    Raises:
        ParameterError: the agent has learnt no steady state.
    """
    if not hasattr(agent, "signal") or not hasattr(agent, "solution"):
        raise ParameterError(
            f"{type(agent).__name__} has neither `saving`, a household policy, nor a `signal` and a `solution`, by "
            "which agents of an economy are judged"
        )
    individual, share = economy.individual(agent.signal), agent.solution.policy

    def saving(assets: Floats, e: NDArray[np.int64], z: NDArray[np.int64], law: Floats) -> Floats:
        x = np.stack(np.broadcast_arrays(np.asarray(assets, dtype=np.float64), e), axis=-1)
        saved: Floats = individual.saving_of_action(x, np.asarray(share(0.0, x)))
        return saved

    return saving
