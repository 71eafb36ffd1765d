"""value_loss: a regret in units of reward turned into a share that can be compared across agents."""

from __future__ import annotations

import math
from functools import singledispatch

import numpy as np

from hacontrol_envs import BrockMirman, Merton, Problem, Solution
from hacontrol_envs.arrays import Floats


@singledispatch
def value_loss(problem: Problem, optimum: Solution, start: Floats, regret: float) -> float:
    """Return the relative value loss (J* - J) / |J*|, for rewards with a natural zero.

    A problem whose utility has no unit, so that this ratio means nothing, registers its own: `@value_loss.register`.
    Where J* = 0, any loss of value is infinite.

    Args:
        problem: the problem, whose class chooses the function.
        optimum: its optimum, with the value J*.
        start: initial states over which J* is averaged, (k, n).
        regret: J* - J, in units of reward.
    """
    scale = abs(_mean_value(optimum, start))
    if not regret:
        return 0.0
    return regret / scale if scale else math.copysign(math.inf, regret)


@value_loss.register
def _(problem: BrockMirman, optimum: Solution, start: Floats, regret: float) -> float:
    """Permanent-consumption equivalent: the share of consumption in every period that the policy wastes.

    Utility is log c, so J = J* + log(1 - loss)/(1 - beta).
    """
    return -math.expm1(-(1 - problem.discount_factor) * regret)


@value_loss.register
def _(problem: Merton, optimum: Solution, start: Floats, regret: float) -> float:
    """Certainty-equivalent loss: the share of initial wealth, or of consumption at all times, that the policy wastes.

    Value is homogeneous in wealth, V*(x) = F u(x) (plus a constant in the log case), so J = V*((1 - loss) x):
    1 - loss = (J / J*)^{1/(1-g)}, and exp((J - J*) / F) at g = 1. The loss is 1 where J is -inf.
    """
    g = problem.risk_aversion
    if g == 1:
        one, e = (_mean_value(optimum, np.full((1, 1), wealth)) for wealth in (1.0, math.e))
        return -math.expm1(-regret / (e - one))
    change = -regret / _mean_value(optimum, start)  # J / J* - 1, kept by log1p where it is 1e-15
    return -math.expm1(math.log1p(change) / (1 - g)) if -1 < change < math.inf else 1.0


def _mean_value(optimum: Solution, start: Floats) -> float:
    return float(np.mean(optimum.value(np.zeros(len(start)), start)))
