"""A vector environment under observation: every output is checked for form, and remembered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, final

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import concatenate, create_empty_array

from hacontrol_envs.checks.probe import require
from hacontrol_envs.errors import ContractError


@final
class Watched:
    """A vector environment whose every reset and step is checked for form, and whose outputs are kept for `close`.

    Args:
        env: the environment.
        num_envs: number of rows that it should have.
        mode: autoreset mode that it should have.
    """

    def __init__(self, env: Any, num_envs: int, mode: AutoresetMode) -> None:
        require(isinstance(env, VectorEnv), f"make must return a gymnasium.vector.VectorEnv, got {type(env).__name__}")
        self.env, self.num_envs, self.mode = env, num_envs, mode
        self.single_observation_space, self.single_action_space = env.single_observation_space, env.single_action_space
        self.obs: Any = None
        self._handed_out: list[tuple[str, Any, Any]] = []
        self._blank = list(leaves(create_empty_array(env.single_observation_space, num_envs, fn=np.zeros)))

    def reset(self, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset the environment, check what it returns for form, and return a copy."""
        self.obs, infos = self.env.reset(seed=seed, options=options)
        self._check_obs(self.obs, "reset")
        require(
            isinstance(infos, dict), f"reset must return (observations, dict), got {type(infos).__name__} for the infos"
        )
        self._keep("reset", self.obs, infos)
        return copy(self.obs), infos

    def step(self, actions: Sequence[Any]) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step with one action per row, check what comes back for form, and return a copy."""
        batch = self.batch(actions)
        before = copy(batch)
        self.obs, reward, terminated, truncated, infos = self.env.step(batch)
        require(same(batch, before), "step changed the actions that it was given; compute out of place")
        self._check_obs(self.obs, "step")
        self._check_rows("rewards", reward, np.dtype(np.float64))
        self._check_rows("terminations", terminated, np.dtype(np.bool_))
        self._check_rows("truncations", truncated, np.dtype(np.bool_))
        if not np.all(np.isfinite(reward)):
            raise ContractError(f"step returned rewards that are not finite: {reward}")
        require(isinstance(infos, dict), f"step must return a dict of infos, got {type(infos).__name__}")
        self._keep("step", self.obs, reward, terminated, truncated, infos)
        return copy(self.obs), reward.copy(), terminated.copy(), truncated.copy(), infos

    def batch(self, actions: Sequence[Any]) -> Any:
        """Return one batched action from one action per row."""
        space = self.single_action_space
        empty: Any = create_empty_array(space, len(actions))
        return concatenate(space, actions, empty)

    def _check_obs(self, obs: Any, verb: str) -> None:
        for leaf, blank in zip(leaves(obs), self._blank, strict=False):
            shape, dtype = np.shape(leaf), np.asarray(leaf).dtype
            kept = isinstance(leaf, np.ndarray) and shape == blank.shape and dtype == blank.dtype
            if not kept:
                wanted = f"the observation space has {blank.dtype} of shape {blank.shape}"
                raise ContractError(f"{verb} returned observations of {dtype} and shape {shape}; {wanted}")
        if not self.env.observation_space.contains(obs):
            advice = "Widen the space or fix the observation"
            raise ContractError(f"{verb} returned observations outside observation_space: {obs}. {advice}")

    def _check_rows(self, name: str, given: Any, dtype: np.dtype[Any]) -> None:
        what = f"{given.dtype} of shape {given.shape}" if isinstance(given, np.ndarray) else type(given).__name__
        kept = isinstance(given, np.ndarray) and given.shape == (self.num_envs,) and given.dtype == dtype
        require(kept, f"step must return {name} as an array of {dtype} and shape ({self.num_envs},), got {what}")

    def _keep(self, verb: str, *outputs: Any) -> None:
        fresh = [leaf for leaf in leaves(outputs) if isinstance(leaf, np.ndarray)]
        recent = [leaf for _, kept, _ in self._handed_out[-2:] for leaf in kept]
        shared = any(np.may_share_memory(new, old) for new in fresh for old in recent)
        require(not shared, f"{verb} returned an array that shares memory with an earlier one; return a copy")
        self._handed_out.append((verb, fresh, [leaf.copy() for leaf in fresh]))

    def close(self) -> None:
        """Close the environment; raise ContractError where an array that it handed out has changed since."""
        for verb, outputs, copies in self._handed_out:
            kept = all(same(*pair) for pair in zip(outputs, copies, strict=True))
            require(
                kept, f"an array returned by {verb} changed later; return a copy, learners store what they are given"
            )
        self.env.close()

    def scribble(self) -> None:
        """Overwrite what the environment has just handed out, as its owner may, and forget that it did."""
        _, outputs, _ = self._handed_out.pop()
        for leaf in outputs:
            if leaf.flags.writeable and leaf.dtype != object:
                leaf[...] = 1


def leaves(data: Any) -> Iterator[Any]:
    """Yield the arrays in a nest of dicts, tuples and arrays of objects."""
    if isinstance(data, dict):
        for part in data.values():
            yield from leaves(part)
    elif isinstance(data, (tuple, list)) or (isinstance(data, np.ndarray) and data.dtype == object):
        for part in data:
            yield from leaves(part)
    else:
        yield data


def copy(data: Any) -> Any:
    """Return a nest of dicts, tuples and arrays with its arrays copied."""
    if isinstance(data, dict):
        return {key: copy(part) for key, part in data.items()}
    if isinstance(data, (tuple, list)):
        return type(data)(copy(part) for part in data)
    return data.copy() if isinstance(data, np.ndarray) else data


def same(one: Any, other: Any) -> bool:
    """Tell whether the arrays in two nests are equal to the last bit."""
    return _bits(one) == _bits(other)


def _bits(data: Any) -> list[tuple[str, tuple[int, ...], bytes]]:
    return [(array.dtype.str, array.shape, array.tobytes()) for array in map(np.asarray, leaves(data))]
