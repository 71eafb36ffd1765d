"""The equilibrium of `KrusellSmith` with aggregate risk, as functions, figures and paths."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from hacontrol_envs import krusell_smith_measures as measures
from hacontrol_envs.arrays import Floats
from hacontrol_envs.errors import ParameterError
from hacontrol_envs.krusell_smith import KrusellSmith
from hacontrol_envs.krusell_smith_calibrations import CALIBRATIONS
from hacontrol_envs.krusell_smith_paths import Path, path_of_z
from hacontrol_envs.reference import disk, egm, krusell_smith
from hacontrol_envs.reference.law_of_motion import CapitalNodes, LawOfMotion

FORMAT = 1
"""Of the file on disk; raise it when the method changes."""
ERGODIC = 64
"""Laws kept from the long path."""
JUDGED, EVERY, SEED = 10_000, 50, 20_300
"""Quarters of the path on which the solution is judged, how often its law is, and its seed."""


class Ergodic(NamedTuple):
    """States of the economy that a long path visits, equally spaced in time."""

    z: NDArray[np.int64]
    """(S,)."""
    laws: Floats
    """(S, n_e, n_a)."""


@final
@dataclass(frozen=True, eq=False)
class ReferenceSolution:
    """A global solution with the law of motion log K' = b0(Z) + b1(Z) log K; see `krusell_smith` beside this.

    It depends on the law of households only through K. Figures are those of a path that the solution was not found on.
    """

    economy: KrusellSmith
    thresholds: Floats
    """Own assets at which a' = assets[i] is chosen, (n_z, n_k, n_e, n_a); see `egm`."""
    nodes: CapitalNodes
    """Of capital."""
    law_of_motion: LawOfMotion
    r2: Floats
    """Of the law of motion on the path that it was found on, (n_z,)."""
    gap: float
    """Between the law of motion believed and that obeyed, in log K', at most."""
    ergodic: Ergodic
    den_haan: measures.PathErrors
    """Of the law of motion's forecast over 10 000 quarters."""
    euler: measures.EulerErrors
    """At all cells of 200 laws of these."""
    share_at_top: float
    """Of households, at the highest node, on average: that the grid ends there matters less than this."""

    @property
    def capital(self) -> float:
        """The mean of K over all times, by the law of motion."""
        return self.law_of_motion.mean_capital(self.economy.aggregate_chain)

    def policy(self, assets: Floats, e: Any, z: Any, law: Floats) -> Floats:
        """a' (..., m) of households with assets and states (..., m) where Z is z (...) and the law (..., n_e, n_a)."""
        capital = np.asarray(self.economy.capital_of(law))
        return self.saving(assets, e, np.asarray(z)[..., None], capital[..., None])

    def saving(self, assets: Any, e: Any, z: Any, capital: Any) -> Floats:
        """a' of own assets, e, Z and K, broadcasting; fast where z and K are constant along the last axes."""
        given = np.asarray(assets, dtype=np.float64), np.asarray(e, dtype=np.int64)
        common = np.asarray(z, dtype=np.int64), np.asarray(capital, dtype=np.float64)
        shape, economies = np.broadcast_shapes(*(x.shape for x in (*given, *common))), np.broadcast(*common).shape
        economies = (1,) * (len(shape) - len(economies)) + economies
        while economies and economies[-1] == 1:
            economies = economies[:-1]
        outer = shape[: len(economies)]
        trailing = (1,) * (len(shape) - len(outer))
        count = int(np.prod(outer))
        points, states = (np.ascontiguousarray(np.broadcast_to(x, shape)).reshape(count, -1) for x in given)
        now, K = (np.ascontiguousarray(np.broadcast_to(x, outer + trailing)).reshape(count) for x in common)
        out = np.empty(points.shape)
        egm.choose(self.thresholds, self.economy.assets, now, self.nodes.weights(K), points, states, out)
        return out.reshape(shape)

    def saving_on_grid(self, z: Any, capital: Any) -> Floats:
        """a' at the nodes, (..., n_e, n_a), where Z is z (...) and capital K (...)."""
        z, capital = (np.asarray(x)[..., None, None] for x in (z, capital))
        return self.saving(self.economy.assets, np.arange(len(self.economy.skill))[:, None], z, capital)

    def consumption(self, assets: Any, e: Any, z: Any, capital: Any) -> Floats:
        """c of own assets, e, Z and K, broadcasting."""
        cash: Floats = self.economy.cash(assets, e, z, capital)
        return cash - self.saving(assets, e, z, capital)

    def value(self, assets: Any, e: Any, z: Any, capital: Any) -> Floats:
        """What the household expects of life, of own assets, e, Z and K, broadcasting; computed when first needed."""
        return self._value(assets, e, z, capital)

    @cached_property
    def _value(self) -> Callable[..., Floats]:
        from hacontrol_envs.reference.krusell_smith_value import HouseholdValue

        return HouseholdValue(self)

    def simulate(
        self,
        quarters: int,
        seed: int = 0,
        *,
        z: NDArray[np.int64] | None = None,
        law: Floats | None = None,
        every: int = 0,
    ) -> Path:
        """A path of one economy.

        Args:
            quarters, seed: of the path of Z.
            z: its states (quarters + 1,), instead.
            law: at the start; by default one of `ergodic`, and Z as it was then.
            every: keep the laws of quarters 0, every, 2 every, ...; 0 keeps none.

        Raises:
            ParameterError: `law` without the `z` that it belongs to.
        """
        if law is not None and z is None:
            raise ParameterError("simulate was given a law without z: which states of Z does it belong to?")
        if law is None:
            first = seed % len(self.ergodic.z) if z is None else int(np.argmax(self.ergodic.z == z[0]))
            law = self.ergodic.laws[first]
            z = path_of_z(self.economy, quarters, seed, first=self.ergodic.z[first]) if z is None else z
        keep = len(z) // every + bool(len(z) % every) if every else 0
        capital, laws = krusell_smith.simulate(self.economy, self.thresholds, self.nodes, z, law, max(every, 1), keep)
        return Path(self.economy, z, capital, np.arange(keep) * every, laws)

    def __repr__(self) -> str:
        figures = f"capital={self.capital:.6g}, euler={self.euler.mean:.2f}, den_haan={self.den_haan.mean:.2g}"
        return f"ReferenceSolution({figures}, gap={self.gap:.1g})"


def of(economy: KrusellSmith, degree: int, progress: bool) -> ReferenceSolution:
    """The solution of an economy: from disk, or computed and put there.

    Raises:
        EquilibriumError: none was found.
        ParameterError: another degree than 1 or 2.
    """
    if degree not in (1, 2):
        raise ParameterError(f"the degree of a law of motion must be 1 or 2, got {degree!r}")
    defaults = CALIBRATIONS[economy.parameters["calibration"]]
    about = {"format": FORMAT, "degree": degree, "parameters": {**defaults, **economy.parameters}}
    if (arrays := disk.read("krusell-smith", about)) is not None:
        try:
            return _loaded(economy, arrays)
        except (KeyError, ValueError, TypeError):
            pass  # of another kind than the label says: computed anew
    with _reporting(progress) as report:
        found = computed(economy, degree, report)
    disk.write("krusell-smith", about, _saved(found))
    return found


def computed(economy: KrusellSmith, degree: int, report: krusell_smith.Report) -> ReferenceSolution:
    """The solution, computed and judged on a path of its own."""
    found = krusell_smith.solve(economy, degree, report)
    z = path_of_z(economy, krusell_smith.BURN_IN + JUDGED, SEED)
    report("Euler and Den Haan errors", 0.97)
    begin = krusell_smith.start(economy, int(z[0]))
    capital, laws = krusell_smith.simulate(economy, found.thresholds, found.nodes, z, begin, EVERY, 1 + len(z) // EVERY)
    first = krusell_smith.BURN_IN // EVERY
    laws, when = laws[first:], np.arange(first * EVERY, len(z), EVERY)
    some = np.linspace(0, len(laws) - 1, ERGODIC).round().astype(np.int64)
    ergodic = Ergodic(z[when[some]], laws[some])
    path = Path(economy, z[krusell_smith.BURN_IN :], capital[krusell_smith.BURN_IN :], when, laws)
    top = float(laws[:, :, -1].sum(axis=-1).mean())
    made = ReferenceSolution(
        economy,
        found.thresholds,
        found.nodes,
        found.law_of_motion,
        found.r2,
        found.gap,
        ergodic,
        measures.den_haan(found.law_of_motion, path),
        measures.EulerErrors(0.0, 0.0, 0.0),
        top,
    )
    errors = measures.euler_errors(economy, made.policy, z[when], laws)
    return _with(made, errors)


def _with(solution: ReferenceSolution, euler: measures.EulerErrors) -> ReferenceSolution:
    import dataclasses

    return dataclasses.replace(solution, euler=euler)


def _saved(solution: ReferenceSolution) -> dict[str, NDArray[Any]]:
    nodes = solution.nodes
    return {
        "thresholds": solution.thresholds,
        "nodes": np.array([nodes.low, nodes.high, nodes.count]),
        "law_of_motion": solution.law_of_motion.coefficients,
        "r2": solution.r2,
        "z": solution.ergodic.z,
        "laws": solution.ergodic.laws,
        "den_haan": np.array(solution.den_haan),
        "euler": np.array(solution.euler),
        "others": np.array([solution.gap, solution.share_at_top]),
    }


def _loaded(economy: KrusellSmith, arrays: dict[str, NDArray[Any]]) -> ReferenceSolution:
    low, high, count = arrays["nodes"]
    shape = (len(economy.productivity), int(count), len(economy.skill), len(economy.assets))
    if arrays["thresholds"].shape != shape:
        raise ValueError("thresholds of another shape")
    return ReferenceSolution(
        economy,
        arrays["thresholds"],
        CapitalNodes(float(low), float(high), int(count)),
        LawOfMotion(arrays["law_of_motion"]),
        arrays["r2"],
        float(arrays["others"][0]),
        Ergodic(arrays["z"], arrays["laws"]),
        measures.PathErrors(*map(float, arrays["den_haan"])),
        measures.EulerErrors(*map(float, arrays["euler"])),
        float(arrays["others"][1]),
    )


@contextmanager
def _reporting(wanted: bool) -> Iterator[krusell_smith.Report]:
    """Where a computation says how far it is: a bar of rich, if that is wanted and installed, or nowhere."""
    if wanted:
        try:
            from rich.progress import Progress
        except ImportError:
            wanted = False
    if not wanted:
        yield lambda what, share: None
        return
    with Progress(transient=True) as bar:
        task = bar.add_task("reference solution", total=1.0)
        yield lambda what, share: bar.update(task, description=what, completed=share)
