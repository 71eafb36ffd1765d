"""The random streams of every row, and the initial states drawn from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import numpy as np
from gymnasium.utils import seeding
from numpy.typing import NDArray

from hacontrol_envs.arrays import Floats
from hacontrol_envs.core.problem import Problem
from hacontrol_envs.simulation import noise

BLOCK = 64
"""Most initial states drawn at once from a row's stream, so that episodes ending together cost no loop over rows."""

ROOM = 1024
"""Most numbers that a row's initial states drawn at once may take."""

MASK = (1 << 64) - 1


@final
class RowStreams:
    """Two independent streams per row, both fixed by the row's seed.

    Initial states come from `gymnasium.utils.seeding.np_random(seed)`, the Brownian motion from an SFC64 seeded with
    `SeedSequence(seed, spawn_key=(1,))`: what an episode does never shifts the noise of the next. Nothing of a row
    depends on the other rows or on their number.

    Args:
        problem: the problem whose initial states are drawn.
        num_envs: number of rows.
    """

    def __init__(self, problem: Problem, num_envs: int) -> None:
        self._draw = problem.initial_state
        self.seeds = [-1] * num_envs
        self.resets: list[np.random.Generator | None] = [None] * num_envs
        self.brownian: noise.Streams = np.zeros((num_envs, 4), np.uint64)
        n = problem.state.dimension
        self.block = min(BLOCK, max(1, ROOM // n))
        self.initial: Floats = np.zeros((num_envs, self.block, n))
        self.used: NDArray[np.int64] = np.full(num_envs, self.block)

    def seed(self, rows: NDArray[np.intp], seeds: Sequence[int | None]) -> None:
        """Start the streams of these rows afresh where a seed is given, or where they have never started."""
        for row, seed in zip(rows.tolist(), seeds, strict=True):
            if seed is not None or self.resets[row] is None:
                self.resets[row], self.seeds[row] = seeding.np_random(seed)
                self.brownian[row] = noise.stream(self.seeds[row])
                self.used[row] = self.block

    def initial_states(self, rows: NDArray[np.intp]) -> Floats:
        """Return the next initial state of each of these rows, (len(rows), n)."""
        for row in rows[self.used[rows] == self.block].tolist():
            self.initial[row] = self._draw(self.resets[row], self.block)
            self.used[row] = 0
        drawn: Floats = self.initial[rows, self.used[rows]]
        self.used[rows] += 1
        return drawn

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return everything needed to go on from here, as arrays by name."""
        return {
            "reset_streams": np.array([_words(generator) for generator in self.resets], dtype=np.uint64),
            "brownian_streams": self.brownian.copy(),
            "initial_states": self.initial.copy(),
            "initial_states_used": self.used.copy(),
        }

    def restore(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Go on from what `arrays` returned. The seeds of the past are not kept: `seeds` becomes -1."""
        self.seeds = [-1] * len(self.seeds)
        self.resets = [_generator(words) for words in arrays["reset_streams"].tolist()]
        self.brownian[...] = arrays["brownian_streams"]
        self.initial[...] = arrays["initial_states"]
        self.used[...] = arrays["initial_states_used"]


def _words(generator: np.random.Generator | None) -> list[int]:
    """A PCG64 generator as six words; zeros where it has never started."""
    if generator is None:
        return [0] * 6
    full: Any = generator.bit_generator.state
    state, increment = full["state"]["state"], full["state"]["inc"]
    return [state >> 64, state & MASK, increment >> 64, increment & MASK, full["has_uint32"], full["uinteger"]]


def _generator(words: list[int]) -> np.random.Generator | None:
    """The inverse of `_words`. A started stream has an odd increment, so zeros are not one."""
    high, low, increment_high, increment_low, has_uint32, uinteger = words
    if not increment_low:
        return None
    bits = np.random.PCG64()
    bits.state = {
        "bit_generator": "PCG64",
        "state": {"state": high << 64 | low, "inc": increment_high << 64 | increment_low},
        "has_uint32": has_uint32,
        "uinteger": uinteger,
    }
    return np.random.Generator(bits)
