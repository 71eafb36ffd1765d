"""How sharp certificates of learned policies are: certified gaps against true ones, and what they cost.

`npi` and `hjb-pinn` learn with their defaults. All gaps are relative to the optimal value. What a policy truly loses
is found by collocation in problems of one state (`measure.planted.one_state`); the firm's optimum is not known to so
many digits. Targets: a certified gap of at most 1e-6 on LQR and Merton and 1e-4 on the firm; of at most 20 times the
true gap and 1e-10; and at most half of the CPU time of learning.
"""

from __future__ import annotations

import sys
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
import tyro
from rich.progress import track

from hacontrol_agents import certify
from hacontrol_agents.core.registry import make_agent
from hacontrol_benchmarks.measure import measured
from hacontrol_benchmarks.measure.planted import one_state
from hacontrol_envs import Merton
from hacontrol_envs.errors import HacontrolWarning

GAPS = {"LQR-v0": 1e-6, "Merton-v0": 1e-6, "FirmInvestment-v0": 1e-4}
"""Largest certified gap that is asked for, by environment."""
RATIO, FLOOR = 20.0, 1e-10
"""Largest certified gap, in true ones, and what is added to that."""
SHARE = 0.5
"""Largest CPU time of certifying, in that of learning."""
AGENTS = ("npi", "hjb-pinn")


class Run(NamedTuple):
    """What determines a row."""

    env: str
    """Id of the environment."""
    agent: str
    """Name of the agent."""
    seed: int
    """Seed of the agent."""


def row(run: Run) -> measured.Row:
    """Return the row of one run: gaps, the parts of the certified one, CPU seconds, and whether targets were met."""
    torch.set_num_threads(1)
    env = gym.make(run.env)
    problem: Any = env.unwrapped.problem  # type: ignore[attr-defined]
    agent, started = make_agent(run.agent, env=env, seed=run.seed), time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HacontrolWarning)
        agent.learn()
    learnt = time.process_time()
    found = certify(agent, problem)
    done = time.process_time()
    size = float(np.abs(problem.solution().value(0.0, found.starts)).mean())
    gap = float(found.gap) / size if not found.failed else np.inf
    loss, error = true_gap(problem, agent.policy, found.starts, size)
    return {
        **{"problem": run.env, "agent": run.agent, "seed": run.seed, "ending": agent.ending},
        **{"gap": gap, "true": loss, "true_error": error, "ratio": gap / max(loss, 1e-300) if loss else np.nan},
        "parts": {name: part / size for name, part in found.parts.items()},
        "failed": list(found.failed),
        "learning": learnt - started,
        "certifying": done - learnt,
        **met(run.env, gap, loss, (done - learnt) / (learnt - started)),
    }


def true_gap(problem: Any, policy: Any, starts: Any, size: float) -> tuple[float | None, float | None]:
    """Return what a policy loses relative to `size`, and its error; None where that is not known.

    Args:
        problem: the problem.
        policy: the policy.
        starts: initial states, (S, n).
        size: size of the value.
    """
    if problem.state.dimension > 1:
        return None, None
    tilt = (1 - problem.risk_aversion) * problem.state.half_width[0] if isinstance(problem, Merton) else 0.0
    lost = one_state.loss(problem, policy, float(tilt))
    if lost is None:
        return None, None
    found = lost(starts)
    return found.mean / size, found.error / size


def met(env: str, gap: float, true: float | None, cost: float) -> measured.Row:
    """Return which targets were met.

    Args:
        env: id of the environment.
        gap: the certified gap.
        true: the true gap; None where it is not known.
        cost: CPU time of certifying in that of learning.
    """
    small = gap <= GAPS[env]
    sharp = true is None or gap <= RATIO * max(true, 0.0) + FLOOR
    cheap = cost <= SHARE
    return {"small": small, "sharp": sharp, "cheap": cheap, "met": small and sharp and cheap}


def _shown(row: measured.Row) -> measured.Row:
    unknown = row["true"] is None
    return {
        **row,
        "true_shown": "–" if unknown else f"{row['true']:.1e}",
        "ratio_shown": "–" if unknown else f"{row['ratio']:.1f}",
        "missed": ", ".join(name for name in ("small", "sharp", "cheap") if not row[name]),
    }


COLUMNS = {
    "problem": "{problem}",
    "agent": "{agent}",
    "seed": "{seed}",
    "gap": "{gap:.1e}",
    "true gap": "{true_shown}",
    "ratio": "{ratio_shown}",
    "learning, s": "{learning:.1f}",
    "certifying, s": "{certifying:.1f}",
    "not": "{missed}",
}


def main(
    problem: list[str] | None = None,
    agent: list[str] | None = None,
    seeds: int = 3,
    seed: int = 0,
    workers: int = 2,
    json: Path | None = None,
) -> int:
    """Learn and certify; return 1 where a target is missed.

    Args:
        problem: ids of environments; LQR, Merton and the firm by default.
        agent: names of agents; "npi" and "hjb-pinn" by default.
        seeds: number of seeds.
        seed: the first seed.
        workers: number of processes.
        json: a file to write the figures to.
    """
    problems, agents = problem or list(GAPS), agent or list(AGENTS)
    runs = [Run(env, name, number) for env in problems for name in agents for number in range(seed, seed + seeds)]
    with ProcessPoolExecutor(workers) as pool:
        rows = [_shown(one) for one in track(pool.map(row, runs), "sharpness", len(runs), transient=True)]
    settings = {"problems": problems, "agents": agents, "seeds": seeds, "seed": seed, "workers": workers}
    note = "not: small (gap), sharp (against the true gap), cheap (against learning)"
    return measured.report("measure.sharpness", rows, COLUMNS, settings, json, note)


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
