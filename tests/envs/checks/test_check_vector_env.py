"""check_vector_env passes what is right and catches what is wrong: every promise has a mutant that breaks it."""

from __future__ import annotations

from functools import partial

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorWrapper

from common.marks import slow_where
from common.sampled_envs import CHEAP, DIFFUSIONS, WITH_HORIZON
from common.walk import SAME_STEP, Walk, after, init, reused, stepped, walk
from hacontrol_envs import registered_ids
from hacontrol_envs.checks import check_vector_env
from hacontrol_envs.checks.episodes import play, require_equal
from hacontrol_envs.checks.watched import Watched
from hacontrol_envs.errors import ContractError, ParameterError


def lost_final_obs(self, over):
    self.start(over)
    return {}


def final_obs_of_the_next_episode(self, over):
    infos = Walk.finish(self, over)
    for i in np.flatnonzero(over):
        infos["final_obs"][i] = self.observe()[i]
    return infos


def swapped_under_same_step(self, result):
    obs, reward, terminated, truncated, infos = result
    return (obs, reward, truncated, terminated, infos) if self.mode is SAME_STEP else result


def everyone(self, *, seed=None, options=None):
    return Walk.reset(self, seed=seed)


def everyone_draws(self, *, seed=None, options=None):
    if options:
        for i in range(self.num_envs):
            self.draw(i)
    return Walk.reset(self, seed=seed, options=options)


def coupled(self, actions):
    return Walk.move(self, actions + 1e-3 * actions.mean())


def scribbling(self, actions):
    reward = Walk.move(self, actions)
    actions *= 0
    return reward


def size_matters(self, row):
    return self.rngs[row].normal(size=self.num_envs)[0]


def alias(self):
    """Observations that are the state itself."""
    if not hasattr(self, "buffer"):
        self.buffer = np.zeros((self.num_envs, 2), dtype=np.float32)
    view = self.buffer[:]
    view[:, 0], view[:, 1] = self.x, self.age / 15
    return view


WALK_MUTANTS = {
    "lost final observations": (walk(finish=lost_final_obs), "infos\\['_final_obs'\\]"),
    "final observation of the next episode": (
        walk(finish=final_obs_of_the_next_episode),
        "do not depend on the autoreset mode",
    ),
    "no final_info": (
        after("finish", lambda s, infos: {k: v for k, v in infos.items() if "info" not in k}),
        "final_info",
    ),
    "mask of final_obs too wide": (
        after("finish", lambda s, infos: infos | {"_final_obs": np.ones(s.num_envs, dtype=bool)}),
        "infos\\['_final_obs'\\] is",
    ),
    "final observation cut in half": (
        after(
            "finish", lambda s, i: i | {"final_obs": [o if o is None else o[:1] for o in i["final_obs"]]} if i else i
        ),
        "not in single_observation_space",
    ),
    "flags swapped under SAME_STEP": (after("step", swapped_under_same_step), "do not depend on the autoreset mode"),
    "generator shared among rows": (walk(draw=lambda self, row: self.rngs[0].normal()), "against"),
    "draws depend on the number of rows": (walk(draw=size_matters), "3 rows against 5 rows"),
    "rows coupled by their actions": (walk(move=coupled), "against"),
    "observation buffer reused": (reused("kept", "obs"), "shares memory"),
    "observation is a view of the state": (walk(observe=alias), "shares memory"),
    "reward buffer reused": (reused("kept", "reward"), "shares memory"),
    "flag buffer reused": (reused("kept", "truncated"), "shares memory"),
    "caller's array kept in use": (
        after("step", lambda s, r: (s.__dict__.update(x=r[1]), r)[1]),
        "changed later|overwrites|against",
    ),
    "actions changed": (walk(move=scribbling), "changed the actions"),
    "observations in double precision": (after("observe", lambda s, obs: obs.astype(float)), "float64"),
    "observations of the wrong shape": (after("observe", lambda s, obs: obs[:, :1]), "shape \\(3, 1\\)"),
    "observations outside the space": (
        init(
            observation_space=lambda s: Box(-1.0, 1.0, (s.num_envs, 2), np.float32),
            single_observation_space=lambda s: Box(-1.0, 1.0, (2,), np.float32),
        ),
        "outside observation_space",
    ),
    "rewards in single precision": (
        stepped(reward=lambda s, r: r.astype(np.float32)),
        "rewards as an array of float64",
    ),
    "rewards of the wrong shape": (stepped(reward=lambda s, r: r[:, None]), "rewards as an array"),
    "rewards not finite": (stepped(reward=lambda s, r: np.log(r)), "not finite"),
    "flags are numbers": (stepped(terminated=lambda s, f: f.astype(int)), "terminations as an array of bool"),
    "flags are a list": (stepped(truncated=lambda s, f: f.tolist()), "truncations as an array of bool"),
    "infos are a list": (stepped(infos=lambda s, i: [i]), "dict of infos"),
    "reset_mask resets everyone": (walk(reset=everyone), "Rows outside the mask"),
    "reset_mask uses everyone's random numbers": (
        walk(reset=everyone_draws),
        "Rows outside the mask|go on|autoreset mode",
    ),
    "NEXT_STEP pays for the reset": (walk(fake_reward=lambda self: 1.0), "the resetting step reported rewards"),
    "NEXT_STEP does not reset": (walk(restart=lambda self, rows: None), "autoreset mode|against|ends"),
    "seed ignored": (walk(seed=lambda self, seed: None), "two runs after reset"),
    "seed always the same": (
        walk(seed=lambda self, seed: Walk.seed(self, 5 if isinstance(seed, int) else seed)),
        "against|two seeds",
    ),
    "seed constant for every row list": (
        walk(seed=lambda self, seed: Walk.seed(self, None if seed is None else [5] * self.num_envs)),
        "two seeds",
    ),
    "seed 0 ignored": (walk(seed=lambda self, seed: Walk.seed(self, seed or None)), "reset\\(seed=0\\)"),
    "seeded alike in every row": (
        walk(seed=lambda self, seed: Walk.seed(self, [seed] * self.num_envs if isinstance(seed, int) else seed)),
        "Row i is seeded",
    ),
    "list of seeds ignored": (
        walk(seed=lambda self, seed: Walk.seed(self, seed if isinstance(seed, int) else None)),
        "s \\+ 1",
    ),
    "reset() starts all over": (walk(seed=lambda self, seed: Walk.seed(self, 0 if seed is None else seed)), "repeats"),
    "autoreset mode not declared": (init(metadata=lambda s: {}), "autoreset_mode"),
    "autoreset mode is a string": (init(metadata=lambda s: {"autoreset_mode": s.mode.value}), "autoreset_mode"),
    "action space not batched": (init(action_space=lambda s: s.single_action_space), "action_space is"),
    "one frame for all rows": (walk(render=lambda self: (np.zeros((4, 4, 3), dtype=np.uint8),)), "one for each row"),
    "frames of floats": (walk(render=lambda self: (np.zeros((4, 4, 3)),) * self.num_envs), "uint8"),
}


def test_check_vector_env_passes_the_walk():
    check_vector_env(Walk, steps=100)
    check_vector_env(Walk, steps=60, render_mode="rgb_array", num_envs=4, seed=3)


@pytest.mark.parametrize("name", WALK_MUTANTS)
def test_check_vector_env_catches(name):
    mutant, words = WALK_MUTANTS[name]
    with pytest.raises(ContractError, match=words), np.errstate(all="ignore"):
        check_vector_env(mutant, steps=60, render_mode="rgb_array" if "rame" in name else None)


def test_check_vector_env_compares_with_single_environments():
    def vector(num_envs, autoreset_mode, gravity=10.0):
        envs = [partial(gym.make, "Pendulum-v1", max_episode_steps=20, g=gravity)] * num_envs
        return SyncVectorEnv(envs, autoreset_mode=autoreset_mode)

    single = partial(gym.make, "Pendulum-v1", max_episode_steps=20)
    check_vector_env(vector, single=single, steps=60)
    with pytest.raises(ContractError, match="against single ones"):
        check_vector_env(vector, single=single, steps=60, gravity=10.01)


def test_check_vector_env_needs_episodes_that_end():
    with pytest.raises(ParameterError, match="no episode ended within 5 steps"):
        check_vector_env(Walk, steps=5)


@pytest.mark.parametrize("id", slow_where("Acrobot-v1".__eq__, ["CartPole-v1", "Acrobot-v1", "FrozenLake-v1"]))
def test_check_vector_env_passes_gymnasium(id):
    def vector(num_envs, autoreset_mode):
        return SyncVectorEnv([partial(gym.make, id, max_episode_steps=30)] * num_envs, autoreset_mode=autoreset_mode)

    check_vector_env(vector, single=partial(gym.make, id, max_episode_steps=30), steps=80)


FINITE = [(id, {"horizon": 2.0, "dt": 0.25}) for id in WITH_HORIZON]
ENDLESS = [(id, CHEAP.get(id, {})) for id in registered_ids()] + [
    (id, {"episode_steps": 12, "scheme": "euler"}) for id in DIFFUSIONS
]


@pytest.mark.parametrize(("id", "kwargs"), slow_where(ENDLESS.__contains__, [*ENDLESS, *FINITE]), ids=repr)
def test_registered_environments(id, kwargs):
    steps = 60 if "episode_steps" in kwargs or "horizon" in kwargs else 260
    check_vector_env(partial(gym.make_vec, id, **kwargs), single=partial(gym.make, id, **kwargs), steps=steps)


class Staggered(VectorWrapper):
    """Rows that start at different times, so that they end at different steps."""

    def reset(self, *, seed=None, options=None):
        times = self.env.unwrapped.dt * np.arange(self.num_envs)
        return self.env.reset(seed=seed, options=options or {"time": times})


@pytest.mark.parametrize(
    ("id", "kwargs"), [(id, {"episode_steps": 12, **CHEAP.get(id, {})}) for id in registered_ids()] + FINITE, ids=repr
)
def test_registered_environments_whose_rows_end_one_by_one(id, kwargs):
    played = []
    for mode in AutoresetMode:
        env = Watched(Staggered(gym.make_vec(id, num_envs=4, autoreset_mode=mode, **kwargs)), 4, mode)
        actions = np.random.default_rng(0).uniform(-1, 1, (4, 50, *env.single_action_space.shape))
        played.append(play(env, 3, [list(row) for row in actions.astype(np.float32)], 40))
        env.close()
    ends = [next(k for k, step in enumerate(row) if step.terminated or step.truncated) for row in played[0]]
    assert len(set(ends)) == 4
    for other in played[1:]:
        require_equal(played[0], other, "one mode against another", "")


@pytest.mark.parametrize("id", slow_where(lambda id: id != "LQR-v0", registered_ids()))
def test_registered_environments_render(id):
    check_vector_env(id, steps=20, episode_steps=12, **CHEAP.get(id, {}))
