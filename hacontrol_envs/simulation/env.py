"""SDEEnv, the single environment, and what `gym.make` and `gym.make_vec` call."""

from __future__ import annotations

import sys
from typing import Any, final

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from hacontrol_envs.arrays import Floats
from hacontrol_envs.core.page import environment_page
from hacontrol_envs.core.parameters import count
from hacontrol_envs.core.problem import Problem
from hacontrol_envs.core.registration import build_problem
from hacontrol_envs.errors import ParameterError
from hacontrol_envs.simulation.arguments import read_action, read_options, read_seed
from hacontrol_envs.simulation.sampled import SampledProblem
from hacontrol_envs.simulation.vector_env import Observations, SDEVectorEnv

__all__ = ["SDEEnv", "SDEVectorEnv", "make_env", "make_vector_env"]


class _Page:
    """The docstring of a class which, asked of an environment, is its page."""

    def __init__(self, own: str | None) -> None:
        self._own = own

    def __get__(self, env: SDEEnv | None, kind: type) -> str | None:
        if env is None:
            return self._own
        name = env.spec.id.rpartition("/")[2] if env.spec else None
        return environment_page(name, env.problem, env.dt, env.scheme, env.episode_steps)


@final
class SDEEnv(SampledProblem, gym.Env[Observations, Any]):
    """A sampled problem (see `SampledProblem`) as a single environment: row 0 of a vector environment of one.

    `reset(options={"state": x, "time": t})` starts from a given physical state (n,), at a given multiple of dt.
    `__doc__` of an environment is the page of its problem.

    Args:
        problem, dt, scheme, episode_steps: see `SampledProblem`.
        render_mode: None or "rgb_array".

    Raises:
        ParameterError: an argument that makes no sense, or a scheme that the problem does not have.
    """

    __doc__ = _Page(__doc__)

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}  # noqa: RUF012  (Gymnasium's own attribute)

    def __init__(
        self,
        problem: Problem,
        *,
        dt: float,
        scheme: str = "exact",
        episode_steps: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        SampledProblem.__init__(self, problem, dt, scheme, episode_steps)
        self._rows = SDEVectorEnv(
            problem,
            1,
            dt=dt,
            scheme=scheme,
            episode_steps=episode_steps,
            autoreset_mode=AutoresetMode.DISABLED,
            render_mode=render_mode,
        )
        self.render_mode = render_mode
        self.observation_space: gym.spaces.Box = self._observation_box()  # type: ignore[assignment]
        self.action_space = self._action_box()

    @property
    def state(self) -> Floats:
        """Copy of the physical state, (n,)."""
        row: Floats = self._rows.state[0]
        return row

    @property
    def time(self) -> float:
        """Time since the start of the episode."""
        return float(self._rows.time[0])

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        """Start a new episode; see `SDEVectorEnv.reset`."""
        first = read_seed(seed)
        asked = read_options(options, 1, self.problem, self.dt, self.episode_steps, ("state", "time"))
        observation, info = self._rows._reset([first], asked)
        self._np_random, self._np_random_seed = self._rows.np_random[0], self._rows.np_random_seed[0]
        return observation[0], info

    def step(self, action: Any) -> tuple[Observations, float, bool, bool, dict[str, Any]]:
        """Hold the action (m,) for a time dt; see `SDEVectorEnv.step`."""
        read_action(action, self._rows._given[0])
        observation, reward, terminated, truncated, info = self._rows._advance()
        return observation[0], reward.item(), terminated.item(), truncated.item(), info

    def render(self) -> NDArray[np.uint8] | None:
        """Draw the episode so far, (H, W, 3) uint8; None without a render mode."""
        return self._rows._films[0].frame() if self._rows._films else None


def make_env(
    problem: str,
    *,
    dt: float,
    episode_steps: int | None,
    scheme: str = "exact",
    render_mode: str | None = None,
    **parameters: Any,
) -> SDEEnv:
    """Make the single environment of a problem, for `gym.make`.

    Args:
        problem: "module:Class" of the problem.
        dt, scheme: see `SampledProblem`.
        episode_steps: steps after which an infinite horizon is truncated, unless the caller of `gym.make` says
            otherwise; None for never.
        render_mode: None or "rgb_array".
        parameters: arguments of the problem.
    """
    built = build_problem(problem, parameters)
    steps = cut_off(built, *_limits_of_gym_make(), episode_steps)
    return SDEEnv(built, dt=dt, scheme=scheme, episode_steps=steps, render_mode=render_mode)


def make_vector_env(
    num_envs: int,
    problem: str,
    *,
    dt: float,
    episode_steps: int | None,
    scheme: str = "exact",
    autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP.value,
    render_mode: str | None = None,
    max_episode_steps: int | None = None,
    **parameters: Any,
) -> SDEVectorEnv:
    """Make the vector environment of a problem, for `gym.make_vec`.

    Args:
        num_envs: number of rows.
        problem: "module:Class" of the problem.
        dt, scheme, episode_steps: see `make_env`.
        autoreset_mode: a string ("NextStep", "SameStep", "Disabled") keeps `env.spec.to_json()` a record of the run.
        render_mode: None or "rgb_array".
        max_episode_steps: Gymnasium's word for `episode_steps`, see `cut_off`; None leaves that as it is.
        parameters: arguments of the problem.
    """
    built = build_problem(problem, parameters)
    return SDEVectorEnv(
        built,
        num_envs,
        dt=dt,
        scheme=scheme,
        episode_steps=cut_off(built, max_episode_steps, None, episode_steps),
        autoreset_mode=autoreset_mode,
        render_mode=render_mode,
    )


make_env.metadata = make_vector_env.metadata = SDEEnv.metadata  # type: ignore[attr-defined]  # where Gymnasium looks


def cut_off(problem: Problem, asked: Any, recorded: Any, episode_steps: Any) -> Any:
    """Return after how many steps `gym.make` and `gym.make_vec` truncate an episode; None for never.

    A finite horizon ends at T and nowhere else, so that it refuses `max_episode_steps`.

    Args:
        problem: the problem of the environment.
        asked: `max_episode_steps` of the caller, which counts where given, -1 meaning never; else None.
        recorded: the length that a spec of an environment made earlier has, which counts where it is shorter; or None.
        episode_steps: the length that counts otherwise; None for never.

    Raises:
        ParameterError: a length that makes no sense, or one below a finite horizon.
    """
    given = recorded if asked is None else asked
    if given is None or (type(given) is int and given == -1):
        return episode_steps if given is None else None
    if problem.horizon is not None:
        raise ParameterError(
            f"max_episode_steps={given!r} would cut the finite horizon {problem.horizon} off: leave it out (or give "
            "-1, where a spec holds it), or change the horizon"
        )
    steps = count("max_episode_steps", given)
    return min(steps, episode_steps) if asked is None and isinstance(episode_steps, int) else steps


def _limits_of_gym_make() -> tuple[Any, Any]:
    """`max_episode_steps` as the caller of `gym.make` gave it, and as the spec to be made has it; None where not given.

    `gym.make` tells the entry point neither, and wraps what it returns in a `TimeLimit` of that length. An environment
    that did not know would end at its default before, and tell agents of another length than its episodes have.
    """
    caller = sys._getframe(2)
    if caller.f_code is not gym.make.__code__:
        return None, None
    return caller.f_locals.get("max_episode_steps"), getattr(caller.f_locals.get("env_spec"), "max_episode_steps", None)
