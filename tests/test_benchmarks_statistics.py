"""Intervals that cover, on scores whose truth is known."""

import numpy as np
import pytest

from hacontrol_benchmarks.reporting.statistics import interquartile_mean, median, stratified_bootstrap


def test_point_estimates():
    scores = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 600.0], [7.0, 8.0]])
    assert median(scores) == 4.5
    assert interquartile_mean(scores) == pytest.approx((3 + 4 + 5 + 7) / 4)


def test_one_run_has_no_interval():
    assert stratified_bootstrap(np.array([[2.0, 4.0]])) == (3.0, 3.0, 3.0)


def test_the_same_scores_give_the_same_interval():
    scores = np.random.default_rng(0).normal(size=(5, 3))
    assert stratified_bootstrap(scores) == stratified_bootstrap(scores)


@pytest.mark.parametrize(("runs", "tasks"), [(3, 3), (10, 1), (10, 3)])
def test_95_percent_intervals_cover(runs, tasks):
    rng, trials = np.random.default_rng(runs + 100 * tasks), 1000
    means = np.arange(tasks) - (tasks - 1) / 2  # tasks of different difficulty: strata, not noise
    covered = 0
    for trial in range(trials):
        scores = means + rng.normal(size=(runs, tasks))
        _, low, high = stratified_bootstrap(scores, lambda drawn: drawn.mean(axis=(-2, -1)), resamples=500, seed=trial)
        covered += low <= 0 <= high
    assert 0.93 <= covered / trials <= 0.97


def test_95_percent_intervals_of_the_interquartile_mean_cover():
    rng, trials = np.random.default_rng(1), 800
    intervals = (stratified_bootstrap(rng.normal(size=(10, 3)), resamples=500, seed=trial) for trial in range(trials))
    assert 0.92 <= sum(low <= 0 <= high for _, low, high in intervals) / trials <= 0.98
