"""The global solution of `KrusellSmith`: households forecast capital by a law of motion that their economy obeys.

Krusell and Smith's fixed point (1998). Given beliefs, households are solved by endogenous grids on (a, e, Z, K) and a
moment v; given households, a long path of the histogram is computed; given the path, beliefs are fitted by least
squares. The path is short at first, and the next guess of beliefs is Anderson's (1965).

The moment is there because forecasts by K alone are 3e-5 off in the "jedc" calibration, and consumption 1e-5.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from hacontrol_envs.arrays import Floats
from hacontrol_envs.economies.krusell_smith import long_path
from hacontrol_envs.economies.krusell_smith.law_of_motion import FEW, Beliefs, Moment, Nodes, by_state
from hacontrol_envs.economies.krusell_smith.market import Averages
from hacontrol_envs.economies.krusell_smith.mixing import Mixing
from hacontrol_envs.economies.krusell_smith.paths import path_of_z
from hacontrol_envs.economies.krusell_smith.steady_state import SteadyState
from hacontrol_envs.errors import EquilibriumError
from hacontrol_envs.numerics import egm
from hacontrol_envs.numerics.transport import Transport

if TYPE_CHECKING:
    from hacontrol_envs.economies.krusell_smith.economy import KrusellSmith


class Stage(NamedTuple):
    """A stage of the search for the fixed point."""

    quarters: int
    """Length of the path. [quarters]."""
    tolerance: float
    """Largest difference in log K' and v' between what households believe and what their path obeys."""


STAGES = Stage(1_000, 1e-3), Stage(4_000, 1e-5), Stage(21_000, 1e-7)
"""Stages of the search, from short paths to long ones."""
BURN_IN = 500
"""Quarters at the beginning of a path that are not used."""
NODES = 6
"""Chebyshev nodes in log capital."""
FORMS = {"log-linear": 2, "quadratic": 3, "two moments": 4}
"""Number of terms of beliefs about log K': 1, log K; its square; and v, see `Moment`."""
QUADRATIC = FORMS["quadratic"]
"""Terms of beliefs without the moment, at most."""
AHEAD = 12
"""Quarters after which consumption is forecast, see `forecast_weights`."""
PERSISTENCE = 0.97
"""Autocorrelation of log K in the first beliefs."""
CONVERGED = 1e-9
"""Change of a threshold relative to consumption at which a policy is said to be found in the last stage."""
MOST_POLICY, MOST_LAW = 20_000, 60
"""Most iterations on a policy, and on beliefs in a stage."""
WIDTH = 10.0
"""Half-range of log K on the first nodes, in standard deviations of log Z."""
MARGIN = 0.25
"""Margin on both sides of the range of log K on a path, or of half the first one's where a path hardly moves, as a
share."""
LEAST = 1e-4
"""Least range of log K and of v, for an economy that hardly moves."""
SEED = 20_100
"""Seed of the path of Z."""


class Found(NamedTuple):
    """The fixed point: a policy, the beliefs that it is optimal under, and the path that confirms them."""

    thresholds: Floats
    """Own assets at which a' = assets[i] is chosen, (n_z, n_k, n_e, n_a); see `egm`."""
    nodes: Nodes
    """Nodes of capital and the moment."""
    moment: Moment
    """The moment of the law that households know."""
    beliefs: Beliefs
    """Beliefs of households about log K' and v'."""
    r2: Floats
    """R2 of the beliefs about K' on the path, for every Z, (n_z,)."""
    z: NDArray[np.int64]
    """States of Z on the path, (T + 1,)."""
    capital: Floats
    """K on the path, (T + 1,)."""
    gap: float
    """Largest difference in log K' and v' between what is believed and what happens, along the path's range."""


class Report(Protocol):
    """A function that is told what is being done, and which share of all is done."""

    def __call__(self, what: str, share: float) -> None: ...


def solve(economy: KrusellSmith, law: str, report: Report) -> Found:
    """Find the fixed point with beliefs of a given form.

    Args:
        economy: the economy to solve.
        law: the form, one of `FORMS`.
        report: is told how far the search is.

    Raises:
        EquilibriumError: it was not found.
    """
    search = _Search(economy, FORMS[law])
    for number, stage in enumerate(STAGES):
        last = number == len(STAGES) - 1
        tell = partial(report, share=number / len(STAGES))
        search.run(stage, CONVERGED if last else stage.tolerance / 100, tell)
        if not last:
            search.fit_nodes()
    return search.found()


class _Search:
    """The state of the search for the fixed point."""

    def __init__(self, economy: KrusellSmith, terms: int) -> None:
        steady, n_z = economy.steady_state(cut=True), len(economy.productivity)
        self.economy, self.terms, self.households = economy, terms, Households(economy)
        x = float(np.log(steady.capital))
        self.width = width = WIDTH * max(float(np.std(np.log(economy.productivity))), 0.003)
        self.moment = Moment(forecast_weights(steady), np.zeros((n_z, 2)))
        self.nodes = Nodes(x - width, x + width, NODES, np.zeros(1))
        self.thresholds = self._as_in(steady)
        first = np.zeros((n_z, 1 + n_z, 4))
        first[:, 0, :2] = x, PERSISTENCE
        self.beliefs = Beliefs(first, x)

    def _as_in(self, steady: SteadyState) -> Floats:
        """Return thresholds of households that consume what those in the steady state do who choose the same a'."""
        economy, mean = self.economy, Averages.of(self.economy)
        income = steady.wage * mean.earnings[:, None]
        c = (1 + steady.interest_rate) * steady.thresholds + income - economy.assets
        z = np.arange(len(economy.productivity))[:, None]
        prices = economy.prices(np.exp(self.nodes.points[0]), z)
        earned = prices.wage[..., None, None] * economy.earnings[:, None, :, None]
        thresholds: Floats = (c + economy.assets - earned) / (1 + prices.interest_rate[..., None, None])
        return thresholds

    def run(self, stage: Stage, near: float, report: Callable[..., None]) -> None:
        """Iterate until the beliefs are those that their path gives, to the stage's tolerance.

        Args:
            stage: length of the path, and the tolerance.
            near: change of a threshold, relative to consumption, at which a policy is said to be found.
            report: is told what is being done.
        """
        n_z = len(self.economy.productivity)
        self.z, terms = _visiting(path_of_z(self.economy, stage.quarters, SEED), n_z), self.terms
        if len(self.nodes.bounds) == 1:
            terms = min(terms, QUADRATIC)
        mixing = Mixing(self.nodes, terms)
        for count in range(MOST_LAW):
            report(f"{stage.quarters} quarters, beliefs {count + 1}")
            self.households.solve(self.thresholds, self.nodes, self.beliefs, near)
            begin = start(self.economy, int(self.z[0]))
            self.capital, self.v, _ = simulate(self.economy, self.thresholds, self.nodes, self.moment, self.z, begin)
            path = self.z[BURN_IN:], np.log(self.capital[BURN_IN:]), self.v[BURN_IN:]
            obeyed, self.r2 = Beliefs.fitted(*path, n_z, terms, self.beliefs.center)
            self.gap = mixing.gap(self.beliefs, obeyed)
            if not np.isfinite(self.gap):
                raise EquilibriumError("the law of motion left all bounds")
            if self.gap <= stage.tolerance:
                return
            self.beliefs = mixing.next(self.beliefs, obeyed)
        raise EquilibriumError(
            f"no law of motion was found: after {MOST_LAW} guesses it is {self.gap:.2g} off. Where Z is in some of its "
            'states only rarely, beliefs="log-linear" ask less of the path than "two moments"'
        )

    def fit_nodes(self) -> None:
        """Place nodes where the path has been, and measure the moment from its usual value there."""
        x, v = np.log(self.capital[BURN_IN:]), self.v[BURN_IN:]
        middle, half = (x.min() + x.max()) / 2, (0.5 + MARGIN) * max(np.ptp(x), self.width / 2, LEAST)
        low, high = float(middle - half), float(middle + half)
        if self.terms <= QUADRATIC:
            nodes = Nodes(low, high, NODES, np.zeros(1))
        elif len(self.nodes.bounds) == 1:
            # The moment appears: from here on it is measured from its usual value.
            z, n_z = self.z[BURN_IN:], len(self.economy.productivity)
            fitted, _ = by_state(z, np.stack([np.ones(len(x)), x], axis=-1), v[:, None], n_z)
            trend = fitted[:, 0]
            self.moment = Moment(self.moment.weights, trend)
            nodes = Nodes(low, high, NODES, _around(v - trend[z, 0] - trend[z, 1] * x))
        else:
            nodes = Nodes(low, high, NODES, _around(v))
        weights = self.nodes.weights(*nodes.points)
        self.thresholds, self.nodes = np.einsum("kj,zjea->zkea", weights, self.thresholds), nodes

    def found(self) -> Found:
        """Return the present policy, beliefs and path."""
        nodes, moment = self.nodes, self.moment
        return Found(self.thresholds, nodes, moment, self.beliefs, self.r2, self.z, self.capital, self.gap)


def _visiting(z: NDArray[np.int64], states: int) -> NDArray[np.int64]:
    """Overwrite a part of a path of Z such that every state occurs often enough to fit what capital does in it."""
    place, seen = BURN_IN, np.bincount(z[BURN_IN:], minlength=states)
    for state in np.flatnonzero(seen < FEW):
        z[place : place + FEW] = state
        place += FEW
    return z


def forecast_weights(steady: SteadyState) -> Floats:
    """Return phi(e, a), positive: mean consumption AHEAD quarters later in the steady state, (n_e, n_a).

    Differences in consumption now explain differences in K' between laws with the same K, but are hard to forecast;
    consumption of a few years later is easier to forecast, and explains nearly as much.
    """
    averages, phi = Averages.of(steady.economy), steady.consumption
    transport = Transport(steady.economy.assets, steady.saving, averages.chain)
    for _ in range(AHEAD):
        phi = transport @ phi
    return phi


def _around(v: Floats) -> Floats:
    """Return two nodes, (2,), between which all of these lie."""
    bounds: Floats = np.array([-1.0, 1.0]) * (1 + MARGIN) * max(np.abs(v).max(), LEAST)
    return bounds


class Households:
    """The household's problem given beliefs."""

    def __init__(self, economy: KrusellSmith) -> None:
        self.economy = economy
        joint = economy.aggregate_chain[:, :, None, None] * economy.income_chain
        self._chain = np.ascontiguousarray(joint.transpose(0, 2, 1, 3))

    def solve(self, thresholds: Floats, nodes: Nodes, beliefs: Beliefs, tolerance: float) -> int:
        """Iterate on thresholds, in place, until they change by no more than a tolerance; return the iterations.

        Args:
            thresholds: of the policy, (n_z, n_k, n_e, n_a); overwritten.
            nodes: nodes of capital and the moment.
            beliefs: what households believe about log K' and v'.
            tolerance: largest change of a threshold, relative to consumption.

        Raises:
            EquilibriumError: they do not settle.
        """
        count, change = self._iterate(thresholds, nodes, beliefs, MOST_POLICY, tolerance)
        if not change <= tolerance:
            raise EquilibriumError(f"no policy was found in {count} iterations: the last changed it by {change:.2g}")
        return count

    def residual(self, thresholds: Floats, nodes: Nodes, beliefs: Beliefs) -> float:
        """Return the largest change of a threshold, relative to consumption, by one more iteration.

        Args:
            thresholds: of the policy, (n_z, n_k, n_e, n_a); left as they are.
            nodes: nodes of capital and the moment.
            beliefs: what households believe about log K' and v'.
        """
        return self._iterate(thresholds.copy(), nodes, beliefs, 1, 0.0)[1]

    def _iterate(
        self, thresholds: Floats, nodes: Nodes, beliefs: Beliefs, most: int, tolerance: float
    ) -> tuple[int, float]:
        economy, z = self.economy, np.arange(len(self._chain))
        x, v = nodes.points
        following, v_following = beliefs(x, v, z[:, None])  # (n_z, n_k) and (n_z, n_k, n_z)
        now = economy.prices(np.exp(x), z[:, None])
        then = economy.prices(np.exp(following)[:, :, None], z)
        return egm.iterate(
            thresholds,
            economy.assets,
            nodes.weights(*np.broadcast_arrays(following[..., None], v_following)),
            1 + now.interest_rate,
            now.wage[..., None] * economy.earnings[:, None, :],
            1 + then.interest_rate,
            then.wage[..., None] * economy.earnings,
            self._chain,
            economy.discount_factor,
            economy.risk_aversion,
            most,
            tolerance,
        )


def start(economy: KrusellSmith, z: int) -> Floats:
    """Return the steady state's law with the share of every e that belongs to z, (n_e, n_a)."""
    law, joint = economy.steady_state(cut=True).law, economy.joint_law
    found = law * (joint[z] / joint[z].sum() / joint.sum(axis=0))[:, None]
    shares: Floats = found / found.sum()
    return shares


def simulate(
    economy: KrusellSmith,
    thresholds: Floats,
    nodes: Nodes,
    moment: Moment,
    z: NDArray[np.int64],
    law: Floats,
    every: int = 1,
    keep: int = 0,
) -> tuple[Floats, Floats, Floats]:
    """Move a law along a path of Z; return K (T + 1,), v (T + 1,) and the laws kept (keep, n_e, n_a).

    Args:
        economy: the economy.
        thresholds: of the households' policy, (n_z, n_k, n_e, n_a); see `egm`.
        nodes: nodes of capital and the moment.
        moment: the moment v.
        z: states of Z, (T + 1,).
        law: law at the start, (n_e, n_a).
        every: laws of quarters 0, every, 2 every, ... are kept.
        keep: how many laws are kept.
    """
    capital, v, laws = np.empty(len(z)), np.empty(len(z)), np.empty((keep, *law.shape))
    long_path.simulate(
        thresholds,
        economy.assets,
        np.array([nodes.low, nodes.high]),
        nodes.inverse,
        nodes.bounds,
        moment.weights,
        moment.trend,
        economy.income_chain,
        z,
        np.array(law, dtype=np.float64),
        capital,
        v,
        every,
        laws,
    )
    return capital, v, laws
