"""Draw agents, against the optimum where it is known: value, policy, rate, trajectories, HJB residual, learning."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import gymnasium as gym
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hacontrol_agents import Agent
from hacontrol_agents.core.offers import offered
from hacontrol_benchmarks.judging.outsider import as_agent
from hacontrol_benchmarks.judging.transition import Policy, act, known_transition
from hacontrol_benchmarks.reporting.compare_households import HouseholdScene
from hacontrol_benchmarks.reporting.figures import TRUTH, colours, draw_learning, learning_curve, make_log, name_lines
from hacontrol_envs import ControlProblem, Economy, KrusellSmith, Problem, Solution
from hacontrol_envs.arrays import Floats
from hacontrol_envs.core.figures import filled
from hacontrol_envs.economies.krusell_smith.household import KrusellSmithHousehold
from hacontrol_envs.errors import ParameterError

Agents: TypeAlias = "dict[str, Any]"
"""Agents, or models of other libraries, by the name in the legend."""
Panel: TypeAlias = "Callable[[Axes], None]"
"""Function that draws on axes."""

MOST_ACTIONS = 3
"""Most actions that are drawn."""
MOST_RATES = 2
"""Most actions along which a learnt q is drawn."""


def economy_figure(agents: Agents, economy: Economy, *, seed: int = 0) -> Figure:
    """Draw what agents have learnt of an economy against its equilibrium.

    Agents that have a `saving` on a `KrusellSmith` are compared as on its environment, see `HouseholdScene`; of others
    the last is drawn by its own `plot`.

    Args:
        agents: agents by the name in the legend.
        economy: the economy, whose equilibrium is solved for.
        seed: seed of the path of Z, and of the population at its start.

    Raises:
        ParameterError: an agent has neither.
    """
    last = list(agents.values())[-1]
    if isinstance(economy, KrusellSmith) and all(hasattr(agent, "saving") for agent in agents.values()):
        given = {**economy.parameters, "asset_nodes": len(economy.assets)}
        return compare_figure(agents, gym.make("KrusellSmith-v0", **given), seed=seed)
    if not hasattr(last, "plot"):
        raise ParameterError(f"{type(last).__name__} has no `plot`, by which what is learnt of an economy is drawn")
    figure: Figure = last.plot(economy.equilibrium())
    return figure


def compare_figure(agents: Agents, env: Any, *, seed: int = 0) -> Figure:
    """Draw agents, or models of other libraries (see `Outsider`), against the optimum where it is known.

    Value, policy and residual are drawn along the first state component, across its box at time 0, the others at the
    box's centre. The rate of advantage q, where it is learnt, is drawn along each action at that centre, the others at
    their optimum (or what the last agent plays). With two states there are maps of the last agent's policy, with
    contours of it and of the optimum's, and of its residual. Trajectories start from the same state and share their
    noise. Households of `KrusellSmith-v0` are compared as economies, see `HouseholdScene`. There are as many axes as
    there is something to draw.

    Args:
        agents: agents by the name in the legend.
        env: the environment.
        seed: seed of the trajectories.

    Raises:
        ParameterError: no optimum is known, of a problem that is no ControlProblem.
    """
    problem = env.unwrapped.problem
    refuse_unknown(env)
    agents = {name: agent if hasattr(agent, "saving") else as_agent(agent, env) for name, agent in agents.items()}
    if isinstance(problem, KrusellSmithHousehold):
        scene: HouseholdScene | _Scene = HouseholdScene(agents, problem, seed)
        title, truth = "learned against the reference", "reference"
    else:
        scene = _Scene(agents, env, seed)
        title, truth = ("learned against analytic", "optimum") if scene.optimum else ("learned", "")
    panels = scene.panels()
    if any(learning_curve(agent)[1] for agent in agents.values()):
        panels.append(partial(draw_learning, agents))
    figure, grid = filled(len(panels))
    for axes, panel in zip(grid, panels, strict=True):
        panel(axes)
        axes.grid(alpha=0.25, linewidth=0.6)
    name_lines(figure, agents, truth)
    figure.suptitle(f"{type(problem).__name__}: {title}", fontsize="medium")
    return figure


def refuse_unknown(env: Any) -> None:
    """Raise ParameterError where neither an optimum nor a certificate is there to compare with."""
    problem: Problem = env.unwrapped.problem
    if problem.solution() is None and not isinstance(problem, ControlProblem):
        raise ParameterError(f"{type(problem).__name__} has no known optimum to compare with")


class _Scene:
    """What the panels share."""

    def __init__(self, agents: Agents, env: Any, seed: int) -> None:
        self.agents = agents
        self.seed, self.dt = seed, env.unwrapped.dt
        self.problem: Any = env.unwrapped.problem
        self.exact = known_transition(self.problem, self.dt)
        self.optimum: Solution | None = self.problem.solution()
        unit = np.zeros((201, self.problem.observation.dimension))
        unit[:, 0] = np.linspace(-1.0, 1.0, 201)
        self.x, self.t = self.problem.observation.from_unit(unit), np.zeros(201)
        self.centre = self.problem.observation.from_unit(np.zeros_like(unit))
        self.colours = colours(agents)

    def panels(self) -> list[Panel]:
        """Those that this problem and these agents have something for."""
        found: list[Panel] = [self.value]
        found += [self._policy_panel(j) for j in range(min(self.problem.action.dimension, MOST_ACTIONS))]
        offers = [offered(agent) for agent in self.agents.values()]
        if any("rate" in every for every in offers):
            found += [self._rate_panel(j) for j in range(min(self.problem.action.dimension, MOST_RATES))]
        if self.exact is not None:
            found.append(self.trajectories)
        if any("jet" in every for every in offers):
            found.append(self.residual)
        if self.problem.observation.dimension == 2:
            found.append(self.policy_map)
            if "jet" in offers[-1]:
                found.append(self.residual_map)
        return found

    @property
    def _last(self) -> Any:
        return list(self.agents.values())[-1]

    def policy_map(self, axes: Axes) -> None:
        """The first action over both states: colours and lines are the last agent's, dashed lines the optimum's."""
        t, x = self._plane()
        chosen = act(self.problem, self._last.policy, t, x)[..., 0]
        axes.figure.colorbar(self._draw_map(axes, x, chosen, f"policy: {self.problem.action.label(0)}"), ax=axes)
        if self.optimum is None:
            return
        best = np.asarray(self.optimum.policy(t, x))[..., 0]
        levels = np.unique(np.quantile(best, np.linspace(0.1, 0.9, 7)))
        axes.contour(x[..., 0], x[..., 1], chosen, levels, colors=self.colours[list(self.agents)[-1]], linewidths=1.6)
        axes.contour(x[..., 0], x[..., 1], best, levels, colors="black", linestyles="--", linewidths=0.9)

    def residual_map(self, axes: Axes) -> None:
        """log10 of the last agent's |HJB residual| relative to the reward, over both states."""
        t, x = self._plane()
        a = act(self.problem, self._last.policy, t, x)
        scale = self._reward_scale(t, x, self._last)
        residual = np.abs(self.problem.hjb_residual(t, x, a, self._last.jet(t, x))) / scale
        drawn = self._draw_map(axes, x, np.log10(np.maximum(residual, 1e-17)), "log10 of relative HJB residual")
        axes.figure.colorbar(drawn, ax=axes)

    def _plane(self) -> tuple[Floats, Floats]:
        """Times and states of a grid over the box, (121, 121) and (121, 121, 2)."""
        side = np.linspace(-1.0, 1.0, 121)
        x = self.problem.observation.from_unit(np.stack(np.meshgrid(side, side, indexing="ij"), axis=-1))
        return np.zeros(x.shape[:-1]), x

    def _draw_map(self, axes: Axes, x: Floats, values: Floats, title: str) -> Any:
        drawn = axes.pcolormesh(x[..., 0], x[..., 1], values, shading="gouraud", cmap="viridis", rasterized=True)
        for name, log in zip("xy", self.problem.observation.log, strict=True):
            if log:
                make_log(axes, name)
        axes.set(xlabel=self.problem.observation.label(0), ylabel=self.problem.observation.label(1), title=title)
        return drawn

    def value(self, axes: Axes) -> None:
        """V along the first state."""
        if self.optimum is not None:
            axes.plot(self.x[:, 0], self.optimum.value(self.t, self.x), **TRUTH)
        for name, agent in self.agents.items():
            found = self._asked(agent, "value", self.t, self.x)
            if found is not None:
                axes.plot(self.x[:, 0], found, color=self.colours[name], linewidth=2)
        self._along_state(axes, "value")

    def _policy_panel(self, j: int) -> Panel:
        def policy(axes: Axes) -> None:
            best = self._best(self.t, self.x)[:, j]
            if self.optimum is not None:
                axes.plot(self.x[:, 0], best, **TRUTH)
            for name, agent in self.agents.items():
                chosen = act(self.problem, agent.policy, self.t, self.x)[:, j]
                axes.plot(self.x[:, 0], chosen, color=self.colours[name], linewidth=2)
            low, high = axes.get_ylim()  # an error of 1e-6 is for the numbers, not for the eye
            least = 0.05 * float(np.abs(best).max())
            axes.set_ylim(min(low, best.min() - least), max(high, best.max() + least))
            self._along_state(axes, f"policy: {self.problem.action.label(j)}")

        return policy

    def _rate_panel(self, j: int) -> Panel:
        def rate(axes: Axes) -> None:
            box = self.problem.action
            x = self.centre
            a = np.array(self._best(self.t, x))
            a[:, j] = np.linspace(box.low[j], box.high[j], 201)
            if self.optimum is not None and self.optimum.jet is not None:
                truth = self.problem.hjb_residual(self.t, x, a, self.optimum.jet(self.t, x))
                axes.plot(a[:, j], truth, **TRUTH)
            for name, agent in self.agents.items():
                found = self._asked(agent, "rate", self.t, x, a)
                if found is not None:
                    axes.plot(a[:, j], found, color=self.colours[name], linewidth=2)
            axes.set(xlabel=box.label(j), title="rate of advantage q")

        return rate

    def trajectories(self, axes: Axes) -> None:
        """The first state over time."""
        if self.optimum is not None:
            axes.plot(*self._follow(self.optimum.policy), **TRUTH)
        for name, agent in self.agents.items():
            axes.plot(*self._follow(agent.policy), color=self.colours[name], linewidth=1.4)
        if self.problem.observation.log[0]:
            make_log(axes, "y")
        axes.set(
            xlabel=f"time ({self.problem.time_unit})", title=f"{self.problem.observation.label(0)} on common noise"
        )

    def residual(self, axes: Axes) -> None:
        """|HJB residual| at the agent's own value and policy, relative to the reward."""
        for name, agent in self.agents.items():
            jet, scale = self._asked(agent, "jet", self.t, self.x), self._reward_scale(self.t, self.x, agent)
            if jet is not None:
                a = act(self.problem, agent.policy, self.t, self.x)
                found = np.abs(self.problem.hjb_residual(self.t, self.x, a, jet)) / scale
                axes.semilogy(self.x[:, 0], np.maximum(found, 1e-17), color=self.colours[name], linewidth=1.4)
        self._along_state(axes, "relative HJB residual")

    def _best(self, t: Floats, x: Floats) -> Floats:
        """The optimum's actions, or where it is not known those of the last agent."""
        return np.asarray(self.optimum.policy(t, x)) if self.optimum else act(self.problem, self._last.policy, t, x)

    def _reward_scale(self, t: Floats, x: Floats, agent: Any) -> float:
        """Root mean square of the optimum's reward, or where it is not known of the agent's."""
        a = self.optimum.policy(t, x) if self.optimum else act(self.problem, agent.policy, t, x)
        return float(np.sqrt(np.mean(self.problem.reward(t, x, a) ** 2)))

    def _follow(self, policy: Policy) -> tuple[Floats, Floats]:
        exact, rng, problem = self.exact, np.random.default_rng(self.seed), self.problem
        assert exact is not None
        end = problem.horizon or min(2 / problem.discount, 500 * self.dt)
        x, times = problem.initial_state(rng, 3), np.arange(round(end / self.dt) + 1) * self.dt
        seen = [problem.observe(x)]
        for now in times[:-1]:
            t = np.full(len(x), now)
            x = exact.step(
                t, x, act(problem, policy, t, problem.observe(x)), rng.standard_normal((len(x), exact.noise_dim))
            )
            seen.append(problem.observe(x))
        return times, np.stack(seen)[:, :, 0]

    def _asked(self, agent: Agent, what: str, *at: Floats) -> Any:
        """The agent's value, jet or rate at times, states and actions, None where it learns none."""
        return getattr(agent, what)(*at) if what in offered(agent) else None

    def _along_state(self, axes: Axes, title: str) -> None:
        if self.problem.observation.log[0]:
            make_log(axes, "x")
        axes.set(xlabel=self.problem.observation.label(0), title=title)
