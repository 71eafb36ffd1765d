"""The committed leaderboard: whole, sealed, as good as we say, and what README shows."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from hacontrol_benchmarks import Result, load_suite, read_results

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "benchmarks" / "results"
RESULTS = {name: read_results(FOLDER / name) for name in ("paper", "equilibrium", "krusell_smith", "q_learning")}
TIME_STEP = read_results(FOLDER / "time_step")


def median(found: list[Result], metric: str) -> float:
    return float(np.median([result.metrics[metric] for result in found]))


def runs(suite: str, problem: str, label: str) -> list[Result]:
    found = [result for result in RESULTS[suite] if (result.task.problem, result.task.label) == (problem, label)]
    assert len(found) == 3
    return found


@pytest.mark.parametrize("suite", RESULTS)
def test_every_task_of_the_suite_has_its_result(suite: str) -> None:
    assert {result.task.id for result in RESULTS[suite]} == {task.id for task in load_suite(suite).tasks()}
    assert all(result.status == "ok" for result in RESULTS[suite])


@pytest.mark.parametrize(
    ("problem", "policy", "value", "seconds"),
    [("LQR-v0", 1e-6, 1e-5, 60), ("Merton-v0", 1e-4, 1e-3, 60), ("LQR-v0, n = 10", 1e-4, 1e-3, 300)],
)
def test_policy_iteration_is_as_accurate_as_stated(problem: str, policy: float, value: float, seconds: float) -> None:
    found = runs("paper", problem, "npi")
    assert median(found, "policy_error_law") <= policy
    assert median(found, "value_error_law") <= value
    assert np.median([result.times.learning for result in found]) <= seconds


@pytest.mark.parametrize("problem", ["LQR-v0", "Merton-v0"])
def test_the_hjb_pinn_is_as_accurate_as_policy_iteration_in_the_same_time(problem: str) -> None:
    """At the last iteration that ended within the median time of policy iteration."""
    pinn, npi = runs("paper", problem, "hjb-pinn"), runs("paper", problem, "npi")
    seconds = float(np.median([result.times.learning for result in npi]))

    def error(result: Result) -> float:
        rows = [row for row in result.history if row["seconds"] <= seconds]
        return float(rows[-1]["policy_error"])

    assert np.median([error(result) for result in pinn]) <= np.median([error(result) for result in npi])
    assert median(pinn, "policy_error_law") <= median(npi, "policy_error_law")


def test_the_hjb_pinn_solves_ten_states() -> None:
    found = runs("paper", "LQR-v0, n = 10", "hjb-pinn")
    assert median(found, "policy_error_law") <= 1e-3
    assert np.median([result.times.learning for result in found]) <= 300


@pytest.mark.parametrize(
    ("problem", "label"),
    [
        ("industry, kinked", "hjb-fp-pinn"),
        ("industry, kinked", "hjb-fp-pinn from P = 0.3"),
        ("industry, kinked", "hjb-fp-pinn from P = 3"),
        ("industry, smoothed", "hjb-fp-pinn"),
        ("industry, as published", "hjb-fp-pinn"),
    ],
)
def test_equilibria_are_learnt_as_accurately_as_stated(problem: str, label: str) -> None:
    found = runs("equilibrium", problem, label)
    assert median(found, "price_error") <= 5e-5
    assert median(found, "policy_error_law") <= 1e-3
    assert median(found, "density_error") <= 1e-3
    assert median(found, "mass_error") <= 1e-8
    assert np.median([result.times.learning for result in found]) <= 600
    assert max(result.metrics["reference_error"] for result in found) <= 1e-6


def test_deep_equilibrium_nets_are_as_accurate_as_stated() -> None:
    found = runs("krusell_smith", "Krusell-Smith, ssj", "deqn")
    assert median(found, "euler_mean") <= -4.5
    assert median(found, "euler_max") <= -2
    assert median(found, "path_error") <= 0.05
    assert median(found, "path_error_max") <= 0.2
    assert np.median([result.times.learning for result in found]) <= 600
    assert median(runs("krusell_smith", "Krusell-Smith, jedc", "deqn"), "path_error") <= 0.2
    assert median(runs("krusell_smith", "BrockMirman-v0", "deqn"), "policy_error_law") <= 1e-4


@pytest.mark.parametrize(
    ("problem", "label", "bound"),
    [("LQR-v0, dt = 0.01", "ctq", 0.03), ("LQR-v0, n = 4, dt = 0.01", "ctq, linear policy", 0.1)],
)
def test_q_learning_is_as_accurate_as_stated(problem: str, label: str, bound: float) -> None:
    for result in runs("q_learning", problem, label):
        assert result.metrics["policy_error_law"] <= bound
        assert result.metrics["value_error_law"] <= bound
        assert result.evaluations <= 2_000_000


def test_q_learning_finds_the_portfolio() -> None:
    for result in runs("q_learning", "Merton-v0", "ctq, linear"):
        assert max(result.metrics["policy_error_law_by_action"].values()) <= 0.05
        assert result.evaluations <= 2_000_000


def test_random_actions_are_as_good_as_its_own() -> None:
    own, random = (runs("q_learning", "LQR-v0, dt = 0.01", label) for label in ("ctq", "ctq, random actions"))
    for metric in ("policy_error_sampled", "value_error_law"):
        assert median(random, metric) <= 2 * median(own, metric)


def by_step(problem: str, agent: str) -> list[float]:
    """Medians over ten seeds at every step of the study."""
    found = []
    for dt in ("0.1", "0.03", "0.01", "0.003", "0.001"):
        place = f"{problem}, dt = {dt}", agent
        here = [result for result in TIME_STEP if (result.task.problem, result.task.label) == place]
        assert len(here) == 10
        found.append(median(here, "policy_error_sampled"))
    return found


@pytest.mark.parametrize("problem", ["LQR-v0", "Merton-v0"])
def test_the_time_step_hardly_matters_to_q_learning(problem: str) -> None:
    ours = by_step(problem, "ctq")
    assert max(ours) < 2 * min(ours)


@pytest.mark.parametrize("problem", ["LQR-v0"])
def test_q_learning_is_nearer_to_the_optimum_at_any_time_step(problem: str) -> None:
    for other in ("dac", "sac", "ppo"):
        assert min(by_step(problem, other)) > max(by_step(problem, "ctq"))


@pytest.mark.parametrize("problem", ["LQR-v0", "Merton-v0"])
def test_readme_shows_the_time_step_study(problem: str) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for agent in ("ctq", "sac", "dac", "ppo"):
        cells = [f"{100 * error:.3g} %" for error in by_step(problem, agent)]
        assert f"| `{agent}` | {' | '.join(cells)} |" in readme


def test_a_net_that_starts_from_nothing_does_not_end_in_the_trivial_cloud() -> None:
    for result in runs("krusell_smith", "Krusell-Smith, ssj", "deqn from nothing"):
        assert result.metrics["path_error"] <= 1


@pytest.mark.parametrize(
    "name", ["truth", "envs", "generator", "kills", "equilibria", "transport", "krusell_smith", "deqn_step"]
)
def test_measured_figures_met_their_targets(name: str) -> None:
    rows = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))["rows"]
    assert rows
    assert all(row.get("met", True) for row in rows)
    assert any("met" in row for row in rows)


@pytest.mark.parametrize(
    ("suite", "first", "columns"),
    [
        ("paper", "| problem | agent | value loss", [1, 2, 3, 5, 7]),
        ("equilibrium", "| industry | agent | price error", [1, 2, 3, 4, 6, 7, 8]),
        ("krusell_smith", "| economy | agent | path error", [1, 2, 3, 4, 6, 7, 8, 9, 10]),
    ],
)
def test_readme_shows_the_committed_tables(suite: str, first: str, columns: list[int]) -> None:
    def cells(line: str) -> list[str]:
        return [cell.strip() for cell in line.strip("|").split("|")]

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    table = readme[readme.index(first) :].split("\n\n")[0]
    shown = [cells(line)[1:] for line in table.splitlines()[2:]]
    report = (FOLDER / suite / "report.md").read_text(encoding="utf-8")
    boards = [part for part in report.split("\n## ") if suite == "paper" or part.startswith(("industry", "Krusell"))]
    rows = [cells(line) for board in boards for line in board.splitlines() if re.match(r"\| \d", line)]
    assert shown == [[row[place] for place in columns] for row in rows]
