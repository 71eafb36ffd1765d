"""The command that measures how sharp certificates are: its targets, and what it takes for the true gap."""

from __future__ import annotations

import numpy as np
import pytest

from hacontrol_benchmarks.measure import sharpness
from hacontrol_envs import FirmInvestment, Merton


@pytest.mark.parametrize(
    ("case", "small", "sharp", "cheap"),
    [
        (("LQR-v0", 1e-7, 1e-8, 0.2), True, True, True),
        (("LQR-v0", 2e-6, 1e-6, 0.2), False, True, True),
        (("FirmInvestment-v0", 2e-6, None, 0.2), True, True, True),
        (("Merton-v0", 1e-7, 1e-9, 0.2), True, False, True),
        (("Merton-v0", 1e-10, 0.0, 0.2), True, True, True),
        (("Merton-v0", 1e-9, -1e-3, 0.2), True, False, True),
        (("Merton-v0", np.inf, 1e-9, 0.6), False, False, False),
    ],
)
def test_targets(case, small, sharp, cheap):
    met = sharpness.met(*case)
    assert (met["small"], met["sharp"], met["cheap"]) == (small, sharp, cheap)
    assert met["met"] is (small and sharp and cheap)


def test_the_true_gap_is_that_of_the_closed_form():
    problem, starts = Merton(), np.array([[0.5], [2.0]])
    a = problem.solution().policy(0.0, np.ones((1, 1)))[0] * np.array([1.01, 1.0])
    exact = (problem.solution().value(0.0, starts) - problem.constant_action_value(starts, a)).mean()
    gap, error = sharpness.true_gap(problem, lambda t, x: np.tile(a, (len(x), 1)), starts, 10.0)
    assert gap == pytest.approx(exact / 10, rel=1e-4)
    assert error <= 1e-4 * gap
    assert sharpness.true_gap(FirmInvestment(), None, starts, 1.0) == (None, None)


def test_the_optimum_is_certified_sharply():
    row = sharpness.row(sharpness.Run("LQR-v0", "analytic", 0))
    assert row["gap"] <= 1e-10
    assert abs(row["true"]) <= 1e-12
    assert row["small"]
    assert row["sharp"]
    assert sum(row["parts"].values()) == pytest.approx(row["gap"], abs=1e-12)
