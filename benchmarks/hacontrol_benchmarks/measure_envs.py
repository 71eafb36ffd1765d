"""What a step costs, beside what nobody can avoid and what others take.

Vector environments are compared with drawing their normals (N float64 from NumPy's SFC64) and with Gymnasium's own
CartPole in vector form; the single environment, through `gym.make`, with Pendulum-v1. The contenders of a comparison
are timed in turn, a block of steps each, so that a machine that slows down slows all of them. A block of ours is one
episode, so that each holds a truncation of every row and the resets that follow. One thread.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np

import hacontrol_envs

NORMALS, CARTPOLE, PENDULUM = 4.0, 3.0, 3.0
"""At most 4 times the normals' time, at least 3 times CartPole's speed, at most 3 times Pendulum's time."""

EPISODES = {"Merton-v0": 200, "LQR-v0": 250}

Block = tuple[Callable[[], Any], int]
"""What is called, and how often in a block."""


def measure(blocks: int = 40, sizes: tuple[int, ...] = (1024, 8192), mode: str = "NextStep") -> list[dict[str, Any]]:
    """One row per comparison: microseconds per call, and the ratio with its target.

    `ratio` is the median over blocks of (ours / theirs) in adjacent blocks, `mean_ratio` that of the total times, which
    also holds what only some blocks pay, such as drawing the next initial states of every row.
    """
    rows = []
    for size in sizes:
        rows += _vector_rows(size, blocks, mode)
    return rows + _single_rows(blocks)


def _vector_rows(size: int, blocks: int, mode: str) -> list[dict[str, Any]]:
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


def _single_rows(blocks: int) -> list[dict[str, Any]]:
    times = _interleaved({id: (_single(id), 200) for id in ("Pendulum-v1", *EPISODES)}, blocks)
    return [
        _row(f"{id}, gym.make", "Pendulum-v1", times[id], times["Pendulum-v1"], PENDULUM, lower=True) for id in EPISODES
    ]


def _row(
    name: str, beside: str, over: list[float], under: list[float], target: float, *, lower: bool
) -> dict[str, Any]:
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


def main() -> None:
    """Print the table."""
    print(f"hacontrol_envs: {', '.join(hacontrol_envs.registered_ids())}")
    print(f"{'':22} {'ours':>9}   {'beside':12} {'theirs':>9}   {'ratio':>6} {'(mean)':>7}   target")
    for r in measure():
        print(
            f"{r['what']:22} {r['us']:6.1f} us   {r['beside']:12} {r['beside_us']:6.1f} us   {r['ratio']:6.2f}"
            f" ({r['mean_ratio']:5.2f})   {r['bound']} {r['target']:g}{'' if r['met'] else '  MISSED'}"
        )


if __name__ == "__main__":
    main()
