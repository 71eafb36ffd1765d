"""The command that measures how certificates cover the truth: what it counts, and what it takes for the truth."""

from __future__ import annotations

import numpy as np
import pytest

from hacontrol_benchmarks.measure import coverage
from hacontrol_benchmarks.measure.planted import Worth, brock_mirman, lqr, merton, one_state, wiggly
from hacontrol_envs import LQR, BrockMirman, Merton


def judged(lower, upper, best=1.0, earned=None, noise=0.0, error=0.0):
    worth = None if earned is None else Worth(earned, error)
    return coverage.verdict((lower, upper), Worth(best, error), worth, noise, 1e-9)


@pytest.mark.parametrize(
    ("case", "held", "too_good"),
    [
        (judged(0.9, 1.1), True, False),
        (judged(0.9, 0.99), False, False),  # the optimum is above
        (judged(1.01, 1.1), False, False),  # the optimum is below
        (judged(0.9, 0.99, error=0.01), True, False),
        (judged(1.0, 1.0 - 1e-10), True, False),  # rounding
        (judged(0.5, 1.0, earned=0.6), True, False),
        (judged(0.7, 1.0, earned=0.6), False, True),  # says that .3 is lost, not .4
        (judged(0.7, 1.0, earned=0.6, noise=0.04), False, False),
        (judged(0.7, 1.2, earned=0.6), False, False),
        (judged(0.7, 1.0, earned=-np.inf), False, True),
        (judged(-np.inf, np.inf, earned=-np.inf), True, False),
        (judged(-np.inf, np.nan), False, False),
        (judged(np.nan, 1.0, earned=0.5), False, True),
    ],
)
def test_an_interval_holds_what_is_true_or_is_too_good(case, held, too_good):
    assert case == (held, too_good)


def test_cases_are_counted():
    one = {"subject": "lqr", "kind": "optimum", "cpu_seconds": 1.0}
    answer = {**one, "way": "held", "too_good": False, "failed": [], "relative_gap": 1e-3}
    good = [answer] * 19
    for wrong, met in (
        ([], True),
        ([{**answer, "way": "missed"}], True),
        ([{**answer, "way": "missed"}] * 2, False),
        ([{**answer, "too_good": True}], False),
        ([{**one, "way": "refused", "reason": "LearningError: no"}], True),
    ):
        row, whole = coverage.rows(good + wrong)
        assert whole["met"] is met
        assert row["cases"] == 19 + len(wrong)
        assert row["held"] == sum(case["way"] == "held" for case in good + wrong)
        assert len(whole["wrong"]) == len(wrong)
    assert coverage.rows([{**one, "way": "refused", "reason": ""}])[1]["met"] is False


def test_what_a_linear_policy_earns_is_what_its_equation_says():
    """At the optimum Riccati's value; elsewhere that of collocation, an independent solver, for one state."""
    for problem in (LQR(dimension=2), LQR(horizon=2.0, terminal_cost=1.5)):
        x = problem.initial_state(np.random.default_rng(0), 8)
        found = lqr.linear_worth(problem, lambda t, p=problem: lqr.best_gain(p, t), np.zeros(problem.B.shape[1]))(x)
        assert found.mean == pytest.approx(problem.solution().value(np.zeros(8), x).mean(), rel=1e-9)
    problem = LQR()
    x, gain, shift = problem.initial_state(np.random.default_rng(0), 8), 0.8 * lqr.best_gain(problem), np.array([0.2])
    known = one_state.worth(problem, lambda t, x: -x @ gain.T + shift, 0.0)(x)
    assert known.error < 1e-11
    assert lqr.linear_worth(problem, lambda t: gain, shift)(x).mean == pytest.approx(known.mean, rel=1e-9)
    assert lqr.linear_worth(LQR(state_matrix=0.5), lambda t: np.zeros((1, 1)), np.zeros(1))(x).mean == -np.inf


def test_what_portfolios_earn_is_what_their_closed_forms_say():
    problem = Merton(horizon=7.0, bequest=0.4)
    x = problem.initial_state(np.random.default_rng(0), 8)
    optimum = problem.solution()
    found = merton.timed_worth(problem, lambda t: optimum.policy(np.array([t]), np.ones((1, 1)))[0])(x)
    assert found.mean == pytest.approx(optimum.value(np.zeros(8), x).mean(), rel=1e-9)
    problem = Merton(risk_aversion=5.0)
    a = problem.solution().policy(0.0, np.ones((1, 1)))[0] * np.array([1.3, 0.9])
    tilt = (1 - 5.0) * float(problem.state.half_width[0])
    known = one_state.worth(problem, lambda t, x: np.tile(a, (len(x), 1)), tilt)(x)
    assert known.mean == pytest.approx(problem.constant_action_value(x, a).mean(), rel=1e-8)


def test_the_best_share_earns_the_optimum():
    problem = BrockMirman()
    x = problem.initial_state(np.random.default_rng(0), 8)
    found = brock_mirman.share_value(problem, problem.saving_share)(0.0, x)
    np.testing.assert_allclose(found, problem.solution().value(0.0, x), rtol=1e-12)


@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        (lqr.KINDS["V and homogeneous"], LQR(dimension=2)),
        (lqr.KINDS["other root"], LQR(dimension=2)),
        (lqr.FINITE["V and homogeneous"], LQR(horizon=2.0)),
        (merton.KINDS["V and homogeneous"], Merton()),
        (merton.FINITE["infinite horizon"], Merton(horizon=5.0)),
    ],
)
def test_planted_solutions_meet_the_equation_and_are_wrong(kind, problem):
    jet, policy = kind(problem, np.random.default_rng(0)).agent
    x, t = problem.initial_state(np.random.default_rng(1), 20), np.full(20, 0.3)
    found, best = jet(t, x), problem.solution().value(t, x)
    residual = problem.hjb_residual(t, x, policy(t, x), found)
    assert (np.abs(residual) <= 1e-8 * (np.abs(found.v) + np.abs(best).max())).all()
    assert np.abs(found.v - best).mean() >= 1e-3 * np.abs(best).mean()


@pytest.mark.slow
def test_cases_are_judged_kept_and_not_repeated(tmp_path):
    every = [task for task in coverage.tasks(["lqr"], 1, 3) if task.kind in ("optimum", "policy scaled, V right")]
    file = tmp_path / "cases.jsonl"
    found = coverage.measure(every, 1, file)
    assert [case["way"] for case in found] == ["held", "held"]
    assert found[1]["earned"] < found[1]["best"] <= found[1]["upper"] + 1e-9
    assert found[1]["relative_gap"] == pytest.approx(
        (found[1]["best"] - found[1]["earned"]) / found[1]["size"], rel=1e-6
    )
    assert coverage.measure(every, 1, file) == found
    assert len(file.read_text().splitlines()) == 2


def test_a_certificate_that_raises_or_warns_is_refused():
    problem = LQR()
    for policy in (lambda t, x: np.nan * x, lambda t, x: np.float64(1.0) / np.zeros(()) * x):
        found = coverage.certified(lqr.Planted(policy, None), problem, 0)
        assert found["way"] == "refused"
        assert "not finite" in found["reason"]


def test_wiggles_lose():
    problem = LQR()
    lost = one_state.loss(problem, wiggly(problem.solution().policy, 0.2, 5.0), 0.0)(np.array([[0.5], [-0.2]]))
    assert lost.error < 1e-8 < lost.mean
