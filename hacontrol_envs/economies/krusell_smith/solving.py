"""How a reference solution is had: from disk, judged anew, or computed, judged and put there."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hacontrol_envs.core.parameters import one_of
from hacontrol_envs.economies.krusell_smith import accuracy as measures
from hacontrol_envs.economies.krusell_smith import fixed_point
from hacontrol_envs.economies.krusell_smith.calibrations import CALIBRATIONS
from hacontrol_envs.economies.krusell_smith.judged import checked, judged, recheck
from hacontrol_envs.economies.krusell_smith.law_of_motion import Beliefs, LawOfMotion, Moment, Nodes
from hacontrol_envs.economies.krusell_smith.paths import Path
from hacontrol_envs.economies.krusell_smith.policies import on_grid
from hacontrol_envs.economies.krusell_smith.solution import Ergodic, ReferenceSolution
from hacontrol_envs.errors import NumericalError
from hacontrol_envs.numerics import disk_cache

if TYPE_CHECKING:
    from hacontrol_envs.economies.krusell_smith.economy import KrusellSmith

FORMAT = 3
"""Version of the file on disk; raise it when the method changes."""


def of(economy: KrusellSmith, form: str, progress: bool) -> ReferenceSolution:
    """Return the solution of an economy: from disk, or computed and put there.

    Args:
        economy: the economy to solve.
        form: form of beliefs, one of `fixed_point.FORMS`.
        progress: show a progress bar, where rich is installed.

    Raises:
        EquilibriumError, NumericalError, ParameterError: none found, figures not finite, or another form of beliefs.
    """
    one_of("beliefs", form, fixed_point.FORMS)
    defaults = CALIBRATIONS[economy.parameters["calibration"]]
    parameters = {**defaults, **economy.parameters, "asset_max": float(economy.assets[-1])}
    about = {"format": FORMAT, "beliefs": form, "parameters": parameters}
    if (found := _kept(economy, form, about)) is None:
        with _reporting(progress) as report:
            found = computed(economy, form, report)
        disk_cache.write("krusell-smith", about, _saved(found))
    return found


def _kept(economy: KrusellSmith, form: str, about: dict[str, Any]) -> ReferenceSolution | None:
    """Return the solution on disk, or None: absent, not of its form, or not what it claims to be."""
    if (arrays := disk_cache.read("krusell-smith", about)) is None:
        return None
    try:
        with np.errstate(all="ignore"):
            found = _loaded(economy, form, checked(economy, form, arrays))
            recheck(found)
    except (KeyError, ValueError, ArithmeticError):
        return None
    return found


def computed(economy: KrusellSmith, form: str, report: fixed_point.Report) -> ReferenceSolution:
    """Compute the solution, and judge it on a path of its own.

    Args:
        economy: what is solved.
        form: of beliefs: "two moments", "log-linear" or "quadratic".
        report: called with what is being done and the share that is done.

    Raises:
        EquilibriumError: none was found.
        NumericalError: its figures are not finite.
    """
    found, burn = fixed_point.solve(economy, form, report), fixed_point.BURN_IN
    report("Euler and Den Haan errors", 0.97)
    path = judged(economy, found.thresholds, found.nodes, found.moment)
    law, r2 = LawOfMotion.fitted(found.z[burn:], found.capital[burn:], len(economy.productivity))
    made = ReferenceSolution(
        economy=economy,
        form=form,
        thresholds=found.thresholds,
        nodes=found.nodes,
        moment=found.moment,
        beliefs=found.beliefs,
        beliefs_r2=found.r2,
        gap=found.gap,
        law_of_motion=law,
        r2=r2,
        ergodic=Ergodic(path.z[path.when[path.some]], path.laws[path.some]),
        den_haan=measures.den_haan(law, Path(economy, path.z, path.capital, path.when, path.laws)),
        euler=measures.EulerErrors(0.0, 0.0, 0.0),
        share_at_top=path.share_at_top,
        output_lost=0.0,
    )
    z = path.z[path.when]
    made = dataclasses.replace(
        made, euler=measures.euler_errors(economy, made.policy, z, path.laws), output_lost=_lost(made)
    )
    figures = [made.capital, *made.den_haan, *made.euler, made.share_at_top, made.output_lost, *found.capital]
    if not np.all(np.isfinite(figures)) or not np.all(np.isfinite(made.beliefs.coefficients)):
        raise NumericalError(f"the reference solution of {economy!r} has figures that are not finite")
    return made


def _lost(solution: ReferenceSolution) -> float:
    """Return the share of output that is saved above the grid, on average over the laws that are kept."""
    economy, (z, laws) = solution.economy, solution.ergodic
    above = np.maximum(on_grid(economy, solution.policy, z, laws) - economy.assets[-1], 0.0)
    capital, alpha = economy.capital_of(laws), economy.capital_share
    output = economy.productivity[z] * capital**alpha * economy.labour[z] ** (1 - alpha)
    return float(((laws * above).sum(axis=(-2, -1)) / output).mean())


def _saved(solution: ReferenceSolution) -> dict[str, NDArray[Any]]:
    nodes, moment, beliefs = solution.nodes, solution.moment, solution.beliefs
    return {
        "thresholds": solution.thresholds,
        "nodes": np.array([nodes.low, nodes.high, nodes.count]),
        "bounds": nodes.bounds,
        "phi": moment.weights,
        "trend": moment.trend,
        "beliefs": beliefs.coefficients,
        "beliefs_r2": solution.beliefs_r2,
        "law_of_motion": solution.law_of_motion.coefficients,
        "r2": solution.r2,
        "z": solution.ergodic.z,
        "laws": solution.ergodic.laws,
        "den_haan": np.array(solution.den_haan),
        "euler": np.array(solution.euler),
        "others": np.array([beliefs.center, solution.gap, solution.share_at_top, solution.output_lost]),
    }


def _loaded(economy: KrusellSmith, form: str, arrays: dict[str, NDArray[Any]]) -> ReferenceSolution:
    low, high, count = arrays["nodes"]
    center, gap, top, lost = map(float, arrays["others"])
    nodes = Nodes(float(low), float(high), int(count), arrays["bounds"])
    return ReferenceSolution(
        economy=economy,
        form=form,
        thresholds=arrays["thresholds"],
        nodes=nodes,
        moment=Moment(arrays["phi"], arrays["trend"]),
        beliefs=Beliefs(arrays["beliefs"], center),
        beliefs_r2=arrays["beliefs_r2"],
        gap=gap,
        law_of_motion=LawOfMotion(arrays["law_of_motion"]),
        r2=arrays["r2"],
        ergodic=Ergodic(arrays["z"], arrays["laws"]),
        den_haan=measures.PathErrors(*map(float, arrays["den_haan"])),
        euler=measures.EulerErrors(*map(float, arrays["euler"])),
        share_at_top=top,
        output_lost=lost,
    )


@contextmanager
def _reporting(wanted: bool) -> Iterator[fixed_point.Report]:
    """Yield a function that shows progress: a bar of rich, if that is wanted and installed, or nothing."""
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
