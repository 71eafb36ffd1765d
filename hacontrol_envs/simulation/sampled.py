"""SampledProblem: a problem observed and controlled every dt, and the coordinates in which learners meet it."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from numpy.typing import ArrayLike, NDArray

from hacontrol_envs.arrays import Floats
from hacontrol_envs.core import parameters as read
from hacontrol_envs.core.problem import Problem
from hacontrol_envs.errors import ParameterError
from hacontrol_envs.simulation.integrate import integrator
from hacontrol_envs.simulation.row_kernels import observe


class SampledProblem:
    """A problem that is observed and controlled every dt: what the single and the vector environment share.

    The action is held over steps of length dt. Learners act in [-1, 1]^m, the box `problem.action` in unit coordinates;
    a finite action outside is clipped to it. They observe the unit coordinates of `problem.observe(x)`, which is the
    state unless the problem says otherwise (float32; bounded where the problem's `observation_bounds` are: a state with
    open edges may leave its box), then over a finite horizon the time to go as a fraction of T.

    The return of an episode is sum_k gamma^k r_k with gamma = e^{-rho dt}. A finite horizon terminates at T, and its
    last reward includes gamma g(X_T), so that the return equals int_0^T e^{-rho t} r dt + e^{-rho T} g(X_T). An
    infinite horizon is truncated after `episode_steps`; the value from there on is the learner's to add.

    Args:
        problem: what to sample.
        dt: length of a step in the problem's unit of time; divides a finite horizon.
        scheme: "exact", "euler" or "milstein", see `hacontrol_envs.simulation.integrate`.
        episode_steps: after how many steps an infinite horizon is truncated; None for never. A finite horizon ignores
            it.

    Raises:
        ParameterError: an argument that makes no sense, or a scheme that the problem does not have.
    """

    _spec: EnvSpec | None = None

    def __init__(self, problem: Problem, dt: float, scheme: str, episode_steps: int | None) -> None:
        if not isinstance(problem, Problem):
            raise ParameterError(f"problem must be a Problem, got {problem!r}")
        self.problem = problem
        self.dt = read.number("dt", dt, above=0.0)
        self.scheme = scheme
        self.gamma = math.exp(-problem.discount * self.dt)
        if episode_steps is not None:
            episode_steps = read.count("episode_steps", episode_steps, optional=True)
        self.finite = problem.horizon is not None
        self.episode_steps = _steps(problem.horizon, self.dt) if problem.horizon is not None else episode_steps
        self._integrator = integrator(problem, self.dt, scheme)
        self._span = self.dt * self.episode_steps if self.finite and self.episode_steps else 1.0
        seen = problem.observation
        self._to_unit = seen.log, seen.center, seen.half_width

    def _observation_box(self) -> spaces.Box:
        """Unit coordinates of `problem.observation_bounds`, infinite where these are; the time to go is in [0, 1]."""
        bounds, anywhere = self.problem.observation_bounds, self.problem.observation.low
        ends = []
        for infinity, bound, time in ((-np.inf, bounds[0], self._span), (np.inf, bounds[1], 0.0)):
            finite = np.isfinite(bound)
            seen = self._scaled(np.array([time]), np.where(finite, bound, anywhere)[None])[0]
            ends.append(np.where(np.append(finite, [True] * self.finite), seen, np.float32(infinity)))
        return spaces.Box(*ends, dtype=np.float32)

    @property
    def spec(self) -> EnvSpec | None:
        """Specification that made the environment, whose length until truncation is in `max_episode_steps`."""
        return self._spec

    @spec.setter
    def spec(self, given: EnvSpec | None) -> None:
        self._spec = copy.copy(given)
        if self._spec is not None and not self.finite:
            self._spec.max_episode_steps = self.episode_steps
            self._spec.kwargs = {**self._spec.kwargs, "episode_steps": self.episode_steps}

    def _action_box(self) -> spaces.Box:
        return spaces.Box(-1.0, 1.0, (self.problem.action.dimension,), np.float32)

    def to_physical(self, action: ArrayLike) -> Floats:
        """Return the physical actions of actions in [-1, 1]^m, (..., m). Nothing is clipped here."""
        physical: Floats = self.problem.action.from_unit(np.asarray(action, dtype=np.float64))
        return physical

    def from_physical(self, a: ArrayLike) -> Floats:
        """Return the actions of physical actions, (..., m): in [-1, 1]^m inside the box `problem.action`."""
        action: Floats = self.problem.action.to_unit(np.asarray(a, dtype=np.float64))
        return action

    def to_observation(self, t: ArrayLike, x: ArrayLike) -> NDArray[np.float32]:
        """Return the observation at time t (scalar or (...)) in state x (..., n): float32, (..., n) or (..., n + 1)."""
        return self.as_observation(t, self.problem.observe(np.asarray(x, dtype=np.float64)))

    def as_observation(self, t: ArrayLike, y: ArrayLike) -> NDArray[np.float32]:
        """Return the observation at time t (scalar or (...)) where y (..., n), physical, is observed of the state."""
        y = np.asarray(y, dtype=np.float64)
        times = np.ascontiguousarray(np.broadcast_to(np.asarray(t, dtype=np.float64), y.shape[:-1])).reshape(-1)
        seen = self._scaled(times, np.ascontiguousarray(y).reshape(-1, y.shape[-1]))
        return seen.reshape(*y.shape[:-1], seen.shape[1])

    def from_observation(self, observation: ArrayLike) -> tuple[Floats, Floats]:
        """Return time (...) and what is observed of the state (..., n), in physical units, to float32 rounding.

        Time is 0 over an infinite horizon.
        """
        seen, box = np.asarray(observation, dtype=np.float64), self.problem.observation
        if not self.finite:
            return np.zeros(seen.shape[:-1]), box.from_unit(seen)
        return self._span * (1 - seen[..., -1]), box.from_unit(seen[..., :-1])

    def _observe(self, t: Floats, x: Floats) -> NDArray[np.float32]:
        return self._scaled(t, self.problem.observe(x))

    def _scaled(self, t: Floats, y: Floats) -> NDArray[np.float32]:
        seen = np.empty((len(y), y.shape[1] + self.finite), np.float32)
        observe(y, t, *self._to_unit, self._span, seen)
        return seen


def _steps(horizon: float, dt: float) -> int:
    try:
        return read.steps(horizon, dt)
    except OverflowError as error:
        raise ParameterError(f"dt={dt} is too short a step for the horizon {horizon}") from error


def refuse_render_mode(render_mode: Any) -> None:
    """Raise ParameterError unless the render mode is None or "rgb_array"."""
    if render_mode not in (None, "rgb_array"):
        raise ParameterError(f"render_mode must be None or 'rgb_array', got {render_mode!r}")
