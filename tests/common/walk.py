"""A small vector environment that keeps every promise, and the means to break one."""

from __future__ import annotations

import numpy as np
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

NEXT_STEP, SAME_STEP = AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP


class Walk(VectorEnv):
    """A random walk that ends outside [-2, 2], and is cut off after 15 steps. The mutants change its methods."""

    def __init__(self, num_envs, autoreset_mode=NEXT_STEP, render_mode=None):
        self.num_envs, self.render_mode = num_envs, render_mode
        self.metadata = {"render_modes": ["rgb_array"], "autoreset_mode": autoreset_mode}
        self.mode = autoreset_mode
        self.single_observation_space = Box(-np.inf, np.inf, (2,), np.float32)
        self.single_action_space = Box(-1.0, 1.0, (1,), np.float32)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.x, self.age = np.zeros(num_envs), np.zeros(num_envs, dtype=int)
        self.ended = np.zeros(num_envs, dtype=bool)
        self.rngs = [np.random.default_rng() for _ in range(num_envs)]

    def seed(self, seed):
        seeds = [None] * self.num_envs if seed is None else seed
        seeds = [seed + i for i in range(self.num_envs)] if isinstance(seed, int) else seeds
        for i, one in enumerate(seeds):
            if one is not None:
                self.rngs[i] = np.random.default_rng(one)

    def draw(self, row):
        return self.rngs[row].normal()

    def start(self, rows):
        for i in np.flatnonzero(rows):
            self.x[i], self.age[i], self.ended[i] = 0.3 * self.draw(i), 0, False

    def observe(self):
        return np.stack([self.x, self.age / 15], axis=1).astype(np.float32)

    def reset(self, *, seed=None, options=None):
        self.seed(seed)
        self.start((options or {}).get("reset_mask", np.ones(self.num_envs, dtype=bool)))
        return self.observe(), {}

    def move(self, actions):
        for i in range(self.num_envs):
            self.x[i] += 0.3 * actions[i, 0] + 0.5 * self.draw(i)
        self.age += 1
        return -(self.x**2)

    def step(self, actions):
        fake = self.ended.copy()
        x, age, live = self.x.copy(), self.age.copy(), ~fake
        states = [rng.bit_generator.state for rng in self.rngs]
        reward = self.move(actions)
        for i in np.flatnonzero(fake):
            self.x[i], self.age[i], self.rngs[i].bit_generator.state = x[i], age[i], states[i]
        reward[fake] = self.fake_reward()
        self.restart(fake)
        terminated, truncated = (np.abs(self.x) > 2) & live, (self.age >= 15) & live
        over, infos = terminated | truncated, {}
        if self.mode is SAME_STEP:
            infos = self.finish(over)
        else:
            self.ended = over.copy()
        return self.observe(), reward, terminated, truncated, infos

    def fake_reward(self):
        return 0.0

    def restart(self, rows):
        self.start(rows)

    def finish(self, over):
        final = np.full(self.num_envs, None, dtype=object)
        for i in np.flatnonzero(over):
            final[i] = self.observe()[i]
        self.start(over)
        return (
            {"final_obs": final, "_final_obs": over, "final_info": {}, "_final_info": over.copy()} if over.any() else {}
        )

    def render(self):
        return (np.zeros((4, 4, 3), dtype=np.uint8),) * self.num_envs if self.render_mode else None


def walk(**methods):
    return type("MutantWalk", (Walk,), methods)


def after(name, change):
    """A Walk whose method `name` has its result changed by `change(self, result)`."""
    return walk(**{name: lambda self, *args, **kwargs: change(self, getattr(Walk, name)(self, *args, **kwargs))})


def stepped(**changes):
    """A Walk with parts of `step`'s result changed, each by `change(self, part)`."""
    names = ("obs", "reward", "terminated", "truncated", "infos")

    def change(self, result):
        return tuple(
            changes.get(name, lambda self, part: part)(self, part) for name, part in zip(names, result, strict=True)
        )

    return after("step", change)


def reused(name, index):
    """A Walk that hands out the same array every time in one place of `step`'s result."""

    def hand_out(self, part):
        if not hasattr(self, name):
            setattr(self, name, part.copy())
        getattr(self, name)[...] = part
        return getattr(self, name)

    return stepped(**{index: hand_out})


def init(**attributes):
    """A Walk with attributes made by `make(self)` after its constructor."""

    def construct(self, *args, **kwargs):
        Walk.__init__(self, *args, **kwargs)
        for name, make in attributes.items():
            setattr(self, name, make(self))

    return walk(__init__=construct)
