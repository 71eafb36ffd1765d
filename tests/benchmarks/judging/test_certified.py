"""Certificates on the leaderboard: beside a known optimum where asked for, in its place where none is known."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import msgspec
import numpy as np
import pytest

from common.results import make_result
from common.suites import GOOD, written
from hacontrol_agents import AnalyticAgent, make_agent
from hacontrol_benchmarks import Evaluation, Task, evaluate, load_suite
from hacontrol_benchmarks.judging.evaluation import watch
from hacontrol_benchmarks.records.results import plain_metrics
from hacontrol_benchmarks.reporting.compare import compare_figure
from hacontrol_benchmarks.reporting.figures import TRUTH
from hacontrol_benchmarks.reporting.scores import boards
from hacontrol_benchmarks.reporting.tables import cells, header
from hacontrol_envs import LQR, SDEEnv
from hacontrol_envs.errors import ContractError, ConvergenceWarning, ParameterError

SMALL: dict[str, Any] = {"paths": 8, "points": 256, "max_steps": 100, "seed": 5}
KEYS = ("certified_gap", "certified", "certified_bounds")


class Hidden(LQR):
    """Its optimum is not told."""

    def solution(self, dt=None):
        return None


class Linear:
    """Plays a = -K x for the LQR's K times a factor, and has learnt no value."""

    def __init__(self, factor):
        self.gain = -factor * LQR().solution().policy(0.0, np.ones(1))

    def policy(self, t, x):
        return -self.gain * x


def hidden() -> SDEEnv:
    return SDEEnv(Hidden(), dt=0.02, scheme="exact", episode_steps=100)


def best_mean() -> float:
    """V* = -P x^2/2 - c with the scalar Riccati equation's P, averaged over the certificate's starts."""
    a, b, q, r, rho, d = -0.5, 1.0, 1.0, 0.1, 0.1, 0.3
    P = max(np.roots([b**2 / r, rho - 2 * a, -q]))
    x = np.random.default_rng(SMALL["seed"]).uniform(-1.0, 1.0, 32)
    return float(-P * np.mean(x**2) / 2 - d**2 * P / 2 / rho)


@pytest.mark.parametrize(("factor", "most"), [(1.0, 1e-6), (1.1, 2e-2)])
def test_a_policy_is_certified_where_no_optimum_is_known(factor, most):
    scores = evaluate(Linear(factor), hidden(), Evaluation(**SMALL))
    assert {name for name, score in scores.items() if score is not None} == set(KEYS)
    bounds = scores["certified_bounds"]
    assert bounds["lower"] <= best_mean() + 1e-9
    assert bounds["upper"] >= best_mean() - 1e-9
    gap = (bounds["upper"] - bounds["lower"]) / -bounds["upper"]
    assert scores["certified_gap"] == pytest.approx(gap, rel=1e-9, abs=1e-15)
    assert scores["certified_gap"] <= most
    assert scores["certified"] == (scores["certified_gap"] <= 1e-2)


def test_where_the_optimum_is_known_a_certificate_is_made_if_it_is_asked_for():
    env = gym.make("LQR-v0")
    agent = AnalyticAgent(env=env, seed=0)
    plain, asked = evaluate(agent, env, Evaluation(**SMALL)), evaluate(agent, env, Evaluation(**SMALL, certify=True))
    assert all(plain[name] is None for name in KEYS)
    assert {name: score for name, score in asked.items() if name not in KEYS} == {
        name: score for name, score in plain.items() if name not in KEYS
    }
    assert asked["certified"] == 1.0
    assert abs(asked["certified_gap"]) <= 1e-9
    assert asked["certified_bounds"]["upper"] == pytest.approx(best_mean(), rel=1e-9)


def test_discrete_time_is_certified_by_its_bellman_equation():
    env = gym.make("BrockMirman-v0")
    scores = evaluate(AnalyticAgent(env=env), env, Evaluation(**SMALL, certify=True))
    assert 0 <= scores["certified_gap"] < 1e-8
    assert scores["certified"] == 1


def test_without_an_optimum_and_without_a_certificate_nothing_is_judged():
    with pytest.raises(ParameterError, match="no known optimum"):
        evaluate(Linear(1.0), hidden(), Evaluation(**SMALL, certify=False))


def test_a_maximiser_that_is_not_the_best_action_certifies_nothing():
    env = gym.make("FirmInvestment-v0", adjustment="as-published")
    with pytest.raises(ContractError, match="Hamiltonian of the maximiser"):
        evaluate(make_agent("random", env=env, seed=0), env, Evaluation(**SMALL))


def test_learning_curves_say_nothing_of_an_unknown_optimum():
    env = hidden()
    agent = make_agent("npi", env=env, seed=0, hidden=(4,), iterations=1)
    with pytest.warns(ConvergenceWarning):
        agent.learn(callback=watch(env))
    assert "policy_error" not in agent.history[-1]


def test_gaps_are_of_one_scale_however_much_a_policy_loses():
    """Half and a tenth of the optimal gain: the true loss relative to the optimum, by Lyapunov, is in the gap."""
    rho, a, r, d = 0.1, -0.5, 0.1, 0.3
    x = np.random.default_rng(SMALL["seed"]).uniform(-1.0, 1.0, 32)
    gaps = []
    for factor in (0.5, 0.1):
        agent = Linear(factor)
        P = (1 + agent.gain.item() ** 2 * r) / (rho - 2 * (a - agent.gain.item()))
        lost = best_mean() + P * np.mean(x**2) / 2 + d**2 * P / 2 / rho
        gaps.append(evaluate(agent, hidden(), Evaluation(**SMALL))["certified_gap"])
        assert lost / -best_mean() <= gaps[-1] <= 1.05 * lost / -best_mean()
    assert gaps[1] > gaps[0]


@pytest.mark.parametrize("known", [True, False])
def test_agents_are_drawn_without_a_line_for_an_unknown_optimum(known):
    env = gym.make("LQR-v0") if known else hidden()
    figure = compare_figure({"random": make_agent("random", env=env, seed=0)}, env)
    _, policy, paths = figure.axes
    assert len(policy.lines) == 1 + known
    assert len(paths.lines) == 3 * (1 + known)
    assert any(line.get_linestyle() == TRUTH["linestyle"] for line in policy.lines) == known
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["optimum"] * known + ["random"]
    assert figure.get_suptitle() == ("LQR: learned against analytic" if known else "Hidden: learned")


@pytest.mark.parametrize("asked", [True, False])
def test_a_task_that_says_whether_to_certify_is_another_task(asked):
    plain = Task(title="LQR-v0", env="LQR-v0", label="npi", agent="npi", seed=3)
    told = msgspec.structs.replace(plain, evaluation=Evaluation(certify=asked))
    assert told.id != plain.id
    assert msgspec.json.decode(msgspec.json.encode(told), type=Task) == told


def test_a_suite_asks_for_certificates(tmp_path):
    text = GOOD.replace("seeds = [0, 1]\n", "seeds = [0, 1]\nevaluation = { certify = true }\n", 1)
    assert all(task.evaluation.certify for task in load_suite(written(tmp_path, text)).tasks())
    assert not any(task.evaluation.certify for task in load_suite(written(tmp_path, GOOD)).tasks())


def test_agents_are_ranked_by_the_certified_gap_where_no_optimum_is_known():
    loose = plain_metrics({"certified_gap": np.inf, "certified": 0.0, "policy_error_box": None})
    tight = {"certified_gap": 2e-4, "certified": 1.0, "policy_error_box": None}
    (board,) = boards([make_result(0, None, "loose", **loose), make_result(0, None, "tight", **tight)])
    assert board.headline == "certified_gap"
    assert [row.agent for row in board.rows] == ["tight", "loose"]
    assert header(board) == ["", "agent", "certified gap", "seconds", "evaluations", "runs"]
    assert cells(board.rows[0], board)[1:3] == ["tight", "2.0e-4"]
    assert cells(board.rows[1], board)[1:3] == ["loose (0 of 1 certified)", "inf"]


def test_beside_a_known_optimum_the_certified_gap_is_a_column():
    one = make_result(0, 0.5, "npi", certified_gap=0.7, certified=0.0, converged=0.0)
    (board,) = boards([one])
    assert board.headline == "value_loss"
    assert header(board)[2:4] == ["value loss", "certified gap"]
    assert cells(board.rows[0], board)[1:4] == ["npi (0 of 1 converged, 0 of 1 certified)", "0.5", "0.7"]
