"""The global solution of `KrusellSmith`: households who forecast capital by a law of motion that their economy obeys.

Krusell and Smith's fixed point (1998). Given the law of motion, households by endogenous grids on (a, e, Z, K); given
households, a long path of the histogram; given the path, the law of motion by least squares. The path begins short, and
the law's next guess is Anderson's (1965).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hacontrol_envs.arrays import Floats
from hacontrol_envs.errors import EquilibriumError
from hacontrol_envs.krusell_smith_paths import path_of_z
from hacontrol_envs.reference import egm, histogram
from hacontrol_envs.reference.law_of_motion import CapitalNodes, LawOfMotion

if TYPE_CHECKING:
    from hacontrol_envs.krusell_smith import KrusellSmith


class Stage(NamedTuple):
    """Part of the fixed point: how long a path, and how near the law of motion must come."""

    quarters: int
    tolerance: float
    """Of log K' between the law that households believe and the law that their path obeys."""


STAGES = Stage(1_000, 1e-3), Stage(4_000, 1e-5), Stage(21_000, 1e-7)
BURN_IN = 500
"""Quarters of a path that are not used."""
NODES = 7
"""Of capital."""
CONVERGED = 1e-9
"""Largest change of a threshold relative to consumption at which a policy is said to be found, at last."""
MOST_POLICY, MOST_LAW = 20_000, 60
"""Iterations."""
WIDTH = 10.0
"""Half-range of log K at first, in deviations of log Z."""
MARGIN = 0.25
"""Of the range of log K on a path, added on both sides."""
SEED = 20_100


class Found(NamedTuple):
    """The fixed point."""

    thresholds: Floats
    """Of the policy, (n_z, n_k, n_e, n_a); see `egm`."""
    nodes: CapitalNodes
    law_of_motion: LawOfMotion
    r2: Floats
    """Of the law of motion on the path, for every Z, (n_z,)."""
    capital: Floats
    """K on the path, (T + 1,)."""
    gap: float
    """Between the law believed and the law obeyed, in log K'."""


Report = Callable[[str, float], None]
"""Told what is being done, and which share of all is done."""


def solve(economy: KrusellSmith, degree: int, report: Report) -> Found:
    """The fixed point with a law of motion of this degree.

    Raises:
        EquilibriumError: it was not found.
    """
    problem = Households(economy)
    steady = economy.steady_state()
    deviation = float(np.std(np.log(economy.productivity)))
    spread = np.exp(WIDTH * max(deviation, 0.003))
    nodes = CapitalNodes(steady.capital / spread, steady.capital * spread, NODES)
    n_z = len(economy.productivity)
    thresholds = np.tile(steady.thresholds, (n_z, NODES, 1, 1))
    center = float(np.log(steady.capital))
    law = LawOfMotion(np.tile([0.03 * center, 0.97] + [0.0] * (degree - 1), (n_z, 1)))
    for number, stage in enumerate(STAGES):
        z = path_of_z(economy, stage.quarters, SEED)
        mixing = _Mixing(nodes, degree)
        for count in range(MOST_LAW):
            report(f"quarters {stage.quarters}, law of motion {count + 1}", number / len(STAGES))
            near = CONVERGED if number == len(STAGES) - 1 else stage.tolerance / 100
            problem.solve(thresholds, nodes, law, near)
            capital, _ = simulate(economy, thresholds, nodes, z, start(economy, int(z[0])))
            obeyed, r2 = LawOfMotion.fitted(z[BURN_IN:], capital[BURN_IN:], n_z, degree)
            low, high = np.quantile(capital[BURN_IN:], [0.0, 1.0])
            at = np.linspace(low, high, degree + 1)[:, None]
            every = np.arange(n_z)
            gap = float(np.abs(np.log(obeyed(at, every) / law(at, every))).max())
            if not np.isfinite(gap):
                raise EquilibriumError("the law of motion left all bounds")
            if gap <= stage.tolerance:
                break
            law = mixing.next(law, obeyed)
        else:
            raise EquilibriumError(f"no law of motion was found: after {MOST_LAW} guesses log K' is {gap:.2g} off")
        if number < len(STAGES) - 1:
            wider = CapitalNodes(low * (low / high) ** MARGIN, high * (high / low) ** MARGIN, NODES)
            thresholds = np.einsum("kj,zjea->zkea", nodes.weights(wider.capital), thresholds)
            nodes = wider
    return Found(thresholds, nodes, law, r2, capital, gap)


class Households:
    """The household's problem given a law of motion."""

    def __init__(self, economy: KrusellSmith) -> None:
        self.economy = economy
        joint = economy.aggregate_chain[:, :, None, None] * economy.income_chain
        self._chain = np.ascontiguousarray(joint.transpose(0, 2, 1, 3))

    def solve(self, thresholds: Floats, nodes: CapitalNodes, law: LawOfMotion, tolerance: float) -> int:
        """Iterate on thresholds (n_z, n_k, n_e, n_a), in place, until they change less; how often it took.

        Raises:
            EquilibriumError: they do not settle.
        """
        economy, n_z = self.economy, len(self._chain)
        z = np.arange(n_z)
        tomorrow = law(nodes.capital, z[:, None])
        now, then = economy.prices(nodes.capital, z[:, None]), economy.prices(tomorrow[:, :, None], z)
        count, change = egm.iterate(
            thresholds,
            economy.assets,
            nodes.weights(tomorrow),
            1 + now.interest_rate,
            now.wage[..., None] * economy.earnings[:, None, :],
            1 + then.interest_rate,
            then.wage[..., None] * economy.earnings,
            self._chain,
            economy.discount_factor,
            economy.risk_aversion,
            MOST_POLICY,
            tolerance,
        )
        if not change <= tolerance:
            raise EquilibriumError(
                f"no policy was found in {count} iterations, the last of which changed it {change:.2g}"
            )
        return count


def start(economy: KrusellSmith, z: int) -> Floats:
    """The steady state's law with the share of every e that belongs to z, (n_e, n_a)."""
    law, joint = economy.steady_state().law, economy.joint_law
    found: Floats = law * (joint[z] / joint[z].sum() / joint.sum(axis=0))[:, None]
    return found / found.sum()


def simulate(
    economy: KrusellSmith,
    thresholds: Floats,
    nodes: CapitalNodes,
    z: NDArray[np.int64],
    law: Floats,
    every: int = 1,
    keep: int = 0,
) -> tuple[Floats, Floats]:
    """K (T + 1,) along z (T + 1,) from a law, and the laws of the first `keep` quarters that `every` divides."""
    capital, laws = np.empty(len(z)), np.empty((keep, *law.shape))
    histogram.simulate(
        thresholds,
        economy.assets,
        nodes.range,
        nodes.inverse,
        economy.income_chain,
        z,
        np.array(law, dtype=np.float64),
        capital,
        every,
        laws,
    )
    return capital, laws


class _Mixing:
    """Anderson's next guess of the law of motion, from the last few and what came of them."""

    def __init__(self, nodes: CapitalNodes, degree: int, depth: int = 4) -> None:
        # A law of motion is known by log K' at as many capitals as it has coefficients.
        low, high = nodes.range
        self._x = (low + high) / 2 + (high - low) / 4 * np.linspace(-1, 1, degree + 1)
        self._powers, self._depth = self._x[:, None] ** np.arange(degree + 1), depth
        self._guesses, self._gaps = list[Floats](), list[Floats]()

    def next(self, believed: LawOfMotion, obeyed: LawOfMotion) -> LawOfMotion:
        guess = (believed.coefficients @ self._powers.T).ravel()
        gap = (obeyed.coefficients @ self._powers.T).ravel() - guess
        self._guesses.append(guess)
        self._gaps.append(gap)
        del self._guesses[: -self._depth], self._gaps[: -self._depth]
        following = guess + gap
        if len(self._gaps) > 1:
            turns, moves = np.diff(self._gaps, axis=0).T, np.diff(self._guesses, axis=0).T
            share, *_ = np.linalg.lstsq(turns, gap, rcond=1e-8)
            following = following - (moves + turns) @ share
        values = following.reshape(-1, len(self._x))
        return LawOfMotion(np.linalg.solve(self._powers, values.T).T)
