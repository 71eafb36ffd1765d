"""Learn calibrations drawn at random, and say how many are right, and whether every other one says that it is not.

For each draw of `measure.calibrations` an agent learns with its defaults, and what it has learnt is compared with the
truth: a policy with the known optimum on the law of the optimum's paths; an industry with finite differences, by the
larger of the errors of price and policy; households with the reference solution, by the larger of the mean of
|log K - log K*| on paths and the error of mean capital. A draw ends in one of these ways:

* right: the error is at most 1e-3, whatever `ending` says;
* told: the error is larger, and the ending is "not certified" or "failed";
* silent: the error is larger, and the ending is "certified";
* unjudged: the truth is not known, since its own solver refuses the draw.

The third must not happen.
"""

from __future__ import annotations

import collections
import sys
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from rich.progress import track

from hacontrol_agents.core.registry import find_agent
from hacontrol_agents.core.subjects import make_subject
from hacontrol_benchmarks.judging.control import Case, policy_error_visited, value_error_visited
from hacontrol_benchmarks.judging.evaluation import evaluate
from hacontrol_benchmarks.measure import calibrations, measured
from hacontrol_benchmarks.records.tasks import Evaluation
from hacontrol_envs import Economy
from hacontrol_envs.errors import EquilibriumError, HacontrolWarning, LearningError, NumericalError

RIGHT = 1e-3
"""Largest error of what is right."""
WAYS = ("right", "told", "silent", "unjudged")
"""Ways in which a draw ends."""
JUDGED = ("policy_error", "price_error", "path_error", "capital_error")
"""Errors the largest of which says whether what was learnt is right."""
FITTING = {"brock_mirman": ["deqn"], "industry": ["hjb-fp-pinn"], "krusell_smith": ["deqn"]}
"""Agents that learn a problem or economy; of others "npi" and "hjb-pinn" do."""


def learnt(name: str, agent: str, seed: int, index: int) -> dict[str, Any]:
    """Return what one agent makes of one draw: its ending, its reason, its errors and its CPU seconds.

    Args:
        name: one of `calibrations.DRAWS`.
        agent: name of the agent.
        seed: seed of the draws.
        index: number of the draw, and seed of the agent.
    """
    torch.set_num_threads(1)
    subject = make_subject(*calibrations.drawn(name, seed, index))
    kind, started = find_agent(agent), time.process_time()
    learner = kind(**kind.about(subject), seed=index)
    found: dict[str, Any] = {"index": index, "error": np.inf}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HacontrolWarning)
        try:
            learner.learn()
        except (LearningError, EquilibriumError, FloatingPointError):
            learner.ending = "failed"
        found |= {"ending": learner.ending, "reason": learner.reason, "cpu_seconds": time.process_time() - started}
        if learner.ending == "failed":
            return {**found, "way": "told"}
        try:
            found |= errors(learner, subject)
        except (NumericalError, EquilibriumError) as error:
            return {**found, "way": "unjudged", "reason": str(error)}
    found["error"] = max(found[one] for one in JUDGED if one in found)
    return {**found, "way": way(found["error"], learner.ending)}


def errors(learner: Any, subject: Any) -> dict[str, float]:
    """Return errors of an agent by name, relative.

    Args:
        learner: the agent, which has learnt.
        subject: the environment or economy.
    """
    if not isinstance(subject, Economy):
        case = Case(learner, subject, Evaluation())
        found = {"policy_error": policy_error_visited(case), "value_error": value_error_visited(case)}
        return {name: one for name, one in found.items() if isinstance(one, float)}
    judged: dict[str, Any] = evaluate(learner, subject)
    if "path_error" not in judged:
        return {"policy_error": judged["policy_error_visited"], "price_error": judged["price_error"]}
    return {
        "path_error": judged["path_error"] / 100,
        "capital_error": abs(judged["capital"] / judged["reference_capital"] - 1),
    }


def way(error: float | None, ending: str) -> str:
    """Return the way in which a draw ended whose truth is known, given its error and the learner's ending."""
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
    largest = np.array([one["error"] for one in found])
    return {
        "problem": name,
        "agent": agent,
        "draws": draws,
        **{each: counts[each] for each in WAYS},
        "certified": endings["certified"],
        "failed": endings["failed"],
        "median": float(np.quantile(largest, 0.5, method="nearest")),
        "ninety_five": float(np.quantile(largest, 0.95, method="nearest")),
        "cpu_seconds": sum(one["cpu_seconds"] for one in found),
        "wrong": [
            {**one, "parameters": calibrations.drawn(name, seed, one["index"])[1]}
            for one in found
            if one["way"] != "right"
        ],
        "met": counts["right"] >= 0.95 * (draws - counts["unjudged"]) and not counts["silent"],
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
        agent: names of agents; those that fit the problem by default, see `FITTING`.
        draws: number of draws of each problem.
        seed: seed of the draws; draw i of a problem depends on the seed and i alone.
        workers: number of processes.
        json: a file to write the figures to.
    """
    problems = problem or list(calibrations.DRAWS)
    pairs = [(name, each) for name in problems for each in agent or FITTING.get(name, ["npi", "hjb-pinn"])]
    rows = [measure(*pair, draws, seed, workers) for pair in pairs]
    agents = list(dict.fromkeys(each for _, each in pairs))
    settings = {"problems": problems, "agents": agents, "draws": draws, "seed": seed, "workers": workers}
    return measured.report("measure.sweep", rows, COLUMNS, settings, json, "95 % right, none wrong without saying so")


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
