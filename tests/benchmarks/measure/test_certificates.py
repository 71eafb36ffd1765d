"""Finite differences by which certificates are checked: right where the value is known, and false bounds are found."""

import numpy as np
import pytest

from common.results import make_result
from hacontrol_benchmarks import publish
from hacontrol_benchmarks.measure.certificates import STARTS, grid_value, measure
from hacontrol_envs import LQR


def known_mean(seed: int) -> tuple[np.ndarray, float]:
    starts = LQR().initial_state(np.random.default_rng(seed), STARTS)
    return starts, float(LQR().solution().value(0.0, starts).mean())


def test_the_grids_value_is_the_closed_forms_up_to_the_stated_error():
    starts, known = known_mean(3)
    value, error = grid_value(LQR(), starts)
    assert abs(value - known) <= error <= 1e-4 * abs(known)


@pytest.mark.parametrize(("lower", "upper", "met"), [(-1e-3, 1e-3, True), (1e-3, 2e-3, False), (-2e-3, -1e-3, False)])
def test_bounds_that_do_not_hold_the_value_are_found(tmp_path, lower, upper, met):
    seed = make_result().task.evaluation.seed
    _, known = known_mean(seed)
    bounds = {"lower": known + lower, "upper": known + upper}
    publish(make_result(0, certified_gap=2e-3, certified_bounds=bounds), tmp_path)
    publish(make_result(1), tmp_path)
    (row,) = measure(tmp_path)
    assert row["met"] == met


def test_what_is_not_bounded_is_no_error(tmp_path):
    publish(make_result(0, certified_gap="inf", certified_bounds={"lower": "-inf", "upper": "inf"}), tmp_path)
    assert all(row["met"] for row in measure(tmp_path))
