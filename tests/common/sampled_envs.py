"""Environments that the tests of environments share: every problem, every scheme, both horizons."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from common.marks import slow_where
from hacontrol_envs import ControlProblem, Problem, registered_ids
from hacontrol_envs.core.registration import build_problem
from hacontrol_envs.simulation.env import SDEEnv, SDEVectorEnv
from hacontrol_envs.simulation.integrate import schemes

NEXT_STEP, SAME_STEP, DISABLED = AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP, AutoresetMode.DISABLED
ROWS, STEPS, SEED = 5, 24, 11


CHEAP: dict[str, dict[str, Any]] = {
    "KrusellSmith-v0": {"asset_nodes": 12, "asset_max": 100.0, "others": "steady state"},
    "KrusellSmithCloud-v0": {"asset_nodes": 12, "asset_max": 100.0},
}
"""Parameters with which problems whose state is long are tested where it does not matter how long it is."""


def problem_of(id: str) -> Problem:
    return build_problem(gym.spec(id).kwargs["problem"], CHEAP.get(id, {}))


DIFFUSIONS = [id for id in registered_ids() if isinstance(problem_of(id), ControlProblem)]


def step_of(id: str) -> float:
    """A step of 1/4, or a period where time is discrete."""
    return 0.25 if id in DIFFUSIONS else 1.0


CASES: dict[str, tuple[str, dict[str, Any]]] = {
    **{f"{id} {scheme}": (id, {"scheme": scheme}) for id in registered_ids() for scheme in schemes(problem_of(id))},
    "LQR in 10 dimensions": ("LQR-v0", {"dimension": 10}),
    "LQR over a finite horizon": ("LQR-v0", {"horizon": 0.14, "terminal_cost": 2.0}),
    "Merton over a finite horizon": ("Merton-v0", {"horizon": 1.75, "risk_aversion": 3.5}),
    "Merton with log utility, Milstein": ("Merton-v0", {"horizon": 1.75, "risk_aversion": 1.0, "scheme": "milstein"}),
    "Merton with two assets": (
        "Merton-v0",
        {"expected_return": [0.07, 0.08], "volatility": [[0.2, 0, 0.1], [0, 0.3, 0]]},
    ),
    "a household among those of the reference": ("KrusellSmith-v0", {"others": "reference", "asset_nodes": 60}),
    "a household that sees all others": ("KrusellSmith-v0", {"observe": "histogram", "calibration": "jedc"}),
    "households with insurance": ("KrusellSmithCloud-v0", {"calibration": "jedc"}),
    "a firm always near an edge": ("FirmInvestment-v0", {"capital_bounds": (1.0, 3.0), "productivity_bound": 0.3}),
    "a firm with smoothed costs": ("FirmInvestment-v0", {"adjustment": "smoothed"}),
}
COSTLY = CASES["a household among those of the reference"], CASES["a firm always near an edge"]
every_case = pytest.mark.parametrize(("id", "parameters"), slow_where(COSTLY.__contains__, CASES.values()), ids=CASES)
every_id = pytest.mark.parametrize("id", registered_ids())
WITH_HORIZON = [id for id in registered_ids() if "horizon" in problem_of(id).parameters]
BOTH_HORIZONS = slow_where(
    lambda case: case[0] == "FirmInvestment-v0",
    [(id, CHEAP.get(id, {})) for id in registered_ids()] + [(id, {"horizon": 2.0}) for id in WITH_HORIZON],
)


def single(id: str, parameters: dict[str, Any]) -> SDEEnv:
    env: Any = gym.make(id, episode_steps=7, **{**CHEAP.get(id, {}), **parameters}).unwrapped
    return env


def vector(id: str, parameters: dict[str, Any], mode: AutoresetMode, rows: int = ROWS) -> SDEVectorEnv:
    every = {**CHEAP.get(id, {}), **parameters}
    env: Any = gym.make_vec(id, num_envs=rows, episode_steps=7, autoreset_mode=mode.value, **every)
    return env


def actions(env: SDEVectorEnv) -> np.ndarray[Any, Any]:
    """Some inside the box, some outside."""
    return np.random.default_rng(0).normal(size=(STEPS, *env.action_space.shape)).astype(np.float32)


def staggered(env: SDEVectorEnv) -> dict[str, Any]:
    """Start the rows at different times, so that they end at different steps."""
    return {"time": np.arange(env.num_envs) % 5 * env.dt}


def same(a: Any, b: Any) -> bool:
    return np.asarray(a).dtype == np.asarray(b).dtype and np.array_equal(a, b)
