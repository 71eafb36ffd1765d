"""Statistics of scores (runs, tasks) for few runs and several tasks, with intervals that have their coverage.

Agarwal et al. (2021), Deep Reinforcement Learning at the Edge of the Statistical Precipice, NeurIPS.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy

from hacontrol_envs.arrays import Floats

Statistic = Callable[[Floats], Floats]
"""Function of scores (..., runs, tasks) that returns a statistic (...)."""


class Interval(NamedTuple):
    """A point estimate and the interval around it."""

    estimate: float
    """The point estimate."""
    low: float
    """Lower end of the interval."""
    high: float
    """Upper end of the interval."""


def median(scores: Floats) -> Floats:
    """Return the median over runs and tasks."""
    return np.asarray(np.median(_flat(scores), axis=-1))


def interquartile_mean(scores: Floats) -> Floats:
    """Return the mean of the middle half over runs and tasks, or of all of fewer than 4.

    It is robust like the median, and varies less.
    """
    flat = _flat(scores)
    count, cut = flat.shape[-1], flat.shape[-1] // 4
    middle = np.partition(flat, (cut, count - cut - 1), axis=-1)[..., cut : count - cut]
    return np.asarray(middle.mean(axis=-1))


def stratified_bootstrap(
    scores: Floats,
    statistic: Statistic = interquartile_mean,
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Compute a percentile interval of a statistic of (runs, tasks), resampling runs within each task.

    With n runs the plain bootstrap is too narrow: its variance is (n - 1) / n of what it should be, and it knows no
    Student quantile. Deviations from the estimate are therefore stretched by sqrt(n / (n - 1)) and by the ratio of
    Student's to the normal quantile with tasks * (n - 1) degrees of freedom. One run has no interval: it collapses to
    the estimate.

    Args:
        scores: scores, (runs, tasks).
        statistic: the statistic.
        confidence: coverage of the interval, between 0 and 1.
        resamples: number of resamples.
        seed: seed of the resamples.
    """
    runs, tasks = scores.shape
    estimate = float(statistic(scores))
    if runs == 1:
        return Interval(estimate, estimate, estimate)
    drawn = np.random.default_rng(seed).integers(runs, size=(resamples, runs, tasks))
    deviations = statistic(np.take_along_axis(scores[None], drawn, axis=1)) - estimate
    level = (1 + confidence) / 2
    quantiles = scipy.special.stdtrit(tasks * (runs - 1), level) / scipy.special.ndtri(level)  # Student's, the normal
    stretch = math.sqrt(runs / (runs - 1)) * float(quantiles)
    low, high = np.quantile(deviations, [1 - level, level])
    return Interval(estimate, estimate + stretch * float(low), estimate + stretch * float(high))


def _flat(scores: Floats) -> Floats:
    return scores.reshape(*scores.shape[:-2], -1)
