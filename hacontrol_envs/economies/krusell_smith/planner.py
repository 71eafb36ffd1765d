"""KrusellSmithCloud-v0: all households of an economy at once."""

from __future__ import annotations

from functools import cached_property
from typing import Any, final

import numpy as np

from hacontrol_envs.arrays import Array, Floats, like, namespace
from hacontrol_envs.core.discrete import Successors
from hacontrol_envs.core.domain import Domain
from hacontrol_envs.core.parameters import spelt_out
from hacontrol_envs.core.picture import Picture
from hacontrol_envs.core.registration import register
from hacontrol_envs.economies.krusell_smith.policies import (
    MOST_SAVED,
    HouseholdPolicy,
    ObservationPolicy,
    to_shares,
)
from hacontrol_envs.economies.krusell_smith.population import KEYWORDS, PopulationProblem, widened
from hacontrol_envs.numerics.states import draw


@final
class KrusellSmithPlanner(PopulationProblem):
    """All households of `KrusellSmith` at once.

    State: the aggregate state z and the law (n_e, n_a). The action is the share of cash on hand above the borrowing
    limit that is saved at every cell of the grid, (n_e n_a); the reward is the mean of u(c) under the law. Everything
    is observed, with the level of Z in place of its number.

    The competitive equilibrium does not maximise this: saving moves prices, and through them who gets what (Davila,
    Hong, Krusell and Rios-Rull, 2012). What does is not known, so there is no `solution`; `play` is what plays a
    household policy, such as the reference's.

    Args:
        calibration: "ssj" or "jedc", the set of defaults.
        parameters: any parameter of `KrusellSmith`, with 200 asset nodes unless told otherwise.

    Raises:
        ParameterError: parameters that make no sense.
    """

    own = 0
    noise_dim = 1

    def __init__(self, calibration: str = "ssj", **parameters: Any) -> None:
        super().__init__(calibration, parameters)
        self._parameters = {"calibration": calibration, **parameters}

    __signature__ = spelt_out(__init__, KEYWORDS)

    @property
    def parameters(self) -> dict[str, Any]:
        """The constructor's arguments, by name."""
        return dict(self._parameters)

    @cached_property
    def state(self) -> Domain:  # type: ignore[override]
        """The box of aggregate states and masses."""
        return self._box([])

    @cached_property
    def action(self) -> Domain:  # type: ignore[override]
        """The shares saved at the cells of the grid, (n_e n_a,)."""
        cells = self.shape[0] * self.shape[1]
        return Domain([f"share saved {i}" for i in range(cells)], np.zeros(cells), np.full(cells, MOST_SAVED))

    @cached_property
    def observation(self) -> Domain:
        """The level of productivity, and the masses of the law."""
        low, high = widened(self.economy.productivity.min(), self.economy.productivity.max())
        return Domain(["productivity", *self.state.names[1:]], [low, *self.state.low[1:]], [high, *self.state.high[1:]])

    @property
    def observation_bounds(self) -> tuple[Floats, Floats]:
        """Lowest and highest productivity, and bounds 0 and 1 of the masses, each (1 + n_e n_a,)."""
        levels, cells = self.economy.productivity, len(self.state.names) - 1
        return np.array([levels.min(), *[0.0] * cells]), np.array([levels.max(), *[1.0] * cells])

    def observe(self, x: Array) -> Array:
        """Return productivity and the law, (..., 1 + n_e n_a)."""
        level = like(self.economy.productivity, x)[self.aggregate(x)]
        return namespace(x).concat([level[..., None], x[..., 1:]], axis=-1)

    def picture(self) -> Picture:
        """Return a picture of K and Z, the law, and the shares saved over assets."""
        return self._picture([], lambda x: [])

    def play(self, policy: HouseholdPolicy) -> ObservationPolicy:
        """Return the policy (t, y) -> shares (..., n_e n_a) of this environment whose households follow `policy`."""
        return to_shares(self.economy, policy)

    def _above_limit(self, z: Any, law: Array) -> Array:
        """Return cash on hand above the limit, (..., n_e, n_a)."""
        economy, xp = self.economy, namespace(law)
        capital, e = economy.capital_of(law)[..., None, None], np.arange(self.shape[0])[:, None]
        cash = economy.cash(like(economy.assets, law), e, z[..., None, None], capital)
        return xp.asarray(cash) - economy.borrowing_limit

    def reward(self, x: Array, a: Array) -> Array:
        """The mean under the law of u(c), the utility of consumption c in a quarter."""
        law, shares = self.law(x), a.reshape(*a.shape[:-1], *self.shape)
        return self._paid(law, shares, self._above_limit(self.aggregate(x), law))

    def _paid(self, law: Array, shares: Array, above: Array) -> Array:
        return namespace(law).sum(law * self.economy.utility((1 - shares) * above), axis=(-2, -1))

    def transition(self, x: Floats, a: Floats, noise: Floats) -> Floats:
        """Move the aggregate state by the normal, and the law by the action."""
        return self.period(x, a, noise)[0]

    def period(self, x: Floats, a: Floats, noise: Floats) -> tuple[Floats, Floats]:
        """Return `transition` and `reward`, with cash on hand computed once."""
        z, law, shares = self.aggregate(x), self.law(x), a.reshape(*a.shape[:-1], *self.shape)
        z_next, above = draw(self.economy.aggregate_chain[z], noise[..., 0]), self._above_limit(z, law)
        moved = self._moved(law, self.economy.borrowing_limit + shares * above, z, z_next)
        return np.concatenate([z_next[..., None].astype(np.float64), moved], axis=-1), self._paid(law, shares, above)

    def successors(self, x: Array, a: Array) -> Successors:
        """Return the states after every z' with their exact probabilities. NumPy only."""
        z, law, shares = self.aggregate(x), self.law(x), a.reshape(*a.shape[:-1], *self.shape)
        choice = self.economy.borrowing_limit + shares * self._above_limit(z, law)
        n_z = len(self.economy.productivity)
        after = [self._moved(law, choice, z, following) for following in range(n_z)]
        numbers = np.broadcast_to(np.arange(float(n_z))[:, None], (*z.shape, n_z, 1))
        return Successors(np.concatenate([numbers, np.stack(after, axis=-2)], axis=-1), self.economy.aggregate_chain[z])

    def _draw_states(self, rng: np.random.Generator, size: int, spread: float) -> Floats:
        z, law = self.populations(rng, size, spread)
        return np.concatenate([z[:, None].astype(np.float64), law.reshape(size, -1)], axis=-1)


register("KrusellSmithCloud-v0", KrusellSmithPlanner, dt=1.0, max_episode_steps=200)
