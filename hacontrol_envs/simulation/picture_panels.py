"""Panels of a picture: an axes whose frame and ticks are drawn once for all films, and what moves within it."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Any, final

import numpy as np

from hacontrol_envs.arrays import Floats
from hacontrol_envs.core.picture import LawPicture
from hacontrol_envs.core.problem import Problem
from hacontrol_envs.core.solution import Solution
from hacontrol_envs.simulation.picture_scales import Limits, Scale, nice

if TYPE_CHECKING:
    from hacontrol_envs.simulation.rendering import Film

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
"""Okabe and Ito's palette, which colour-blind readers can tell apart; at most that many components are drawn."""
SMALL = 8.5
"""Size of letters, in points."""
LINE = 201
"""Points at which the value is drawn."""
BINS = 50
"""Bins of a histogram, at most."""
Rectangle = tuple[float, float, float, float]
"""Left, bottom, width and height as fractions of a figure."""


class Panel(abc.ABC):
    """An axes of a figure. What moves in it is in `artists`; all the rest depends on `show`'s answer alone.

    Axes are linear in the coordinates of a `Scale`, so that a line is placed by the panel and not by matplotlib.

    Args:
        figure: the matplotlib Figure to draw on.
        where: place of the axes in the figure.
        title: title of the axes.
        x_label: label below the axes; "" leaves that, and the labels of its ticks, out.
        most: most ticks along x and y.
    """

    def __init__(self, figure: Any, where: Rectangle, title: str, x_label: str = "", most: tuple[int, int] = (4, 4)):
        self.axes = figure.add_axes(where)
        self.axes.set_title(title, loc="left", fontsize=SMALL, pad=3, y=1.0)
        self.axes.spines[["top", "right"]].set_visible(False)
        self.axes.grid(alpha=0.25)
        self.axes.tick_params(labelsize=SMALL - 1, labelbottom=bool(x_label), pad=2, length=2)
        self.axes.set_xlabel(x_label, fontsize=SMALL)
        self.axes.xaxis.set_label_coords(0.5, -16 * figure.dpi / 72 / self.axes.bbox.height)
        self.x, self.y = Scale.linear(), Scale.linear()
        self.most = most
        self.limits_set: tuple[Limits, Limits] | None = None
        self.artists: list[Any] = []

    @abc.abstractmethod
    def show(self, film: Film) -> tuple[Limits, Limits]:
        """Move the artists to where a film is, and return the limits of both axes in coordinates."""

    def set_limits(self, limits: tuple[Limits, Limits]) -> None:
        """Set the limits of both axes, which costs as much as a line."""
        if limits != self.limits_set:
            self.axes.set_xlim(*limits[0])
            self.axes.set_ylim(*limits[1])
            self.limits_set = limits

    def set_ticks(self, limits: tuple[Limits, Limits]) -> None:
        """Set the ticks of both axes."""
        self.axes.set_xticks(*self.x.ticks(limits[0], self.most[0]))
        self.axes.set_yticks(*self.y.ticks(limits[1], self.most[1]))

    def area(self) -> Any:
        """Return the pixels that the axes with title, ticks and labels take of the figure, up to the next panel."""
        box, pad = self.axes.bbox, self.axes.figure.dpi / 72
        below = 30 if self.axes.get_xlabel() else 4
        return type(box.frozen()).from_extents(
            box.x0 - 40 * pad, box.y0 - below * pad, box.x1 + 9 * pad, box.y1 + 15 * pad
        )

    def _line(self, **style: Any) -> Any:
        (line,) = self.axes.plot([], [], animated=True, **style)
        self.artists.append(line)
        return line


@final
class StatePanel(Panel):
    """A component of the state over time.

    Args:
        figure, where, title, x_label: see `Panel`.
        y: scale of the component.
        component: number of the component.
    """

    def __init__(self, figure: Any, where: Rectangle, title: str, x_label: str, y: Scale, component: int) -> None:
        super().__init__(figure, where, title, x_label)
        self.y, self.component = y, component
        self.path = self._line(color=COLORS[component], linewidth=1.2)
        self.now = self._line(color=COLORS[component], marker="o", markersize=4, clip_on=False)

    def show(self, film: Film) -> tuple[Limits, Limits]:
        """Show the path so far, and a dot at its end."""
        t, y = film.times, self.y.place(film.states[:, self.component])
        self.path.set_data(t, y)
        self.now.set_data(t[-1:], y[-1:])
        return film.span, self.y.window(y)


@final
class ActionPanel(Panel):
    """A component of the action over time, against the optimum at the states of the path.

    Args:
        figure, where, title, x_label: see `Panel`.
        y: scale of the component.
        component: number of the component.
    """

    def __init__(self, figure: Any, where: Rectangle, title: str, x_label: str, y: Scale, component: int) -> None:
        super().__init__(figure, where, title, x_label)
        self.y, self.component = y, component
        self.taken = self._line(color=COLORS[component], linewidth=1.2, drawstyle="steps-post")
        self.best = self._line(color="black", linewidth=1.0, linestyle="--", alpha=0.7)

    def show(self, film: Film) -> tuple[Limits, Limits]:
        """Show what was done and what would have been best."""
        t, taken, best = film.times, film.actions[:, self.component], film.best[:, self.component]
        taken, best = self.y.place(taken), self.y.place(best)
        self.taken.set_data(t, taken)
        self.best.set_data(t, best)
        return film.span, self.y.window(np.concatenate([taken, best]))


@final
class NodeActionPanel(Panel):
    """Actions over the nodes of a law, by group: those of the lowest, a middle and the highest.

    Args:
        figure, where: see `Panel`.
        law: the law over whose nodes there are actions.
    """

    def __init__(self, figure: Any, where: Rectangle, law: LawPicture) -> None:
        super().__init__(figure, where, law.action_label, law.label, (6, 5))
        self.law, self.x = law, Scale.stretched(float(law.nodes[0]))
        self.groups = shown_groups(law)
        self.lines = [self._line(color=color, linewidth=1.2) for _, color in zip(self.groups, COLORS, strict=False)]
        self.limits = histogram_end(law, self.x)

    def show(self, film: Film) -> tuple[Limits, Limits]:
        """Show the last action."""
        x, taken = self.x.place(self.law.nodes), film.last_action.reshape(len(self.law.groups), -1)
        inside = x <= self.limits[1]
        for line, group in zip(self.lines, self.groups, strict=True):
            line.set_data(x, taken[group])
        return self.limits, self.y.window(taken[self.groups][:, inside])


@final
class ValuePanel(Panel):
    """The value along the first component observed, the others as they are now.

    Args:
        figure, where, title: see `Panel`.
        problem: the problem that is filmed.
        solution: its optimum.
    """

    def __init__(self, figure: Any, where: Rectangle, title: str, problem: Problem, solution: Solution) -> None:
        self.box = problem.observation
        super().__init__(figure, where, title, self.box.label(0), (5, 6))
        self.x, self.solution = Scale.of(self.box, 0), solution
        self.line = self._line(color=COLORS[0], linewidth=1.2)
        self.now = self._line(color=COLORS[1], marker="o", markersize=5, clip_on=False)
        self.ends = self.x.place(np.array([self.box.low[0], self.box.high[0]]))

    def show(self, film: Film) -> tuple[Limits, Limits]:
        """Show the value now, with a dot at the state."""
        y, t = film.observed, film.times[-1]
        here = self.x.place(y[:1])
        low, high = limits = (
            self.x.window(np.append(self.ends, here)) if _outside(here, self.ends) else tuple(self.ends)
        )
        along = np.repeat(y[None], LINE, axis=0)
        along[:, 0] = np.clip(self.x.inverse(np.linspace(low, high, LINE)), *self._legal(y[0]))
        with np.errstate(all="ignore"):  # the line may reach where there is no value
            values = self.y.place(np.asarray(self.solution.value(t, along), dtype=np.float64))
        self.line.set_data(self.x.place(along[:, 0]), values)
        self.now.set_data(here, self.y.place(film.values[-1:]))
        return (float(limits[0]), float(limits[1])), self.y.window(np.append(values, self.y.place(film.values)))

    def _legal(self, now: float) -> tuple[float, float]:
        """The box, which does not end before the state does."""
        return min(float(self.box.low[0]), now), max(float(self.box.high[0]), now)


@final
class LawPanel(Panel):
    """A law as a histogram over its nodes, each bin holding the same number of them.

    Args:
        figure, where, title: see `Panel`.
        law: the law.
    """

    def __init__(self, figure: Any, where: Rectangle, title: str, law: LawPicture) -> None:
        super().__init__(figure, where, title, law.label, (6, 4))
        self.law, self.x = law, Scale.stretched(float(law.nodes[0]))
        size = -(-len(law.nodes) // BINS)
        self.first = np.arange(0, len(law.nodes), size)
        place = self.x.place(law.nodes)
        middles = (place[self.first[1:] - 1] + place[self.first[1:]]) / 2
        self.edges = np.concatenate([[place[0] - (middles[0] - place[0])], middles, place[-1:]])
        self.bars = self.axes.stairs(self._shares(law.usual), self.edges, fill=True, color=COLORS[0], alpha=0.45)
        self.bars.set_animated(True)
        self.artists.append(self.bars)
        self.axes.stairs(self._shares(law.usual), self.edges, color="black", linewidth=0.9, linestyle=":")
        self.own = self._line(color=COLORS[1], linewidth=1.5)
        end = histogram_end(law, self.x)[1]
        self.limits = float(self.edges[0]), end
        self.most_usual = float(self._shares(law.usual).max())

    def _shares(self, masses: Floats) -> Floats:
        shares: Floats = 100 * np.add.reduceat(masses, self.first)
        return shares

    def show(self, film: Film) -> tuple[Limits, Limits]:
        """Show the law now, and the learner's own place in it."""
        shares = self._shares(np.asarray(self.law.masses(film.state)).sum(axis=0))
        top = nice(1.1 * max(self.most_usual, float(shares.max())))
        self.bars.set_data(shares)
        if self.law.own is not None:
            place = float(self.x.place(np.array(self.law.own(film.state))))
            self.own.set_data([min(place, self.limits[1])] * 2, [0.0, top])
        return self.limits, (0.0, top)


def shown_groups(law: LawPicture) -> list[int]:
    """Return the numbers of the lowest, a middle and the highest group of a law."""
    last = len(law.groups) - 1
    return sorted({0, last // 2, last})


def histogram_end(law: LawPicture, scale: Scale) -> Limits:
    """Return the first node and the one that leaves a thousandth of the usual law beyond, in coordinates."""
    last = min(int(np.searchsorted(np.cumsum(law.usual), 0.999)) + 1, len(law.nodes) - 1)
    ends = scale.place(law.nodes[[0, last]])
    return float(ends[0]), float(ends[1])


def _outside(here: Floats, ends: Floats) -> bool:
    return bool(here[0] < ends[0] or here[0] > ends[1])
