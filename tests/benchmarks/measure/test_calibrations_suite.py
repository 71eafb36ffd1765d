"""The suite `calibrations` is what its command writes, and can be run."""

import numpy as np

from hacontrol_benchmarks import load_suite
from hacontrol_benchmarks.measure import calibrations, calibrations_suite
from hacontrol_benchmarks.running.runner import check_tasks


def test_the_suite_that_comes_with_the_package_is_what_its_command_writes():
    assert (calibrations_suite.FOLDER / "calibrations.toml").read_text() == calibrations_suite.text()


def test_all_its_tasks_are_legal_and_every_problem_that_is_drawn_is_learnt():
    tasks = load_suite("calibrations").tasks()
    check_tasks(tasks)
    assert {task.env for task in tasks} == {id for id, _ in calibrations.DRAWS.values()}
    assert {task.title for task in tasks} >= {"LQR-v0, draw 3", "KrusellSmith, draw 1"}
    parameters = next(task for task in tasks if task.title == "Merton-v0, draw 2").parameters
    for name, value in calibrations.drawn("merton", calibrations_suite.SEED, 2)[1].items():
        np.testing.assert_allclose(parameters[name], value, rtol=1e-5)
