"""Certificate: between which numbers the optimum and a policy's value lie, why, and what was taken for granted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, final

import numpy as np

from hacontrol_envs.arrays import Floats

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from hacontrol_envs import Problem


@final
@dataclass(frozen=True, kw_only=True)
class Certificate:
    """An interval that holds a policy's value J and the optimum V*: lower <= J <= V* <= upper.

    Values are means over `starts`, in units of reward, of the problem in continuous time (of the Bellman equation for
    problems in discrete time).
    """

    problem: Problem
    """The problem."""
    lower: float
    """What the policy earns at least; minus infinity where nothing is known."""
    upper: float
    """What any policy earns at most; infinity where nothing is known."""
    scale: float
    """Mean size of the value over the starts, to which relative figures are relative."""
    standard_error: float
    """Standard error of `lower`, which already is below its mean by `parts["noise"]`; 0 where no noise was drawn."""
    confidence: float
    """Probability with which the interval holds what it says, as far as noise is concerned."""
    tolerance: float
    """Relative gap up to which the policy counts as certified."""
    parts: dict[str, float]
    """What the gap is made of, in units of reward: "residual" is what the policy may lose and what the equation leaves
    open (below zero where noise puts the mean of the paths above the upper bound), "region" what may happen beyond the
    region, "tail" beyond the simulated time, "noise" and "step" the errors of simulation in paths and time steps; in
    discrete time "step" is the error of expectations over normals."""
    checked: tuple[str, ...]
    """What was looked at and found in order."""
    failed: tuple[str, ...]
    """What was looked at and found wanting: reasons not to certify, with what to try."""
    assumed: tuple[str, ...]
    """What was taken for granted."""
    evaluations: int
    """State-action points at which the problem's coefficients were evaluated."""
    starts: Floats = field(repr=False)
    """Initial states over which values are means, (S, n)."""
    x: Floats = field(repr=False)
    """States on the policy's paths, (M, n)."""
    loss: Floats = field(repr=False)
    """What the policy loses at these states, per unit of time or period, against the bound's greedy action, (M,)."""

    @property
    def gap(self) -> float:
        """What the policy can lose at most, V* - J, in units of reward."""
        return self.upper - self.lower

    @property
    def relative_gap(self) -> float:
        """The gap over `scale`."""
        return self.gap / self.scale if np.isfinite(self.gap) else np.inf

    @property
    def certified(self) -> bool:
        """Whether no check failed and the relative gap is within the tolerance."""
        return not self.failed and self.relative_gap <= self.tolerance

    def __str__(self) -> str:
        """Say in plain words what is known."""
        sure = f"with confidence {self.confidence:.0%}" if self.standard_error else "up to what is assumed"
        interval = f"between {self.lower:.10g} and {self.upper:.10g}"
        if self.certified:
            return (
                f"Certified: {sure} the policy loses at most {self.relative_gap:.2g} of the optimum's value "
                f"({interval})."
            )
        reasons = "; ".join(self.failed) or f"the gap is above the tolerance of {self.tolerance:g}"
        return f"Not certified: {reasons}. The optimum lies {interval}, a relative gap of {self.relative_gap:.2g}."

    def plot(self) -> Figure:
        """Draw where in the state space the policy loses, and what the gap is made of.

        Raises:
            ParameterError: matplotlib is not installed.
        """
        from hacontrol_envs.core.figures import panels

        domain = self.problem.state
        figure: Figure
        figure, axes_of_all = panels(domain.dimension + 1)
        for i, axes in enumerate(axes_of_all[:-1]):
            axes.plot(self.x[:, i], np.maximum(self.loss, 1e-18), ".", markersize=2, color="#0b6e8f")
            axes.set(xlabel=domain.label(i), ylabel="loss per unit of time", yscale="log")
            if domain.log[i]:
                axes.set_xscale("log")
        named = {name: part for name, part in self.parts.items() if part > 0}
        axes_of_all[-1].barh(list(named), list(named.values()), color="#d1691e")
        axes_of_all[-1].set(xscale="log", xlabel="part of the gap")
        figure.suptitle(str(self).split(":")[0] + f": relative gap {self.relative_gap:.2g}", fontsize="medium")
        return figure
