"""Wrappers that agents refuse: agents learn and play the environment below all wrappers, so these would change it."""

from __future__ import annotations

from typing import Any

import gymnasium as gym

from hacontrol_envs.errors import ParameterError

FORBIDDEN_WRAPPERS = (
    gym.ObservationWrapper,
    gym.ActionWrapper,
    gym.RewardWrapper,
    gym.vector.VectorObservationWrapper,
    gym.vector.VectorActionWrapper,
    gym.vector.VectorRewardWrapper,
)
"""Wrappers that change observations, actions or rewards, and so the problem."""


def refuse_changing(env: Any) -> None:
    """Raise ParameterError where a wrapper of an environment of ours changes observations, actions or rewards."""
    wrapper = env
    while wrapper is not wrapper.unwrapped:
        if isinstance(wrapper, FORBIDDEN_WRAPPERS):
            raise ParameterError(
                f"env has a {type(wrapper).__name__}, which would be ignored, as agents learn what is below all "
                "wrappers: pass env.unwrapped, or another problem"
            )
        wrapper = wrapper.env


def episode_steps(env: Any) -> int | None:
    """Return the number of steps of an episode: the least of the environment's own and of its `TimeLimit` wrappers';
    None where there is none."""
    limits, wrapper = [env.unwrapped.episode_steps], env
    while wrapper is not wrapper.unwrapped:
        limits.append(wrapper._max_episode_steps if isinstance(wrapper, gym.wrappers.TimeLimit) else None)
        wrapper = wrapper.env
    return min((limit for limit in limits if limit is not None), default=None)
