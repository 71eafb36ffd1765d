"""Experience: blocks of steps of an environment, and the state between blocks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from hacontrol_agents.q_learning.martingale import Clock, Transitions
from hacontrol_envs.arrays import Floats
from hacontrol_envs.errors import ParameterError
from hacontrol_envs.simulation.env import SDEVectorEnv

__all__ = ["Experience"]


@final
class Experience:
    """Steps of the rows of `env`, which must reset in the step that ends an episode, and noise for exploring.

    Raises ParameterError where nothing bounds a lifetime: neither a discount nor a horizon.
    """

    def __init__(self, env: SDEVectorEnv, *, seed: int | None, persistence: float, device: str) -> None:
        """`persistence` is the time, in lifetimes, over which noise keeps 1/e of its correlation; 0 for none."""
        self.env, self.seed, self.device = env, seed, device
        self.clock = Clock(env.dt, env.gamma)
        self.lifetime = self._lifetime()
        """int_0^T e^{-rho s} ds with T the horizon, or none."""
        decay = self.clock.dt / (persistence * self.lifetime) if persistence > 0 else np.inf
        self._kept = float(np.exp(-decay))
        self._observed: Any = None
        self._noise: Floats | None = None

    def _lifetime(self) -> float:
        env, discount = self.env, (1 - self.clock.gamma) / self.clock.span
        if not env.finite or env.episode_steps is None:
            if discount == 0:
                raise ParameterError("ctq needs a positive discount or a finite horizon, got neither")
            return 1 / discount
        return env.dt * env.episode_steps if discount == 0 else (1 - env.gamma**env.episode_steps) / discount

    def play(self, steps: int, choose: Callable[[Any], Any]) -> Transitions:
        """Return a block of `steps` steps that goes on where the last one ended; `choose` maps observations to actions
        in the box."""
        s = self._observed
        if s is None:
            s, _ = self.env.reset(seed=self.seed)
        rows = []
        for _ in range(steps):
            u = choose(s)
            s_next, reward, terminated, truncated, infos = self.env.step(u)
            cut = terminated | truncated
            last = s_next
            if cut.any():
                last = s_next.copy()
                last[cut] = np.stack(infos["final_obs"][cut])
            rows.append((s, u, reward, last, terminated, cut))
            s = s_next
        self._observed = s
        block = Transitions(*(torch.as_tensor(np.stack(x)).to(self.device) for x in zip(*rows, strict=True)))
        block.cut[-1] = True
        return block

    def noise(self, rng: np.random.Generator, m: int) -> Floats:
        """Return standard normals (rows, m) for the step to come: an Ornstein-Uhlenbeck process where noise
        persists."""
        drawn = rng.standard_normal((self.env.num_envs, m))
        if self._kept == 0:
            return drawn
        if self._noise is not None:
            drawn = self._kept * self._noise + np.sqrt(1 - self._kept**2) * drawn
        self._noise = drawn
        return drawn

    def tensors(self) -> dict[str, Tensor]:
        """Return what a block that goes on needs to know, as tensors by name."""
        found = {}
        if self._observed is not None:
            found["observed"] = torch.as_tensor(self._observed)
            found.update({f"env.{key}": torch.as_tensor(x) for key, x in self.env.get_state().items()})
        if self._noise is not None:
            found["noise"] = torch.as_tensor(self._noise)
        return found

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take over a state that `tensors` returned."""
        if "noise" in tensors:
            self._noise = tensors["noise"].cpu().numpy()
        if "observed" in tensors:
            self._observed = tensors["observed"].cpu().numpy()
            own = {key[4:]: x.cpu().numpy() for key, x in tensors.items() if key.startswith("env.")}
            self.env.reset(seed=self.seed)
            self.env.set_state(own)
