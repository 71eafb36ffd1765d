"""Mixing: the next guess of a fixed point of beliefs, by Anderson's method (1965)."""

from __future__ import annotations

import numpy as np

from hacontrol_envs.arrays import Floats
from hacontrol_envs.economies.krusell_smith.law_of_motion import Beliefs, Nodes


class Mixing:
    """Anderson's next guess of beliefs, from the last few guesses and what came of them.

    Beliefs with n terms are represented by their forecasts at n states of capital and the moment.
    """

    def __init__(self, nodes: Nodes, terms: int, depth: int = 5) -> None:
        middle, half = (nodes.low + nodes.high) / 2, (nodes.high - nodes.low) / 4
        places = {2: [-1.0, 1.0], 3: [-1.0, 0.0, 1.0], 4: [-1.0, 0.0, 1.0, 0.0]}[terms]
        self._x, self._v = middle + half * np.array(places), np.zeros(terms)
        self._v[3:] = nodes.bounds[-1]
        self._terms, self._depth = terms, depth
        self._guesses, self._gaps = list[Floats](), list[Floats]()

    def _said(self, beliefs: Beliefs) -> Floats:
        states = np.arange(len(beliefs.coefficients))[:, None]
        capital, v = beliefs(self._x, self._v, states)
        return np.concatenate([capital[:, None], np.swapaxes(v, 1, 2)], axis=1)  # (n_z, 1 + n_z, terms)

    def gap(self, believed: Beliefs, obeyed: Beliefs) -> float:
        """Return the largest difference between forecasts of two beliefs, in log K' and v'."""
        return float(np.abs(self._said(believed) - self._said(obeyed)).max())

    def next(self, believed: Beliefs, obeyed: Beliefs) -> Beliefs:
        """Return the next guess after beliefs `believed` whose path obeys `obeyed`."""
        guess = self._said(believed).ravel()
        gap = self._said(obeyed).ravel() - guess
        self._guesses.append(guess)
        self._gaps.append(gap)
        del self._guesses[: -self._depth], self._gaps[: -self._depth]
        following = guess + gap
        if len(self._gaps) > 1:
            turns, moves = np.diff(self._gaps, axis=0).T, np.diff(self._guesses, axis=0).T
            share, *_ = np.linalg.lstsq(turns, gap, rcond=1e-8)
            following = following - (moves + turns) @ share
        d = self._x - believed.center
        terms = np.stack([np.ones(len(d)), d, d**2, self._v], axis=-1)[:, : self._terms]
        coefficients = np.zeros_like(believed.coefficients)
        said = following.reshape(len(coefficients), -1, self._terms)
        coefficients[..., : self._terms] = np.linalg.solve(terms, said[..., None])[..., 0]
        return Beliefs(coefficients, believed.center)
