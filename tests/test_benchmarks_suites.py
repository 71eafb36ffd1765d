"""Suites: what a TOML file may say, and what is said back when it may not."""

import pytest

from hacontrol_benchmarks import load_suite, suite_names
from hacontrol_benchmarks.runner import check_tasks
from hacontrol_envs.errors import ParameterError, UnknownNameError

GOOD = """
name = "mine"
description = "For a test."
seeds = [0, 1]
[[problem]]
env = "LQR-v0"
[[problem]]
env = "LQR-v0"
label = "big"
parameters = { dimension = 3 }
[[agent]]
name = "npi"
hyperparameters = { hidden = [8, 8] }
[[agent]]
name = "analytic"
seeds = [0]
problems = ["big"]
"""


def written(tmp_path, text):
    path = tmp_path / "suite.toml"
    path.write_text(text)
    return str(path)


def test_a_suite_expands_into_tasks(tmp_path):
    tasks = load_suite(written(tmp_path, GOOD)).tasks()
    assert [(task.problem, task.label, task.seed) for task in tasks] == [
        ("LQR-v0", "npi", 0),
        ("LQR-v0", "npi", 1),
        ("big", "npi", 0),
        ("big", "npi", 1),
        ("big", "analytic", 0),
    ]
    assert len({task.id for task in tasks}) == len(tasks)
    assert tasks[-1].parameters == {"dimension": 3}


@pytest.mark.parametrize("name", suite_names())
def test_the_suites_that_come_with_the_package_make_sense(name):
    suite = load_suite(name)
    assert suite.name == name
    check_tasks(suite.tasks())


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seeds = [0, 1]", "seeds = [0, 1]\nsedes = 3", "unknown field `sedes`"),
        ("seeds = [0, 1]", 'seeds = ["a"]', r"Expected `int`.*seeds"),
        ("seeds = [0, 1]", "", "missing required field `seeds`"),
        ("seeds = [0, 1]", "seeds = [0, 1", "not a suite"),
        ("seeds = [0, 1]", "seeds = [0]\n[evaluation]\npaths = 1", "paths must be at least 4"),
        ('problems = ["big"]', 'problems = ["huge"]', "has no problem 'huge'"),
        ("seeds = [0, 1]", "seeds = [0, 0]", "twice"),
    ],
)
def test_a_bad_suite_is_refused_with_the_place(tmp_path, old, new, message):
    with pytest.raises(ParameterError, match=message):
        load_suite(written(tmp_path, GOOD.replace(old, new, 1))).tasks()


def test_an_unknown_suite_is_refused_with_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'quick'"):
        load_suite("quik")
    with pytest.raises(UnknownNameError, match=r"no suite is called 'nowhere\.toml'"):
        load_suite("nowhere.toml")
