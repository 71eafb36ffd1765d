"""Other people's clients on every environment: `python tests/common/clients.py --out benchmarks/results/clients.md`.

A client is a function of an id and the parameters of `gym.make`, which raises where the two do not get along. The
table says "passed", "not installed", or how it failed; one failure makes the exit status 1. Episodes of learners and
collectors are short, so that every client meets their ends.
"""

from __future__ import annotations

import argparse
import os
import pickle
import platform
import sys
import warnings
from collections.abc import Callable, Iterable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np

from hacontrol_envs import registered_ids

Parameters = dict[str, Any]

CHEAP: dict[str, Parameters] = {
    "KrusellSmith-v0": {"asset_nodes": 40, "asset_max": 400.0, "others": "steady state"},
    "KrusellSmithCloud-v0": {"asset_nodes": 40, "asset_max": 400.0},
}
"""Parameters with which the environments whose state is a law are quick."""

CASES: dict[str, tuple[str, Parameters]] = {id: (id, CHEAP.get(id, {})) for id in registered_ids()} | {
    f"{id}, horizon=2": (id, {"horizon": 2.0, "dt": 0.125}) for id in ("LQR-v0", "Merton-v0")
}
"""Every id as `gym.make` gives it, and finite horizons of 16 steps, which terminate where the others truncate."""

PASSED, ABSENT = "passed", "not installed"


class Client(NamedTuple):
    """A function that raises where a client fails, the module it needs, and the distribution that brings it."""

    run: Callable[[str, Parameters], None]
    module: str
    distribution: str


def short(parameters: Parameters) -> Parameters:
    """Parameters with which episodes have 16 steps."""
    return parameters if "horizon" in parameters else {**parameters, "max_episode_steps": 16}


def equal(one: Iterable[Any], other: Iterable[Any]) -> None:
    """Raise unless two results of `step` are equal to the bit: observation, reward and flags."""
    for mine, yours in zip(list(one)[:4], list(other)[:4], strict=True):
        np.testing.assert_array_equal(mine, yours)


def walk_together(one: gym.Env[Any, Any], other: gym.Env[Any, Any], steps: int) -> None:
    """Take the same random steps in two environments, resetting both at ends, and raise where they part."""
    for _ in range(steps):
        action = one.action_space.sample()
        mine, yours = one.step(action), other.step(action)
        equal(mine, yours)
        if mine[2] or mine[3]:
            np.testing.assert_array_equal(one.reset()[0], other.reset()[0])


def gymnasium_check_env(id: str, parameters: Parameters) -> None:
    """Gymnasium's own checks, whose warnings count as failures but for the advice to bound what is unbounded."""
    from gymnasium.utils.env_checker import check_env

    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", message=".*A Box observation space m.* is -?infinity.*")
    check_env(gym.make(id, render_mode="rgb_array", **parameters).unwrapped)


def determinism(id: str, parameters: Parameters) -> None:
    """Two environments of one seed are equal to the bit over 200 random steps."""
    one, other = (gym.make(id, **short(parameters)) for _ in range(2))
    one.action_space.seed(1)
    np.testing.assert_array_equal(one.reset(seed=0)[0], other.reset(seed=0)[0])
    walk_together(one, other, 200)


def pickle_in_mid_episode(id: str, parameters: Parameters) -> None:
    """A copy through a pickle, taken in mid-episode, goes on to the bit through the episodes that follow."""
    one = gym.make(id, **short(parameters))
    one.action_space.seed(1)
    one.reset(seed=0)
    for _ in range(5):
        one.step(one.action_space.sample())
    walk_together(one, pickle.loads(pickle.dumps(one)), 50)


def vector_environments(id: str, parameters: Parameters) -> None:
    """`SyncVectorEnv`, `AsyncVectorEnv` (in processes) and our own vector environment are equal to the bit."""
    made = [lambda: gym.make(id, **short(parameters))] * 2
    envs = [
        gym.make_vec(id, num_envs=2, **short(parameters)),
        gym.vector.SyncVectorEnv(made),
        gym.vector.AsyncVectorEnv(made),
    ]
    try:
        envs[0].action_space.seed(1)
        first, *others = [env.reset(seed=0)[0] for env in envs]
        for seen in others:
            np.testing.assert_array_equal(first, seen)
        for _ in range(40):
            action = envs[0].action_space.sample()
            result, *results = [env.step(action) for env in envs]
            for other in results:
                equal(result, other)
    finally:
        for env in envs:
            env.close()


def pictures(id: str, parameters: Parameters) -> None:
    """ "rgb_array" gives a picture that moves; "rgb_array_list" gives all since it was last asked."""
    env, film = (gym.make(id, render_mode=mode, **parameters) for mode in ("rgb_array", "rgb_array_list"))
    for each in (env, film):
        each.action_space.seed(1)
        each.reset(seed=0)
    frames = [env.render()]
    for _ in range(3):
        action = env.action_space.sample()
        env.step(action)
        film.step(action)
        frames.append(env.render())
    assert all(frame.dtype == np.uint8 and frame.ndim == 3 and frame.shape[2] == 3 for frame in frames)
    assert not np.array_equal(frames[0], frames[-1]), "the picture stands still"
    rolled = film.render()
    assert len(rolled) == 4, f"rgb_array_list held {len(rolled)} frames after a reset and 3 steps"
    np.testing.assert_array_equal(rolled, frames)


def window(id: str, parameters: Parameters) -> None:
    """ "human" opens a window, which needs no screen here."""
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    env = gym.make(id, render_mode="human", **parameters)
    env.reset(seed=0)
    for _ in range(2):
        env.step(env.action_space.sample())
    env.close()


def torchrl_specs(id: str, parameters: Parameters) -> None:
    """TorchRL's `check_env_specs`, and a rollout over several episodes."""
    from torchrl.envs import GymEnv, check_env_specs

    check_env_specs(GymEnv(id, **parameters))
    env = GymEnv(id, **short(parameters))
    ends = env.rollout(40, break_when_any_done=False)["next", "done"].flatten().nonzero().flatten().tolist()
    assert ends == [15, 31], f"episodes of 16 steps ended at {ends}"


def torchrl_vector(id: str, parameters: Parameters) -> None:
    """TorchRL's wrapper of our own vector environment, in both autoreset modes that it knows."""
    from torchrl.envs import GymWrapper, check_env_specs

    for mode in ("Disabled", "SameStep"):
        env = GymWrapper(gym.make_vec(id, num_envs=2, autoreset_mode=mode, **short(parameters)))
        check_env_specs(env)
        done = env.rollout(40, break_when_any_done=False)["next", "done"]
        for row in done.squeeze(-1):
            ends = row.nonzero().flatten().tolist()
            assert ends == [15, 31], f"{mode}: episodes of 16 steps ended at {ends}"


def sb3_check_env(id: str, parameters: Parameters) -> None:
    """Stable-Baselines3's own checks, whose warnings count as failures but for the advice to bound the unbounded."""
    from stable_baselines3.common.env_checker import check_env

    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", message=".*A Box observation space m.* is -?infinity.*")
    check_env(gym.make(id, **parameters))


def learner(package: str, name: str, **how: Any) -> Callable[[str, Parameters], None]:
    """A client that learns for a few steps with a class of SB3 or sb3-contrib and then acts within the space."""

    def run(id: str, parameters: Parameters) -> None:
        kind = getattr(__import__(package), name)
        model = kind("MlpPolicy", gym.make(id, **short(parameters)), seed=0, device="cpu", **how)
        before = {key: value.clone() for key, value in model.policy.state_dict().items()}
        model.learn(64)
        after = model.policy.state_dict()
        assert all(value.isfinite().all() for value in after.values()), "weights are not finite"
        assert any(not value.equal(before[key]) for key, value in after.items()), "nothing was learnt"
        lengths = [int(episode["l"]) for episode in model.ep_info_buffer]
        assert lengths == [16] * 4, f"episodes of 16 steps had {lengths}"
        action, _ = model.predict(model.get_env().reset(), deterministic=True)
        assert model.action_space.contains(action[0]), f"predicted {action[0]}"

    run.__doc__ = f"{package}'s {name}: 64 steps of learning, then a prediction."
    return run


def tianshou_collector(id: str, parameters: Parameters) -> None:
    """Tianshou's collector fills a buffer with a random policy's episodes."""
    from tianshou.algorithm.algorithm_base import RandomActionPolicy
    from tianshou.data import Collector, VectorReplayBuffer
    from tianshou.env import DummyVectorEnv

    envs = DummyVectorEnv([lambda: gym.make(id, **short(parameters))] * 2)
    buffer = VectorReplayBuffer(200, 2)
    collector = Collector(RandomActionPolicy(gym.make(id, **parameters).action_space), envs, buffer)
    collector.reset()
    found = collector.collect(n_episode=4)
    assert found.lens.tolist() == [16] * 4, f"episodes of 16 steps had {found.lens}"
    assert len(buffer) == 64
    assert np.isfinite(buffer.obs).all()
    assert np.isfinite(buffer.rew).all()


def cleanrl_ppo(id: str, parameters: Parameters) -> None:
    """The loop of CleanRL's `ppo_continuous_action.py`: its wrappers, rollouts through ends, one gradient step."""
    import torch
    from torch import nn

    def one() -> gym.Env[Any, Any]:
        env = gym.wrappers.FlattenObservation(gym.make(id, **short(parameters)))
        env = gym.wrappers.ClipAction(gym.wrappers.RecordEpisodeStatistics(env))
        env = gym.wrappers.NormalizeObservation(env)
        env = gym.wrappers.TransformObservation(env, lambda seen: np.clip(seen, -10, 10), env.observation_space)
        env = gym.wrappers.NormalizeReward(env, gamma=0.99)
        return gym.wrappers.TransformReward(env, lambda reward: np.clip(reward, -10, 10))

    torch.manual_seed(0)
    envs = gym.vector.SyncVectorEnv([one] * 2)
    assert isinstance(envs.single_action_space, gym.spaces.Box), "only continuous action space is supported"
    n, m = (int(np.prod(space.shape)) for space in (envs.single_observation_space, envs.single_action_space))
    actor, critic = (nn.Sequential(nn.Linear(n, 16), nn.Tanh(), nn.Linear(16, k)) for k in (m, 1))
    log_std = nn.Parameter(torch.zeros(m))
    optimizer = torch.optim.Adam([*actor.parameters(), *critic.parameters(), log_std], lr=3e-4, eps=1e-5)

    def law(seen: torch.Tensor) -> torch.distributions.Normal:
        return torch.distributions.Normal(actor(seen), log_std.exp())

    seen, done, steps, lengths = torch.Tensor(envs.reset(seed=1)[0]), torch.zeros(2), [], []
    for _ in range(40):
        with torch.no_grad():
            action = law(seen).sample()
            kept = (seen, action, law(seen).log_prob(action).sum(1), critic(seen).flatten(), done)
        after, reward, terminated, truncated, infos = envs.step(action.numpy())
        steps.append((*kept, torch.Tensor(reward)))
        lengths += infos["episode"]["l"][infos["_episode"]].tolist() if "episode" in infos else []
        seen, done = torch.Tensor(after), torch.Tensor(np.logical_or(terminated, truncated))
    assert lengths == [16] * 4, f"episodes of 16 steps had {lengths}"

    states, actions, log_probs, values, dones, rewards = (torch.stack(part) for part in zip(*steps, strict=True))
    advantages, ahead = torch.zeros_like(rewards), torch.zeros(2)
    following = torch.cat([values[1:], critic(seen).detach().reshape(1, 2)])
    going_on = 1 - torch.cat([dones[1:], done.reshape(1, 2)])
    for t in reversed(range(len(steps))):
        ahead = rewards[t] + 0.99 * following[t] * going_on[t] - values[t] + 0.99 * 0.95 * going_on[t] * ahead
        advantages[t] = ahead
    weights = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    ratio = (law(states).log_prob(actions).sum(2) - log_probs).exp()
    loss = torch.max(-weights * ratio, -weights * ratio.clamp(0.8, 1.2)).mean()
    loss = loss + 0.5 * (critic(states).squeeze(2) - advantages - values).square().mean()
    loss.backward()
    nn.utils.clip_grad_norm_([*actor.parameters(), *critic.parameters(), log_std], 0.5, error_if_nonfinite=True)
    optimizer.step()
    assert loss.isfinite(), "the loss is not finite"
    envs.close()


CLIENTS: dict[str, Client] = {
    "Gymnasium check_env": Client(gymnasium_check_env, "gymnasium", "gymnasium"),
    "Gymnasium, one seed twice": Client(determinism, "gymnasium", "gymnasium"),
    "Gymnasium, pickle in mid-episode": Client(pickle_in_mid_episode, "gymnasium", "gymnasium"),
    "Gymnasium, sync = async = make_vec": Client(vector_environments, "gymnasium", "gymnasium"),
    "Gymnasium, rgb_array and rgb_array_list": Client(pictures, "matplotlib", "gymnasium"),
    "Gymnasium, human": Client(window, "pygame", "gymnasium"),
    "TorchRL check_env_specs": Client(torchrl_specs, "torchrl", "torchrl"),
    "TorchRL, make_vec": Client(torchrl_vector, "torchrl", "torchrl"),
    "SB3 check_env": Client(sb3_check_env, "stable_baselines3", "stable-baselines3"),
    "SB3 PPO": Client(
        learner("stable_baselines3", "PPO", n_steps=32, batch_size=32, n_epochs=1),
        "stable_baselines3",
        "stable-baselines3",
    ),
    "SB3 SAC": Client(
        learner("stable_baselines3", "SAC", learning_starts=32, batch_size=16),
        "stable_baselines3",
        "stable-baselines3",
    ),
    "sb3-contrib TQC": Client(
        learner("sb3_contrib", "TQC", learning_starts=32, batch_size=16), "sb3_contrib", "sb3-contrib"
    ),
    "sb3-contrib TRPO": Client(learner("sb3_contrib", "TRPO", n_steps=32, batch_size=32), "sb3_contrib", "sb3-contrib"),
    "Tianshou Collector": Client(tianshou_collector, "tianshou", "tianshou"),
    "CleanRL's PPO loop": Client(cleanrl_ppo, "torch", "torch"),
}


def judge(client: Client, id: str, parameters: Parameters) -> str:
    """ "passed", "not installed", or the first line of how the client failed, fit for a cell of a table."""
    if find_spec(client.module) is None:
        return ABSENT
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            client.run(id, dict(parameters))
        except Exception as error:
            first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
            return f"{type(error).__name__}: {first}".replace("|", "\\|")
    return PASSED


def table(verdicts: dict[str, dict[str, str]]) -> str:
    """The verdicts by client and case as Markdown, under the versions of what ran."""
    cases = list(next(iter(verdicts.values()), CASES))
    versions = ", ".join(f"{name} {version(name)}" for name in ("gymnasium", "numpy", "scipy", "numba"))
    lines = [
        "# Clients",
        "",
        f"Written by `python tests/common/clients.py` under Python {platform.python_version()}, {versions}.",
        "",
        f"| client | version | {' | '.join(cases)} |",
        f"|{' --- |' * (len(cases) + 2)}",
    ]
    for name, row in verdicts.items():
        _, module, distribution = CLIENTS[name]
        ran = ABSENT if find_spec(module) is None else f"{distribution} {version(distribution)}"
        lines.append(f"| {name} | {ran} | {' | '.join(row.values())} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run every client on every case, print the table and, where asked for, write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="where to write the table")
    parser.add_argument("--only", nargs="*", default=[], help="clients whose names contain one of these words")
    given = parser.parse_args()
    verdicts: dict[str, dict[str, str]] = {}
    for name, client in CLIENTS.items():
        if not given.only or any(word in name for word in given.only):
            verdicts[name] = {}
            for case, (id, parameters) in CASES.items():
                verdicts[name][case] = judge(client, id, parameters)
                print(f"{name}, {case}: {verdicts[name][case]}", file=sys.stderr, flush=True)
    text = table(verdicts)
    print(text)
    if given.out:
        given.out.write_text(text)
    return int(any(cell not in (PASSED, ABSENT) for row in verdicts.values() for cell in row.values()))


if __name__ == "__main__":
    sys.exit(main())
