"""Standard normals from one stream per row: NumPy's SFC64 and ziggurat, for thousands of generators in one loop.

Row i of a batch draws what `numpy.random.Generator(SFC64(SeedSequence(seed_i, spawn_key=(1,)))).standard_normal()`
draws, equal to rounding of the ziggurat's tables. Drawing inside the loop costs less than calling NumPy once per row,
needs no buffers, and four integers per row are all there is to save.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from hacontrol_envs.arrays import Floats
from hacontrol_envs.numerics.compiled import compiled

Streams: TypeAlias = NDArray[np.uint64]
"""States of N generators, (N, 4)."""

TAIL = 3.6541528853610088
"""Point at which the ziggurat's lowest layer ends and the tail begins."""

UNIT = 2.0**-53
"""Factor that turns 53 random bits into a uniform variate in [0, 1)."""


def stream(entropy: int) -> Streams:
    """Return the state of one row's Brownian stream, (4,)."""
    state: Streams = np.random.SFC64(np.random.SeedSequence(entropy, spawn_key=(1,))).state["state"]["state"]
    return state


def _layers() -> tuple[Floats, Floats, NDArray[np.uint64]]:
    """Widths over 2^52, heights and acceptance thresholds of 256 layers of equal area under exp(-x^2/2).

    Marsaglia and Tsang (2000), The Ziggurat Method, in the indexing of Doornik (2005).
    """
    height = math.exp(-TAIL * TAIL / 2)
    area = TAIL * height + math.sqrt(math.pi / 2) * math.erfc(TAIL / math.sqrt(2))
    x = np.zeros(256)
    x[255] = TAIL
    for i in range(254, 0, -1):
        x[i] = math.sqrt(-2 * math.log(area / x[i + 1] + math.exp(-(x[i + 1] ** 2) / 2)))
    heights = np.exp(-x * x / 2)
    inside = np.append(TAIL * height / area, x[:-1] / x[1:])
    x[0] = area / height
    return x / 2**52, heights, (inside * 2**52).astype(np.uint64)


WIDTH, HEIGHT, INSIDE = _layers()


@compiled
def draw(streams: Streams, idle: NDArray[np.bool_], out: Floats) -> None:
    """Draw standard normals, each row from its own stream.

    Args:
        streams: states of the generators, (N, 4), moved on in place.
        idle: which rows draw nothing and get zeros, (N,).
        out: the draws, (N, d), filled.
    """

    def advance(s0: int, s1: int, s2: int, s3: int) -> tuple[int, int, int, int, int]:
        bits = s0 + s1 + s3
        rotated = (s2 << np.uint64(24)) | (s2 >> np.uint64(40))
        return bits, s1 ^ (s1 >> np.uint64(11)), s2 + (s2 << np.uint64(3)), rotated + bits, s3 + np.uint64(1)

    for i in range(len(streams)):
        if idle[i]:
            out[i] = 0.0
            continue
        s0, s1, s2, s3 = streams[i, 0], streams[i, 1], streams[i, 2], streams[i, 3]
        for j in range(out.shape[1]):
            while True:
                bits, s0, s1, s2, s3 = advance(s0, s1, s2, s3)
                layer, rank = bits & np.uint64(255), (bits >> np.uint64(9)) & np.uint64(0xFFFFFFFFFFFFF)
                sign = 1.0 - 2.0 * ((bits >> np.uint64(8)) & np.uint64(1))
                x = rank * WIDTH[layer]
                if rank < INSIDE[layer]:
                    break
                if layer == 0:  # the tail: Marsaglia (1964)
                    sign = 1.0 - 2.0 * ((rank >> np.uint64(8)) & np.uint64(1))
                    while True:
                        bits, s0, s1, s2, s3 = advance(s0, s1, s2, s3)
                        x = -math.log1p(-((bits >> np.uint64(11)) * UNIT)) / TAIL
                        bits, s0, s1, s2, s3 = advance(s0, s1, s2, s3)
                        if -2 * math.log1p(-((bits >> np.uint64(11)) * UNIT)) > x * x:
                            break
                    x += TAIL
                    break
                bits, s0, s1, s2, s3 = advance(s0, s1, s2, s3)
                uniform = (bits >> np.uint64(11)) * UNIT
                if HEIGHT[layer] + (HEIGHT[layer - np.uint64(1)] - HEIGHT[layer]) * uniform < math.exp(-0.5 * x * x):
                    break
            out[i, j] = sign * x
        streams[i, 0], streams[i, 1], streams[i, 2], streams[i, 3] = s0, s1, s2, s3
