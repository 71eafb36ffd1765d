"""Suites: what a TOML file may say, and what is said back when it may not."""

import pytest

from common.suites import GOOD, written
from hacontrol_benchmarks import load_suite, suite_names
from hacontrol_benchmarks.running.runner import check_tasks
from hacontrol_envs.errors import ParameterError, UnknownNameError


def test_a_suite_expands_into_tasks(tmp_path):
    tasks = load_suite(written(tmp_path, GOOD)).tasks()
    assert [(task.title, task.label, task.seed) for task in tasks] == [
        ("LQR-v0", "npi", 0),
        ("LQR-v0", "npi", 1),
        ("big", "npi", 0),
        ("big", "npi", 1),
        ("big", "analytic", 0),
    ]
    assert len({task.id for task in tasks}) == len(tasks)
    assert tasks[-1].parameters == {"dimension": 3}


TIMED = """
name = "mine"
description = "For a test."
seeds = [0]
[[problem]]
env = "LQR-v0"
[[problem]]
env = "LQR-v0"
label = "coarse"
parameters = { dt = 0.3 }
[[problem]]
env = "Merton-v0"
[[agent]]
name = "npi"
physical_time = 100
[[agent]]
name = "random"
total_timesteps = 7
[[agent]]
name = "analytic"
"""


def test_physical_time_is_as_many_steps_as_it_holds(tmp_path):
    """The steps are 0.02 and 0.25 as registered, and 0.3 as given: 333.3 of those."""
    tasks = load_suite(written(tmp_path, TIMED)).tasks()
    found = {(task.title, task.label): task.total_timesteps for task in tasks}
    for label, budgets in (("npi", (5000, 333, 400)), ("random", (7, 7, 7)), ("analytic", (None, None, None))):
        assert tuple(found[problem, label] for problem in ("LQR-v0", "coarse", "Merton-v0")) == budgets


def test_a_task_does_not_remember_how_its_budget_was_said(tmp_path):
    timed = load_suite(written(tmp_path, TIMED)).tasks()[0]
    counted = load_suite(written(tmp_path, TIMED.replace("physical_time = 100", "total_timesteps = 5000"))).tasks()[0]
    assert timed.id == counted.id


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("physical_time = 100", "physical_time = 100\ntotal_timesteps = 5", "'npi' is given total_timesteps and phys"),
        ("physical_time = 100", "physical_time = 0", "physical_time must be greater than 0, got 0"),
        ("physical_time = 100", "physical_time = -1.5", r"physical_time must be greater than 0, got -1\.5"),
        ("physical_time = 100", "physical_time = inf", "physical_time must be finite"),
        ("physical_time = 100", "physical_time = nan", "physical_time must be finite"),
        ("physical_time = 100", "physical_time = 0.1", r"at least a step of 0\.3, got 0\.1"),
        ("total_timesteps = 7", "total_timesteps = 0", "total_timesteps must be greater than 0, got 0"),
        ("dt = 0.3", "dt = 0.0", r"dt must be greater than 0, got 0\.0"),
        ("dt = 0.3", 'dt = "long"', "dt must be a number, got 'long'"),
        ('"Merton-v0"', '"FirmIndustry"', "'npi' is given physical_time, which 'FirmIndustry' does not count"),
        ('"Merton-v0"', '"Martin-v0"', "'npi' is given physical_time, which 'Martin-v0' does not count"),
    ],
)
def test_a_budget_that_makes_no_sense_is_refused(tmp_path, old, new, message):
    with pytest.raises(ParameterError, match=message):
        load_suite(written(tmp_path, TIMED.replace(old, new, 1))).tasks()


@pytest.mark.slow
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
