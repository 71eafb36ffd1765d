"""Time a step of environments, beside work that nobody can avoid and beside steps of other libraries.

Vector environments are compared with drawing their normals (N float64 from NumPy's SFC64) and with Gymnasium's own
CartPole in vector form; the single environment, through `gym.make`, with Pendulum-v1; the adapter that SB3 learns
through, 64 rows, with SB3's DummyVecEnv of 64 single ones from `gym.make`. The contenders of a comparison are timed in
turn, a block of steps each, so that a machine that slows down slows all of them. A block of ours is one episode, so
that each holds a truncation of every row and the resets that follow. One thread.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import tyro
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from hacontrol_agents.baselines.sb3 import NativeVecEnv
from hacontrol_benchmarks.measure import measured

NORMALS, CARTPOLE, PENDULUM, DUMMY = 4.0, 3.0, 3.0, 8.0
"""Targets: at most 4 times the normals' time, at least 3 times CartPole's speed, at most 3 times Pendulum's time, at
least 8 times DummyVecEnv's speed."""

SB3_ROWS = 64

EPISODES = {"Merton-v0": 200, "LQR-v0": 250}

Block = tuple[Callable[[], Any], int]
"""The function that is called, and the number of calls in a block."""


def measure(blocks: int = 40, sizes: tuple[int, ...] = (1024, 8192), mode: str = "NextStep") -> list[measured.Row]:
    """Return one row per comparison: microseconds per call, and the ratio with its target.

    `ratio` is the median over blocks of (ours / theirs) in adjacent blocks, `mean_ratio` that of the total times, which
    also holds what only some blocks pay, such as drawing the next initial states of every row.

    Args:
        blocks: number of timed blocks of every contender.
        sizes: numbers of rows of the vector environments.
        mode: autoreset mode of the vector environments.
    """
    rows = []
    for size in sizes:
        rows += _vector_rows(size, blocks, mode)
    return rows + _single_rows(blocks) + _sb3_rows(blocks)


def _vector_rows(size: int, blocks: int, mode: str) -> list[measured.Row]:
    contenders = {"normals": (_normals(size), 400), "CartPole-v1": (_vector("CartPole-v1", size), 40)}
    for id, steps in EPISODES.items():
        contenders[id] = (_vector(id, size, autoreset_mode=mode), steps)
    times = _interleaved(contenders, blocks)
    rows = []
    for id in EPISODES:
        rows.append(_row(f"{id}, N = {size}", "normals", times[id], times["normals"], NORMALS, lower=True))
        if size == 1024:
            cartpole = times["CartPole-v1"]
            rows.append(_row(f"{id}, N = {size}", "CartPole-v1", cartpole, times[id], CARTPOLE, lower=False))
    return rows


def _single_rows(blocks: int) -> list[measured.Row]:
    times = _interleaved({id: (_single(id), 200) for id in ("Pendulum-v1", *EPISODES)}, blocks)
    return [
        _row(f"{id}, gym.make", "Pendulum-v1", times[id], times["Pendulum-v1"], PENDULUM, lower=True) for id in EPISODES
    ]


def _sb3_rows(blocks: int) -> list[measured.Row]:
    rows = []
    for id, steps in EPISODES.items():
        made = gym.make_vec(id, num_envs=SB3_ROWS, autoreset_mode="SameStep")
        ours = NativeVecEnv(made.unwrapped)  # type: ignore[arg-type]
        theirs = DummyVecEnv([partial(gym.make, id) for _ in range(SB3_ROWS)])
        times = _interleaved({"ours": (_sb3(ours), steps), "theirs": (_sb3(theirs), steps)}, max(blocks // 4, 3))
        name = f"{id}, SB3, N = {SB3_ROWS}"
        rows.append(_row(name, "DummyVecEnv", times["theirs"], times["ours"], DUMMY, lower=False))
    return rows


def _row(name: str, beside: str, over: list[float], under: list[float], target: float, *, lower: bool) -> measured.Row:
    ratio = statistics.median(a / b for a, b in zip(over, under, strict=True))
    ours, theirs = (over, under) if lower else (under, over)
    return {
        "what": name,
        "beside": beside,
        "us": 1e6 * statistics.median(ours),
        "beside_us": 1e6 * statistics.median(theirs),
        "ratio": ratio,
        "mean_ratio": sum(over) / sum(under),
        "target": target,
        "met": ratio <= target if lower else ratio >= target,
        "bound": "at most" if lower else "at least",
    }


def _interleaved(contenders: dict[str, Block], blocks: int) -> dict[str, list[float]]:
    """Seconds per call of every contender in every block; two blocks come before, uncounted."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(blocks + 2):
        for name, (call, count) in contenders.items():
            start = time.perf_counter()
            for _ in range(count):
                call()
            times[name].append((time.perf_counter() - start) / count)
    return {name: taken[2:] for name, taken in times.items()}


def _normals(size: int) -> Callable[[], Any]:
    generator, out = np.random.Generator(np.random.SFC64(0)), np.empty(size)
    return lambda: generator.standard_normal(out=out)


def _vector(id: str, size: int, **kwargs: Any) -> Callable[[], Any]:
    env = gym.make_vec(id, num_envs=size, vectorization_mode="vector_entry_point", **kwargs)
    env.action_space.seed(0)
    env.reset(seed=0)
    action = env.action_space.sample()
    return lambda: env.step(action)


def _single(id: str) -> Callable[[], Any]:
    env = gym.make(id)
    env.action_space.seed(0)
    env.reset(seed=0)
    action = env.action_space.sample()

    def step() -> None:
        _, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            env.reset()

    return step


def _sb3(env: VecEnv) -> Callable[[], Any]:
    env.seed(0)
    env.reset()
    env.action_space.seed(0)
    action = np.stack([env.action_space.sample() for _ in range(env.num_envs)])
    return lambda: env.step(action)


COLUMNS = {
    "": "{what}",
    "ours, us": "{us:.1f}",
    "beside": "{beside}",
    "theirs, us": "{beside_us:.1f}",
    "ratio": "{ratio:.2f}",
    "(of means)": "{mean_ratio:.2f}",
    "target": "{bound} {target:g}",
}
NOTE = "Per call: a step of all rows. Ratios: medians of adjacent blocks, of time or (at least) of speed."


def main(blocks: int = 40, json: Path | None = None) -> int:
    """Measure how long a step takes.

    Args:
        blocks: number of timed blocks of every contender.
        json: a file to write the figures to.
    """
    return measured.report("measure.envs", measure(blocks), COLUMNS, {"blocks": blocks}, json, NOTE)


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
