"""The sweep over calibrations: draws repeat, their optimum holds the system, and no way hides an error."""

from __future__ import annotations

import numpy as np
import pytest
import scipy

from hacontrol_agents.core.subjects import make_subject
from hacontrol_benchmarks.measure import calibrations, sweep
from hacontrol_envs import Economy
from hacontrol_envs.errors import EquilibriumError, LearningError, NumericalError


@pytest.mark.parametrize("name", calibrations.DRAWS)
def test_a_draw_depends_on_its_seed_and_number_alone(name):
    id, parameters = calibrations.drawn(name, 5, 1)
    assert calibrations.drawn(name, 5, 1) == (id, parameters)
    assert calibrations.drawn(name, 5, 2)[1] != parameters
    assert calibrations.drawn(name, 6, 1)[1] != parameters
    made = make_subject(id, parameters)
    given = made.parameters if isinstance(made, Economy) else made.unwrapped.problem.parameters
    assert given.items() >= parameters.items()


def test_drawn_linear_systems_are_held_by_their_optimum():
    """P of SciPy's Riccati solver at A - rho/2, where that has a stabilising solution."""
    unstable = 0
    for index in range(30):
        given = {k: np.asarray(v) for k, v in calibrations.drawn("lqr", 7, index)[1].items()}
        A, B, Q, R = (given[k] for k in ("state_matrix", "control_matrix", "state_cost", "control_cost"))
        P = scipy.linalg.solve_continuous_are(A - given["discount"] / 2 * np.eye(len(A)), B, Q, R)
        assert np.linalg.eigvals(A - B @ np.linalg.solve(R, B.T @ P)).real.max() < 0
        unstable += np.linalg.eigvals(A).real.max() > 0
    assert unstable >= 5


@pytest.mark.parametrize(
    ("error", "ending", "way"),
    [
        (1e-3, "not certified", "right"),
        (2e-3, "certified", "silent"),
        (2e-3, "not certified", "told"),
        (np.inf, "failed", "told"),
        (np.nan, "certified", "silent"),
        (None, "certified", "silent"),
    ],
)
def test_an_error_is_silent_where_the_learner_says_certified(error, ending, way):
    assert sweep.way(error, ending) == way


def test_a_policy_at_random_is_not_right(tmp_path):
    row = sweep.measure("lqr", "random", draws=2, seed=3, workers=1)
    assert (row["right"], row["told"], row["silent"], row["certified"]) == (0, 2, 0, 0)
    assert row["median"] > 0.1
    assert row["met"] is False
    assert [one["parameters"] for one in row["wrong"]] == [calibrations.drawn("lqr", 3, i)[1] for i in range(2)]


@pytest.mark.parametrize(
    ("learning", "judging", "way"),
    [
        (None, {"policy_error": 1e-4}, "right"),
        (None, {"price_error": 1e-5, "policy_error": 2e-3}, "silent"),
        (None, {"path_error": 1e-5, "capital_error": 2e-3, "value_error": 0.0}, "silent"),
        (None, {"policy_error": 1e-4, "value_error": 9.0}, "right"),
        (EquilibriumError("trivial"), {}, "told"),
        (LearningError("not finite"), {}, "told"),
        (None, NumericalError("too coarse"), "unjudged"),
    ],
)
def test_the_largest_judged_error_decides_where_the_truth_is_known(monkeypatch, learning, judging, way):
    class Certain:
        """Says that it is certified, whatever it has learnt."""

        def __init__(self, env, seed):
            self.ending, self.reason = "certified", ""

        @classmethod
        def about(cls, subject):
            return {"env": subject}

        def learn(self):
            if learning is not None:
                raise learning

    def errors(learner, subject):
        if isinstance(judging, Exception):
            raise judging
        return judging

    monkeypatch.setattr(sweep, "find_agent", lambda name: Certain)
    monkeypatch.setattr(sweep, "errors", errors)
    assert sweep.learnt("brock_mirman", "certain", 3, 0)["way"] == way
