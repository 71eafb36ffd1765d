"""Stable-Baselines3's agents on our native vector environments, with the problem's own discount."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, final

import gymnasium as gym
import numpy as np
from stable_baselines3 import PPO, SAC, TD3
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from hacontrol_agents.agent import Agent
from hacontrol_envs.arrays import Array, Floats
from hacontrol_envs.env import SDEVectorEnv


@final
class NativeVecEnv(VecEnv):
    """A native vector environment with SAME_STEP autoreset, as SB3 wants to see it."""

    def __init__(self, env: SDEVectorEnv) -> None:
        self.env = env
        self._seed: int | None = None
        self._actions: Any = None
        self.render_mode = None
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)

    def reset(self) -> Any:
        observation, _ = self.env.reset(seed=self._seed)
        self._seed = None
        return observation

    def seed(self, seed: int | None = None) -> list[int | None]:
        """Take effect at the next reset."""
        self._seed = seed
        return [None if seed is None else seed + i for i in range(self.num_envs)]

    def step_async(self, actions: Any) -> None:
        self._actions = actions

    def step_wait(self) -> Any:
        observation, reward, terminated, truncated, infos = self.env.step(self._actions)
        done = terminated | truncated
        rows: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for i in np.flatnonzero(done):
            rows[i] = {"terminal_observation": infos["final_obs"][i], "TimeLimit.truncated": bool(truncated[i])}
        return observation, reward.astype(np.float32), done, rows

    def close(self) -> None:
        self.env.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [getattr(self.env, attr_name)] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        raise AttributeError(f"{attr_name} of a native vector environment belongs to all its rows and is fixed")

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        raise AttributeError(f"rows of a native vector environment have no method {method_name!r} of their own")

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: Any = None) -> list[bool]:
        return [False] * len(list(self._get_indices(indices)))


@dataclass(kw_only=True)
class _SB3(Agent):
    """One of SB3's algorithms; `learn` counts environment steps. Resuming goes on from the weights, not bitwise."""

    num_envs: int = 16
    """Rows of the training environment."""

    algorithm: ClassVar[Any]
    default_budget: ClassVar[int]
    extra: ClassVar[dict[str, Any]] = {}

    def __post_init__(self) -> None:
        super().__post_init__()
        env = self.env.unwrapped
        rows = SDEVectorEnv(
            env.problem, self.num_envs, dt=env.dt, scheme=env.scheme, episode_steps=env.episode_steps, autoreset_mode="SameStep"
        )
        self._model = self.algorithm(
            "MlpPolicy", NativeVecEnv(rows), gamma=rows.gamma, seed=self.seed, device=self.device, **self.extra
        )

    def policy(self, t: Array, x: Floats) -> Floats:
        env, lead = self.env.unwrapped, np.shape(x)[:-1]
        observation = env.to_observation(np.broadcast_to(t, lead), np.asarray(x)).reshape(-1, *env.observation_space.shape[-1:])
        action, _ = self._model.predict(observation, deterministic=True)
        chosen: Floats = env.to_physical(action)
        return chosen.reshape(*lead, -1)

    def _learn(self, budget: int | None, report: Callable[..., bool]) -> None:
        total = (self.evaluations + self.default_budget if budget is None else budget) - self.evaluations
        self._model.learn(max(total, 1), callback=_Reporter(self, total, report))

    def _tensors(self) -> dict[str, Tensor]:
        return {name: tensor.clone() for name, tensor in self._model.policy.state_dict().items()}

    def _restore(self, tensors: dict[str, Tensor], record: dict[str, Any]) -> None:
        self._model.policy.load_state_dict(tensors)


class _Reporter(BaseCallback):
    def __init__(self, agent: _SB3, total: int, report: Callable[..., bool]) -> None:
        super().__init__()
        self.agent, self.total, self.report, self.start = agent, total, report, agent.evaluations

    def _on_step(self) -> bool:
        before, self.agent.evaluations = self.agent.evaluations, self.start + self.num_timesteps
        every = max(self.total // 20, 1)
        if before // every == self.agent.evaluations // every:
            return True
        return not self.report(self.num_timesteps / self.total)


@final
@dataclass(kw_only=True)
class PPOAgent(_SB3):
    """Proximal policy optimisation (Schulman et al., 2017), SB3's defaults, 128 steps a row and rollout."""

    name: ClassVar[str] = "ppo"
    algorithm: ClassVar[Any] = PPO
    default_budget: ClassVar[int] = 200_000
    extra: ClassVar[dict[str, Any]] = {"n_steps": 128, "batch_size": 256}


@final
@dataclass(kw_only=True)
class SACAgent(_SB3):
    """Soft actor-critic (Haarnoja et al., 2018), SB3's defaults."""

    name: ClassVar[str] = "sac"
    algorithm: ClassVar[Any] = SAC
    default_budget: ClassVar[int] = 50_000


@final
@dataclass(kw_only=True)
class TD3Agent(_SB3):
    """Twin delayed DDPG (Fujimoto et al., 2018), SB3's defaults."""

    name: ClassVar[str] = "td3"
    algorithm: ClassVar[Any] = TD3
    default_budget: ClassVar[int] = 50_000
