"""A third economy, in one file of a stranger's (`huggett.py`): solved, learnt, judged, ranked, saved and compared."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from common.huggett import Huggett
from common.results import make_result
from hacontrol_agents import MarketClearing
from hacontrol_benchmarks import Task, evaluate, read_results
from hacontrol_benchmarks.cli import main
from hacontrol_benchmarks.reporting.scores import boards
from hacontrol_envs.errors import UnknownNameError

SUITE = """
name = "third"
description = "An economy that the packages do not know."
seeds = [0]

[[problem]]
env = "common.huggett:Huggett"
parameters = { asset_nodes = 80 }

[[agent]]
name = "market-clearing"

[[agent]]
name = "market-clearing"
label = "loose"
hyperparameters = { tolerance = 0.1 }
"""


@pytest.fixture(scope="module")
def economy():
    return Huggett(asset_nodes=120)


def test_its_equilibrium_clears_the_market_for_goods_too(economy):
    """By Walras' law, which the solver of bonds does not know."""
    moments = economy.equilibrium().moments()
    assert moments["mean assets"] == pytest.approx(0.0, abs=1e-9)
    assert moments["mean consumption"] == pytest.approx(moments["mean income"], rel=1e-9)
    assert moments["interest rate"] < 1 / 0.96 - 1
    income = np.array([0.1, 1.0]) @ [0.075 / 0.575, 0.5 / 0.575]
    assert moments["mean income"] == pytest.approx(income, rel=1e-12)


def test_a_learner_that_knows_only_the_contract_finds_it(economy, tmp_path):
    agent = MarketClearing(economy, seed=0).learn()
    found = evaluate(agent, economy)
    assert agent.converged
    assert found["converged"] == 1.0
    assert max(found[name] for name in ("signal_error", "policy_error_visited", "value_error_visited")) < 1e-6
    assert found["clearing_error"] < 1e-7
    loaded = MarketClearing.load(agent.save(tmp_path / "agent.safetensors"))
    assert (loaded.signal, loaded.economy.parameters) == (agent.signal, economy.parameters)
    assert evaluate(loaded, economy) == found


def test_a_run_that_was_stopped_goes_on_as_it_would_have(economy, tmp_path):
    whole = MarketClearing(economy, seed=0).learn()
    file = tmp_path / "checkpoint.safetensors"
    MarketClearing(economy, seed=0).learn(callback=lambda agent: len(agent.history) < 4, checkpoint=file)
    resumed = MarketClearing(economy, seed=0).learn(checkpoint=file)
    assert resumed.signal == whole.signal


@pytest.mark.slow
def test_it_is_run_ranked_and_compared_without_an_edit(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("PYTHONPATH", f"{Path(__file__).parents[2]}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    suite, folder = tmp_path / "third.toml", tmp_path / "results"
    suite.write_text(SUITE)
    assert main(["run", str(suite), "--folder", str(folder)]) == 0
    (board,) = boards(read_results(folder))
    assert (board.headline, [row.agent for row in board.rows]) == ("signal_error", ["market-clearing", "loose"])
    assert "clearing error" in [column.title for column in board.columns]
    figure = tmp_path / "figure.png"
    capsys.readouterr()
    assert main(["compare", "Huggett", "--parameters", '{"asset_nodes": 80}', "--out", str(figure)]) == 0
    assert "signal_error" in capsys.readouterr().out
    assert figure.stat().st_size > 10_000


def test_results_of_an_unknown_judge_are_shown_by_their_numbers():
    """As where the module that has the economy is not imported: the first number ranks."""
    results = [
        make_result(0, None, "a", title="p", distance=0.2, other=3.0),
        make_result(0, None, "b", title="p", distance=0.1, other=4.0),
    ]
    (board,) = boards(results)
    assert (board.headline, [row.agent for row in board.rows]) == ("distance", ["b", "a"])
    assert [column.title for column in board.columns] == ["other", "seconds", "evaluations"]


def test_a_module_that_is_not_there_is_refused():
    with pytest.raises(UnknownNameError, match="no module is found at 'no_such_module:Huggett'"):
        Task(title="p", env="no_such_module:Huggett", label="l", agent="market-clearing").make_env()
