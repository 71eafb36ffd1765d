"""The loops over rows that every environment runs: actions in, the clock, observations out.

Components run outside and rows inside, so that the compiler turns a row loop into vector instructions as it stands.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from hacontrol_envs.arrays import Floats
from hacontrol_envs.numerics.compiled import compiled

LOG_2 = math.log(2.0)

SQRT_HALF = 0x3FE6A09E667F3BCD
"""Bits of the float64 sqrt(1/2)."""


@compiled
def clip_and_scale(action: Floats, center: Floats, half_width: Floats, out: Floats) -> bool:
    """Write out = center + half_width * (action clipped to [-1, 1]); tell whether every action is finite.

    Args:
        action: actions in unit coordinates, (N, m).
        center, half_width: middle and half width of the action box, in its coordinates, (m,).
        out: actions in the box's coordinates, (N, m), filled.
    """
    strays = False
    for u in action.flat:
        strays |= u - u != 0.0  # infinite or not a number
    for j in range(action.shape[1]):
        middle, half = center[j], half_width[j]
        for i in range(len(action)):
            out[i, j] = middle + half * min(max(action[i, j], -1.0), 1.0)
    return not strays


@compiled
def tick(steps: NDArray[np.int64], time: Floats, dt: float, last: int, over: NDArray[np.bool_]) -> int:
    """Count a step of every row, and return how many rows have come to their end.

    Args:
        steps, time: number of steps taken, and time, of each row, (N,), moved on in place.
        dt: length of a step.
        last: number of steps at which a row ends.
        over: which rows have taken `last` steps or more, (N,), filled.
    """
    ended = 0
    for i in range(len(steps)):
        steps[i] += 1
        time[i] = steps[i] * dt
        over[i] = steps[i] >= last
        ended += over[i]
    return ended


@compiled
def observe(
    x: Floats,
    t: Floats,
    log: NDArray[np.bool_],
    center: Floats,
    half_width: Floats,
    span: float,
    out: NDArray[np.float32],
) -> None:
    """Write unit coordinates of states and, where there is room, the time to go (span - t)/span in [0, 1].

    Args:
        x, t: physical states, (N, n), and times, (N,).
        log: which components are on a logarithmic scale, (n,).
        center, half_width: middle and half width of the box, in logarithms where `log`, (n,).
        span: the horizon.
        out: observations, (N, n) or (N, n + 1), filled.
    """
    n = x.shape[1]
    for j in range(n):
        middle, half = center[j], half_width[j]
        if log[j]:
            for i in range(len(x)):
                # x = 2^k m with m in [sqrt 1/2, sqrt 2), and log m = 2 artanh s by its series, s = (m - 1)/(m + 1)
                bits = np.float64(x[i, j]).view(np.int64)
                k = (bits - SQRT_HALF) >> 52
                m = np.int64(bits - (k << 52)).view(np.float64)
                s = (m - 1) / (m + 1)
                q = s * s
                tail = 1 / 11 + q * (1 / 13 + q * (1 / 15 + q * (1 / 17 + q * (1 / 19 + q * (1 / 21)))))
                artanh = s + s * q * (1 / 3 + q * (1 / 5 + q * (1 / 7 + q * (1 / 9 + q * tail))))
                out[i, j] = (k * LOG_2 + 2 * artanh - middle) / half
            for i in range(len(x)):
                if not 1e-300 < x[i, j] < 1e300:
                    out[i, j] = (math.log(x[i, j]) - middle) / half
        else:
            for i in range(len(x)):
                out[i, j] = (x[i, j] - middle) / half
    if out.shape[1] > n:
        for i in range(len(x)):
            out[i, n] = min(max(1.0 - t[i] / span, 0.0), 1.0)
