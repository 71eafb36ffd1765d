"""Intervals that cover, on scores whose truth is known."""

import numpy as np
import pytest
import scipy

from hacontrol_benchmarks.reporting.statistics import interquartile_mean, median, stratified_bootstrap


def test_point_estimates():
    scores = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 600.0], [7.0, 8.0]])
    assert median(scores) == 4.5
    assert interquartile_mean(scores) == pytest.approx((3 + 4 + 5 + 7) / 4)


@pytest.mark.parametrize("runs", range(1, 14))
def test_the_interquartile_mean_is_scipys(runs):
    scores = np.random.default_rng(runs).lognormal(size=(20, runs, 1))
    assert np.array_equal(interquartile_mean(scores), scipy.stats.trim_mean(scores[..., 0], 0.25, axis=-1))


@pytest.mark.parametrize(("runs", "tasks"), [(2, 1), (3, 3), (10, 2)])
def test_the_interval_is_stretched_by_the_quantiles_of_student(runs, tasks):
    """Against the same draws one by one, and SciPy's distributions."""
    scores = np.random.default_rng(runs).normal(size=(runs, tasks))
    drawn = np.random.default_rng(0).integers(runs, size=(2000, runs, tasks))
    moved = np.array([interquartile_mean(np.take_along_axis(scores, one, axis=0)) for one in drawn])
    centre = float(interquartile_mean(scores))
    student = scipy.stats.t(tasks * (runs - 1)).ppf(0.975) / scipy.stats.norm.ppf(0.975)
    ends = centre + np.sqrt(runs / (runs - 1)) * student * np.quantile(moved - centre, [0.025, 0.975])
    assert stratified_bootstrap(scores) == pytest.approx((centre, *ends), rel=1e-12)


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


@pytest.mark.slow
def test_95_percent_intervals_of_the_interquartile_mean_cover():
    rng, trials = np.random.default_rng(1), 800
    intervals = (stratified_bootstrap(rng.normal(size=(10, 3)), resamples=500, seed=trial) for trial in range(trials))
    assert 0.92 <= sum(low <= 0 <= high for _, low, high in intervals) / trials <= 0.98
