"""Right and wrong solutions of a firm's problem, whose optimum is known by finite differences."""

from __future__ import annotations

from typing import Any

import numpy as np

from hacontrol_benchmarks.measure.planted import (
    JetFunction,
    Kinds,
    Planted,
    Worth,
    constant,
    off,
    plus,
    scaled,
    wiggly,
)
from hacontrol_envs import FirmInvestment, Solution
from hacontrol_envs.arrays import Floats


def _optimum(problem: FirmInvestment) -> tuple[Solution, JetFunction]:
    optimum = problem.solution()
    assert optimum is not None
    assert optimum.jet is not None
    return optimum, optimum.jet


def _of_optimum(problem: FirmInvestment, wrong: JetFunction | None) -> Planted:
    """Plant the optimal policy beside a value or alone."""
    optimum, _ = _optimum(problem)

    def worth(x: Floats) -> Worth:
        return Worth(float(np.mean(optimum.value(0.0, x))), optimum.error)

    return Planted(optimum.policy if wrong is None else (wrong, optimum.policy), worth)


def _changed(problem: FirmInvestment, factor: float, shift: float, *, value: bool = False) -> Planted:
    """Plant a policy off the optimum, beside the optimal value or alone."""
    optimum, jet = _optimum(problem)

    def policy(t: Any, x: Floats) -> Floats:
        played: Floats = problem.action.clip(factor * np.asarray(optimum.policy(t, x)) + shift)
        return played

    return Planted((jet, policy) if value else policy, None)


def _shifted_value(problem: FirmInvestment, rng: np.random.Generator) -> Planted:
    optimum, jet = _optimum(problem)
    size = float(np.abs(optimum.value(0.0, problem.initial_state(np.random.default_rng(0), 256))).mean())
    return _of_optimum(problem, plus(jet, constant((off(rng) - 1) * size)))


def _wiggly(problem: FirmInvestment, rng: np.random.Generator) -> Planted:
    optimum, _ = _optimum(problem)
    return Planted(wiggly(optimum.policy, off(rng) - 1, rng.uniform(1, 4)), None)


KINDS: Kinds = {
    "optimum with V": lambda problem, rng: _of_optimum(problem, _optimum(problem)[1]),
    "optimum": lambda problem, rng: _of_optimum(problem, None),
    "policy scaled": lambda problem, rng: _changed(problem, off(rng), 0.0),
    "policy scaled, V right": lambda problem, rng: _changed(problem, off(rng), 0.0, value=True),
    "policy shifted": lambda problem, rng: _changed(problem, 1.0, (off(rng) - 1) * problem.depreciation),
    "policy wiggly": _wiggly,
    "V scaled": lambda problem, rng: _of_optimum(problem, scaled(_optimum(problem)[1], off(rng))),
    "V shifted": _shifted_value,
}
