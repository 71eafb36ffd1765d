"""Policies of agents that have learnt little or nothing."""

from __future__ import annotations

import warnings
from typing import Any

import gymnasium as gym
import numpy as np

from hacontrol_agents.core.registry import make_agent
from hacontrol_benchmarks.measure.planted import Kind, Kinds, Planted, one_state
from hacontrol_envs import LQR
from hacontrol_envs.errors import HacontrolWarning


def _learnt(
    env: gym.Env[Any, Any], name: str, rng: np.random.Generator, budget: int | None, **settings: Any
) -> Planted:
    agent = make_agent(name, env=env, seed=int(rng.integers(2**31)), **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HacontrolWarning)  # which say that it has not learnt
        agent.learn(budget)
    problem = agent.problem
    known = isinstance(problem, LQR) and problem.horizon is None and len(problem.A) == 1 and name != "random"
    return Planted(agent, one_state.worth(problem, agent.policy, 0.0) if known else None)


def _few(name: str) -> Kind:
    """Return a kind that learns for one to eight iterations."""
    return lambda env, rng: _learnt(env, name, rng, None, iterations=int(rng.integers(1, 9)))


def _steps(name: str, steps: int) -> Kind:
    """Return a kind that learns for so many steps of the environment."""
    return lambda env, rng: _learnt(env, name, rng, steps)


ALL: Kinds = {"random": lambda env, rng: _learnt(env, "random", rng, None)}
"""Of every environment."""
CONTINUOUS: Kinds = {**ALL, "npi, half-trained": _few("npi"), "hjb-pinn, half-trained": _few("hjb-pinn")}
"""Of problems in continuous time."""
STATIONARY: Kinds = {**CONTINUOUS, "ppo": _steps("ppo", 4096)}
"""Of those over an infinite horizon."""
DISCRETE: Kinds = {**ALL, "deqn, half-trained": _few("deqn")}
"""Of problems with Euler conditions."""
