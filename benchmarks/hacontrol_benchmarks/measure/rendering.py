"""Time a rendered frame, in milliseconds of CPU time.

An environment plays episodes of the optimum with some noise, or of a constant action where none is known, and draws a
frame after every step. "First" is the first frame of all, which makes the figure and asks for the optimum; "cold" is
the mean over the rest of the first episode, in which limits of axes are new; "warm" is the mean over further episodes
from other seeds, on the same figure. Of several rows each frame counts. One thread.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import tyro

from hacontrol_benchmarks.measure import measured
from hacontrol_envs import registered_ids

TARGET = 20.0
"""Most milliseconds of CPU time of a frame on a warm figure, on average."""
NOISE = 0.1
"""Standard deviation of the noise that is added to actions in [-1, 1]."""
FEW_NODES: dict[str, Any] = {"asset_nodes": 60, "asset_max": 300.0}
PARAMETERS = {"KrusellSmith-v0": FEW_NODES, "KrusellSmithCloud-v0": FEW_NODES}
MORE: tuple[tuple[str, dict[str, Any], int], ...] = (
    ("LQR-v0", {"dimension": 10}, 1),
    ("Merton-v0", {"horizon": 10.0}, 1),
    ("LQR-v0", {}, 8),
)
"""Id, parameters and number of rows of the cases that are measured besides every id by itself."""


def measure(steps: int = 60, episodes: int = 2) -> list[measured.Row]:
    """Return one row for every environment."""
    cases = [(id, PARAMETERS.get(id, {}), 1) for id in registered_ids()]
    return [_case(*case, steps, episodes) for case in (*cases, *MORE)]


def _case(id: str, parameters: dict[str, Any], rows: int, steps: int, episodes: int) -> measured.Row:
    env: Any = gym.make_vec(id, num_envs=rows, render_mode="rgb_array", **parameters)
    env.reset(seed=0)
    first = _milliseconds(env)
    cold = _episode(env, 0, steps)
    warm = [_episode(env, 1000 * (k + 1), steps) for k in range(episodes)]
    mean = statistics.mean(warm) / rows
    row = {"id": id, "parameters": parameters, "rows": rows, "first_ms": first / rows, "cold_ms": cold / rows}
    return {**row, "warm_ms": mean, "target": TARGET, "met": mean <= TARGET}


def _episode(env: Any, seed: int, steps: int) -> float:
    """Mean milliseconds of the frames of all rows after each step."""
    env.reset(seed=seed)
    bare, rng, spent = env.unwrapped, np.random.default_rng(seed), 0.0
    solution = bare.problem.solution()
    for _ in range(steps):
        a = np.zeros(env.action_space.shape)
        if solution is not None:
            a = bare.from_physical(solution.policy(bare.time, bare.problem.observe(bare.state)))
            a = a + NOISE * rng.standard_normal(a.shape)
        env.step(a.astype(np.float32))
        spent += _milliseconds(env)
    return spent / steps


def _milliseconds(env: Any) -> float:
    begin = time.process_time()
    env.render()
    return 1e3 * (time.process_time() - begin)


COLUMNS = {
    "environment": "{id} {parameters}",
    "rows": "{rows}",
    "first, ms": "{first_ms:.0f}",
    "cold, ms": "{cold_ms:.1f}",
    "warm, ms": "{warm_ms:.1f}",
    "at most": "{target:g}",
}


def main(steps: int = 60, episodes: int = 2, json: Path | None = None) -> int:
    """Measure how long a frame takes.

    Args:
        steps: number of steps of an episode.
        episodes: number of episodes on a warm figure.
        json: a file to write the figures to.
    """
    settings = {"steps": steps, "episodes": episodes, "noise": NOISE}
    note = "Milliseconds of CPU time a frame: the first of all, the rest of the first episode, further episodes."
    return measured.report("measure.rendering", measure(steps, episodes), COLUMNS, settings, json, note)


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
