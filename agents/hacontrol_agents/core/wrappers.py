"""Wrappers that agents, which learn and play what is below all of them, cannot leave out."""

from __future__ import annotations

from typing import Any

import gymnasium as gym

from hacontrol_envs.errors import ParameterError

CHANGING = (
    gym.ObservationWrapper,
    gym.ActionWrapper,
    gym.RewardWrapper,
    gym.vector.VectorObservationWrapper,
    gym.vector.VectorActionWrapper,
    gym.vector.VectorRewardWrapper,
)
"""Wrappers under which another problem is played."""


def refuse_changing(env: Any) -> None:
    """Raise ParameterError where a wrapper of an environment of ours changes what is seen, played or paid."""
    wrapper = env
    while wrapper is not wrapper.unwrapped:
        if isinstance(wrapper, CHANGING):
            raise ParameterError(
                f"env has a {type(wrapper).__name__}, which would be ignored, as agents learn what is below all "
                "wrappers: pass env.unwrapped, or another problem"
            )
        wrapper = wrapper.env
