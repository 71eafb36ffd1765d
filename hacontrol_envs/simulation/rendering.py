"""A picture of an episode: where the state went, what was done against what is optimal, and what the state is worth."""

from __future__ import annotations

from collections import OrderedDict
from functools import cached_property
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from hacontrol_envs.arrays import Floats
from hacontrol_envs.core.picture import Picture
from hacontrol_envs.core.problem import Problem
from hacontrol_envs.core.solution import Solution
from hacontrol_envs.errors import ParameterError, ResetError
from hacontrol_envs.simulation.picture_panels import (
    COLORS,
    SMALL,
    ActionPanel,
    LawPanel,
    NodeActionPanel,
    Panel,
    Rectangle,
    StatePanel,
    ValuePanel,
    shown_groups,
)
from hacontrol_envs.simulation.picture_scales import Limits, Scale, nice

WIDTH, HEIGHT, DPI = 960, 400, 80
"""Size of a frame, in pixels, and dots per inch; the size is even, as encoders of films want."""
MOST = len(COLORS)
"""Most components of the state, and of the action, that are drawn."""
POINTS = 512
"""Most points of a path: of longer ones every second, fourth, ... step is drawn."""
FIRST_STEPS = 20
"""Number of steps that the axis of time spans at first."""
BACKGROUNDS = 256
"""Most frames of panels, with their ticks, that are kept."""
TOP, BOTTOM, LEFT, RIGHT, GAP = 0.18, 0.115, 0.055, 0.015, 0.07
"""Margins of the figure, as fractions of its height and width, and between columns."""
HEAD, SUBHEAD, LARGE = 0.96, 0.89, 11.0
"""Heights of the two lines above the panels, and size of the upper one's letters in points."""


@final
class Screen:
    """The figure on which all films of an environment are drawn. Needs matplotlib, once a picture is asked for.

    Axes with their ticks are drawn once for each pair of limits; of a frame only lines, dots and bars are new.

    Args:
        problem: what is filmed.
        dt: length of a step.
    """

    def __init__(self, problem: Problem, dt: float) -> None:
        self.problem, self.dt = problem, dt

    def __getstate__(self) -> dict[str, Any]:
        """The arguments: a figure and a solution are made again where they are needed."""
        return {"problem": self.problem, "dt": self.dt}

    @cached_property
    def picture(self) -> Picture:
        """Components of the state that are drawn."""
        return self.problem.picture()

    @cached_property
    def solution(self) -> Solution | None:
        """The problem's optimum; None where it is not known."""
        return self.problem.solution()

    @cached_property
    def _canvas(self) -> _Canvas:
        return _Canvas(self.problem, self.picture, self.solution)

    def draw(self, film: Film) -> NDArray[np.uint8]:
        """Draw a film, (H, W, 3)."""
        return self._canvas.draw(film)


@final
class Film:
    """The history of one episode on a screen: at most 512 points, for which the steps between are dropped."""

    def __init__(self, screen: Screen) -> None:
        self.screen, self._count = screen, 0

    def start(self, t: float, x: Floats) -> None:
        """Start an episode at time t in state x (n,)."""
        picture, problem = self.screen.picture, self.screen.problem
        shown = min(picture.states.dimension, MOST)
        self._acts = 0 if picture.law and picture.law.action_label else min(problem.action.dimension, MOST)
        watched = 0 if self.screen.solution is None else problem.observation.dimension
        self._t, self._states, self._seen = (np.empty((POINTS + 1, *n)) for n in ((), (shown,), (watched,)))
        nothing = ((self._acts,), (self._acts,), ())
        self._actions, self._best, self._values = (np.full((POINTS + 1, *n), np.nan) for n in nothing)
        self.last_action: Floats = np.full(problem.action.dimension, np.nan)
        self._step, self.stride, self._count, self._judged = 0, 1, 1, 0
        self._put(t, x)

    def add(self, a: Floats, t: float, x: Floats) -> None:
        """Add a step to the film.

        Args:
            a: physical action that was held over the step, (m,).
            t: time at its end.
            x: state at its end, (n,).
        """
        self.last_action = a.copy()
        if self._step % self.stride == 0:  # else the state that the action was chosen in gives way to the present
            self._actions[self._count - 1] = a[: self._acts]
            self._count += 1
        self._step += 1
        if self._count > POINTS:
            self._thin()
        self._put(t, x)

    def _put(self, t: float, x: Floats) -> None:
        """Write the present after the points kept."""
        last, self.state = self._count - 1, x.copy()
        self._judged = min(self._judged, last)
        self._t[last] = t
        self._states[last] = self.screen.picture.components(x)[: self._states.shape[1]]
        if self._seen.shape[1]:
            self._seen[last] = self.screen.problem.observe(x)

    def _thin(self) -> None:
        """Keep every second point, and from now on every second step of those that were kept until now."""
        kept = self._count // 2
        for rows in (self._t, self._states, self._seen, self._actions, self._best, self._values):
            rows[:kept] = rows[: self._count - 1 : 2].copy()
        self._count, self._judged, self.stride = kept + 1, min((self._judged + 1) // 2, kept), 2 * self.stride

    @property
    def times(self) -> Floats:
        """Times of the points, (P,)."""
        return self._t[: self._count]

    @property
    def states(self) -> Floats:
        """Components of the state at the points, (P, k)."""
        return self._states[: self._count]

    @property
    def actions(self) -> Floats:
        """Actions held from the points on, (P, m): at the last one that which led there, not-a-number at first."""
        return np.concatenate([self._actions[: self._count - 1], self.last_action[None, : self._acts]])

    @property
    def best(self) -> Floats:
        """Optimal actions at the points, (P, m), not-a-number where none is known."""
        self._judge()
        return self._best[: self._count]

    @property
    def values(self) -> Floats:
        """The optimum's value at the points, (P,), not-a-number where none is known."""
        self._judge()
        return self._values[: self._count]

    def _judge(self) -> None:
        """Ask the optimum about points that are new."""
        solution, new = self.screen.solution, slice(self._judged, self._count)
        if solution is not None and self._judged < self._count:
            t, y = self._t[new], self._seen[new]
            self._best[new] = np.asarray(solution.policy(t, y))[:, : self._acts]
            self._values[new] = solution.value(t, y)
            self._judged = self._count

    @property
    def observed(self) -> Floats:
        """Observed components of the state now, (n,)."""
        seen: Floats = self.screen.problem.observe(self.state)
        return seen

    @property
    def span(self) -> Limits:
        """Ends of the axis of time: from the start to 1, 2 or 5 times a power of ten later, or to the horizon."""
        first, elapsed, horizon = float(self._t[0]), float(self.times[-1] - self._t[0]), self.screen.problem.horizon
        last = first + max(nice(elapsed) if elapsed > 0 else 0.0, FIRST_STEPS * self.screen.dt)
        return first, last if horizon is None else min(last, horizon)

    def frame(self) -> NDArray[np.uint8]:
        """Draw the film, (H, W, 3).

        Raises:
            ParameterError: matplotlib is not installed.
            ResetError: no episode has started.
        """
        if not self._count:
            raise ResetError("render before reset: call reset() first")
        return self.screen.draw(self)


class _Canvas:
    """Panels on a figure, without matplotlib's global state."""

    def __init__(self, problem: Problem, picture: Picture, solution: Solution | None) -> None:
        try:
            from matplotlib.backends.backend_agg import FigureCanvasAgg
            from matplotlib.figure import Figure
        except ImportError as error:
            raise ParameterError("render_mode='rgb_array' needs matplotlib: pip install matplotlib") from error
        self.problem, self.picture, self.solution = problem, picture, solution
        self.figure = Figure(figsize=(WIDTH / DPI, HEIGHT / DPI), dpi=DPI)
        self.canvas = FigureCanvasAgg(self.figure)
        self.renderer: Any = self.canvas.get_renderer()  # type: ignore[no-untyped-call]
        columns = [self._states, self._actions, *([self._right] if solution or picture.law else [])]
        width = (1 - LEFT - RIGHT - (len(columns) - 1) * GAP) / len(columns)
        self.panels: list[Panel] = []
        for place, column in enumerate(columns):
            column(LEFT + place * (width + GAP), width)
        name = type(problem).__name__
        self.figure.text(LEFT, HEAD, name, fontsize=LARGE, fontweight="bold", va="center")
        self.clock = self.figure.text(
            LEFT + 0.0085 * len(name) + 0.02, HEAD, "", fontsize=LARGE, va="center", animated=True
        )
        self.backgrounds: OrderedDict[tuple[int, tuple[Limits, Limits]], Any] = OrderedDict()
        self.base = self._draw_base()

    def draw(self, film: Film) -> NDArray[np.uint8]:
        """The picture of a film, (H, W, 3)."""
        limits = [panel.show(film) for panel in self.panels]
        frames = [self._background(number, ends) for number, ends in enumerate(limits)]
        self.renderer.restore_region(self.base)
        for panel, ends, frame in zip(self.panels, limits, frames, strict=True):
            self.renderer.restore_region(frame)
            panel.set_limits(ends)
            for artist in panel.artists:
                panel.axes.draw_artist(artist)
        every = "" if film.stride == 1 else f", one in {film.stride} steps drawn"
        self.clock.set_text(f"t = {film.times[-1]:.6g}{every}")
        self.figure.draw_artist(self.clock)
        drawn, frame = np.asarray(self.renderer.buffer_rgba()), np.empty((HEIGHT, WIDTH, 3), np.uint8)
        for colour in range(3):  # one by one: four times as fast as all at once
            frame[..., colour] = drawn[..., colour]
        return frame

    def _draw_base(self) -> Any:
        """What is on all pictures, outside of the panels."""
        for panel in self.panels:
            panel.axes.set_visible(False)
        self.figure.draw(self.renderer)
        for panel in self.panels:
            panel.axes.set_visible(True)
        return self.renderer.copy_from_bbox(self.figure.bbox)

    def _background(self, number: int, limits: tuple[Limits, Limits]) -> Any:
        """A panel with its ticks and nothing in it: as drawn before, or new."""
        if (number, limits) in self.backgrounds:
            self.backgrounds.move_to_end((number, limits))
            return self.backgrounds[number, limits]
        panel = self.panels[number]
        panel.set_ticks(limits)
        panel.limits_set = None  # ticks may have moved them
        panel.set_limits(limits)
        self.renderer.restore_region(self.base)
        panel.axes.draw(self.renderer)
        drawn = self.backgrounds[number, limits] = self.renderer.copy_from_bbox(panel.area())
        if len(self.backgrounds) > BACKGROUNDS:
            self.backgrounds.popitem(last=False)
        return drawn

    def _states(self, left: float, width: float) -> None:
        box = self.picture.states
        self._title(left, "state", box.dimension, "states")
        labels = [box.label(i) for i in range(box.dimension)][:MOST]
        for i, (where, label) in enumerate(zip(_stack(left, width, len(labels)), labels, strict=True)):
            self.panels.append(StatePanel(self.figure, where, label, self._time(i, labels), Scale.of(box, i), i))

    def _actions(self, left: float, width: float) -> None:
        box, law = self.problem.action, self.picture.law
        if law is not None and law.action_label:
            groups = shown_groups(law)
            self._title(left, "action", len(law.groups), "groups", len(groups))
            self._keys(left, width, [(law.groups[g], {"color": c}) for g, c in zip(groups, COLORS, strict=False)])
            (where,) = _stack(left, width, 1)
            self.panels.append(NodeActionPanel(self.figure, where, law))
            return
        self._title(left, "action", box.dimension, "actions")
        best = [("optimal", {"color": "black", "linestyle": "--"})] if self.solution else []
        self._keys(left, width, [("taken", {"color": COLORS[0] if box.dimension == 1 else "0.4"}), *best])
        labels = [box.label(j) for j in range(box.dimension)][:MOST]
        for j, (where, label) in enumerate(zip(_stack(left, width, len(labels)), labels, strict=True)):
            self.panels.append(ActionPanel(self.figure, where, label, self._time(j, labels), Scale.of(box, j), j))

    def _right(self, left: float, width: float) -> None:
        """The value, and a law below."""
        law, solution = self.picture.law, self.solution
        places = _stack(left, width, (law is not None) + (solution is not None), 0.2)
        if solution is not None:
            others = ", all else as it is now" if self.problem.observation.dimension > 1 else ""
            self._title(left, "value" + others)
            self.panels.append(ValuePanel(self.figure, places[0], "V(t, x)", self.problem, solution))
        if law is not None:
            if solution is None:
                self._title(left, "law")
            own = [("own", {"color": COLORS[1]})] if law.own is not None else []
            usual = (law.usual_name, {"color": "black", "linestyle": ":"})
            self._keys(left, width, [("law", {"color": COLORS[0], "alpha": 0.45, "linewidth": 5.0}), usual, *own])
            self.panels.append(LawPanel(self.figure, places[-1], "households in each bin (%)", law))

    def _time(self, row: int, labels: list[str]) -> str:
        """The label of the axis of time, below the last row only."""
        return f"time ({self.problem.time_unit})" if row == len(labels) - 1 else ""

    def _title(self, left: float, title: str, count: int = 0, plural: str = "", shown: int = MOST) -> None:
        more = f" (+ {count - shown} more {plural})" if count > shown else ""
        self.figure.text(left, SUBHEAD, title + more, fontsize=SMALL + 1, fontweight="bold", va="center")

    def _keys(self, left: float, width: float, entries: list[tuple[str, dict[str, Any]]]) -> None:
        """Name lines, in the margin above a column and right-aligned to it."""
        from matplotlib.lines import Line2D

        handles = [Line2D([], [], **{"linewidth": 1.4, **style}, label=label) for label, style in entries]
        self.figure.legend(
            handles=handles,
            loc="center right",
            bbox_to_anchor=(left + width, HEAD),
            ncols=len(handles),
            frameon=False,
            fontsize=SMALL - 0.5,
            handlelength=1.6,
            columnspacing=1.0,
            borderaxespad=0.0,
            borderpad=0.0,
        )


def _stack(left: float, width: float, count: int, gap: float = 0.065) -> list[Rectangle]:
    """So many rectangles of one height, from the top down."""
    height = (1 - TOP - BOTTOM - (count - 1) * gap) / count
    return [(left, 1 - TOP - height - place * (height + gap), width, height) for place in range(count)]
