"""Fixed computations whose figures should not depend on how the code is arranged; `unchanged` compares them.

Only public names are used, so that this file runs against other revisions than its own: `write` is called in a process
that imports the packages of the revision that is asked.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any, TypeAlias

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from hacontrol_agents import make_agent
from hacontrol_benchmarks import Evaluation, evaluate
from hacontrol_envs import FirmIndustry, KrusellSmith

Figures: TypeAlias = "Mapping[str, NDArray[np.float64]]"
"""Arrays by name."""
Case: TypeAlias = "Callable[[], Figures]"
"""Function that computes the figures of a case."""

PARAMETERS: dict[str, dict[str, dict[str, Any]]] = {
    "LQR-v0": {"": {}, "n = 3": {"dimension": 3}, "T = 2": {"horizon": 2.0, "terminal_cost": 0.5}},
    "Merton-v0": {"": {}, "aversion .5": {"risk_aversion": 0.5, "discount": 0.2}, "T = 5": {"horizon": 5.0}},
    "FirmInvestment-v0": {"": {}, "smoothed": {"adjustment": "smoothed"}, "resale at .8": {"resale_price": 0.8}},
    "BrockMirman-v0": {"": {}, "patient": {"discount_factor": 0.99}, "calm": {"productivity_deviation": 0.01}},
}
"""Sets of parameters by name, by id of the problem."""
HOUSEHOLDS: dict[str, Any] = {"asset_nodes": 60, "asset_max": 300.0}
AMONG = {"population": "steady state", **HOUSEHOLDS}
"""What is now called `others` by its name in 0.1, which revisions before and after take."""
SOON: dict[str, dict[str, Any]] = {
    "npi": {"id": "LQR-v0", "iterations": 3},
    "hjb-pinn": {"id": "Merton-v0", "iterations": 3},
    "ctq": {"id": "LQR-v0", "total_timesteps": 30_000},
    "deqn": {"id": "BrockMirman-v0", "iterations": 3},
    "ppo": {"id": "LQR-v0", "total_timesteps": 4_000},
}
"""Id of the environment and a small budget, by agent."""
SEED, POINTS, ROWS, STEPS = 0, 200, 8, 100


def cases() -> dict[str, Case]:
    """Return every computation by its name."""
    named = {
        f"{id} {name}".strip(): (id, parameters) for id, sets in PARAMETERS.items() for name, parameters in sets.items()
    }
    shared = {"KrusellSmith-v0": AMONG, "KrusellSmithCloud-v0": HOUSEHOLDS}
    found: dict[str, Case] = {f"optimum of {name}": partial(optimum, *case) for name, case in named.items()}
    found |= {f"steps of {name}": partial(steps, *case) for name, case in named.items()}
    found |= {f"steps of {id}": partial(steps, id, parameters) for id, parameters in shared.items()}
    found |= {f"metrics of analytic on {id}": partial(metrics, id) for id in PARAMETERS}
    found |= {f"{name} on {how['id']}": partial(learnt, name, **how) for name, how in SOON.items()}
    found |= {f"industry, {how}": partial(industry, how) for how in ("kinked", "smoothed")}
    found |= {"hjb-fp-pinn on FirmIndustry": learnt_industry}
    found |= {f"steady state of {calibration}": partial(steady, calibration) for calibration in ("ssj", "jedc")}
    return found | {"reference solution of ssj": reference, "deqn on KrusellSmith-v0": learnt_households}


def optimum(id: str, parameters: dict[str, Any]) -> Figures:
    """Return value and policy of the optimum in the box."""
    problem: Any = gym.make(id, **parameters).unwrapped.problem  # type: ignore[attr-defined]
    solution, (t, x) = problem.solution(), _points(problem)
    return {"value": solution.value(t, x), "policy": solution.policy(t, x)}


def steps(id: str, parameters: dict[str, Any]) -> Figures:
    """Return observations and rewards of random actions."""
    env = gym.make_vec(id, num_envs=ROWS, **parameters)
    first, _ = env.reset(seed=SEED)
    env.action_space.seed(SEED)
    seen = [env.step(env.action_space.sample())[:2] for _ in range(STEPS)]
    observations, rewards = zip(*seen, strict=True)
    return {"first": first, "observations": np.array(observations), "rewards": np.array(rewards)}


def metrics(id: str) -> Figures:
    """Return the metrics of an agent that plays the continuous optimum."""
    env = gym.make(id)
    found = evaluate(make_agent("analytic", env=env, seed=SEED), env, Evaluation(paths=64, points=POINTS))
    return {name: _array(score) for name, score in found.items() if score is not None}


def learnt(agent: str, id: str, total_timesteps: int | None = None, **settings: Any) -> Figures:
    """Return the policy of an agent in the box after little learning.

    Args:
        agent: name of the agent.
        id: id of the environment.
        total_timesteps: budget of learning in state-action points; None for the agent's own.
        settings: hyperparameters of the agent.
    """
    env = gym.make(id)
    learner = make_agent(agent, env=env, seed=SEED, **settings).learn(total_timesteps)
    return {"policy": learner.policy(*_points(learner.problem)), **_losses(learner)}


def learnt_households() -> Figures:
    """Return what DEQN saves on the steady state's law after little learning."""
    env = gym.make("KrusellSmith-v0", **AMONG)
    learner = make_agent("deqn", env=env, seed=SEED, iterations=2, economies=16).learn()
    economy = _economy("ssj")
    law, assets = economy.steady_state().law, economy.assets
    e, z = np.full(len(assets), 1), np.full(len(assets), 1)
    return {"saving": learner.saving(assets, e, z, np.broadcast_to(law, (len(assets), *law.shape)))}


def learnt_industry() -> Figures:
    """Return price, output and capital after little learning."""
    learner = make_agent("hjb-fp-pinn", industry=FirmIndustry(), seed=SEED, iterations=2).learn()
    return {name: np.asarray(getattr(learner, name)) for name in ("price", "output", "capital")}


def industry(adjustment: str) -> Figures:
    """Return figures of an equilibrium, and of its response to a shock to all firms."""
    truth = FirmIndustry(adjustment=adjustment).equilibrium()
    response = truth.impulse_response(years=10.0, steps=40).to_dict()
    return {name: np.asarray(getattr(truth, name)) for name in ("price", "output", "capital")} | {
        f"response of {name}": path for name, path in response.items()
    }


def steady(calibration: str) -> Figures:
    """Return figures of a steady state, and of its linear response to productivity."""
    found = _economy(calibration).steady_state()
    response = found.impulse_response(horizon=40).to_dict()
    names = ("capital", "interest_rate", "law", "gini", "share_constrained")
    return {name: np.asarray(getattr(found, name)) for name in names} | {
        f"response of {name}": path for name, path in response.items()
    }


def reference() -> Figures:
    """Return what households of a reference solution save on the steady state's law, and its accuracy."""
    economy = _economy("ssj")
    truth, law = economy.reference_solution(), economy.steady_state().law
    assets, states = economy.assets, range(len(economy.productivity))
    e = np.ones(len(assets), dtype=np.int64)
    laws = np.broadcast_to(law, (len(assets), *law.shape))
    return {f"saving at z = {z}": truth.policy(assets, e, np.full(len(assets), z), laws) for z in states}


@cache
def _economy(calibration: str) -> KrusellSmith:
    top = {"ssj": 300.0, "jedc": 2000.0}[calibration]
    return KrusellSmith(calibration, asset_nodes=60, asset_max=top)


def _points(problem: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rng = np.random.default_rng(SEED)
    x = problem.state.from_unit(rng.uniform(-0.9, 0.9, (POINTS, problem.state.dimension)))
    return rng.uniform(0.0, 0.9 * (problem.horizon or 0.0), POINTS), x


def _losses(learner: Any) -> Figures:
    """The last row of the learning curve, without times."""
    row = learner.history[-1] if learner.history else {}
    return {name: np.asarray(figure) for name, figure in row.items() if name != "seconds"}


def _array(score: Any) -> NDArray[np.float64]:
    found = list(score.values()) if isinstance(score, dict) else score
    return np.asarray(found, dtype=np.float64)


def write(path: str, only: str = "") -> None:
    """Compute the cases whose names contain `only`, and write them to an .npz file as "case/figure"."""
    found: dict[str, Any] = {}
    for name, case in cases().items():
        if only in name:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that so little learning has not converged
                found |= {f"{name}/{part}": np.asarray(array) for part, array in case().items()}
    np.savez(path, **found)
