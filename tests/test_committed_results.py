"""The committed leaderboard: whole, sealed, as good as we say, and what README shows."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from hacontrol_benchmarks import load_suite, read_results

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "benchmarks" / "results"
RESULTS = read_results(FOLDER / "paper")


def test_every_task_of_the_suite_has_its_result() -> None:
    assert {result.task.id for result in RESULTS} == {task.id for task in load_suite("paper").tasks()}
    assert all(result.status == "ok" for result in RESULTS)


@pytest.mark.parametrize(
    ("problem", "policy", "value", "seconds"),
    [("LQR-v0", 1e-6, 1e-5, 60), ("Merton-v0", 1e-4, 1e-3, 60), ("LQR-v0, n = 10", 1e-4, 1e-3, 300)],
)
def test_policy_iteration_is_as_accurate_as_stated(problem: str, policy: float, value: float, seconds: float) -> None:
    found = [result for result in RESULTS if result.task.problem == problem and result.task.label == "npi"]
    assert len(found) == 3
    assert np.median([result.metrics["policy_error_law"] for result in found]) <= policy
    assert np.median([result.metrics["value_error_law"] for result in found]) <= value
    assert np.median([result.times.learning for result in found]) <= seconds


@pytest.mark.parametrize("name", ["truth", "envs", "generator", "kills", "equilibria"])
def test_measured_figures_met_their_targets(name: str) -> None:
    rows = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))["rows"]
    assert rows
    assert all(row["met"] for row in rows)


def test_readme_shows_the_committed_table() -> None:
    def cells(line: str) -> list[str]:
        return [cell.strip() for cell in line.strip("|").split("|")]

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    table = readme[readme.index("| problem | agent |") : readme.index("Every agent of continuous time")]
    shown = [cells(line)[1:] for line in table.splitlines()[2:] if line.startswith("|")]
    report = (FOLDER / "paper" / "report.md").read_text(encoding="utf-8")
    rows = [cells(line) for line in report.splitlines() if re.match(r"\| \d", line)]
    assert shown == [[row[1], row[2], row[3], row[5], row[7]] for row in rows]
