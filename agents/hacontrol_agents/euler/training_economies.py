"""TrainingEconomies: the economies on which a DEQN learns, moved by what it has learnt."""

from __future__ import annotations

import abc
import copy
from collections.abc import Callable
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hacontrol_agents.euler.euler_residual import Batch
from hacontrol_envs.arrays import Floats
from hacontrol_envs.core.conditions import EulerConditions, PopulationConditions
from hacontrol_envs.core.discrete import Successors
from hacontrol_envs.errors import EquilibriumError

BINS = 20
"""Groups of assets into which laws are gathered, each with its mass, mean and variance, before they are integrated."""
INHABITED = 1e-9
"""Cells with more mass than this are visited for their own sake."""
TILT = 0.5
"""Share of economies whose wealth is multiplied by a factor before points are drawn."""

TRIVIAL = 5.0
"""Factor by which capital must differ from a representative agent's, up or down, for economies to be trivial."""
TRIVIAL_TOP = 0.5
"""Share of savers at the top of the grid above which economies are trivial, whatever their capital."""

FUTURE = 200
"""Periods for which economies follow the learnt rule to see where it leads."""
COMPARED = 16
"""Number of economies in which two rules are compared."""

Saving = Callable[[Floats, "Floats | None"], Floats]
"""Function of points x (..., m, n) and their economies' laws (..., n_e, n_a), None without a population; returns a'
(..., m)."""


class TrainingEconomies(abc.ABC):
    """States of economies, from which points are drawn and which move on period by period."""

    @abc.abstractmethod
    def batch(self, rng: np.random.Generator, points: int) -> Batch:
        """Return a batch of about `points` points."""

    @abc.abstractmethod
    def move(self, rng: np.random.Generator, saving: Saving) -> None:
        """Move the economies one period on by the rule `saving`."""

    def diagnostics(self) -> dict[str, float]:
        """Return figures of the economies' state by name."""
        return {}

    def refuse_trivial(self) -> None:  # noqa: B027  (single savers tell of no collapse)
        """Raise EquilibriumError where the economies are trivial, so that no equilibrium is near."""

    def refuse_trivial_future(self, rng: np.random.Generator, saving: Saving) -> None:
        """Raise EquilibriumError if `FUTURE` further periods under `saving` would lead to trivial economies. The
        economies themselves are unchanged."""
        here = {name: tensor.clone() for name, tensor in self.tensors().items()}
        for _ in range(FUTURE):
            self.move(rng, saving)
        try:
            self.refuse_trivial()
        finally:
            self.restore(here)

    @abc.abstractmethod
    def apart(self, seed: int, one: Saving, other: Saving) -> float:
        """Return how far two rules are apart in what they lead to, relative. The economies themselves are unchanged.

        Args:
            seed: seed of points and shocks.
            one: a rule.
            other: another.
        """

    @abc.abstractmethod
    def strayed(self) -> float:
        """Return the share of savers who have come where nothing can be learnt."""

    @abc.abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """Return the state as tensors by name."""

    @abc.abstractmethod
    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take over a state that `tensors` returned."""


@final
class TrainingSavers(TrainingEconomies):
    """Single savers, who are economies of their own. Half of a batch are their states, half are drawn as starting
    points. Savers whom a rule that is not learnt yet would ruin in the next period start anew."""

    def __init__(self, conditions: EulerConditions, rng: np.random.Generator, size: int) -> None:
        self._conditions, self._size, self._strayed = conditions, size, 0.0
        self._x = conditions.start(rng, size)

    def batch(self, rng: np.random.Generator, points: int) -> Batch:
        mine = self._x[rng.integers(0, len(self._x), points // 2)]
        x = torch.as_tensor(np.concatenate([mine, self._conditions.start(rng, points - len(mine))])[None])
        return Batch(x, x.new_zeros(1, 0), x[:, :0])

    def move(self, rng: np.random.Generator, saving: Saving) -> None:
        after = self._following(self._x, saving)
        reached = np.cumsum(np.broadcast_to(after.probability, after.x.shape[:-1]), axis=-1)
        drawn = np.sum(rng.random(len(self._x))[:, None] * reached[:, -1:] > reached, axis=-1)
        x = after.x[np.arange(len(self._x)), np.minimum(drawn, reached.shape[-1] - 1)]
        with np.errstate(all="ignore"):
            ahead = self._conditions.coordinates(self._following(x, saving).x)
        strayed = np.logical_not(np.isfinite(ahead).all(axis=(-2, -1)))
        self._strayed = float(strayed.mean())
        self._x = np.where(strayed[:, None], self._conditions.start(rng, len(x)), x) if strayed.any() else x

    def _following(self, x: Floats, saving: Saving) -> Successors:
        return self._conditions.following(x, saving(x, None), x[..., 0])

    def apart(self, seed: int, one: Saving, other: Saving) -> float:
        """Return the relative L2 distance of what is saved beyond the limit, at a batch of points."""
        x = self.batch(np.random.default_rng(seed), 2048).x[0].numpy()
        saved = one(x, None)
        return float(np.linalg.norm(other(x, None) - saved) / np.linalg.norm(saved - self._conditions.limit))

    def strayed(self) -> float:
        """Return the share of savers whom the rule would have ruined, and who started anew, in the last period."""
        return self._strayed

    def tensors(self) -> dict[str, Tensor]:
        return {"cloud.x": torch.as_tensor(self._x)}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        self._x = tensors["cloud.x"].cpu().numpy()


@final
class TrainingPopulations(TrainingEconomies):
    """Economies with a law of savers each, which transport moves.

    Half of an economy's points are drawn by mass, half evenly from inhabited cells; between nodes, evenly. Half of the
    economies are met with all wealth times a factor, so that the rule is learnt around the capital that it leads to.
    """

    def __init__(self, conditions: PopulationConditions, rng: np.random.Generator, size: int, near: bool) -> None:
        self._conditions = conditions
        self.z, self.laws = conditions.populations(rng, near, size)
        nodes = len(conditions.assets)
        self._starts = np.unique(np.append(0, np.linspace(1, nodes, min(BINS, nodes - 1) + 1).astype(int)[:-1]))

    @property
    def capital(self) -> Floats:
        """Capital of each economy, (B,)."""
        found: Floats = self._conditions.capital_of(self.laws)
        return found

    def batch(self, rng: np.random.Generator, points: int) -> Batch:
        conditions, B = self._conditions, len(self.z)
        tilted = rng.random(B) < TILT
        factor = np.exp(np.where(tilted, conditions.spread / 2 * rng.uniform(-1, 1, B), 0.0))
        laws = conditions.scaled(self.laws, factor)
        capital = conditions.capital_of(laws)[:, None]
        e, node = np.divmod(_drawn(rng, laws.reshape(B, -1), max(2, points // B)), laws.shape[-1])
        up = np.minimum(node + 1, laws.shape[-1] - 1)
        share = np.where(node > 0, rng.random(node.shape), 0.0)
        own = conditions.assets[node] + share * (conditions.assets[up] - conditions.assets[node])
        mass, assets = self.gathered(laws)
        each = np.repeat(np.tile(np.arange(laws.shape[-2]), 2), mass.shape[-1] // (2 * laws.shape[-2]))
        z = self.z[:, None]
        cells = conditions.place(assets, each, z, capital)
        return Batch(*(torch.as_tensor(part) for part in (conditions.place(own, e, z, capital), mass, cells)))

    def gathered(self, laws: Floats) -> tuple[Floats, Floats]:
        """Return laws (B, n_e, n_a) as masses and assets, (B, R) each: two points for every group, with its mean and
        variance."""
        assets = self._conditions.assets
        mass, first, second = (np.add.reduceat(laws * assets**k, self._starts, axis=-1) for k in range(3))
        some = np.maximum(mass, 1e-300)
        mean = first / some
        spread = np.sqrt(np.maximum(second / some - mean**2, 0.0))
        # The limit's own group has one node; rounding must not carry anyone across it.
        low = np.maximum(mean - spread, assets[0])
        both = np.stack([mass, mass], axis=1) / 2, np.stack([low, 2 * mean - low], axis=1)
        return both[0].reshape(len(laws), -1), both[1].reshape(len(laws), -1)

    def move(self, rng: np.random.Generator, saving: Saving) -> None:
        B, n_e, n_a = self.laws.shape
        assets, e = np.tile(self._conditions.assets, n_e), np.repeat(np.arange(n_e), n_a)
        x = self._conditions.place(assets, e, self.z[:, None], self.capital[:, None])
        choice = saving(x, self.laws).reshape(B, n_e, n_a)
        self.z, self.laws = self._conditions.moved(self.laws, choice, self.z, rng)

    def apart(self, seed: int, one: Saving, other: Saving) -> float:
        """Return the mean of |log K - log K'| over `FUTURE` periods of some economies that follow each of the rules,
        from the same laws along the same aggregate states."""
        paths = [self._capital_along(np.random.default_rng(seed), rule) for rule in (one, other)]
        return float(np.abs(np.log(paths[0] / paths[1])).mean())

    def _capital_along(self, rng: np.random.Generator, saving: Saving) -> Floats:
        some = copy.copy(self)
        some.z, some.laws = self.z[:COMPARED], self.laws[:COMPARED]
        found = []
        for _ in range(FUTURE):
            some.move(rng, saving)
            found.append(some.capital)
        return np.array(found)

    def strayed(self) -> float:
        """Return the mass of savers at the top of the grid."""
        return float(self.laws[..., -1].sum(axis=-1).mean())

    def diagnostics(self) -> dict[str, float]:
        return {"capital": float(self.capital.mean()), "spread": float(np.log(self.capital).std())}

    def refuse_trivial(self) -> None:
        sensible, capital = self._conditions.representative_capital, self.diagnostics()["capital"]
        top = self.strayed()
        if sensible / TRIVIAL <= capital <= sensible * TRIVIAL and top <= TRIVIAL_TOP:
            return
        raise EquilibriumError(
            f"the training economies are trivial: capital is {capital:.4g} on average, a representative agent's is "
            f"{sensible:.4g}, and {top:.0%} of savers are at the top of the grid. The rule meets the equilibrium "
            "conditions there, if at all, and nowhere else: start from what is known (warm_start=True), or learn more "
            "before economies move on (settled, moves)"
        )

    def tensors(self) -> dict[str, Tensor]:
        return {"cloud.z": torch.as_tensor(self.z), "cloud.laws": torch.as_tensor(self.laws)}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        self.z, self.laws = (tensors[name].cpu().numpy() for name in ("cloud.z", "cloud.laws"))


def _drawn(rng: np.random.Generator, masses: Floats, count: int) -> NDArray[np.int64]:
    """Return cells (B, count): half of them drawn by mass, half evenly among those with some."""
    by_mass, evenly = count // 2, count - count // 2
    found = np.empty((len(masses), count), dtype=np.int64)
    for row, mass in enumerate(masses):
        reached = np.cumsum(mass)
        found[row, :by_mass] = np.searchsorted(reached, rng.random(by_mass) * reached[-1])
        found[row, by_mass:] = rng.choice(np.flatnonzero(mass > INHABITED), evenly)
    least: NDArray[np.int64] = np.minimum(found, masses.shape[-1] - 1)
    return least
