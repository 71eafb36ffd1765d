"""The firm's numerical optimum of held actions earns what it says, and the judge measures what others lose by it."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
import torch

from common.calibrations import CALIBRATIONS
from hacontrol_benchmarks import regret
from hacontrol_benchmarks.judging.regret import REPLICATES
from hacontrol_benchmarks.judging.transition import act, known_transition
from hacontrol_envs import FirmInvestment
from hacontrol_envs.checks.probe import Probe
from hacontrol_envs.checks.solution import check_sampled
from hacontrol_envs.solvers.held_actions import golden_section

pytestmark = pytest.mark.slow

FIRM, DT, ROWS, YEARS = FirmInvestment(), 0.25, 192, 60


def earned(policy, dt=DT, optimum=None):
    """Discounted rewards over `YEARS` and V where they end, less V at the start, of `ROWS` paths of common noise.

    Of each step gamma (V(X(z)) - V(X(-z)))/2 is taken off, whose mean is zero.
    """
    exact, optimum, rng = known_transition(FIRM, dt), optimum or FIRM.solution(dt), np.random.default_rng(1)
    x = FIRM.initial_state(rng, ROWS)
    total, weight = -optimum.value(0.0, x), 1.0
    for _ in range(round(YEARS / dt)):
        a, noise = act(FIRM, policy, 0.0, x), rng.standard_normal((ROWS, 1))
        after, mirrored = exact.step(0.0, x, a, noise), exact.step(0.0, x, a, -noise)
        odd = (optimum.value(0.0, after) - optimum.value(0.0, mirrored)) / 2
        total, weight, x = total + weight * (exact.reward(0.0, x, a) - exact.gamma * odd), weight * exact.gamma, after
    return total + weight * optimum.value(0.0, x)


@cache
def best_earned():
    return earned(FIRM.solution(DT).policy)


def standard_error(values):
    return values.std(ddof=1) / math.sqrt(len(values))


def test_the_sampled_optimum_earns_its_value():
    optimum = FIRM.solution(DT)
    assert optimum.kind == "numerical"
    assert 0 < optimum.error < 1e-3
    gap = best_earned()
    assert abs(gap.mean()) <= 3 * standard_error(gap) + optimum.error
    assert regret(FIRM, optimum.policy, DT, paths=16, max_steps=100, seed=0).regret == 0.0


def test_the_continuous_optimum_earns_its_value_but_for_the_holding_of_actions():
    """What holding costs at best is the difference of the two values."""
    optimum, dt = FIRM.solution(), DT / 2
    gap = earned(optimum.policy, dt, optimum)
    x = FIRM.initial_state(np.random.default_rng(1), ROWS)
    held = float(np.mean(optimum.value(0.0, x) - FIRM.solution(dt).value(0.0, x)))
    assert held > 0
    assert abs(gap.mean()) <= 3 * standard_error(gap) + optimum.error + 2 * held


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda a: 1.2 * a, id="a fifth more"),
        pytest.param(lambda a: 0.8 * a, id="a fifth less"),
        pytest.param(lambda a: a + 0.02, id="shifted"),
        pytest.param(lambda a: np.full_like(a, FIRM.depreciation), id="replacement"),
    ],
)
def test_other_policies_lose_what_the_judge_says(change):
    best = FIRM.solution(DT).policy

    def worse(t, x):
        return change(best(t, x))

    lost = best_earned() - earned(worse)
    assert lost.mean() > 3 * standard_error(lost)
    found = regret(FIRM, worse, DT, paths=128, max_steps=round(YEARS / DT), seed=2)
    assert found.regret > 3 * found.standard_error
    starts = 128 // REPLICATES
    error = math.hypot(lost.std() / math.sqrt(starts), standard_error(lost), found.standard_error)
    assert found.regret == pytest.approx(lost.mean(), abs=4 * error)


@pytest.mark.parametrize(("name", "dt"), [("Firm smoothed", 2.0), ("Firm tight", 0.02)])
def test_the_bellman_equation_holds_at_long_and_short_steps(name, dt):
    check_sampled(Probe(CALIBRATIONS[name], 100, 0, dt))


def test_as_published_has_no_sampled_optimum():
    assert FirmInvestment(adjustment="as-published").solution(DT) is None


def test_torch_gets_the_same_value_and_policy():
    optimum, x = FIRM.solution(DT), np.array([[1.0, 0.2], [4.0, -1.0]])
    for function in (optimum.value, optimum.policy):
        found = function(torch.zeros(2), torch.as_tensor(x))
        assert found.dtype == torch.float64
        np.testing.assert_allclose(found.numpy(), function(0.0, x), rtol=1e-14)


def test_golden_sections_find_maxima_inside_and_at_the_ends():
    top = np.array([-0.3, 0.2, 2.0, -5.0])
    found = golden_section(lambda a: -((a - top) ** 2), np.full(4, -1.0), np.ones(4))
    np.testing.assert_allclose(found, [-0.3, 0.2, 1.0, -1.0], atol=1e-7)
