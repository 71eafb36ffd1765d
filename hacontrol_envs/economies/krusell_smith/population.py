"""PopulationProblem: the common base of the environments of one household and of all households of an economy."""

from __future__ import annotations

import abc
import json
from collections.abc import Callable
from functools import cached_property, lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hacontrol_envs.arrays import Array, Floats
from hacontrol_envs.core.discrete import DiscreteProblem
from hacontrol_envs.core.domain import Domain
from hacontrol_envs.core.picture import LawPicture, Picture
from hacontrol_envs.economies.krusell_smith.calibrations import EVERY, JEDC, SSJ
from hacontrol_envs.economies.krusell_smith.economy import KrusellSmith
from hacontrol_envs.errors import ParameterError, ResetError
from hacontrol_envs.numerics.states import draw, whole
from hacontrol_envs.numerics.transport import Transport

NODES = 200
"""Default number of asset nodes of the histogram in environments."""
KEYWORDS = {**EVERY, "asset_nodes": NODES}
"""Parameters of the economy in signatures of environments, with their defaults."""
START_SPREAD, LOOK_SPREAD = 0.02, 0.1
"""Standard deviations of log wealth across the populations of first states, and of states to look at."""


@lru_cache(maxsize=16)
def _economy(parameters: str) -> KrusellSmith:
    """Return one economy for all environments with these parameters, which then solve it once."""
    return KrusellSmith(**json.loads(parameters))


class PopulationProblem(DiscreteProblem):
    """A problem in an economy whose state is productivity and the law of its households.

    A state is (own..., z, law): z the number of the aggregate state, the law as n_e n_a masses that sum to one.
    """

    own: int
    """Number of components of the state that are the learner's own."""
    time_unit = "quarters"
    parameter_lists = (SSJ, JEDC)

    def __init__(self, calibration: str, parameters: dict[str, Any]) -> None:
        given = {"calibration": calibration, "asset_nodes": NODES, **parameters}
        try:
            key = json.dumps(given, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ParameterError(f"parameters must be numbers, strings and lists, got {given!r}") from error
        self.economy = _economy(key)
        self.discount_factor = self.economy.discount_factor

    _parameters: dict[str, Any]
    """The constructor's calibration and parameters."""

    def __reduce__(self) -> Any:
        """Pickle and copy as the constructor's arguments: economies are solved once a process, and kept on disk."""
        return partial(type(self), **self._arguments()), ()

    def _arguments(self) -> dict[str, Any]:
        return self._parameters

    @cached_property
    def shape(self) -> tuple[int, int]:
        """Shape (n_e, n_a) of a law."""
        return len(self.economy.skill), len(self.economy.assets)

    def law(self, x: Array) -> Array:
        """Return the laws (..., n_e, n_a) of states x (..., n)."""
        return x[..., self.own + 1 :].reshape(*x.shape[:-1], *self.shape)

    def aggregate(self, x: Array) -> Array:
        """Return the numbers z (...) of the aggregate states of states x (..., n)."""
        return whole(x[..., self.own])

    @cached_property
    def _law_box(self) -> Floats:
        """Upper ends of the masses' box, (n_e n_a,)."""
        law = self.economy.steady_state(cut=True).law.ravel()
        return np.maximum(5 * law, 1 / len(law))

    def _box(self, own: list[tuple[str, float, float]]) -> Domain:
        """Return the state's box, with the learner's own components (name, low, high) first."""
        last = len(self.economy.productivity) - 1
        parts = [*own, ("aggregate state", *widened(0.0, last))]
        names, low, high = (list(part) for part in zip(*parts, strict=True))
        masses = self._law_box
        names += [f"mass {i}" for i in range(len(masses))]
        return Domain(names, [*low, *np.zeros(len(masses))], [*high, *masses])

    def populations(self, rng: np.random.Generator, size: int, spread: float) -> tuple[NDArray[np.int64], Floats]:
        """Draw aggregate states (size,) by their stationary law, and laws (size, n_e, n_a) near the steady state's.

        A law is the steady state's, with the shares of e that belong to z, and with all wealth above the limit
        multiplied by one factor.

        Args:
            rng: source of random numbers.
            size: number of draws.
            spread: standard deviation of the factor's logarithm.
        """
        economy, steady = self.economy, self.economy.steady_state(cut=True).law
        joint = economy.joint_law
        z = draw(np.broadcast_to(joint.sum(axis=1), (size, len(joint))), rng.standard_normal(size))
        above = economy.assets - economy.borrowing_limit
        factor = np.exp(spread * rng.standard_normal(size))
        choice = economy.borrowing_limit + factor[:, None, None] * np.broadcast_to(above, self.shape)
        share = (joint[z] / joint[z].sum(axis=1, keepdims=True)) / steady.sum(axis=1)
        moved: Floats = (steady * share[..., None]) @ Transport(economy.assets, choice, np.eye(self.shape[0]))
        return z, moved / moved.sum(axis=(-2, -1), keepdims=True)

    def _picture(
        self, own: list[tuple[str, str, float, float]], own_components: Callable[[Floats], list[Floats]]
    ) -> Picture:
        """Return a picture of K and Z and of the law as a histogram over assets.

        Args:
            own: the learner's own components (name, unit, low, high), which come before K and Z.
            own_components: function of states that returns their values.
        """
        economy, steady = self.economy, self.economy.steady_state(cut=True)
        level = widened(economy.productivity.min(), economy.productivity.max())
        parts = [*own, ("capital", "goods", 0.7 * steady.capital, 1.4 * steady.capital), ("productivity", "", *level)]
        names, units, low, high = (list(part) for part in zip(*parts, strict=True))

        def components(x: Floats) -> Floats:
            common = [economy.capital_of(self.law(x)), economy.productivity[self.aggregate(x)]]
            return np.stack([*own_components(x), *common], axis=-1)

        law = LawPicture(
            nodes=economy.assets,
            label="assets (goods)",
            masses=self.law,
            groups=tuple(f"skill {skill:.3g}" for skill in economy.skill),
            usual=steady.law.sum(axis=0),
            usual_name="steady state",
            own=(lambda x: float(x[0])) if own else None,
            action_label="" if own else "share of cash on hand saved (above the limit)",
        )
        return Picture(Domain(names, low, high, units=units), components, law)

    def initial_state(self, rng: np.random.Generator, size: int) -> Floats:
        """Populations near the steady state, and the learner's own state drawn from them."""
        return self._draw_states(rng, size, START_SPREAD)

    def some_states(self, rng: np.random.Generator, size: int) -> Floats:
        """Draw populations further apart than those of `initial_state`, and the learner's own state from them."""
        return self._draw_states(rng, size, LOOK_SPREAD)

    @abc.abstractmethod
    def _draw_states(self, rng: np.random.Generator, size: int, spread: float) -> Floats: ...

    def refuse_state(self, x: Floats) -> None:
        """Raise ResetError for states that are none: numbers of states that do not exist, or laws that are no laws."""
        z, law = x[..., self.own], self.law(x)
        last = len(self.economy.productivity) - 1
        if np.any((z != np.rint(z)) | (z < 0) | (z > last)):
            raise ResetError(f"the aggregate state must be a whole number from 0 to {last}, got {z.ravel()[:5]}")
        if np.any(law < 0) or np.any(np.abs(law.sum(axis=(-2, -1)) - 1) > 1e-9):
            raise ResetError("the law must be n_e n_a masses, none negative, that sum to one")

    def _moved(self, law: Floats, choice: Floats, z: Any, z_next: Any) -> Floats:
        """Return the laws (..., n_e n_a) after choices (..., n_e, n_a) and the chain from z to z'."""
        law_next: Floats = law @ Transport(self.economy.assets, choice, self.economy.income_chain[z, z_next])
        return law_next.reshape(*law.shape[:-2], -1)


def widened(low: float, high: float) -> tuple[float, float]:
    """Return the ends of a box, which has some width even where there is one level only."""
    return (float(low), float(high)) if high > low else (low - 0.5, high + 0.5)
