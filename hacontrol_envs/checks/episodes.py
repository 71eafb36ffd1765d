"""Episodes played in a vector environment, row by row; the conventions of its autoreset mode are checked on the way."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import iterate

from hacontrol_envs.checks.probe import require
from hacontrol_envs.checks.watched import Watched, copy, same
from hacontrol_envs.errors import ContractError

Plan: TypeAlias = list[list[Any]]
"""Actions by row and by number of steps taken in that row, cyclically."""

NEXT_STEP, SAME_STEP, DISABLED = AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP, AutoresetMode.DISABLED


class Step(NamedTuple):
    """One real step of one row; a step that only resets is none."""

    obs: Any
    """Observation before the step."""
    reward: float
    """Reward of the step."""
    terminated: bool
    """Whether the step terminated the episode."""
    truncated: bool
    """Whether the step truncated the episode."""
    next_obs: Any
    """Observation after the step, before any reset."""


def rows_of(env: Watched, obs: Any) -> list[Any]:
    """Split a batch of observations into a list with one for each row."""
    return [copy(row) for row in iterate(env.env.observation_space, obs)]


def play(env: Watched, seed: Any, plan: Plan, steps: int, *, scribble: bool = False) -> list[list[Step]]:
    """Return the first real steps of every row; check the conventions of the autoreset mode on the way.

    Args:
        env: the environment to play in.
        seed: what `reset` is given.
        plan: actions of each row.
        steps: steps to play in every row; those that only reset do not count.
        scribble: overwrite every array after use, as a caller may who owns it.

    Raises:
        ContractError: a convention is broken.
    """
    n = env.num_envs
    played: list[list[Step]] = [[] for _ in range(n)]
    before = rows_of(env, env.reset(seed)[0])
    ended = np.zeros(n, dtype=bool)
    while min(map(len, played)) < steps:
        if env.mode is DISABLED and ended.any():
            before, ended = _reset_ended(env, before, ended), np.zeros(n, dtype=bool)
        actions = [plan[i][len(played[i]) % len(plan[i])] for i in range(n)]
        obs, reward, terminated, truncated, infos = env.step(actions)
        after, over = rows_of(env, obs), terminated | truncated
        fake = ended if env.mode is NEXT_STEP else np.zeros(n, dtype=bool)
        _check_fake(fake, reward, over)
        finals = _final_observations(env, infos, over) if env.mode is SAME_STEP else after
        for i in np.flatnonzero(~fake):
            final = copy(finals[i] if over[i] else after[i])
            played[i].append(Step(before[i], float(reward[i]), bool(terminated[i]), bool(truncated[i]), final))
        before, ended = after, over
        if scribble:
            env.scribble()
    return [row[:steps] for row in played]


def _check_fake(fake: Any, reward: Any, over: Any) -> None:
    """In NEXT_STEP mode the step after an end only resets."""
    advice = "In NEXT_STEP mode the step after an end resets, ignores its action, and reports reward 0 and no end"
    if np.any(reward[fake] != 0) or np.any(over[fake]):
        raise ContractError(f"the resetting step reported rewards {reward[fake]} and ends {over[fake]}. {advice}")


def _final_observations(env: Watched, infos: dict[str, Any], over: Any) -> Any:
    """SAME_STEP mode's `final_obs` with its mask, and `final_info`."""
    for key in ("final_obs", "final_info"):
        mask = np.asarray(infos.get(f"_{key}", np.zeros(env.num_envs, dtype=bool)))
        if not np.array_equal(mask, over) or (over.any() and key not in infos):
            advice = f"infos['{key}'] and its mask infos['_{key}'] belong to the rows that ended in this very step"
            raise ContractError(f"infos['_{key}'] is {mask} where {over} ended. {advice}")
    finals = infos.get("final_obs", [None] * env.num_envs)
    for i in np.flatnonzero(over):
        inside = env.single_observation_space.contains(finals[i])
        require(inside, f"infos['final_obs'][{i}] is not in single_observation_space: {finals[i]!r}")
    return finals


def _reset_ended(env: Watched, before: list[Any], ended: Any) -> list[Any]:
    """DISABLED mode: reset the rows that ended, and no other."""
    after = rows_of(env, env.reset(options={"reset_mask": ended.copy()})[0])
    for i in np.flatnonzero(~ended):
        if not same(before[i], after[i]):
            advice = "Rows outside the mask go on with their episode and their random numbers"
            raise ContractError(
                f"reset with reset_mask={ended} changed row {i} from {before[i]} to {after[i]}. {advice}"
            )
    return after


def require_equal(one: list[list[Step]], other: list[list[Step]], promise: str, advice: str) -> None:
    """Raise ContractError unless two lists of rows hold bitwise the same steps.

    Args:
        one, other: steps by row, as `play` returns them.
        promise: what is compared, to begin the message with.
        advice: what to do about a difference, to end the message with.
    """
    for i, (a, b) in enumerate(zip(one, other, strict=False)):
        for k, (left, right) in enumerate(zip(a, b, strict=True)):
            if same(left, right):
                continue
            for name, mine, its in zip(Step._fields, left, right, strict=True):
                if not same(mine, its):
                    raise ContractError(f"{promise}: {name} of row {i} at step {k} is {mine} against {its}. {advice}")
