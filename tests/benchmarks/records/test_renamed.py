"""Names of version 0.1 still give what the new names give, and warn; our own code uses none of them."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import subprocess
import sys
from typing import Any

import gymnasium as gym
import msgspec
import pytest

import hacontrol_benchmarks
from common.results import make_result
from hacontrol_agents import AnalyticAgent
from hacontrol_benchmarks import Evaluation, Task, evaluate, judge_of, publish, read_result, read_results
from hacontrol_benchmarks.records.renamed import RENAMED, ByMetric, with_new_names
from hacontrol_envs import FirmIndustry, IndustryEquilibrium
from hacontrol_envs.economies.industry.market import Refinement

GIVEN: dict[str, Any] = {"env": "LQR-v0", "label": "npi", "agent": "npi"}
SMALL = Evaluation(paths=4, points=8, max_steps=4)
SUITE = """
name = "small"
description = "One task."
seeds = [0]
evaluation = {paths = 4, points = 8, max_steps = 4}
[[problem]]
env = "LQR-v0"
[[agent]]
name = "analytic"
"""


def test_a_task_is_made_with_problem_in_place_of_title() -> None:
    said = r"^Task\(problem=...\) is deprecated: since 0.2 use Task\(title=...\)$"
    with pytest.warns(DeprecationWarning, match=said) as seen:
        old = Task(problem="LQR, n = 2", **GIVEN)  # type: ignore[call-arg]
    assert [warning.filename for warning in seen] == [__file__]
    new = Task(title="LQR, n = 2", **GIVEN)
    assert (old, old.id) == (new, new.id)
    with pytest.warns(DeprecationWarning, match=r"Task.problem is deprecated: since 0.2 use Task.title"):
        assert new.problem == new.title == "LQR, n = 2"


def test_a_task_has_one_title() -> None:
    with pytest.raises(TypeError, match="problem"):
        Task(title="one", problem="two", **GIVEN)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="title"):
        Task(**GIVEN)


def test_files_call_the_title_problem_so_that_ids_stay() -> None:
    task = Task(title="LQR-v0", **GIVEN, seed=3)
    record = msgspec.json.decode(msgspec.json.encode(task))
    assert record["problem"] == "LQR-v0"
    assert "title" not in record
    assert msgspec.json.decode(msgspec.json.encode(task), type=Task) == pickle.loads(pickle.dumps(task)) == task
    assert task.id == "LQR-v0-npi-3-f6b15ec52537"


@pytest.mark.parametrize("old", RENAMED)
def test_metrics_of_evaluate_have_their_old_names_too(old: str) -> None:
    env = gym.make("LQR-v0")
    scores = evaluate(AnalyticAgent(env=env, seed=0), env, SMALL)
    assert RENAMED[old] in scores
    assert old not in scores
    assert scores.get(old) is None
    said = rf"^metric '{old}' is deprecated: since 0.2 use '{RENAMED[old]}'$"
    with pytest.warns(DeprecationWarning, match=said) as seen:
        assert scores[old] == scores[RENAMED[old]]
    assert [warning.filename for warning in seen] == [__file__]


def test_other_names_are_no_metrics() -> None:
    for name in ("policy_error", "residual_law"):
        with pytest.raises(KeyError, match=name):
            _ = ByMetric({"value_loss": 0.1})[name]


def test_every_new_name_is_a_metric_and_no_old_one_is() -> None:
    names = {metric.name for id in ("LQR-v0", "FirmIndustry") for metric in judge_of(id).metrics}  # type: ignore[union-attr]
    assert set(RENAMED.values()) <= names
    assert not set(RENAMED) & names


def rewritten(folder: Any, **changes: Any) -> Any:
    """The file of a result in `folder`, its fields changed and its seal right."""
    (path,) = folder.iterdir()
    body = json.dumps(json.loads(path.read_bytes())["result"] | changes).encode()
    path.write_bytes(b'{"sha256":"%s","result":%s}' % (hashlib.sha256(body).hexdigest().encode(), body))
    return path


def test_a_file_of_format_1_is_read_with_the_new_names(tmp_path: Any) -> None:
    old = {"value_loss": 0.5, "policy_error_law": 0.25, "residual_law": {"95%": 1e-7}, "policy_error_box": 0.125}
    publish(make_result(), tmp_path)
    result = read_result(rewritten(tmp_path, metrics=old, format=1))
    assert result == make_result(policy_error_visited=0.25, residual_visited={"95%": 1e-7}, policy_error_box=0.125)
    with pytest.warns(DeprecationWarning, match="use 'policy_error_visited'"):
        assert result.metrics["policy_error_law"] == 0.25


def test_a_file_of_today_is_read_as_it_is(tmp_path: Any) -> None:
    """A judge of somebody else may call its own metric as ours was called."""
    publish(make_result(policy_error_law=0.25), tmp_path)
    (path,) = tmp_path.iterdir()
    assert json.loads(path.read_bytes())["result"]["format"] == 2
    assert dict(read_result(path).metrics) == {"value_loss": 0.5, "policy_error_law": 0.25}


def test_names_are_put_right_once() -> None:
    assert with_new_names(with_new_names(dict.fromkeys(RENAMED, 1))) == dict.fromkeys(RENAMED.values(), 1)


def test_the_metrics_of_control_are_found_by_the_old_name() -> None:
    for _ in range(2):  # and not only when first asked for
        with pytest.warns(DeprecationWarning, match=r"METRICS is deprecated: since 0.2 use judge_of\(id\).metrics"):
            metrics = hacontrol_benchmarks.METRICS  # type: ignore[attr-defined]
    assert tuple(metrics.values()) == judge_of("LQR-v0").metrics  # type: ignore[union-attr]
    with pytest.warns(DeprecationWarning, match="use 'value_error_visited'"):
        assert metrics["value_error_law"].meaning == metrics["value_error_visited"].meaning
    assert "METRICS" not in dir(hacontrol_benchmarks)


def test_an_equilibrium_has_its_ladder() -> None:
    grids: Any = (Refinement((20, 10), 0.7, 2.0, 5.0), Refinement((30, 15), 0.71, 2.1, 5.1))
    found = IndustryEquilibrium(FirmIndustry(), None, 0.01, grids)  # type: ignore[arg-type]
    with pytest.warns(DeprecationWarning, match="ladder is deprecated: since 0.2 use refinements"):
        assert found.ladder is grids


@pytest.mark.slow
def test_what_we_do_ourselves_warns_of_nothing(tmp_path: Any) -> None:
    """Run, judge and report a suite in processes in which such a warning is an error."""
    suite, folder = tmp_path / "small.toml", tmp_path / "results"
    suite.write_text(SUITE)
    (tmp_path / "sitecustomize.py").write_text("import warnings\nwarnings.filterwarnings('error', '.*since 0.2')\n")
    surroundings = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    for command in (["run", str(suite), "--folder", str(folder)], ["report", str(folder)]):
        code = f"from hacontrol_benchmarks.cli import main; raise SystemExit(main({command!r}))"
        subprocess.run([sys.executable, "-c", code], env=surroundings, check=True, capture_output=True)
    (result,) = read_results(folder)
    assert result.status == "ok"
    assert set(RENAMED.values()) <= set(result.metrics)
