"""A picture of an episode: where the state went, what was done against what is optimal, and what the state is worth."""

from __future__ import annotations

from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from hacontrol_envs.arrays import Floats
from hacontrol_envs.domain import Domain
from hacontrol_envs.errors import ParameterError
from hacontrol_envs.problem import Problem
from hacontrol_envs.solution import Solution

SIZE, DPI = (12.0, 3.6), 80
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
"""Okabe and Ito's palette, which colour-blind readers can tell apart; at most that many components are drawn."""


@final
class Film:
    """The history of one episode, and a picture of it. Needs matplotlib, when the first picture is asked for."""

    def __init__(self, problem: Problem, solution: Solution | None) -> None:
        self.problem, self.solution = problem, solution
        self.start(0.0, problem.some_states(np.random.default_rng(0), 1)[0])

    def start(self, t: float, x: Floats) -> None:
        """An episode starts at time t in state x (n,)."""
        self.times, self.states = [float(t)], [x.copy()]
        self.actions: list[Floats] = []

    def add(self, a: Floats, t: float, x: Floats) -> None:
        """The physical action a (m,) was held until t, when the state was x (n,)."""
        self.times.append(float(t))
        self.states.append(x.copy())
        self.actions.append(a.copy())

    def frame(self) -> NDArray[np.uint8]:
        """The picture, (H, W, 3).

        Raises:
            ParameterError: matplotlib is not installed.
        """
        figure, canvas = _figure()
        axes = figure.subplots(1, 2 if self.solution is None else 3)
        t, x = np.array(self.times), self.problem.observe(np.array(self.states))
        self._draw_states(axes[0], t, x)
        self._draw_actions(axes[1], t, x)
        if self.solution is not None:
            self._draw_value(axes[2], t[-1], x[-1])
        for ax in axes:
            ax.spines[["top", "right"]].set_visible(False)
            ax.grid(alpha=0.25)
        canvas.draw()
        return np.array(canvas.buffer_rgba())[..., :3]

    def _draw_states(self, ax: Any, t: Floats, x: Floats) -> None:
        box = self.problem.observation
        for i, color in zip(range(box.dimension), COLORS, strict=False):
            ax.plot(t, x[:, i], color=color, label=box.names[i])
            ax.plot(t[-1], x[-1, i], "o", color=color)
        _scale(ax.set_yscale, box, 0)
        ax.set(title=f"{type(self.problem).__name__}: state", xlabel="time")
        _legend(ax)

    def _draw_actions(self, ax: Any, t: Floats, x: Floats) -> None:
        box = self.problem.action
        unit = box.dimension > 1  # components may differ in scale
        best = None if self.solution is None else _shown(box, self.solution.policy(t, x), unit)
        for j, color in zip(range(box.dimension), COLORS, strict=False):
            if self.actions:
                held = _shown(box, np.array(self.actions), unit)[:, j]
                ax.plot(t, np.append(held, held[-1]), color=color, drawstyle="steps-post", label=box.names[j])
            if best is not None:
                ax.plot(t, best[:, j], "--", color=color, alpha=0.7, label=f"{box.names[j]}, optimal")
        if not unit:
            _scale(ax.set_yscale, box, 0)
        ax.set(title="action, in units of its box" if unit else "action", xlabel="time")
        _legend(ax)

    def _draw_value(self, ax: Any, t: float, x: Floats) -> None:
        assert self.solution is not None
        box = self.problem.observation
        u = box.to_unit(x)
        along = np.repeat(u[None], 101, axis=0)
        along[:, 0] = np.linspace(min(-1.0, u[0]), max(1.0, u[0]), 101)
        line = box.from_unit(along)
        ax.plot(line[:, 0], self.solution.value(np.full(101, t), line), color=COLORS[0], label=f"V at t = {t:.4g}")
        ax.plot(x[0], float(self.solution.value(t, x[None])[0]), "o", color=COLORS[1], label="now")
        _scale(ax.set_xscale, box, 0)
        ax.set(title="value, the other states as they are" if box.dimension > 1 else "value", xlabel=box.names[0])
        _legend(ax)


def _figure() -> tuple[Any, Any]:
    """An empty figure and its canvas, without matplotlib's global state."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ParameterError("render_mode='rgb_array' needs matplotlib: pip install matplotlib") from error
    figure = Figure(figsize=SIZE, dpi=DPI, layout="constrained")
    return figure, FigureCanvasAgg(figure)


def _scale(set_scale: Any, box: Domain, component: int) -> None:
    set_scale("log" if box.log[component] else "linear")


def _shown(box: Domain, a: Floats, unit: bool) -> Floats:
    shown: Floats = box.to_unit(a) if unit else a
    return shown


def _legend(ax: Any) -> None:
    if ax.get_legend_handles_labels()[0]:
        ax.legend(fontsize=8, framealpha=0.7, edgecolor="none")
