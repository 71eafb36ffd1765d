"""Stable-Baselines3's agents on our native vector environments, with the problem's own discount."""

from __future__ import annotations

import contextlib
import copy
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, final

import gymnasium as gym
import numpy as np
from stable_baselines3 import DDPG, PPO, SAC, TD3
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv, VecNormalize
from torch import Tensor

from hacontrol_agents.baselines import sb3_state
from hacontrol_agents.core.agent import Agent
from hacontrol_agents.core.hyperparameters import read_widths
from hacontrol_agents.core.plain import shown
from hacontrol_envs.arrays import Array, Floats
from hacontrol_envs.core.parameters import count, number, refuse_unlisted, short
from hacontrol_envs.errors import HacontrolError, ParameterError
from hacontrol_envs.simulation.env import SDEVectorEnv


@final
class NativeVecEnv(VecEnv):
    """A native vector environment with SAME_STEP autoreset, as SB3's `VecEnv`."""

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
        """Set the seed that the next reset uses."""
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
        """Raise AttributeError: attributes belong to all rows and are fixed.

        Args:
            attr_name: name of the attribute.
            value: ignored.
            indices: ignored.
        """
        raise AttributeError(f"{attr_name} of a native vector environment belongs to all its rows and is fixed")

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        """Raise AttributeError: rows have no methods of their own.

        Args:
            method_name: name of the method.
            *args, indices, **kwargs: ignored.
        """
        raise AttributeError(f"rows of a native vector environment have no method {method_name!r} of their own")

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: Any = None) -> list[bool]:
        return [False] * len(list(self._get_indices(indices)))


OWN = (
    *("policy", "env", "seed", "device", "verbose", "tensorboard_log", "action_noise", "_init_setup_model"),
    *("replay_buffer_class", "replay_buffer_kwargs", "rollout_buffer_class", "rollout_buffer_kwargs"),
)
"""Arguments of SB3's algorithms that a user may not give: the agent sets them, or they take code or write files."""
POLICY = (
    "net_arch",
    "log_std_init",
    "ortho_init",
    "use_sde",
    "use_expln",
    "full_std",
    "clip_mean",
    "n_critics",
    "share_features_extractor",
)
"""Arguments of SB3's policies that JSON can hold."""


OFF_POLICY: dict[str, Any] = {
    "gradient_steps": -1,
    "learning_rate": 1e-3,
    "learning_starts": 500,
    "policy_kwargs": {"net_arch": [64, 64]},
}
"""Defaults of algorithms that learn from a replay buffer."""


@dataclass(kw_only=True)
class SB3Agent(Agent):
    """One of Stable-Baselines3's algorithms on our native vector environment, with the problem's own discount.

    Rewards are divided by the running standard deviation of returns (SB3's VecNormalize), which changes no optimum;
    observations are the environment's own, which are of order one. `learn` counts environment steps. Learning goes on
    from a checkpoint with the same weights, to the bit, as if it had never been interrupted, and leaves torch's and
    NumPy's global random states alone.
    """

    num_envs: int = 16
    """Rows of the training environment."""
    updates: float | None = None
    """Gradient steps per unit of the problem's time, of all rows together, for algorithms that replay; None leaves them
    to `settings`, which count them per step."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the algorithm that differ from this agent's `defaults`; JSON can hold them."""

    algorithm: ClassVar[Any]
    """SB3's class of the algorithm."""
    defaults: ClassVar[dict[str, Any]]
    """Keyword arguments of the algorithm that differ from SB3's own."""
    noise: ClassVar[float] = 0.0
    """Deviation of the Gaussian exploration that a deterministic actor needs, in half-widths of the action box."""

    def __post_init__(self) -> None:
        super().__post_init__()
        rows = self._vector_env(self.num_envs)
        scaled = _ScaledRewards(NativeVecEnv(rows), norm_obs=False, clip_reward=np.inf, gamma=rows.gamma)
        self._random = sb3_state.global_randomness()
        with sb3_state.randomness(self._random):
            try:
                self._model = self.algorithm("MlpPolicy", scaled, **self._arguments(rows))
            except HacontrolError:
                raise
            except Exception as error:  # SB3 asserts, raises whatever it likes, and lets torch and NumPy raise
                raise ParameterError(f"Stable-Baselines3 refuses settings of {self.name!r}: {shown(error)}") from error

    def _arguments(self, rows: SDEVectorEnv) -> dict[str, Any]:
        """Return keyword arguments of the algorithm; a copy, since SB3 writes into some of them."""
        self._refuse_settings()
        own: dict[str, Any] = {"gamma": rows.gamma, "seed": (self.seed or 0) % 2**32, "device": self.device}
        if self.noise:
            width = self.problem.action.dimension
            own["action_noise"] = NormalActionNoise(np.zeros(width), np.full(width, self.noise))
        pace = {} if self.updates is None else self._pace(self.updates, rows.dt * self.num_envs)
        return {**own, **copy.deepcopy({**self.defaults, **pace, **self.settings})}

    def _refuse_settings(self) -> None:
        """Raise ParameterError for settings that are not the user's to give, or ask for what no machine holds."""
        known = [name for name in inspect.signature(self.algorithm).parameters if name not in OWN]
        refuse_unlisted(f"settings of {self.name!r}", known, self.settings)
        policy = self.settings.get("policy_kwargs") or {}
        if not isinstance(policy, dict):
            raise ParameterError(f"policy_kwargs must be a dictionary, got {short(policy)}")
        refuse_unlisted("policy_kwargs", POLICY, policy)
        layers = policy.get("net_arch") or []
        for one in layers.values() if isinstance(layers, dict) else [layers]:
            read_widths("net_arch", one)
        for name in ("buffer_size", "n_steps", "batch_size"):
            if (value := self.settings.get(name)) is not None:
                count(name, value, at_most=10_000_000)

    def _pace(self, updates: float, time: float) -> dict[str, Any]:
        """Return SB3's settings for `updates` gradient steps per unit of time, of which a step of all rows has
        `time`."""
        if not issubclass(self.algorithm, OffPolicyAlgorithm):
            raise ParameterError(f"updates must be None for {self.name!r}, which does not replay, got {self.updates!r}")
        each = number("updates", updates, above=0.0) * time
        every = max(round(1 / each), 1)
        return {"train_freq": every, "gradient_steps": max(round(each * every), 1)}

    def policy(self, t: Array, x: Floats) -> Floats:
        env, lead = self.env.unwrapped, np.shape(x)[:-1]
        observation = env.as_observation(np.broadcast_to(t, lead), np.asarray(x))
        action, _ = self._model.predict(observation.reshape(-1, observation.shape[-1]), deterministic=True)
        chosen: Floats = env.to_physical(action)
        return chosen.reshape(*lead, -1)

    def _learn(self, budget: int | None, report: Callable[..., bool]) -> None:
        assert budget is not None  # there is a default
        self._model.num_timesteps = self.evaluations
        if budget > self.evaluations:
            with sb3_state.randomness(self._random), contextlib.suppress(_StoppedError):
                self._model.learn(budget - self.evaluations, _Reporter(self, budget, report), reset_num_timesteps=False)

    def _tensors(self) -> dict[str, Tensor]:
        return sb3_state.tensors_of(self._model, self._random)

    def _record(self) -> dict[str, Any]:
        return sb3_state.record_of(self._model, self._random)

    def _restore(self, tensors: dict[str, Tensor], record: dict[str, Any]) -> None:
        sb3_state.restore(self._model, self._random, tensors, record)


class _ScaledRewards(VecNormalize):
    """SB3's VecNormalize, pickled with its environment and the returns so far, so that learning goes on."""

    def __getstate__(self) -> dict[str, Any]:
        return {"own": super().__getstate__(), "venv": self.venv, "returns": self.returns}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state["own"])
        self.set_venv(state["venv"])
        self.returns = state["returns"]


class _StoppedError(Exception):
    """Ends SB3's learning where a callback asks for it."""


class _Reporter(BaseCallback):
    """Reports some twenty times, between rollouts, when nothing that is saved is changing.

    To stop there is to raise: SB3 itself would stop only after the next step, which it then does not store.
    """

    def __init__(self, agent: SB3Agent, budget: int, report: Callable[..., bool]) -> None:
        super().__init__()
        self.agent, self.budget, self.report = agent, budget, report

    def _on_rollout_start(self) -> None:
        before, self.agent.evaluations = self.agent.evaluations, self.num_timesteps
        every = max(self.budget // 20, 1)
        if before // every != self.num_timesteps // every and self._report():
            raise _StoppedError

    def _on_step(self) -> bool:
        return True

    def _on_training_end(self) -> None:
        self.agent.evaluations = self.num_timesteps
        self._report()

    def _report(self) -> bool:
        self.agent._random.update(sb3_state.global_randomness())
        return self.report(self.num_timesteps / self.budget)


@final
@dataclass(kw_only=True)
class PPOAgent(SB3Agent):
    """Proximal policy optimisation (Schulman et al., 2017).

    Exploration starts with a deviation of e^{-1} of the action box's half-width.
    """

    name: ClassVar[str] = "ppo"
    algorithm: ClassVar[Any] = PPO
    default_budget: ClassVar[int] = 200_000
    defaults: ClassVar[dict[str, Any]] = {
        "n_steps": 256,
        "batch_size": 512,
        "learning_rate": 1e-3,
        "policy_kwargs": {"log_std_init": -1.0},
    }


@final
@dataclass(kw_only=True)
class SACAgent(SB3Agent):
    """Soft actor-critic (Haarnoja et al., 2018), by default one gradient step for each environment step."""

    name: ClassVar[str] = "sac"
    algorithm: ClassVar[Any] = SAC
    default_budget: ClassVar[int] = 10_000
    defaults: ClassVar[dict[str, Any]] = OFF_POLICY


@final
@dataclass(kw_only=True)
class TD3Agent(SB3Agent):
    """Twin delayed deep deterministic policy gradient (Fujimoto et al., 2018).

    By default one gradient step for each environment step; Gaussian exploration of a tenth of the action box's
    half-width.
    """

    name: ClassVar[str] = "td3"
    algorithm: ClassVar[Any] = TD3
    default_budget: ClassVar[int] = 10_000
    defaults: ClassVar[dict[str, Any]] = OFF_POLICY
    noise: ClassVar[float] = 0.1


@final
@dataclass(kw_only=True)
class DiscretizedActorCritic(SB3Agent):
    """The textbook's actor-critic of the sampled problem, as a comparison for `CTQLearning`.

    A critic Q(x, a) learns y = R + e^{-rho dt} Q'(x', mu'(x')), R what a step paid and Q', mu' slow copies; the actor
    mu ascends Q: deep deterministic policy gradient (Lillicrap et al., 2016), SB3's. By default one gradient step for
    each environment step; Gaussian exploration of a tenth of the action box's half-width.

    Q = V + dt q + o(dt): what tells actions apart vanishes with the step, while the critic's error does not (Tallec,
    Blier and Ollivier, 2019).
    """

    name: ClassVar[str] = "dac"
    algorithm: ClassVar[Any] = DDPG
    default_budget: ClassVar[int] = 10_000
    defaults: ClassVar[dict[str, Any]] = OFF_POLICY
    noise: ClassVar[float] = 0.1
