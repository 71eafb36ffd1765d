"""calibrate: find parameters at which moments of an economy's equilibrium take given values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import scipy

from hacontrol_envs.arrays import Floats
from hacontrol_envs.core import parameters as read
from hacontrol_envs.economies.economy import Economy, Equilibrium
from hacontrol_envs.errors import EquilibriumError, ParameterError, nearest

STEP = 1e-3
"""Step of finite differences, as a share of a parameter's range; equilibria are found to about 1e-6."""


class Calibration(NamedTuple):
    """The economy, its equilibrium and the parameters that `calibrate` found."""

    economy: Economy
    """The economy with the parameters that were found."""
    equilibrium: Equilibrium
    """The equilibrium of `economy`."""
    parameters: dict[str, float]
    """The values found, by the parameter's name."""
    errors: dict[str, float]
    """Moment less target, relative to the target (absolute where that is 0), by the moment's name."""


def calibrate(
    economy: Economy,
    targets: Mapping[str, float],
    parameters: Mapping[str, tuple[float, float]],
    *,
    tolerance: float = 1e-5,
) -> Calibration:
    """Choose parameters such that moments of the equilibrium equal their targets, one parameter for each target.

    One parameter is found by Brent's method, which needs a moment that is below its target at one end of the range and
    above it at the other; several by least squares within their ranges, from the middle (SciPy's `brentq` and
    `least_squares`).

    >>> calibrate(FirmIndustry(), {"deviation investment rate": 0.02}, {"volatility": (0.05, 0.2)})

    Args:
        economy: economy to start from; its other parameters stay as they are.
        targets: wanted values, by the names of `Equilibrium.moments`.
        parameters: lower and upper end of the range that is searched, by the names of the economy's parameters.
        tolerance: largest error at which a target counts as met, relative to the target (absolute where that is 0).

    Raises:
        ParameterError: the number of parameters is not that of targets, a range does not increase, or a name is
            unknown.
        EquilibriumError: no parameters in their ranges meet the targets, or no equilibrium is found at some of them.
    """
    if not targets or len(targets) != len(parameters):
        raise ParameterError(f"{len(targets)} targets need as many parameters, got {len(parameters)}: {[*parameters]}")
    for name, ends in parameters.items():
        low, high = (read.number(name, end) for end in ends)
        if not low < high:
            raise ParameterError(f"the range of {name} must increase, got {ends!r}")
    search = _Search(economy, dict(targets), {name: (float(a), float(b)) for name, (a, b) in parameters.items()})
    found = search.one() if len(targets) == 1 else search.several()
    result = search.at(found)
    worst = max(result.errors, key=lambda name: abs(result.errors[name]))
    if not abs(result.errors[worst]) <= tolerance:
        raise EquilibriumError(
            f"no {', '.join(parameters)} within the ranges give the targets: at {result.parameters} {worst!r} misses "
            f"by {result.errors[worst]:.2g}; widen the ranges, or choose other targets"
        )
    return result


class _Search:
    """Errors of moments at parameters given as shares (k,) of their ranges."""

    def __init__(self, economy: Economy, targets: dict[str, float], ranges: dict[str, tuple[float, float]]) -> None:
        self.economy, self.targets, self.ranges = economy, targets, ranges

    def at(self, shares: Floats) -> Calibration:
        """Solve the economy at these shares (k,) of the ranges, and return it with the errors of its moments."""
        ends = self.ranges.values()
        chosen = {
            name: low + (high - low) * float(share)
            for name, share, (low, high) in zip(self.ranges, shares, ends, strict=True)
        }
        made = type(self.economy)(**{**self.economy.parameters, **chosen})
        found = made.equilibrium()
        moments = found.moments()
        for name in self.targets:
            if name not in moments:
                raise ParameterError(f"there is no moment {name!r}; {nearest(name, list(moments))}see moments()")
        errors = {name: (moments[name] - target) / (abs(target) or 1.0) for name, target in self.targets.items()}
        return Calibration(made, found, chosen, errors)

    def errors(self, shares: Floats) -> Floats:
        """Return the errors (k,) of the moments at these shares (k,), relative to their targets."""
        return np.array(list(self.at(np.atleast_1d(shares)).errors.values()))

    def one(self) -> Floats:
        """Find the root between the ends of one range, as a share (1,).

        Raises:
            EquilibriumError: the error has the same sign at both ends.
        """
        low, high = (float(self.errors(np.array([end]))[0]) for end in (0.0, 1.0))
        if low * high > 0:
            (name, ends), (target, wanted) = next(iter(self.ranges.items())), next(iter(self.targets.items()))
            had = [wanted + error * (abs(wanted) or 1.0) for error in (low, high)]
            raise EquilibriumError(
                f"{target!r} goes from {had[0]:.6g} to {had[1]:.6g} as {name} goes from {ends[0]:g} to {ends[1]:g}: "
                f"{wanted:g} is not between; widen the range"
            )
        share = scipy.optimize.brentq(lambda share: float(self.errors(np.array([share]))[0]), 0.0, 1.0, xtol=1e-10)
        return np.array([share])

    def several(self) -> Floats:
        """Find shares (k,) by least squares within the ranges, from their middles."""
        start = np.full(len(self.ranges), 0.5)
        found = scipy.optimize.least_squares(
            self.errors, start, bounds=(0.0, 1.0), diff_step=STEP, xtol=1e-12, ftol=1e-14, gtol=1e-14, max_nfev=60
        )
        shares: Floats = found.x
        return shares
