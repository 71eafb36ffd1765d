"""How households' policies are judged, and the board that shows it."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

from common.results import make_result
from hacontrol_agents import RandomAgent, ReferenceAgent, SteadyStateAgent
from hacontrol_benchmarks import evaluate
from hacontrol_benchmarks.reporting.scores import boards, columns_of
from hacontrol_benchmarks.reporting.tables import cells, header
from hacontrol_envs import KrusellSmithHousehold

pytestmark = pytest.mark.slow

JUDGE = KrusellSmithHousehold.judge


@pytest.fixture(scope="module")
def env():
    return gym.make("KrusellSmith-v0", asset_nodes=60, asset_max=300.0)


def test_the_judge_tells_three_policies_apart(env):
    """One test, for what is judged three times takes a while."""
    agents = ReferenceAgent(env=env), SteadyStateAgent(env=env), RandomAgent(env=env, seed=0)
    scores = {agent.name: evaluate(agent, env) for agent in agents}
    assert all(set(found) == {metric.name for metric in JUDGE.metrics} | {"converged"} for found in scores.values())
    reference_is_where_errors_are_counted_from(scores["reference"])
    who_ignores_aggregate_risk_loses_little_and_moves_capital_wrongly(scores["steady-state"])
    who_saves_at_random_ends_in_the_trivial_cloud(scores["random"])
    board_has_their_columns(scores)


def reference_is_where_errors_are_counted_from(found):
    assert found["path_error"] < 1e-9
    assert abs(found["welfare_gain"]) < 1e-9
    assert found["den_haan"] < 0.02
    assert found["euler_mean"] < -4.5  # on a grid as coarse as this
    assert found["at_top"] < 1e-6


def who_ignores_aggregate_risk_loses_little_and_moves_capital_wrongly(found):
    assert 0.3 < found["path_error"] < 3
    assert -0.01 < found["welfare_gain"] < 0
    assert -3.6 < found["euler_mean"] < -3.0


def who_saves_at_random_ends_in_the_trivial_cloud(found):
    assert found["capital"] < 0.1 * found["reference_capital"]
    assert found["welfare_gain"] < -50
    assert found["euler_mean"] > 0


def test_savings_that_are_not_finite_are_refused(env):
    class Broken(SteadyStateAgent):
        def saving(self, assets, e, z, law):
            return np.full(np.shape(assets), np.nan)

    with pytest.raises(FloatingPointError, match="not finite"):
        evaluate(Broken(env=env), env)


def board_has_their_columns(scores):
    results = [make_result(0, None, label, **found) for label, found in scores.items()]
    (board,) = boards(results)
    assert board.headline == "path_error"
    assert [column.title for column in board.columns] == [
        column.title for column in columns_of(JUDGE, scores["random"])
    ]
    assert [row.agent for row in board.rows] == ["reference", "steady-state", "random"]
    shown = dict(zip(header(board), cells(board.rows[1], board), strict=True))
    assert shown["Euler, mean"] == f"{scores['steady-state']['euler_mean']:.2f}"
    assert shown["path error, max"].startswith(f"{scores['steady-state']['path_error_max']:.3g}"[:3])
