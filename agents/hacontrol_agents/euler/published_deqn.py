"""PublishedDEQN: a deep equilibrium net for Krusell and Smith's economy, as in a published PyTorch port."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from hacontrol_agents.core.agent import Agent
from hacontrol_agents.euler.training_economies import TRIVIAL, TRIVIAL_TOP
from hacontrol_agents.learning.adam import Adam
from hacontrol_agents.learning.mish import Mish
from hacontrol_agents.learning.networks import MLP
from hacontrol_envs.arrays import Array, Floats, like, to_numpy
from hacontrol_envs.core.parameters import count, number
from hacontrol_envs.economies.krusell_smith.economy import KrusellSmith
from hacontrol_envs.economies.krusell_smith.household import KrusellSmithHousehold
from hacontrol_envs.economies.krusell_smith.policies import (
    MOST_SAVED,
    on_grid,
    saving_of_share,
    split,
)
from hacontrol_envs.lazy import warn_renamed
from hacontrol_envs.numerics.states import draw
from hacontrol_envs.numerics.transport import Transport

ROWS = 4096
"""Rows of the network whose gradient is taken at a time: few enough to stay in a core's cache."""
EPOCHS_A_ROW = 20
"""Number of epochs in a row of `history`."""
Ints = NDArray[np.int64]


@final
@dataclass(kw_only=True)
class PublishedDEQN(Agent):
    """One network for the saving of households, trained by Adam on squared Euler residuals on its own economies.

    The network N of (a scaled to [0, 1], e, Z, K), all but the first raw, gives the share of cash on hand above the
    limit that is saved, a' = a_min + sigmoid(N) (m - a_min). In each epoch
      1. every economy chooses a' on its grid and its law moves by the lottery, which gives K';
      2. at `cells` random nodes (a, e) of each economy Adam takes one step on the mean of

             (1 - beta E[(1 + r') u'(c')] / u'(c))^2,

         E summed over all Z' and e', with c' = c(a', e', Z', K') by the same network; no gradient goes through a' in it
         nor through K';
      3. Z' and e' are drawn, and the economies are one period on.

    The method is kept to be measured and is not made better than it was. Nothing tells a household at the limit, where
    the Euler equation is an inequality, from one that errs; the residual shrinks where all consume next to nothing; the
    inputs differ by a factor of thirty; and the economies go where the network sends them: an untrained network saves
    about the same share of cash on hand everywhere, half of it or much less, and within ten periods nearly all capital
    is gone. The economy and the nodes of its histogram are those of the environment, whatever its population plays;
    published with `asset_nodes=100, asset_max=50`.

    `history` has a row for each 20 epochs: how many there were, their mean loss, mean capital after them, the
    share of households at the top of the grid, and whether the economies are trivial (see `trivial`). Evaluations are
    counted at the cells of the histograms, at those drawn and at what may follow these.

    Raises:
        ParameterError: another problem than `KrusellSmith-v0`'s, or a hyperparameter that makes no sense.
    """

    hidden: tuple[int, ...] = (64, 64, 64)
    """Widths of the hidden layers, whose activation is Mish."""
    epochs: int = 2000
    """Epochs when `learn` is given no budget."""
    economies: int = 256
    """Number of training economies."""
    cells: int = 64
    """Nodes (a, e) drawn in each economy for a step."""
    learning_rate: float = 1e-3
    """Learning rate of Adam in the first epoch."""
    halved_every: int = 500
    """Epochs after which the learning rate is halved."""

    name: ClassVar[str] = "deqn-published"
    learns: ClassVar[Any] = KrusellSmithHousehold

    def __post_init__(self) -> None:
        super().__post_init__()
        number("learning_rate", self.learning_rate, above=0.0)
        for name in ("epochs", "economies", "cells", "halved_every"):
            count(name, getattr(self, name))
        draws = torch.Generator().manual_seed(self.seed or 0)
        self.network = saving_network(self.hidden, draws).to(self.device)
        self._adam = Adam(self.network.parameters(), lr=self.learning_rate)
        self._economies: Economies | None = None
        self._epoch = 0

    @property
    def household(self) -> KrusellSmithHousehold:
        """The problem behind the environment."""
        problem = self.problem
        assert isinstance(problem, KrusellSmithHousehold)
        return problem

    @property
    def economy(self) -> KrusellSmith:
        """The economy of the environment."""
        return self.household.economy

    @property
    def training_economies(self) -> Economies:
        """The economies as they are now; at first each is at the steady state's law, with a Z drawn."""
        if self._economies is None:
            z, law = self.household.populations(np.random.default_rng([self.seed or 0, 1]), self.economies, 0.0)
            self._economies = Economies(z, law.astype(np.float32))
        return self._economies

    @property
    def cloud(self) -> Economies:
        """The training economies; deprecated in favour of `training_economies`."""
        warn_renamed("cloud", "training_economies")
        return self.training_economies

    @property
    def capital(self) -> float:
        """Mean capital of the training economies."""
        return float(self.economy.capital_of(self.training_economies.law.astype(np.float64)).mean())

    @property
    def top(self) -> float:
        """Share of households at the top of the grid, a mean over the training economies."""
        return float(self.training_economies.law[..., -1].sum(axis=-1, dtype=np.float64).mean())

    @property
    def trivial(self) -> bool:
        """Whether capital is more than five times away, either way, from a representative agent's steady state, or more
        than half of all households are at the top of the grid."""
        ratio = self.capital / self.household.conditions().representative_capital
        return self.top > TRIVIAL_TOP or not 1 / TRIVIAL <= ratio <= TRIVIAL

    def policy(self, t: Array, x: Floats) -> Floats:
        """Return the share saved (..., 1) of cash on hand above the limit, cut to what the environment allows."""
        return self._share(*split(self.household.decode_observation(x).x))[..., None]

    def saving(self, assets: Floats, e: Ints, z: Ints, law: Floats) -> Floats:
        """Return next period's assets a' (..., m) of households.

        Args:
            assets: a of each household, (..., m).
            e: numbers of the income states, (..., m).
            z: numbers of the aggregate states, (...).
            law: masses of households by (e, a), (..., n_e, n_a).
        """
        capital, z = self.economy.capital_of(law)[..., None], z[..., None]
        at = assets, e, z, capital
        saved: Floats = saving_of_share(self.economy, self._share(*at), *at)
        return saved

    @torch.no_grad()
    def _share(self, assets: Floats, e: Ints, z: Ints, capital: Floats) -> Floats:
        """Return the share saved (...) by households at these points."""
        x = inputs(self.economy, self._floats(assets), self._ints(e), self._ints(z), self._floats(capital))
        parts = [self.network(some) for some in torch.split(x.reshape(-1, 4), ROWS)]
        share = torch.sigmoid(torch.cat(parts).double()).reshape(x.shape[:-1])
        return np.minimum(to_numpy(share), MOST_SAVED)

    def _floats(self, x: Floats) -> Tensor:
        return torch.tensor(x, dtype=torch.float32, device=self.device)

    def _ints(self, x: Ints) -> Tensor:
        return torch.tensor(x, device=self.device)

    def _learn(self, budget: int | None, report: Callable[..., bool]) -> None:
        while self._share_done(budget) < 1:
            losses: list[float] = []
            while len(losses) < EPOCHS_A_ROW and self._share_done(budget) < 1:
                losses.append(self.step())
            state = {"capital": self.capital, "top": self.top, "trivial": float(self.trivial)}
            if report(self._share_done(budget), epoch=float(self._epoch), loss=float(np.mean(losses)), **state):
                return

    def _share_done(self, budget: int | None) -> float:
        before = self.history[self.rows_before - 1]["epoch"] if self.rows_before else 0.0
        return (self._epoch - before) / self.epochs if budget is None else self.evaluations / budget

    def step(self) -> float:
        """Run one epoch; return the loss before its step."""
        rng, economy = np.random.default_rng([self.seed or 0, 2, self._epoch]), self.economy
        z, law = self.training_economies
        z_next = draw(economy.aggregate_chain[z], rng.standard_normal(len(z)))
        choice = on_grid(economy, self.saving, z, law.astype(np.float64)).astype(np.float32)
        moved = law @ Transport(economy.assets, choice, economy.income_chain[z, z_next])
        nodes = rng.integers(law[0].size, size=(len(z), self.cells))
        loss = self._descend(self._sample(law, moved, z, nodes))
        self._economies, self._epoch = Economies(z_next, moved), self._epoch + 1
        following = economy.earnings.size
        self.evaluations += len(z) * (law[0].size + self.cells * (1 + following))
        return loss

    def _sample(self, law: Any, moved: Any, z: Ints, nodes: Ints) -> Sample:
        """Return the cells (S, m) of economies (S,) whose laws are about to move."""
        e, place = np.divmod(nodes, law.shape[-1])
        capital = (self._floats(self.economy.capital_of(some)) for some in (law, moved))
        return Sample(self._floats(self.economy.assets[place]), self._ints(e), self._ints(z), *capital)

    def _descend(self, sample: Sample) -> float:
        """Take a step of Adam; return the loss before it."""
        self._adam.set_learning_rate(self.learning_rate * 0.5 ** (self._epoch // self.halved_every))
        self._adam.zero_grad()
        total = 0.0
        for part in sample.parts(self.economy.earnings.size):
            loss = euler_residual(self.economy, self.network, part).square().sum() / sample.assets.numel()
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        self._adam.step()
        return total

    def _tensors(self) -> dict[str, Tensor]:
        network = parameters_to_vector(self.network.parameters()).detach()
        z, law = (torch.as_tensor(part) for part in self.training_economies)
        return {"network": network, **self._adam.tensors(), "z": z, "law": law}

    def _record(self) -> dict[str, Any]:
        return {"epoch": self._epoch}

    def _restore(self, tensors: dict[str, Tensor], record: dict[str, Any]) -> None:
        vector_to_parameters(tensors["network"], self.network.parameters())
        self._epoch = record["epoch"]
        self._adam.restore(tensors)
        self._economies = Economies(tensors["z"].cpu().numpy(), tensors["law"].cpu().numpy())


class Economies(NamedTuple):
    """Economies at the beginning of a period."""

    z: Ints
    """Numbers of the aggregate states, (S,)."""
    law: NDArray[np.float32]
    """Masses of households by (e, a), (S, n_e, n_a)."""


class Sample(NamedTuple):
    """Samples of m households in each of S economies."""

    assets: Tensor
    """Assets a, (S, m)."""
    e: Tensor
    """Numbers of the households' income states, (S, m)."""
    z: Tensor
    """Numbers of the aggregate states, (S,)."""
    capital: Tensor
    """Capital K, (S,)."""
    capital_next: Tensor
    """Next period's capital K', (S,), which is known before Z' is."""

    def parts(self, following: int) -> Iterator[Sample]:
        """Return samples of a few economies at a time; `following` is the number of successors of each household."""
        size = max(1, ROWS // (self.assets.shape[1] * following))
        return (Sample(*(x[start : start + size] for x in self)) for start in range(0, len(self.z), size))


def euler_residual(economy: KrusellSmith, network: Callable[[Tensor], Tensor], at: Sample) -> Tensor:
    """Return 1 - beta E[(1 + r') u'(c')] / u'(c), (S, m), differentiable in the network's parameters but for a' and K'.

    Args:
        economy: the economy, for prices and preferences.
        network: function from inputs (..., 4) to the logit of the share saved, (..., 1).
        at: the households.
    """
    z, capital = at.z[:, None], at.capital[:, None]
    logit = network(inputs(economy, at.assets, at.e, z, capital))[..., 0]
    above = economy.cash(at.assets, at.e, z, capital) - economy.borrowing_limit
    saved = (economy.borrowing_limit + torch.sigmoid(logit) * above).detach()[..., None, None]
    n_z, n_e = economy.earnings.shape
    z_next, e_next = torch.arange(n_z, device=z.device)[:, None], torch.arange(n_e, device=z.device)
    following = at.capital_next[:, None, None, None]
    logit_next = network(inputs(economy, saved, e_next, z_next, following))[..., 0]
    above_next = economy.cash(saved, e_next, z_next, following) - economy.borrowing_limit
    c, c_next = torch.sigmoid(-logit) * above, torch.sigmoid(-logit_next) * above_next
    aggregate, income = (like(chain, c) for chain in (economy.aggregate_chain, economy.income_chain))
    odds = aggregate[z][..., None] * income[z[..., None], z_next[:, 0], at.e[..., None]]
    paid = 1 + economy.prices(following, z_next).interest_rate
    expected = (odds * paid * economy.marginal_utility(c_next)).sum((-2, -1))
    residual: Tensor = 1 - economy.discount_factor * expected / economy.marginal_utility(c)
    return residual


def inputs(economy: KrusellSmith, assets: Tensor, e: Tensor, z: Tensor, capital: Tensor) -> Tensor:
    """Return the network's inputs (a scaled to [0, 1], e, Z, K), (..., 4).

    Args:
        economy: the economy, for its grid and the levels of its states.
        assets, e, z, capital: tensors that broadcast against each other: a, numbers of income states, numbers of
            aggregate states, K.
    """
    low, high = economy.assets[0], economy.assets[-1]
    levels = like(economy.skill, capital)[e], like(economy.productivity, capital)[z]
    parts = (assets - low) / (high - low), *levels, capital
    shape = np.broadcast_shapes(*(tuple(part.shape) for part in parts))
    return torch.stack([part.expand(shape) for part in parts], dim=-1)


def saving_network(hidden: tuple[int, ...], draws: torch.Generator) -> nn.Sequential:
    """Return a float32 network from four inputs to the logit of the share saved; weights start from Xavier's uniform
    law."""
    *layers, last = MLP(4, hidden, generator=draws, dtype=torch.float32).layers
    return nn.Sequential(*(part for layer in layers for part in (layer, Mish())), last)
