"""Learn calibrations drawn at random, and say how many are right, and whether every other one says that it is not.

For each draw of `measure.calibrations` an agent learns with its defaults, and its policy is compared with the known
optimum on the law of the optimum's paths. A draw ends in one of these ways:

* right: the policy error is at most 1e-3, whatever `ending` says;
* told: the error is larger, and the ending is "not certified" or "failed";
* silent: the error is larger, and the ending is "certified".

The last must not happen.
"""

from __future__ import annotations

import collections
import sys
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
import tyro
from rich.progress import track

from hacontrol_agents.core.registry import make_agent
from hacontrol_benchmarks.judging.control import Case, policy_error_visited, value_error_visited
from hacontrol_benchmarks.measure import calibrations, measured
from hacontrol_benchmarks.records.tasks import Evaluation
from hacontrol_envs.errors import HacontrolWarning, LearningError

RIGHT = 1e-3
"""Largest policy error of a policy that is right."""
WAYS = ("right", "told", "silent")
"""Ways in which a draw ends."""


def learnt(name: str, agent: str, seed: int, index: int) -> dict[str, Any]:
    """Return what one agent makes of one draw: its ending, its reason, its errors and its CPU seconds.

    Args:
        name: one of `calibrations.DRAWS`.
        agent: name of the agent.
        seed: seed of the draws.
        index: number of the draw, and seed of the agent.
    """
    torch.set_num_threads(1)
    id, parameters = calibrations.drawn(name, seed, index)
    env = gym.make(id, **parameters)
    learner, started = make_agent(agent, env=env, seed=index), time.process_time()
    found: dict[str, Any] = {"index": index, "policy_error": np.inf, "value_error": np.inf}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HacontrolWarning)
        try:
            learner.learn()
            case = Case(learner, env, Evaluation())
            found |= {"policy_error": policy_error_visited(case), "value_error": value_error_visited(case)}
        except (LearningError, FloatingPointError):
            learner.ending = "failed"
    found |= {"ending": learner.ending, "reason": learner.reason, "cpu_seconds": time.process_time() - started}
    return {**found, "way": way(found["policy_error"], learner.ending)}


def way(error: float | None, ending: str) -> str:
    """Return the way in which a draw ended, given its policy error and the learner's ending."""
    if error is not None and error <= RIGHT:
        return "right"
    return "silent" if ending == "certified" else "told"


def _one(task: tuple[str, str, int, int]) -> dict[str, Any]:
    return learnt(*task)


def measure(name: str, agent: str, draws: int, seed: int, workers: int) -> measured.Row:
    """Return the row of one agent on one problem: counts of the ways, quantiles of the errors, and what is not right.

    Args:
        name: one of `calibrations.DRAWS`.
        agent: name of the agent.
        draws: number of draws.
        seed: seed of the draws.
        workers: number of processes.
    """
    tasks = [(name, agent, seed, index) for index in range(draws)]
    with ProcessPoolExecutor(workers) as pool:
        found = list(track(pool.map(_one, tasks), f"{agent} on {name}", draws, transient=True))
    counts = collections.Counter(one["way"] for one in found)
    endings = collections.Counter(one["ending"] for one in found)
    errors = np.array([one["policy_error"] for one in found])
    return {
        "problem": name,
        "agent": agent,
        "draws": draws,
        **{each: counts[each] for each in WAYS},
        "certified": endings["certified"],
        "failed": endings["failed"],
        "median": float(np.quantile(errors, 0.5, method="nearest")),
        "ninety_five": float(np.quantile(errors, 0.95, method="nearest")),
        "cpu_seconds": sum(one["cpu_seconds"] for one in found),
        "wrong": [
            {**one, "parameters": calibrations.drawn(name, seed, one["index"])[1]}
            for one in found
            if one["way"] != "right"
        ],
        "met": counts["right"] >= 0.95 * draws and not counts["silent"],
    }


COLUMNS = {
    "problem": "{problem}",
    "agent": "{agent}",
    "draws": "{draws}",
    **{each: f"{{{each}}}" for each in WAYS},
    "certified": "{certified}",
    "median error": "{median:.1e}",
    "95 %": "{ninety_five:.1e}",
    "CPU, s": "{cpu_seconds:.0f}",
}


def main(
    problem: list[str] | None = None,
    agent: list[str] | None = None,
    draws: int = 100,
    seed: int = 1000,
    workers: int = 2,
    json: Path | None = None,
) -> int:
    """Learn calibrations drawn at random; return 1 where too few are right, or one is wrong without saying so.

    Args:
        problem: names of problems; all of them by default.
        agent: names of agents; "npi" and "hjb-pinn" by default.
        draws: number of draws of each problem.
        seed: seed of the draws; draw i of a problem depends on the seed and i alone.
        workers: number of processes.
        json: a file to write the figures to.
    """
    agents, problems = agent or ["npi", "hjb-pinn"], problem or list(calibrations.DRAWS)
    rows = [measure(name, each, draws, seed, workers) for name in problems for each in agents]
    settings = {"problems": problems, "agents": agents, "draws": draws, "seed": seed, "workers": workers}
    return measured.report("measure.sweep", rows, COLUMNS, settings, json, "95 % right, none wrong without saying so")


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
