"""A learnt equilibrium in one figure: value, policy, law, convergence of the price, residuals of both equations."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from hacontrol_envs import IndustryEquilibrium
from hacontrol_envs.arrays import Floats
from hacontrol_envs.core.figures import filled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from hacontrol_agents.equilibrium.industry_learner import IndustryLearner

COLOURS = ("#0b6e8f", "#d1691e", "#5b8c2a")
TRUTH: dict[str, Any] = {"color": "black", "linestyle": "--", "linewidth": 1.2, "zorder": 5}
SPREADS = 5.0
"""Maps reach this many standard deviations of log capital and log productivity from the law's means."""
SCAN = 241
"""Points per axis, evenly spaced over the box, by which means and standard deviations are found."""
MAP = 121
"""Points per axis of a map."""
HEIGHTS = np.exp(-(np.array([4.0, 3.0, 2.0, 1.0, 0.5]) ** 2) / 2)
"""Levels of the density, relative to its peak: those of a normal law at so many standard deviations."""
INACTION = 1e-6
"""Smallest rate of investment [1/year] that counts as doing something."""
ROUNDING = 1e-16
"""Least residual that is drawn; smaller ones are drawn at this value."""

Panel: TypeAlias = "Callable[[Axes], None]"
Function: TypeAlias = "Callable[[Floats, Floats], Floats | None]"


def industry_figure(learner: IndustryLearner, truth: IndustryEquilibrium | None = None) -> Figure:
    """Draw what a learner of an industry found, over the region where firms are (and where they truly are).

    Lines and contours are what was learnt; with `truth`, what is true is dashed in black over it.

    Raises:
        ParameterError: matplotlib is not installed.
    """
    scene = _Scene(learner, truth)
    panels = scene.panels()
    figure, grid = filled(len(panels))
    for axes, panel in zip(grid, panels, strict=True):
        panel(axes)
    title = f"FirmIndustry by {learner.name}: P = {learner.price:.6g}"
    figure.suptitle(title if truth is None else f"{title}, true P = {truth.price:.6g} (dashed)", fontsize="medium")
    return figure


class _Region(NamedTuple):
    """A rectangle of log capital and log productivity."""

    low: Floats
    high: Floats


class _Scene:
    """Data and axes that the panels share."""

    def __init__(self, learner: IndustryLearner, truth: IndustryEquilibrium | None) -> None:
        self.learner, self.truth = learner, truth
        self.firm = learner.industry.firm(learner.price)
        regions = [self._around(found.density) for found in (learner, truth) if found is not None]
        low = np.min([region.low for region in regions], axis=0)
        high = np.max([region.high for region in regions], axis=0)
        sides = [np.linspace(*ends, MAP) for ends in zip(low, high, strict=True)]
        self.k, self.z = np.meshgrid(np.exp(sides[0]), sides[1], indexing="ij")

    def _around(self, density: Function) -> _Region:
        """Return the region of a law within the box; the whole box where no mass is found."""
        low, high = np.log(self.firm.capital_bounds)
        bound = self.firm.productivity_bound
        box = _Region(np.array([low, -bound]), np.array([high, bound]))
        y, z = np.meshgrid(np.linspace(low, high, SCAN), np.linspace(-bound, bound, SCAN), indexing="ij")
        mass = np.nan_to_num(np.asarray(density(np.exp(y), z))) * np.exp(y)
        if not mass.sum() > 0:
            return box
        mass = mass / mass.sum()
        mean = np.array([(mass * side).sum() for side in (y, z)])
        spread = np.sqrt([(mass * (side - m) ** 2).sum() for side, m in zip((y, z), mean, strict=True)])
        return _Region(np.maximum(mean - SPREADS * spread, box.low), np.minimum(mean + SPREADS * spread, box.high))

    def panels(self) -> list[Panel]:
        """Return the panels for which this learner has something."""
        found: list[Panel] = [self.value, self.policy, self.density]
        if self.learner.history:
            found.append(self.convergence)
        errors: tuple[tuple[str, Function], ...] = (
            ("HJB residual", self.learner.hjb_error),
            ("Fokker-Planck residual", self.learner.law_error),
        )
        for title, error in errors:
            values = error(self.k, self.z)
            if values is not None:
                found.append(self._error_panel(title, values))
        return found

    def value(self, axes: Axes) -> None:
        """Draw V along capital at three productivities."""
        k = self.k[:, 0]
        for place, colour in zip((-2, 0, 2), COLOURS, strict=True):
            z = np.full_like(k, place * self.firm.productivity_deviation)
            axes.plot(k, self.learner.value(k, z), color=colour, linewidth=2, label=f"z = {place} s.d.")
            if self.truth is not None:
                axes.plot(k, self.truth.value(k, z), **TRUTH)
        axes.grid(alpha=0.25, linewidth=0.6)
        self._along_capital(axes, "value")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=3, frameon=False, fontsize="small")

    def policy(self, axes: Axes) -> None:
        """Draw the rate of investment, where it is zero (dotted) and depreciation, and where nothing is done."""
        rate, delta = self.learner.policy(self.k, self.z), self.firm.depreciation
        self._map(axes, rate, "RdBu", float(np.abs(rate).max()))
        still, title = np.abs(rate) < INACTION, "investment rate"
        if still.any():
            title += " (hatched: inaction)"
            axes.contourf(self.k, self.z, still, levels=[0.5, 1.5], colors="none", hatches=["///"])
        lines = [(rate, {"colors": COLOURS[0], "linestyles": ["dotted", "solid"]})]
        if self.truth is not None:
            lines.append((self.truth.policy(self.k, self.z), {"colors": "black", "linestyles": ["dotted", "dashed"]}))
        for values, style in lines:
            self._contours(axes, values, np.array([0.0, delta]), style, labels=values is rate)
        self._over_states(axes, title)

    def density(self, axes: Axes) -> None:
        """Draw firms, at the heights of a normal law at 1/2, 1, 2, 3 and 4 standard deviations."""
        self._density_contours(axes, self.learner.density(self.k, self.z), {"colors": COLOURS[0]})
        if self.truth is not None:
            style = {"colors": "black", "linestyles": "dashed"}
            self._density_contours(axes, self.truth.density(self.k, self.z), style)
        axes.grid(alpha=0.25, linewidth=0.6)
        self._over_states(axes, "density of firms")

    def convergence(self, axes: Axes) -> None:
        """Draw the price over the time spent."""
        rows = self.learner.history
        axes.plot([row["seconds"] for row in rows], [row["price"] for row in rows], ".-", color=COLOURS[0])
        if self.truth is not None:
            axes.axhline(self.truth.price, **TRUTH)
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.set(xlabel="seconds", title="price")

    def _error_panel(self, title: str, values: Floats) -> Panel:
        def panel(axes: Axes) -> None:
            self._map(axes, np.log10(np.maximum(values, ROUNDING)), "viridis")
            self._over_states(axes, f"log10 of relative {title}")

        return panel

    def _map(self, axes: Axes, values: Floats, colours: str, most: float | None = None) -> None:
        least = None if most is None else -most
        drawn = axes.pcolormesh(
            self.k, self.z, values, cmap=colours, shading="gouraud", rasterized=True, vmin=least, vmax=most
        )
        axes.figure.colorbar(drawn, ax=axes)

    def _density_contours(self, axes: Axes, density: Floats, style: dict[str, Any]) -> None:
        if density.max() > 0:
            self._contours(axes, density, HEIGHTS * density.max(), style)

    def _contours(
        self, axes: Axes, values: Floats, levels: Floats, style: dict[str, Any], labels: bool = False
    ) -> None:
        """Draw the levels that are reached: matplotlib warns where none is."""
        if np.any((values.min() < levels) & (levels < values.max())):
            drawn = axes.contour(self.k, self.z, values, levels=levels, linewidths=1.2, **style)
            if labels:
                axes.clabel(drawn, fmt="%g", fontsize="small")

    def _along_capital(self, axes: Axes, title: str) -> None:
        axes.set_xscale("log")
        axes.set_xticks(np.geomspace(self.k[0, 0], self.k[-1, 0], 7)[1::2])
        axes.xaxis.set_major_formatter("{x:.3g}")
        axes.minorticks_off()
        axes.set(xlabel="capital (goods)", title=title)

    def _over_states(self, axes: Axes, title: str) -> None:
        self._along_capital(axes, title)
        axes.set_ylabel("log productivity")
