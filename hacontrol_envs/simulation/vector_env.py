"""SDEVectorEnv: many independent copies of a controlled SDE, stepped together."""

from __future__ import annotations

from typing import Any, final

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from hacontrol_envs.arrays import Floats
from hacontrol_envs.core.parameters import count, short
from hacontrol_envs.core.problem import Problem
from hacontrol_envs.errors import ActionError, CheckpointError, ParameterError, ResetError
from hacontrol_envs.simulation import noise
from hacontrol_envs.simulation.arguments import ResetOptions, read_action, read_options, read_seeds
from hacontrol_envs.simulation.rendering import Film, Screen
from hacontrol_envs.simulation.row_kernels import clip_and_scale, tick
from hacontrol_envs.simulation.sampled import SampledProblem, refuse_render_mode
from hacontrol_envs.simulation.streams import RowStreams

MOST_ROWS = 10**7
"""Most rows of a vector environment, which a machine may be expected to hold."""

Flags = NDArray[np.bool_]
Observations = NDArray[np.float32]


@final
class SDEVectorEnv(SampledProblem, gym.vector.VectorEnv[Observations, Any, Flags]):
    """`num_envs` independent copies of a sampled problem (see `SampledProblem`), stepped in compiled loops.

    Row i of an environment seeded s is bitwise the single environment seeded s + i, resets included, in every mode.

    Args:
        problem, dt, scheme, episode_steps: see `SampledProblem`.
        num_envs: N, the number of rows.
        autoreset_mode: NEXT_STEP (the step after an end resets: reward 0, action ignored), SAME_STEP (the end itself
            resets; `infos["final_obs"]` keeps the last observation) or DISABLED (`reset(options={"reset_mask": ...})`).
        render_mode: None or "rgb_array"; `render` draws every row.

    Raises:
        ParameterError: an argument that makes no sense, or a scheme that the problem does not have.
    """

    def __init__(
        self,
        problem: Problem,
        num_envs: int,
        *,
        dt: float,
        scheme: str = "exact",
        episode_steps: int | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
    ) -> None:
        self.num_envs = N = count("num_envs", num_envs, at_most=MOST_ROWS)
        SampledProblem.__init__(self, problem, dt, scheme, episode_steps)
        refuse_render_mode(render_mode)
        self.render_mode = render_mode
        self.autoreset_mode = _read_mode(autoreset_mode)
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": 30, "autoreset_mode": self.autoreset_mode}
        self.single_observation_space, self.single_action_space = self._observation_box(), self._action_box()
        self.observation_space = batch_space(self.single_observation_space, N)
        self.action_space = batch_space(self.single_action_space, N)
        self._streams = RowStreams(problem, N)
        self._x: Floats = np.zeros((N, problem.state.dimension))
        self._x_next: Floats = np.zeros_like(self._x)
        self._steps: NDArray[np.int64] = np.zeros(N, np.int64)
        self._time: Floats = np.zeros(N)
        self._last = self.episode_steps or np.iinfo(np.int64).max
        self._ended: Flags = np.zeros(N, np.bool_)
        self._started, self._pending = False, False  # before the first reset; some rows have ended and wait for theirs
        self._given: Floats = np.zeros((N, problem.action.dimension))
        self._physical: Floats = np.zeros_like(self._given)
        self._log_action = bool(problem.action.log.any())
        self._noise: Floats = np.zeros((N, self._integrator.noise_dim))
        screen = Screen(problem, self.dt)
        self._films = [Film(screen) for _ in range(N)] if render_mode else []

    @property
    def state(self) -> Floats:
        """Copy of the physical states, (N, n)."""
        copy: Floats = self._x.copy()
        return copy

    @property
    def time(self) -> Floats:
        """Time since the start of each row's episode, (N,)."""
        copy: Floats = self._time.copy()
        return copy

    @property  # type: ignore[misc]
    def np_random(self) -> tuple[np.random.Generator, ...]:  # type: ignore[override]
        """Generator of initial states of each row."""
        every = np.arange(self.num_envs)
        self._streams.seed(every, [None] * self.num_envs)
        return tuple(self._streams.resets)  # type: ignore[arg-type]

    @property
    def np_random_seed(self) -> tuple[int, ...]:  # type: ignore[override]
        """Seed of each row; -1 where it is not known."""
        return tuple(self._streams.seeds)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Observations, dict[str, Any]]:
        """Start new episodes.

        Args:
            seed: a non-negative integer s (row i then has the streams of the single environment seeded s + i), or a
                list with one for each row; None goes on with the streams as they are.
            options: "reset_mask", (N,) booleans: which rows to reset; "state", (N, n) or (n,): physical states to start
                from; "time", (N,) or a number: when to start, a multiple of dt before the end of the episode.

        Raises:
            SeedError, ResetError: what is given makes no sense. Nothing has changed then.
        """
        seeds = read_seeds(seed, self.num_envs)
        asked = read_options(
            options, self.num_envs, self.problem, self.dt, self.episode_steps, ("reset_mask", "state", "time")
        )
        return self._reset(seeds, asked)

    def _reset(self, seeds: list[int | None], asked: ResetOptions) -> tuple[Observations, dict[str, Any]]:
        if not self._started and len(asked.rows) < self.num_envs:
            raise ResetError("the first reset must be of every environment: leave reset_mask out")
        self._streams.seed(asked.rows, [seeds[row] for row in asked.rows])
        self._started = True
        self._restart(asked.rows, asked.state, asked.steps)
        return self._observe(self._time, self._x), {}

    def _restart(self, rows: NDArray[np.intp], state: Floats | None = None, steps: Any = 0) -> None:
        self._x[rows] = self._streams.initial_states(rows) if state is None else state
        self._steps[rows] = steps
        self._time[rows] = self._steps[rows] * self.dt
        self._ended[rows] = False
        self._pending = bool(np.count_nonzero(self._ended))
        for row in rows if self._films else ():
            self._films[row].start(self._time[row], self._x[row])

    # Gymnasium's annotation gives rewards the type of flags.
    def step(  # type: ignore[override]
        self, actions: Any
    ) -> tuple[Observations, Floats, Flags, Flags, dict[str, Any]]:
        """Hold the actions (N, m) for a time dt.

        Returns:
            Observations (N, n) or (N, n + 1), rewards (N,) in float64, terminations (N,), truncations (N,) and infos.

        Raises:
            ActionError: not finite real numbers of that shape. Nothing has changed then.
            ResetError: before the first reset or, with autoreset disabled, after an end.
        """
        read_action(actions, self._given)
        return self._advance()

    def _advance(self) -> tuple[Observations, Floats, Flags, Flags, dict[str, Any]]:
        self._refuse_early_or_late()
        a = self._held_action()
        noise.draw(self._streams.brownian, self._ended, self._noise)
        reward = np.empty(self.num_envs)
        self._integrator.step(self._time, self._x, a, self._noise, self._x_next, reward)
        self._x, self._x_next = self._x_next, self._x
        over, never = np.empty(self.num_envs, np.bool_), np.zeros(self.num_envs, np.bool_)
        ends = tick(self._steps, self._time, self.dt, self._last, over)
        for row, film in enumerate(self._films):
            film.add(a[row], self._time[row], self._x[row])
        if self._pending:
            reward[self._ended], over[self._ended] = 0.0, False
            ends = int(np.count_nonzero(over))
            self._restart(np.flatnonzero(self._ended))
        observation = self._observe(self._time, self._x)
        infos = self._end(over.copy(), observation, reward) if ends else {}
        return (observation, reward, over, never, infos) if self.finite else (observation, reward, never, over, infos)

    def _refuse_early_or_late(self) -> None:
        if not self._started:
            raise ResetError("step before reset: call reset() first")
        if self._pending and self.autoreset_mode is AutoresetMode.DISABLED:
            rows = np.flatnonzero(self._ended).tolist()
            which = f"the episodes of rows {rows[:10]} are over" if self.num_envs > 1 else "the episode is over"
            raise ResetError(f"{which}: call reset() first (options={{'reset_mask': ...}} resets some rows of many)")

    def _held_action(self) -> Floats:
        box = self.problem.action
        if not clip_and_scale(self._given, box.center, box.half_width, self._physical):
            bad = int(np.flatnonzero(~np.isfinite(self._given).all(axis=1))[0])
            row = f" in row {bad}" if self.num_envs > 1 else ""
            got = short(self._given[bad].tolist())
            raise ActionError(f"an action must be finite, got {got}{row}; nothing was changed")
        return box.from_coordinates(self._physical) if self._log_action else self._physical

    def _end(self, over: Flags, observation: Observations, reward: Floats) -> dict[str, Any]:
        """Pay the terminal reward; under SAME_STEP also start the next episodes, and say how the last ones ended."""
        rows = np.flatnonzero(over)
        if self.finite:
            reward[rows] += self.gamma * self.problem.terminal_reward(self._x[rows])
        if self.autoreset_mode is not AutoresetMode.SAME_STEP:
            self._ended, self._pending = over, True
            return {}
        final = np.full(self.num_envs, None, dtype=object)
        for row, last in zip(rows.tolist(), observation[rows], strict=True):
            final[row] = last
        self._restart(rows)
        observation[rows] = self._observe(self._time[rows], self._x[rows])
        return {"final_obs": final, "_final_obs": over, "final_info": {}, "_final_info": over.copy()}

    def render(self) -> tuple[NDArray[np.uint8], ...] | None:
        """Draw each row's episode so far, (H, W, 3) uint8; None without a render mode."""
        return tuple(film.frame() for film in self._films) if self._films else None

    def get_state(self) -> dict[str, NDArray[Any]]:
        """Return everything needed to go on bitwise from here, as plain arrays by name."""
        own = {"state": self._x, "steps": self._steps, "ended": self._ended, "started": np.array([self._started])}
        return {**{name: array.copy() for name, array in own.items()}, **self._streams.arrays()}

    def set_state(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Go on bitwise from what `get_state` returned, on an environment built with the same arguments.

        Raises:
            CheckpointError: arrays that are missing, or of another environment. Nothing has changed then.
        """
        for name, held in self.get_state().items():
            given = arrays.get(name)
            if not isinstance(given, np.ndarray) or (given.dtype, given.shape) != (held.dtype, held.shape):
                got = f"{given.dtype} {given.shape}" if isinstance(given, np.ndarray) else repr(given)
                raise CheckpointError(f"{name!r} must be an array of {held.dtype} {held.shape}, got {got}")
        self._x[...], self._steps[...], self._ended[...] = arrays["state"], arrays["steps"], arrays["ended"]
        self._time[...] = self._steps * self.dt
        self._started, self._pending = bool(arrays["started"][0]), bool(arrays["ended"].any())
        self._streams.restore(arrays)


def _read_mode(given: Any) -> AutoresetMode:
    try:
        return AutoresetMode(given)
    except ValueError as error:
        known = ", ".join(repr(mode.value) for mode in AutoresetMode)
        raise ParameterError(f"autoreset_mode must be one of {known}, got {given!r}") from error
