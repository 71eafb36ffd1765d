"""The path on which a reference solution is judged, and checks of a solution that comes from disk.

Whoever can write the file of a solution can give it a valid digest. Its contents are therefore recomputed as far as
that is cheap: the policy must be a fixed point of the household's problem under the beliefs, the path that it makes
must be the one whose laws and forecast errors are reported and must obey the beliefs, and Euler errors at a few of its
laws must agree with those reported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hacontrol_envs.arrays import Floats
from hacontrol_envs.economies.krusell_smith import accuracy as measures
from hacontrol_envs.economies.krusell_smith import fixed_point
from hacontrol_envs.economies.krusell_smith.law_of_motion import Beliefs, Moment, Nodes
from hacontrol_envs.economies.krusell_smith.paths import path_of_z

if TYPE_CHECKING:
    from hacontrol_envs.economies.krusell_smith.economy import KrusellSmith
    from hacontrol_envs.economies.krusell_smith.solution import ReferenceSolution

ERGODIC = 64
"""Number of laws kept from the long path."""
JUDGED, EVERY, SEED = 10_000, 50, 20_300
"""Quarters of the path on which a solution is judged, quarters between its laws, and its seed."""
SETTLED = 1e-6
"""Largest change of the policy by one more iteration, relative to consumption."""
SAME = 1e-7
"""Largest relative difference of figures that are recomputed on a path: another machine rounds differently."""
EULER_LAWS, EULER_MEAN, EULER_MAX = 3, 1.0, 1e-3
"""Laws at which Euler errors are recomputed, and by how much, in log10, their mean may differ and their maximum
exceed."""


class Judged(NamedTuple):
    """A path of an economy without its burn-in, and some of its laws."""

    z: NDArray[np.int64]
    """States of Z, (T + 1,)."""
    capital: Floats
    """K, (T + 1,)."""
    v: Floats
    """The moment v, (T + 1,)."""
    when: NDArray[np.int64]
    """Quarters of the laws that are kept, (S,)."""
    laws: Floats
    """Laws of households in these quarters, (S, n_e, n_a)."""

    @property
    def some(self) -> NDArray[np.int64]:
        """Numbers of the laws, of S, that a solution keeps, (`ERGODIC`,)."""
        numbers: NDArray[np.int64] = np.linspace(0, len(self.laws) - 1, ERGODIC).round().astype(np.int64)
        return numbers

    @property
    def share_at_top(self) -> float:
        """Share of households at the highest node, on average over the laws."""
        return float(self.laws[:, :, -1].sum(axis=-1).mean())


def judged(economy: KrusellSmith, thresholds: Floats, nodes: Nodes, moment: Moment) -> Judged:
    """Simulate the path on which a policy is judged.

    Args:
        economy: the economy.
        thresholds: of the policy, (n_z, n_k, n_e, n_a); see `egm`.
        nodes: nodes of capital and the moment.
        moment: the moment v.
    """
    burn = fixed_point.BURN_IN
    z = path_of_z(economy, burn + JUDGED, SEED)
    begin, count = fixed_point.start(economy, int(z[0])), 1 + len(z) // EVERY
    capital, v, laws = fixed_point.simulate(economy, thresholds, nodes, moment, z, begin, EVERY, count)
    first = burn // EVERY
    return Judged(z[burn:], capital[burn:], v[burn:], np.arange(first * EVERY, len(z), EVERY) - burn, laws[first:])


def checked(economy: KrusellSmith, form: str, arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return the arrays of a file if kinds, shapes and ranges are those of a solution: compiled code relies on them.

    Args:
        economy: the economy of the solution.
        form: form of beliefs, one of `fixed_point.FORMS`.
        arrays: arrays of the file by name.

    Raises:
        ValueError: an array has another kind, shape or range.
        KeyError: an array is missing.
    """
    n_z, n_e, n_a = len(economy.productivity), len(economy.skill), len(economy.assets)
    moments = 2 if fixed_point.FORMS[form] > fixed_point.QUADRATIC else 1
    shapes: dict[str, tuple[int, ...]] = {
        "thresholds": (n_z, fixed_point.NODES * moments, n_e, n_a),
        "nodes": (3,),
        "bounds": (moments,),
        "phi": (n_e, n_a),
        "trend": (n_z, 2),
        "beliefs": (n_z, 1 + n_z, 4),
        "beliefs_r2": (n_z,),
        "law_of_motion": (n_z, 2),
        "r2": (n_z,),
        "z": (ERGODIC,),
        "laws": (ERGODIC, n_e, n_a),
        "den_haan": (2,),
        "euler": (3,),
        "others": (4,),
    }
    found = {}
    for name, shape in shapes.items():
        given, kind = arrays[name], np.int64 if name == "z" else np.float64
        if given.dtype != kind or given.shape != shape:
            raise ValueError(f"{name} is {given.dtype} {given.shape}")
        known = given[~np.isnan(given)] if name in ("r2", "beliefs_r2") else given
        if not np.all(np.isfinite(known)):
            raise ValueError(f"{name} is not finite")
        found[name] = np.ascontiguousarray(given)
    low, high, count = found["nodes"]
    laws, z = found["laws"], found["z"]
    fair = (
        low < high
        and count == fixed_point.NODES
        and np.all(np.diff(found["bounds"]) > 0)
        and np.all(np.diff(found["thresholds"], axis=-1) > 0)
        and np.all(found["phi"] > 0)
        and np.all((z >= 0) & (z < n_z))
        and np.all(laws >= 0)
        and np.all(abs(laws.sum(axis=(1, 2)) - 1) < 1e-9)
        and not np.any(found["r2"] > 1)
        and not np.any(found["beliefs_r2"] > 1)
        and np.all(found["others"][1:] >= 0)
        and found["others"][1] <= fixed_point.STAGES[-1].tolerance
    )
    if not fair:
        raise ValueError("values outside their ranges")
    return found


def recheck(solution: ReferenceSolution) -> None:
    """Raise ValueError unless a solution's policy is a fixed point and its figures are its own; see the module."""
    economy, thresholds, nodes, moment = solution.economy, solution.thresholds, solution.nodes, solution.moment
    change = fixed_point.Households(economy).residual(thresholds, nodes, solution.beliefs)
    if not change <= SETTLED:
        raise ValueError(f"the policy changes by {change}")
    path = judged(economy, thresholds, nodes, moment)
    kept = path.when[path.some]
    if not np.array_equal(solution.ergodic.z, path.z[kept]) or not _same(solution.ergodic.laws, path.laws[path.some]):
        raise ValueError("laws that are not of the path")
    forecast = measures.log_differences(solution.law_of_motion.forecast(path.capital[0], path.z), path.capital)
    if not _same(forecast, solution.den_haan) or not _same(path.share_at_top, solution.share_at_top):
        raise ValueError("figures that are not of the path")
    _obeyed(solution.beliefs, solution.beliefs_r2, path)
    few = np.linspace(0, ERGODIC - 1, EULER_LAWS).astype(np.int64)
    euler = measures.euler_errors(economy, solution.policy, solution.ergodic.z[few], solution.ergodic.laws[few])
    if not (abs(euler.mean - solution.euler.mean) <= EULER_MEAN and euler.max <= solution.euler.max + EULER_MAX):
        raise ValueError("Euler errors that are not of the policy")


def _same(one: Any, other: Any) -> bool:
    return bool(np.allclose(one, other, rtol=SAME, atol=SAME))


def _obeyed(beliefs: Beliefs, r2: Floats, path: Judged) -> None:
    """Raise ValueError unless beliefs forecast the next K on the path about as well as they claim."""
    x = np.log(path.capital)
    errors = x[1:] - beliefs(x[:-1], path.v[:-1], path.z[:-1])[0]
    claimed = 1 - float(np.nanmin(r2, initial=1.0))
    if not np.var(errors) <= (100 * claimed + SAME) * max(float(np.var(x)), SAME) + SAME**2:
        raise ValueError("beliefs that the path does not obey")
